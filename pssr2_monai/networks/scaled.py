"""The base of all networks: from [0, 1] to exactly `scale` times the size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError

MIN_SIZE = 8  # pixels along Y and X


def factor_per_axis(scale: int | Sequence[int], spatial_dims: int, name: str = "scale") -> list[int]:
    """Return one whole factor of at least 1 for each spatial axis, in their order (``[1, 4, 4]`` for ZYX)."""
    factors = [scale] * spatial_dims if isinstance(scale, (int, float)) else list(scale)
    if len(factors) != spatial_dims or any(int(factor) != factor or factor < 1 for factor in factors):
        raise InputError(
            f"{name}: found {scale}; give a whole number of at least 1, or one for each of {spatial_dims} axes"
        )
    return [int(factor) for factor in factors]


class ScaledNetwork(nn.Module):
    """A network that turns ``(batch, frames, [Z,] Y, X)`` in [0, 1] into the same at exactly ``scale`` times the size.

    A subclass defines `features`, which works on sizes that are multiples of ``multiple`` and returns ``scale`` times
    that size. This class maps the grey values, extends the input by reflection at its far ends (so that nothing
    shifts), crops the output, and adds the enlarged input. ``spatial_dims``, ``in_channels``,
    ``out_channels``, ``scale`` (one factor an axis) and ``multiple`` are public attributes.

    Args:
        spatial_dims: 2 or 3.
        in_channels: frames of the input.
        out_channels: frames of the output.
        scale: output size over input size, one number or one for each axis.
        interpolate: predict what must be added to the linearly enlarged input (its central frames, where it has
            more than the output) instead of the image itself.
        value_range: what black (0) and white (1) are inside the network.
        multiple: what the sizes inside the network must divide by.
        padded_min: the smallest size inside the network.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        scale: int | Sequence[int],
        interpolate: bool,
        value_range: Sequence[float],
        multiple: int = 1,
        padded_min: int = 1,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise InputError(f"spatial_dims: found {spatial_dims}; give 2 or 3")
        if in_channels < 1 or out_channels < 1:
            raise InputError(f"in_channels, out_channels: found {in_channels} and {out_channels}; give at least 1 each")
        black, white = (float(value) for value in value_range)
        if black == white:
            raise InputError(f"value_range: black and white are both {black}; give two different numbers")
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.scale = factor_per_axis(scale, spatial_dims)
        self.interpolate = interpolate
        self.multiple = multiple
        self.padded_min = -(-padded_min // multiple) * multiple
        self.black = black
        self.gain = white - black
        self.zoom = [float(factor) for factor in self.scale]
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def features(self, x: Tensor) -> Tensor:
        """Compute the output from a padded input, both in the network's grey values, at ``scale`` times the size."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Restore an image.

        Args:
            x: ``(batch, in_channels, [Z,] Y, X)`` with values in [0, 1]; Y and X of at least 8.

        Returns:
            ``(batch, out_channels, ...)``, each axis ``scale`` times as long.

        Raises:
            InputError: another number of axes or frames, or too small an image.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self._check(x)
        y = self.features(self._extend(x * self.gain + self.black)).to(x.dtype)
        # Negative padding crops; slices would make export with dynamic sizes prove which of two sizes is larger.
        excess: list[int] = []
        for axis in range(self.spatial_dims - 1, -1, -1):
            excess.extend([0, x.shape[axis + 2] * self.scale[axis] - y.shape[axis + 2]])
        y = F.pad(y, excess)
        if self.interpolate:
            return self._enlarge(x) + y / self.gain
        return (y - self.black) / self.gain

    def _extend(self, x: Tensor) -> Tensor:
        """Mirror `x` at the far end of each axis up to the size that the network needs.

        By indices rather than ``F.pad``: any length in one step, however short the axis, and no branch on the size,
        which export with dynamic sizes could not follow.
        """
        if self.multiple == 1 and self.padded_min == 1:
            return x
        for axis in range(2, self.spatial_dims + 2):
            size = x.shape[axis]
            padded = (size + self.multiple - 1) // self.multiple * self.multiple
            if self.padded_min > self.multiple:
                padded = max(padded, self.padded_min)
            # As a tensor: ONNX has no remainder by a size that is known only later.
            period = (2 * torch.arange(size, device=x.device).max()).clamp(min=1)
            index = torch.arange(padded, device=x.device) % period
            x = x.index_select(axis, torch.minimum(index, period - index))
        return x

    def _enlarge(self, x: Tensor) -> Tensor:
        """Enlarge the central frames of `x` linearly, by pixel areas (``align_corners=False``)."""
        if self.in_channels > self.out_channels:
            x = x.narrow(1, (self.in_channels - self.out_channels) // 2, self.out_channels)
        elif self.in_channels < self.out_channels:
            nearest = torch.arange(self.out_channels, device=x.device) * self.in_channels // self.out_channels
            x = x.index_select(1, nearest)
        if max(self.zoom) > 1:
            x = F.interpolate(x, scale_factor=self.zoom, mode=self.mode, align_corners=False)
        return x

    @torch.jit.unused
    def _check(self, x: Tensor) -> None:
        """Validate the input; left out of traces and exports, which would freeze the sizes."""
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[attr-defined]
            return
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            axes = "ZYX"[3 - self.spatial_dims :]
            raise InputError(
                f"input of shape {tuple(x.shape)}: the network takes (batch, {self.in_channels} frames, "
                f"{', '.join(axes)}); check n_frames and the axes"
            )
        if min(x.shape[-2:]) < MIN_SIZE:
            raise InputError(
                f"input of {x.shape[-2]}x{x.shape[-1]} px: the network needs at least {MIN_SIZE}x{MIN_SIZE}; "
                "give a larger image or tile"
            )


def not_copying(network: nn.Module) -> nn.Module:
    """Return a network that is to learn from blind spots, if it does not add the input to its output.

    Raises:
        InputError: it does. Where a pixel is not hidden, as in restoring, its noise would then be in the output.
    """
    if any(getattr(module, "interpolate", False) is True for module in network.modules()):
        raise InputError(
            "network_def#interpolate: true adds the noisy input to the output, so that a network learns nothing from "
            "blind spots; set it to false, or to @interpolate"
        )
    return network


class AsVolume(nn.Module):
    """Apply a 3-D network to runs of frames: ``(batch, frames, Y, X)`` in and out, with the frames as its Z axis.

    Volumes thus use the same transforms, losses and metrics as planes.

    Args:
        network: maps ``(batch, 1, Z, Y, X)`` to the same, each axis its scale times as long.

    Example:
        >>> import torch
        >>> from pssr2_monai.networks import ResUNet
        >>> network = AsVolume(ResUNet(channels=[8, 16], depth=1, scale=[4, 1, 1], spatial_dims=3))
        >>> network(torch.rand(1, 8, 32, 32)).shape
        torch.Size([1, 32, 32, 32])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor = self.network(x.unsqueeze(1))
        return restored.squeeze(1)
