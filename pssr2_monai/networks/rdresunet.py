"""RDNet on the way down, residual blocks and pixel shuffling on the way up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import PixelShuffle, Reconstruction, rounded_up, zero_
from pssr2_monai.networks.rdnet import RDNet
from pssr2_monai.networks.resunet import Dilations, check_levels, pyramid, residual_block
from pssr2_monai.networks.scaled import ScaledNetwork

__all__ = ["RDResUNet", "RDResUNetA"]


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
        stem_channels, growth_rates, downsample, squeeze_excite, n_blocks, patch_size, bottleneck, compression: the
            encoder's, see `pssr2_monai.networks.rdnet.RDNet`.
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
        check_levels(channels, dilations)
        if encoder_pool and pool_sizes is None:
            raise InputError("encoder_pool: needs pool_sizes, which are not given")
        if len(channels) != sum(map(bool, downsample)) + 1:
            raise InputError(
                f"channels: found {len(channels)} decoder widths for {sum(map(bool, downsample))} stages that halve "
                "the size (downsample); give one more"
            )
        encoder = RDNet(
            in_channels,
            stem_channels,
            patch_size,
            growth_rates,
            downsample,
            squeeze_excite,
            n_blocks,
            bottleneck,
            compression,
        )
        super().__init__(
            2,
            in_channels,
            out_channels,
            scale,
            interpolate,
            value_range,
            multiple=encoder.stride,
            padded_min=max(pool_sizes or [1]) * (encoder.stride if encoder_pool else 1),
        )
        self.norm = get_norm_layer(norm if dilations is None else "", 2, in_channels)
        self.encoder = encoder
        self.encoder_pool = pyramid(2, encoder.widths[-1], pool_sizes if encoder_pool else None, norm)
        stacks = [None] * len(channels) if dilations is None else list(dilations)
        ratios = [2] * (len(channels) - 1) + [patch_size]
        self.decoder = nn.ModuleList()
        self.shuffles = nn.ModuleList()
        below = 0
        for width, skip, ratio, stack in zip(channels, reversed(encoder.widths), ratios, stacks, strict=True):
            shuffled = rounded_up(width, ratio**2)
            self.decoder.append(residual_block(2, below + skip, shuffled, stack, depth, norm))
            self.shuffles.append(PixelShuffle([ratio, ratio]))
            below = shuffled // ratio**2
        self.reconstruction_pool = pyramid(2, below, pool_sizes, norm)
        self.reconstruction = Reconstruction(2, below + in_channels, below, out_channels, self.scale)
        if interpolate:
            zero_(self.reconstruction.conv)

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
        super().__init__(
            in_channels,
            out_channels,
            channels,
            scale,
            depth,
            dilations,
            pool_sizes,
            encoder_pool,
            stem_channels,
            growth_rates,
            downsample,
            squeeze_excite,
            n_blocks,
            patch_size,
            bottleneck,
            compression,
            interpolate,
            norm,
            value_range,
        )
