"""Residual U-Nets with pixel-shuffle upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm, prod
from typing import Any

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.images.windows import rounded_up
from pssr2_monai.networks.blocks import AtrousBlock, PixelShuffle, PyramidPool, Reconstruction, ResBlock, zero_
from pssr2_monai.networks.scaled import ScaledNetwork, factor_per_axis

Dilations = Sequence[Sequence[int]]


def check_levels(
    channels: Sequence[int], dilations: Dilations | None, pool_sizes: Sequence[int] | None, encoder_pool: bool
) -> None:
    """Check that there is one width, and one list of dilations, for each level, and sizes where there is pooling."""
    if encoder_pool and pool_sizes is None:
        raise InputError("encoder_pool: needs pool_sizes, which are not given")
    if not len(channels) or min(channels) < 1:
        raise InputError(f"channels: found {list(channels)}; give one number of at least 1 for each level")
    if dilations is None:
        return
    if len(dilations) != len(channels) or any(not len(level) or min(level) < 1 for level in dilations):
        raise InputError(
            f"dilations: found {[list(level) for level in dilations]}; give a list of numbers of at least 1 "
            f"for each of the {len(channels)} levels of channels"
        )


def residual_block(
    spatial_dims: int, in_channels: int, out_channels: int, dilations: Sequence[int] | None, depth: int, norm: str
) -> nn.Module:
    """Return an atrous block if there are dilations, else a plain residual block."""
    if dilations is None:
        return ResBlock(spatial_dims, in_channels, out_channels, depth, norm)
    return AtrousBlock(spatial_dims, in_channels, out_channels, dilations, depth, norm)


def pyramid(spatial_dims: int, channels: int, sizes: Sequence[int] | None, norm: str) -> nn.Module:
    """Return PSP pooling if there are sizes, else an identity."""
    return nn.Identity() if sizes is None else PyramidPool(spatial_dims, channels, sizes, norm)


class ResUNet(ScaledNetwork):
    """Residual U-Net (Zhang et al. 2018) with a pixel-shuffle reconstruction, PSSR2's standard network.

    Each level halves the size by max pooling; the way up is pixel shuffling, which divides the channels by the
    number of pixels pooled (a width that does not divide is rounded up there). The defaults have 59.9 M parameters.

    Args:
        in_channels: frames of the input.
        out_channels: frames of the output; fewer than `in_channels` are the central ones (2.5D).
        channels: features of each level, from the finest; any numbers.
        scale: output size over input size, one number or one for each axis.
        depth: hidden layers of a residual block, which has one convolution more.
        dilations: for each level, the dilations of the parallel stacks of an atrous block (see `ResUNetA`); the
            block on the way up takes those of the level below it. None: plain residual blocks, and BatchNorm of the
            input.
        pool_sizes: sizes of the PSP pooling before the reconstruction; None for none.
        encoder_pool: PSP pooling at the coarsest level too.
        spatial_dims: 2 (YX) or 3 (ZYX).
        interpolate: predict what must be added to the linearly enlarged input; a new network then starts as that
            interpolation. False predicts the image itself, as PSSR2 does.
        norm: MONAI's name of a normalisation, or "" for none. ``"instance"`` makes tiles of one image differ.
        value_range: what black (0) and white (1) are inside the network.
        pool: how many pixels become one at the next level, one number or one for each axis: ``[1, 2, 2]`` where those
            along Z are far apart.
        fold: 2 works at half the size inside (2-D only): the pixels of each 2 x 2 group become channels first (pixel
            unshuffling, Shi et al. 2016), and the reconstruction enlarges by so much more. A step at scale 1 then costs
            about a third.

    The input is float32 ``(batch, in_channels, Y, X)`` in [0, 1], of any size; the output ``(batch, out_channels, scale
    * Y, scale * X)``; in three dimensions Z comes before Y.

    Raises:
        InputError: numbers that do not go together; see each argument.

    Source:
        Zhang, Liu and Wang 2018, "Road extraction by deep residual U-Net"; Stites and Manor 2024 (PSSR2) for the
        reconstruction.

    Example:
        >>> network = ResUNet(channels=(8, 16), depth=1, scale=4)
        >>> network(torch.zeros(2, 1, 24, 31)).shape
        torch.Size([2, 1, 96, 124])
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        scale: int | Sequence[int] = 4,
        depth: int = 3,
        dilations: Dilations | None = None,
        pool_sizes: Sequence[int] | None = None,
        encoder_pool: bool = False,
        spatial_dims: int = 2,
        interpolate: bool = True,
        norm: str = "batch",
        value_range: Sequence[float] = (-1.0, 1.0),
        pool: int | Sequence[int] = 2,
        fold: int = 1,
    ) -> None:
        check_levels(channels, dilations, pool_sizes, encoder_pool)
        levels = len(channels)
        pooled = factor_per_axis(pool, spatial_dims, "pool")
        if fold < 1 or (fold > 1 and spatial_dims != 2):
            raise InputError(f"fold: found {fold}; give a whole number of at least 1, which for volumes must be 1")
        multiple = fold * lcm(*pooled) ** (levels - 1)
        padded_min = max(pool_sizes or [1]) * (multiple if encoder_pool else fold)
        super().__init__(spatial_dims, in_channels, out_channels, scale, interpolate, value_range, multiple, padded_min)
        group = prod(pooled)
        # What is shuffled on the way up must divide by the pixels of a group.
        widths = [channels[0], *(rounded_up(width, group) for width in channels[1:])]
        stacks = [None] * levels if dilations is None else list(dilations)
        self.fold = fold
        inputs = in_channels * fold**2
        self.norm = get_norm_layer(norm if dilations is None else "", spatial_dims, inputs)
        self.pool = pooled
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        before = inputs
        for level in range(levels):
            width = widths[level] if level == levels - 1 else channels[level]
            self.encoder.append(residual_block(spatial_dims, before, width, stacks[level], depth, norm))
            before = width
        for level in range(levels - 2, -1, -1):
            joined = widths[level + 1] // group + channels[level]
            self.decoder.append(residual_block(spatial_dims, joined, widths[level], stacks[level + 1], depth, norm))
        self.encoder_pool = pyramid(spatial_dims, widths[-1], pool_sizes if encoder_pool else None, norm)
        self.shuffle = PixelShuffle(self.pool)
        self.reconstruction_pool = pyramid(spatial_dims, widths[0], pool_sizes, norm)
        enlarged = [fold * factor for factor in self.scale]
        self.reconstruction = Reconstruction(spatial_dims, widths[0] + inputs, widths[0], out_channels, enlarged)
        if interpolate:
            zero_(self.reconstruction.conv)

    def features(self, x: Tensor) -> Tensor:
        if self.fold > 1:
            x = F.pixel_unshuffle(x, self.fold)
        x = self.norm(x)
        skips = [x]
        for level, block in enumerate(self.encoder):
            if level > 0:
                skips.append(x)
                x = F.max_pool2d(x, self.pool) if self.spatial_dims == 2 else F.max_pool3d(x, self.pool)
            x = block(x)
        x = self.encoder_pool(x)
        for block in self.decoder:
            x = block(torch.cat([self.shuffle(x), skips.pop()], dim=1))
        x = self.reconstruction_pool(x)
        return self.reconstruction(torch.cat([x, skips.pop()], dim=1))


class ResUNetA(ResUNet):
    """ResUNet with atrous blocks and PSP pooling (Diakogiannis et al. 2020): `ResUNet` with other defaults.

    Args: those of `ResUNet`. The defaults have 64.4 M parameters.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (64, 128, 256, 512, 1024),
        scale: int | Sequence[int] = 4,
        depth: int = 3,
        dilations: Dilations | None = ((1, 3, 15, 31), (1, 3, 15), (1, 3), (1,), (1,)),
        pool_sizes: Sequence[int] | None = (1, 2, 4, 8),
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, channels, scale, depth, dilations, pool_sizes, **options)
