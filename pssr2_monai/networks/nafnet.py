"""NAFNet, a U-Net without nonlinear activations."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import ChannelNorm, LocalMean, PixelShuffle, zero_
from pssr2_monai.networks.scaled import ScaledNetwork

RESIDUAL_SCALE = 0.1  # of a new block's two branches; 0, as in the paper, would keep them from learning at first


def gated(x: Tensor) -> Tensor:
    """The paper's SimpleGate: one half of the channels times the other."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """A gated depthwise convolution with channel attention, then a gated pointwise one, each added to its input."""

    def __init__(self, channels: int, mean: LocalMean) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, 2 * channels, kernel_size=1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, kernel_size=3, padding=1, groups=2 * channels)
        self.mean = mean
        self.attention = nn.Conv2d(channels, channels, kernel_size=1)
        self.project = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm2 = ChannelNorm(channels)
        self.expand2 = nn.Conv2d(channels, 2 * channels, kernel_size=1)
        self.project2 = nn.Conv2d(channels, channels, kernel_size=1)
        self.beta = nn.Parameter(torch.full((1, channels, 1, 1), RESIDUAL_SCALE))
        self.gamma = nn.Parameter(torch.full((1, channels, 1, 1), RESIDUAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        y = gated(self.depthwise(self.expand(self.norm1(x))))
        gates = self.mean.spread(self.attention(self.mean.cells(y)))
        x = x + self.beta * self.project(y * gates)
        return x + self.gamma * self.project2(gated(self.expand2(self.norm2(x))))


class NAFNet(ScaledNetwork):
    """NAFNet (Chen et al. 2022): a U-Net of blocks that multiply halves of their channels; 2-D only.

    Channel attention takes its means over a neighbourhood of each pixel, in training, too, instead of over the whole
    input (after Chu et al. 2022): a pixel then does not depend on how an image is divided into windows. The paper's
    network for SIDD is ``scale=1, width=32, encoder=[2, 2, 4, 8], middle=12, decoder=[2, 2, 2, 2],
    neighbourhood=None``, 29.2 M parameters.

    Args:
        in_channels: frames of the input.
        out_channels: frames of the output; fewer than `in_channels` are the central ones (2.5D).
        scale: output size over input size, one number or one for each axis.
        width: features of the finest level, twice as many at each one below.
        encoder: blocks of each level on the way down.
        middle: blocks of the coarsest level.
        decoder: blocks of each level on the way up, from the coarsest.
        neighbourhood: side in pixels of the cells whose means channel attention interpolates between, a divisor of 32,
            since windows begin at its multiples; None for the mean of the whole input, as in the paper.
        fold: 2 works at half the size inside (see `ResUNet`).
        interpolate: predict what must be added to the linearly enlarged input; False predicts the image itself.
        value_range: what black (0) and white (1) are inside the network.

    Raises:
        InputError: numbers that do not go together; see each argument.

    Source:
        Chen, Chu, Zhang and Sun 2022, "Simple baselines for image restoration"; Chu, Chen, Chen and Lu 2022, "Improving
        image restoration by revisiting global information aggregation"; the end at larger scales after Chu, Chen and Yu
        2022, "NAFSSR".
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 4,
        width: int = 32,
        encoder: Sequence[int] = (1, 1, 1),
        middle: int = 1,
        decoder: Sequence[int] = (1, 1, 1),
        neighbourhood: int | None = 16,
        fold: int = 1,
        interpolate: bool = True,
        value_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        if len(encoder) != len(decoder) or min([width, middle, *encoder, *decoder]) < 1:
            raise InputError(
                f"width, encoder, middle, decoder: found {width}, {list(encoder)}, {middle} and {list(decoder)}; give "
                "numbers of at least 1, as many for decoder as for encoder"
            )
        if fold < 1:
            raise InputError(f"fold: found {fold}; give a whole number of at least 1")
        coarsest = fold * 2 ** len(encoder)
        if neighbourhood is not None and (neighbourhood < 1 or neighbourhood % coarsest):
            raise InputError(
                f"neighbourhood: found {neighbourhood}; give None or a multiple of {coarsest}, the pixels of one at "
                f"the coarsest of {len(encoder) + 1} levels with fold {fold}"
            )
        super().__init__(
            2, in_channels, out_channels, scale, interpolate, value_range, lcm(coarsest, neighbourhood or 1)
        )
        self.fold = fold

        def blocks(level: int, count: int) -> list[NAFBlock]:
            mean = LocalMean(neighbourhood // (fold * 2**level) if neighbourhood else None)
            return [NAFBlock(width * 2**level, mean) for _ in range(count)]

        def down(level: int) -> nn.Module:
            if level == 0:
                return nn.Conv2d(in_channels * fold**2, width, kernel_size=3, padding=1)
            return nn.Conv2d(width * 2 ** (level - 1), width * 2**level, kernel_size=2, stride=2)

        def up(level: int) -> list[nn.Module]:
            features = width * 2**level
            return [nn.Conv2d(features, 2 * features, kernel_size=1, bias=False), nn.PixelShuffle(2)] if level else []

        levels = len(encoder)
        self.encoder = nn.ModuleList(
            nn.Sequential(down(level), *blocks(level, count)) for level, count in enumerate(encoder)
        )
        self.middle = nn.Sequential(down(levels), *blocks(levels, middle), *up(levels))
        self.decoder = nn.ModuleList(
            nn.Sequential(*blocks(level, count), *up(level))
            for level, count in zip(reversed(range(levels)), decoder, strict=True)
        )
        enlarged = [fold * factor for factor in self.scale]
        self.last = nn.Conv2d(width, out_channels * prod(enlarged), kernel_size=3, padding=1)
        self.shuffle = PixelShuffle(enlarged)
        if interpolate:
            zero_(self.last)

    def features(self, x: Tensor) -> Tensor:
        if self.fold > 1:
            x = F.pixel_unshuffle(x, self.fold)
        skips: list[Tensor] = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        x = self.middle(x)
        for level in self.decoder:
            x = level(x + skips.pop())
        return self.shuffle(self.last(x))
