"""Building blocks of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError

RELU = ("relu", {"inplace": True})
STRIP = 48  # rows of features that are held at a time


def ordered(x: Tensor) -> Tensor:
    """Return `x` itself; while a program is exported, with its memory in the order of its axes.

    Where the two orders differ, an exported program decides which by the sizes that it was exported with, and refuses
    those for which it might have decided otherwise: an axis or a batch of one.
    """
    exporting = False
    if not torch.jit.is_scripting():  # type: ignore[attr-defined]
        exporting = torch.compiler.is_exporting()
    # contiguous() would ask for the sizes.
    return x.clone(memory_format=torch.contiguous_format) if exporting else x


def zero_(conv: nn.Module) -> None:
    """Set a layer's weights and bias to zero, so that it starts by adding nothing."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)


class PixelShuffle(nn.Module):
    """Channels into pixels (Shi et al. 2016), with a factor for each axis.

    ``(batch, channels * prod(factors), ...)`` becomes ``(batch, channels, ...)``, each axis its factor longer. With
    equal factors it is ``torch.nn.PixelShuffle`` in 2-D and MONAI's ``pixelshuffle`` in 3-D.
    """

    def __init__(self, factors: Sequence[int]) -> None:
        super().__init__()
        self.factors = [int(factor) for factor in factors]
        self.square = len(self.factors) == 2 and self.factors[0] == self.factors[1]
        self.volume = prod(self.factors)
        dims = len(self.factors)
        # (batch, channels, factors..., sizes...) -> (batch, channels, size, factor, size, factor, ...)
        self.order = [0, 1] + [axis for i in range(dims) for axis in (2 + dims + i, 2 + i)]

    def forward(self, x: Tensor) -> Tensor:
        if self.square:
            return F.pixel_shuffle(x, self.factors[0])
        if self.volume == 1:
            return x
        channels = x.shape[1] // self.volume
        split = [x.shape[0], channels]
        split.extend(self.factors)
        split.extend(x.shape[2:])
        merged = [x.shape[0], channels]
        for axis, factor in enumerate(self.factors):
            merged.append(x.shape[axis + 2] * factor)
        # A reshape would copy, too, but an exported program would have to decide by the sizes whether.
        return x.reshape(split).permute(self.order).clone(memory_format=torch.contiguous_format).view(merged)

    def extra_repr(self) -> str:
        return f"factors={self.factors}"


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, of ``(batch, channels, Y, X)``."""

    def forward(self, x: Tensor) -> Tensor:
        # The permuted view is channels_last, which convolutions keep: nothing is copied.
        y = F.layer_norm(ordered(x.permute(0, 2, 3, 1)), self.normalized_shape, self.weight, self.bias, self.eps)
        return ordered(y.permute(0, 3, 1, 2))


class LocalMean(nn.Module):
    """The mean of each channel around each pixel, ``(batch, channels, Y, X)``, or of the whole input.

    Args:
        side: of the cells that the input is divided into, and which divides its size: a pixel has the mean of its
            cell, interpolated linearly between the middles of cells; None for the mean of the whole, ``(batch,
            channels, 1, 1)``.
    """

    def __init__(self, side: int | None) -> None:
        super().__init__()
        self.side = side or 0
        self.zoom = [float(self.side)] * 2

    def cells(self, x: Tensor) -> Tensor:
        """The mean of each cell."""
        return F.avg_pool2d(x, self.side) if self.side > 0 else x.mean(dim=[2, 3], keepdim=True)

    def spread(self, cells: Tensor) -> Tensor:
        """Interpolate what was computed from the means of the cells."""
        if self.side < 2:
            return cells
        return F.interpolate(cells, scale_factor=self.zoom, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"side={self.side}"


class ResBlock(nn.Module):
    """``depth + 1`` normalised convolutions and a 1x1 convolution in parallel, added and rectified (Zhang et al. 2018).

    Unlike in MONAI's ``ResidualUnit`` the last convolution is normalised but not activated before the sum, and the
    shortcut is always a convolution.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, depth: int, norm: str) -> None:
        super().__init__()
        last = max(depth, 0)
        self.conv = nn.Sequential(
            *(
                Convolution(
                    spatial_dims,
                    out_channels if i else in_channels,
                    out_channels,
                    adn_ordering="NA",
                    act=RELU if i < last else None,
                    norm=norm or None,
                )
                for i in range(last + 1)
            )
        )
        self.residual = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + self.residual(x))


