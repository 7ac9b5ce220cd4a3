"""RDNet on the way down, residual blocks and pixel shuffling on the way up."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.images.windows import rounded_up
from pssr2_monai.networks.blocks import PixelShuffle, Reconstruction, ordered, zero_
from pssr2_monai.networks.resunet import Dilations, check_levels, pyramid, residual_block
from pssr2_monai.networks.scaled import ScaledNetwork

Stage = tuple[int, bool, bool, int]  # of an RDNet: growth, whether it halves the size, squeeze-excitation, blocks


def multiple_of_eight(channels: int, ratio: float) -> int:
    """RDNet's widths: `channels` times `ratio`, rounded down to a multiple of 8, but at least 8."""
    return max(int(channels * Fraction(ratio).limit_denominator(1000) / 8), 1) * 8


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return ordered(x.permute(0, 3, 1, 2))


class EffectiveSqueeze(nn.Module):
    """Effective squeeze-excitation (Lee and Park 2020): one layer on the channel means, a hard sigmoid as the gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class DenseBlock(nn.Module):
    """New features from all before: depthwise 7x7, normalisation, wide 1x1, GELU, 1x1, scaled by a small gamma."""

    def __init__(self, in_channels: int, growth: int, bottleneck: float, squeeze: bool) -> None:
        super().__init__()
        inner = multiple_of_eight(in_channels, bottleneck)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, kernel_size=7, padding=3, groups=in_channels),
            ChannelNorm(in_channels),
            nn.Conv2d(in_channels, inner, kernel_size=1),
            nn.GELU(),
            nn.Conv2d(inner, growth, kernel_size=1),
            EffectiveSqueeze(growth) if squeeze else nn.Identity(),
        )
        self.gamma = nn.Parameter(torch.full((growth,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.gamma.view(1, -1, 1, 1)


class DenseStage(nn.Module):
    """A transition (normalisation and a strided convolution; nothing in the first stage) and its dense blocks."""

    def __init__(self, transition: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.transition = transition
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition(x)
        for block in self.blocks:
            x = torch.cat([x, block(x)], dim=1)
        return x


def stages_of(
    growth_rates: Sequence[int], downsample: Sequence[bool], squeeze_excite: Sequence[bool], blocks: int | Sequence[int]
) -> list[Stage]:
    stages = len(growth_rates)
    counts = [blocks] * stages if isinstance(blocks, int) else list(blocks)
    for name, entries in (("downsample", downsample), ("squeeze_excite", squeeze_excite), ("n_blocks", counts)):
        if not stages or len(entries) != stages:
            raise InputError(f"{name}: found {len(entries)} entries for {stages} growth_rates; give one a stage")
    if downsample[0]:
        raise InputError("downsample: the first stage follows the stem and cannot halve the size; set it to false")
    return list(zip(growth_rates, map(bool, downsample), map(bool, squeeze_excite), counts, strict=True))


class RDNet(nn.Module):
    """RDNet (Kim et al. 2024): patchify stem, then stages of densely joined blocks.

    The output is a list: the features before each stage that halves the size, and the last ones. ``widths`` are their
    channels and ``stride`` is the coarsest of their strides. For the arguments see `RDResUNet`, and ``stages_of``.
    """

    def __init__(
        self, in_channels: int, stem: int, patch_size: int, stages: list[Stage], bottleneck: float, compression: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem, kernel_size=patch_size, stride=patch_size), ChannelNorm(stem)
        )
        self.downsample = [halves for _, halves, _, _ in stages]
        self.stride = patch_size * 2 ** sum(self.downsample)
        self.widths: list[int] = []
        self.stages = nn.ModuleList()
        width = stem
        for i, (growth, halves, squeeze, count) in enumerate(stages):
            transition: nn.Module = nn.Identity()
            if i > 0:
                if halves:
                    self.widths.append(width)
                step = 2 if halves else 1
                kept = multiple_of_eight(width, compression)
                transition = nn.Sequential(ChannelNorm(width), nn.Conv2d(width, kept, kernel_size=step, stride=step))
                width = kept
            blocks: list[nn.Module] = []
            for _ in range(count):
                blocks.append(DenseBlock(width, growth, bottleneck, squeeze))
                width += growth
            self.stages.append(DenseStage(transition, blocks))
        self.widths.append(width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        levels: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            if self.downsample[i]:
                levels.append(x)
            x = stage(x)
        levels.append(x)
        return levels


class RDResUNet(ScaledNetwork):
    """An RDNet encoder (Kim et al. 2024) with the decoder and reconstruction of `ResUNet`; 2-D only.

    Squeeze-excitation means over the whole input, so that tiles of one image differ a little. The defaults have
    115.7 M parameters.

    Args:
        in_channels: frames of the input.
        out_channels: frames of the output; fewer than `in_channels` are the central ones (2.5D).
        channels: features of the decoder's blocks, from the coarsest: one more than stages that halve the size.
        scale: output size over input size.
        depth: hidden layers of a residual block, which has one convolution more.
        dilations: for each block of the decoder, the dilations of its parallel stacks; None for plain residual
            blocks and BatchNorm of the input.
        pool_sizes: sizes of the PSP pooling before the reconstruction; None for none.
        encoder_pool: PSP pooling of the encoder's last features too.
        stem_channels: features of the encoder's stem.
        growth_rates: features that each block of a stage of the encoder adds, one number a stage.
        downsample: for each stage, whether it starts by halving the size; not the first.
        squeeze_excite: for each stage, whether its blocks end in squeeze-excitation.
        n_blocks: blocks of each stage, one number for all or one each.
        patch_size: size and stride of the stem's convolution.
        bottleneck: width of a block's inner layer over that of its input.
        compression: width kept at a transition between stages.
        interpolate: predict what must be added to the linearly enlarged input; False predicts the image itself.
        norm: MONAI's name of the decoder's normalisation, or "" for none.
        value_range: what black (0) and white (1) are inside the network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (1024, 1024, 512, 256),
        scale: int | Sequence[int] = 4,
        depth: int = 3,
        dilations: Dilations | None = None,
        pool_sizes: Sequence[int] | None = None,
        encoder_pool: bool = False,
        stem_channels: int = 128,
        growth_rates: Sequence[int] = (64, 104, 128, 128, 128, 128, 224),
        downsample: Sequence[bool] = (False, True, True, False, False, False, True),
        squeeze_excite: Sequence[bool] = (False, False, True, True, True, True, True),
        n_blocks: int | Sequence[int] = 3,
        patch_size: int = 2,
        bottleneck: float = 4,
        compression: float = 0.5,
        interpolate: bool = True,
        norm: str = "batch",
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        check_levels(channels, dilations, pool_sizes, encoder_pool)
        halvings = sum(map(bool, downsample))
        if len(channels) != halvings + 1:
            raise InputError(
                f"channels: found {len(channels)} decoder widths for {halvings} stages that halve the size "
                "(downsample); give one more"
            )
        stages = stages_of(growth_rates, downsample, squeeze_excite, n_blocks)
        encoder = RDNet(in_channels, stem_channels, patch_size, stages, bottleneck, compression)
        padded_min = max(pool_sizes or [1]) * (encoder.stride if encoder_pool else 1)
        super().__init__(2, in_channels, out_channels, scale, interpolate, value_range, encoder.stride, padded_min)
        self.norm = get_norm_layer(norm if dilations is None else "", 2, in_channels)
        self.encoder = encoder
        self.encoder_pool = pyramid(2, encoder.widths[-1], pool_sizes if encoder_pool else None, norm)
        below = self._build_decoder(channels, patch_size, dilations, depth, norm)
        self.reconstruction_pool = pyramid(2, below, pool_sizes, norm)
        self.reconstruction = Reconstruction(2, below + in_channels, below, out_channels, self.scale)
        if interpolate:
            zero_(self.reconstruction.conv)

    def _build_decoder(
        self, channels: Sequence[int], patch_size: int, dilations: Dilations | None, depth: int, norm: str
    ) -> int:
        """Make the blocks and shuffles of the decoder; returns the features that they end with."""
        stacks = [None] * len(channels) if dilations is None else list(dilations)
        ratios = [2] * (len(channels) - 1) + [patch_size]
        self.decoder = nn.ModuleList()
        self.shuffles = nn.ModuleList()
        below = 0
        for width, skip, ratio, stack in zip(channels, reversed(self.encoder.widths), ratios, stacks, strict=True):
            shuffled = rounded_up(width, ratio**2)
            self.decoder.append(residual_block(2, below + skip, shuffled, stack, depth, norm))
            self.shuffles.append(PixelShuffle([ratio, ratio]))
            below = shuffled // ratio**2
        return below

    def features(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        skips = [x]
        skips.extend(self.encoder(x))
        x = self.encoder_pool(skips.pop())
        for i, (block, shuffle) in enumerate(zip(self.decoder, self.shuffles)):  # noqa: B905 (TorchScript)
            if i > 0:
                x = torch.cat([x, skips.pop()], dim=1)
            x = shuffle(block(x))
        x = self.reconstruction_pool(x)
        return self.reconstruction(torch.cat([x, skips.pop()], dim=1))


class RDResUNetA(RDResUNet):
    """RDResUNet with atrous blocks and PSP pooling in the decoder: `RDResUNet` with other defaults.

    Args: those of `RDResUNet`. The defaults have 131.8 M parameters.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        channels: Sequence[int] = (1024, 1024, 512, 256),
        scale: int | Sequence[int] = 4,
        depth: int = 3,
        dilations: Dilations | None = ((1,), (1,), (1, 3), (1, 3, 15)),
        pool_sizes: Sequence[int] | None = (1, 2, 4, 8),
        **options: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, channels, scale, depth, dilations, pool_sizes, **options)
