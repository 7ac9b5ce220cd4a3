"""RDNet, the revitalised DenseNet, as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import ordered

__all__ = ["RDNet", "multiple_of_eight"]


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


class RDNet(nn.Module):
    """RDNet (Kim et al. 2024): patchify stem, then stages of densely joined blocks.

    It gives the features before each stage that halves the size, and the last. ``widths`` are their channels and
    ``stride`` is the coarsest of their strides.

    Args:
        in_channels: frames of the input.
        stem_channels: features of the stem.
        patch_size: size and stride of the stem's convolution.
        growth_rates: features that each block of a stage adds, one number a stage.
        downsample: for each stage, whether it starts by halving the size; not the first.
        squeeze_excite: for each stage, whether its blocks end in squeeze-excitation.
        n_blocks: blocks of each stage, one number for all or one each.
        bottleneck: width of a block's inner layer over that of its input.
        compression: width kept at a transition.
    """

    def __init__(
        self,
        in_channels: int,
        stem_channels: int,
        patch_size: int,
        growth_rates: Sequence[int],
        downsample: Sequence[bool],
        squeeze_excite: Sequence[bool],
        n_blocks: int | Sequence[int],
        bottleneck: float,
        compression: float,
    ) -> None:
        super().__init__()
        stages = len(growth_rates)
        counts = [n_blocks] * stages if isinstance(n_blocks, int) else list(n_blocks)
        for name, given in (("downsample", downsample), ("squeeze_excite", squeeze_excite), ("n_blocks", counts)):
            if not stages or len(given) != stages:
                raise InputError(f"{name}: found {len(given)} entries for {stages} growth_rates; give one a stage")
        if downsample[0]:
            raise InputError("downsample: the first stage follows the stem and cannot halve the size; set it to false")
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem_channels, kernel_size=patch_size, stride=patch_size), ChannelNorm(stem_channels)
        )
        self.downsample = [bool(halves) for halves in downsample]
        self.stride = patch_size * 2 ** sum(self.downsample)
        self.widths: list[int] = []
        self.stages = nn.ModuleList()
        width = stem_channels
        for i, growth in enumerate(growth_rates):
            transition: nn.Module = nn.Identity()
            if i > 0:
                if self.downsample[i]:
                    self.widths.append(width)
                step = 2 if self.downsample[i] else 1
                kept = multiple_of_eight(width, compression)
                transition = nn.Sequential(ChannelNorm(width), nn.Conv2d(width, kept, kernel_size=step, stride=step))
                width = kept
            blocks: list[nn.Module] = []
            for _ in range(counts[i]):
                blocks.append(DenseBlock(width, growth, bottleneck, bool(squeeze_excite[i])))
                width += growth
            self.stages.append(DenseStage(transition, blocks))
        self.widths.append(width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        found: list[Tensor] = []
        for i, stage in enumerate(self.stages):
            if self.downsample[i]:
                found.append(x)
            x = stage(x)
        found.append(x)
        return found