class AtrousBlock(nn.Module):
    """Parallel stacks of dilated convolutions, normalised and rectified before each (Diakogiannis et al. 2020)."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, dilations: Sequence[int], depth: int, norm: str
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.branches = nn.ModuleList()
        for dilation in dilations:
            layers: list[nn.Module] = []
            for i in range(max(depth, 0) + 1):
                width = out_channels if i else in_channels
                layers += [
                    get_norm_layer(norm, spatial_dims, width),
                    nn.ReLU(inplace=bool(norm)),  # without a norm this would change the block's own input
                    conv(width, out_channels, kernel_size=3, padding=dilation, dilation=dilation),
                ]
            self.branches.append(nn.Sequential(*layers))
        self.residual = conv(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        # In the original package's order, whose rounding its weights then share.
        y = self.branches[0](x)
        for i, branch in enumerate(self.branches):
            if i > 0:
                y = y + branch(x)
        return F.relu(y + self.residual(x))


class PyramidPool(nn.Module):
    """Parts of the channels, each max-pooled by its own size and enlarged again, then mixed (PSP pooling).

    After Diakogiannis et al. 2020, as in PSSR2: the channels are divided among the sizes.
    """

    def __init__(self, spatial_dims: int, channels: int, sizes: Sequence[int], norm: str) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1 or len(sizes) > channels:
            raise InputError(f"pool_sizes: found {list(sizes)}; give 1 to {channels} sizes of at least 1")
        conv = Conv[Conv.CONV, spatial_dims]
        self.spatial_dims = spatial_dims
        self.sizes = [int(size) for size in sizes]
        self.widths = [channels // len(sizes) + (i < channels % len(sizes)) for i in range(len(sizes))]
        self.convs = nn.ModuleList(
            nn.Sequential(conv(width, width, kernel_size=1), get_norm_layer(norm, spatial_dims, width))
            for width in self.widths
        )
        self.out = nn.Sequential(conv(channels, channels, kernel_size=1), get_norm_layer(norm, spatial_dims, channels))
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.widths, dim=1)
        pooled: list[Tensor] = []
        for i, conv in enumerate(self.convs):
            part = parts[i]
            size = self.sizes[i]
            if size > 1:
                part = F.max_pool2d(part, size) if self.spatial_dims == 2 else F.max_pool3d(part, size)
                part = F.interpolate(part, size=x.shape[2:], mode=self.mode, align_corners=False)
            pooled.append(F.relu(conv(part)))
        return F.relu(self.out(torch.cat(pooled, dim=1)))


class Reconstruction(nn.Module):
    """From features at the input's size to the image at `scale` times that: convolution, pixel shuffle, convolution.

    The first convolution starts with the same filter for all pixels of a shuffled group, so that training need
    not remove a checkerboard (Aitken et al. 2017).
    """

    def __init__(self, spatial_dims: int, in_channels: int, features: int, out_channels: int, scale: list[int]) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        group = prod(scale)
        self.pre = conv(in_channels, group * features, kernel_size=3, padding=1)
        self.shuffle = PixelShuffle(scale)
        self.conv = conv(features, out_channels, kernel_size=3, padding=1)
        with torch.no_grad():
            for parameter in self.pre.parameters():
                parameter.copy_(parameter[::group].repeat_interleave(group, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            plain = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined]
            if x.ndim == 4 and x.device.type == "cpu" and not plain and not torch.is_grad_enabled():
                return self._summed_in_strips(x)
        return self.conv(self.shuffle(F.relu(self.pre(x), inplace=True)))

    @torch.jit.unused
    def _summed_in_strips(self, x: Tensor) -> Tensor:
        """Compute the same without gradients on a processor, which shuffles and convolves large images slowly.

        The last convolution is taken apart: each pixel's features are weighted for the nine pixels that they count for,
        and the shifted sum is taken before the shuffle, of some rows at a time. So the features, the largest tensor in
        the network, are never held all at once, and only the sum, which is smaller, is shuffled: each place of a
        pixel's group takes its nine neighbours from places of that group or of the pixels around.
        """
        frames = self.conv.out_channels
        batch, _, height, width = x.shape
        along_y, along_x = self.shuffle.factors
        padded = F.pad(x, (0, 0, 1, 1))
        # Filters and biases of the first convolution, ordered by place in the group, then by feature.
        weight, bias = (
            tensor.unflatten(0, (-1, along_y * along_x)).transpose(0, 1).flatten(0, 1)
            for tensor in (self.pre.weight, self.pre.bias)
        )
        weight = weight.contiguous(memory_format=torch.channels_last)
        kernels = self.conv.weight.permute(2, 3, 0, 1).reshape(-1, self.conv.in_channels)
        summed = torch.zeros(along_y, along_x, frames, batch, height, width, dtype=self.conv.bias.dtype)
        summed += self.conv.bias.view(-1, 1, 1, 1)
        for top in range(0, height, STRIP):
            strip = range(top, min(top + STRIP, height))
            y = F.relu(F.conv2d(padded[:, :, top : strip.stop + 2], weight, bias, padding=(0, 1)), inplace=True)
            y = F.linear(y.permute(0, 2, 3, 1).reshape(-1, self.conv.in_channels), kernels)
            taps = y.view(-1, along_y * along_x * 9 * frames).t().contiguous()
            taps = taps.view(along_y, along_x, 3, 3, frames, batch, len(strip), width)
            # Along one axis after the other: few large sums, between which other threads do not get in the way.
            across = torch.zeros(along_y, along_x, 3, frames, batch, len(strip), width, dtype=summed.dtype)
            for j, right in product(range(along_x), range(3)):
                pixel_x, from_j = divmod(j + right - 1, along_x)
                to_columns, columns = _shifted(pixel_x, range(width), width)
                across[:, j, ..., to_columns] += taps[:, from_j, :, right, ..., columns]
            for i, down in product(range(along_y), range(3)):
                pixel_y, from_i = divmod(i + down - 1, along_y)
                to_rows, rows = _shifted(pixel_y, strip, height)
                summed[i, ..., to_rows, :] += across[from_i, :, down, ..., rows, :]
        return summed.permute(3, 2, 4, 0, 5, 1).reshape(batch, frames, height * along_y, width * along_x)


def _shifted(by: int, part: range, size: int) -> tuple[slice, slice]:
    """The pixels whose neighbours at a distance ``by`` lie in a part of ``size``, and where in the part those lie."""
    first, stop = max(0, part.start - by), min(size, part.stop - by)
    return slice(first, stop), slice(first + by - part.start, stop + by - part.start)


def upsampling_steps(scale: Sequence[int]) -> list[list[int]]:
    """Divide `scale` into steps of prime factors for each axis: ``[1, 4, 4]`` gives ``[[1, 2, 2], [1, 2, 2]]``."""
    steps: list[list[int]] = []
    remaining = list(scale)
    while max(remaining) > 1:
        step = [next((p for p in range(2, rest + 1) if rest % p == 0), 1) for rest in remaining]
        remaining = [rest // factor for rest, factor in zip(remaining, step, strict=True)]
        steps.append(step)
    return steps


def shuffled_upsampling(spatial_dims: int, features: int, scale: Sequence[int]) -> nn.Sequential:
    """Return a convolution and pixel shuffle for each step of `scale`: the upsampler of EDSR, RCAN and SwinIR."""
    layers: list[nn.Module] = []
    for step in upsampling_steps(scale):
        conv = Conv[Conv.CONV, spatial_dims](features, prod(step) * features, kernel_size=3, padding=1)
        layers += [conv, PixelShuffle(step)]
    return nn.Sequential(*layers)
