"""Laying a network over an image or a volume that is larger than it takes at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from monai.inferers import Inferer

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import rounded_up
from pssr2_monai.precision import choose_precision, in_precision
from pssr2_monai.tiles import WindowAxis, reflect_indices

__all__ = ["SeamlessInferer"]

GRID = 32
"""Windows begin at multiples of this in Y and X: a network that pools gives another output where its grid lies
otherwise."""

DEPTH, DEPTH_GRID = 48, 8
"""Frames of a window of a volume, and what its first one is a multiple of."""


class SeamlessInferer(Inferer):
    """Sliding windows blended without seams, inside the image and at its border, in bounded memory if need be.

    The windows lie on one grid, and each pixel is the weighted mean of those that know it best (see
    ``tiles.WindowAxis``); the image is continued by reflection. An axis along which the image fits into one window goes
    through the network whole. MONAI's own sliding window holds the whole output and its weights, and gives the
    outermost pixels of a window, which saw zeros instead of their surroundings, a share that shows as lines.

    Args:
        window: side of the windows in LR pixels; by default 256, of volumes 96.
        overlap: share of a window that it has in common with its neighbour, at least 0.25.
        batch_size: windows that go through the network at a time.
        precision: see ``precision.choose_precision``.
        volume: whether the frames are the depth of a volume, divided into windows, too.
    """

    def __init__(
        self,
        window: int | None = None,
        overlap: float = 0.25,
        batch_size: int = 1,
        precision: str = "auto",
        volume: bool = False,
    ) -> None:
        super().__init__()
        window = window or (96 if volume else 256)
        if not 0.25 <= overlap < 1:
            raise InputError(f"overlap: {overlap} is not in [0.25, 1); less would show the windows' borders")
        if window < 2 * GRID or window % GRID:
            raise InputError(f"window: {window} LR pixels; take a multiple of {GRID}, at least {2 * GRID}")
        self.window = window
        self.overlap = overlap
        self.batch_size = batch_size
        self.precision = precision
        self.volume = volume

    def axes(self, sizes: Sequence[int]) -> list[WindowAxis]:
        """The windows along each axis of an image ``(Y, X)``, or of a volume ``(Z, Y, X)``."""
        axes = [self._axis(size, self.window, GRID) for size in sizes[-2:]]
        return [self._axis(sizes[0], DEPTH, DEPTH_GRID), *axes] if self.volume else axes

    def _axis(self, size: int, window: int, grid: int) -> WindowAxis:
        shared = window - max(grid, int(window * (1 - self.overlap)) // grid * grid)
        return WindowAxis(size, window, shared, rounded_up(shared // 2, grid))

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Restores ``(batch, frames, Y, X)``; the output is larger by the network's scale, in float32."""
        axes = self.axes(inputs.shape[1:] if self.volume else inputs.shape[2:])
        first_axis = inputs.ndim - len(axes)

        def read(starts: Sequence[int]) -> torch.Tensor:
            pixels = inputs
            for number, (axis, start) in enumerate(zip(axes, starts, strict=True)):
                index = torch.from_numpy(reflect_indices(start, axis.length, axis.size))
                pixels = pixels.index_select(first_axis + number, index.to(inputs.device))
            return pixels

        slabs = self.stream(read, axes, lambda windows: network(windows, *args, **kwargs))
        return torch.cat([slab.clone() for _, slab in slabs], dim=first_axis)

    def stream(
        self,
        read: Callable[[Sequence[int]], torch.Tensor],
        axes: Sequence[WindowAxis],
        network: Callable[[torch.Tensor], torch.Tensor],
        column: Sequence[range] | None = None,
        rows: range | None = None,
    ) -> Iterator[tuple[range, torch.Tensor]]:
        """Restores an image from one end to the other, holding no more of it than the windows of one step.

        Args:
            read: gives the window ``(batch, frames, Y, X)`` that begins at a pixel of each axis, continued by
                reflection where it leaves the image.
            axes: see ``axes``; the first is gone along.
            network: takes and gives ``(batch, frames, Y, X)``.
            column: the part along each of the other axes; all of them by default.
            rows: the part along the first axis; what is given does not depend on it, nor on the column.

        Yields:
            LR pixels along the first axis, and what they became: float32 ``(batch, frames, Y, X)``, which must be used
            or copied before the next is asked for.
        """
        along, *across = axes
        first, last = (rows.start, rows.stop) if rows is not None else (0, along.size)
        column = column or [range(axis.size) for axis in across]
        covering = [axis.covering(part.start, part.stop) for axis, part in zip(across, column, strict=True)]
        corners = list(product(*covering))
        starts = along.covering(first, last)
        sums: torch.Tensor | None = None
        for start, following in zip(starts, [*starts[1:], None], strict=True):
            for number in range(0, len(corners), self.batch_size):
                some = corners[number : number + self.batch_size]
                windows = [read((start, *corner)) for corner in some]
                outputs = self.predicted(windows, network)
                sizes = zip(outputs[0].shape[-len(axes) :], windows[0].shape[-len(axes) :], strict=True)
                scale = [restored // size for restored, size in sizes]
                if sums is None:
                    lead = outputs[0].shape[: -len(axes)]
                    sides = [len(part) * each for part, each in zip(column, scale[1:], strict=True)]
                    sums = outputs[0].new_zeros((*lead, along.length * scale[0], *sides))
                for corner, output in zip(some, outputs, strict=True):
                    _add(sums, output, along.weights(start, scale[0]), across, column, corner, scale)
            assert sums is not None
            axis = sums.ndim - len(axes)
            stop = last if following is None else min(following, last)
            if stop > first:
                height = (stop - first) * scale[0]
                yield range(first, stop), sums.narrow(axis, (first - start) * scale[0], height)
                first = stop
            if following is not None:
                _move(sums, axis, (following - start) * scale[0])

    def predicted(
        self, windows: Sequence[torch.Tensor], network: Callable[[torch.Tensor], torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """What the network makes of some windows, each ``(batch, frames, Y, X)``, taken together."""
        inputs = torch.cat(list(windows)).float()
        predict = in_precision(network, choose_precision(self.precision, inputs.device))
        return predict(inputs).split(len(windows[0]))


def _add(
    sums: torch.Tensor,
    output: torch.Tensor,
    weights: Any,
    across: Sequence[WindowAxis],
    column: Sequence[range],
    corner: Sequence[int],
    scale: Sequence[int],
) -> None:
    """Adds a window, weighted, to the part of the column that it covers."""
    spatial = len(across) + 1
    weight = torch.from_numpy(weights).reshape(-1, *[1] * len(across))
    place: list[slice] = [slice(None)]
    taken: list[slice] = [slice(None)]
    for number, (axis, part, start) in enumerate(zip(across, column, corner, strict=True)):
        each = scale[number + 1]
        low, high = max(start, part.start), min(start + axis.length, part.stop)
        place.append(slice((low - part.start) * each, (high - part.start) * each))
        taken.append(slice((low - start) * each, (high - start) * each))
        own = torch.from_numpy(axis.weights(start, each))[taken[-1]]
        weight = weight * own.reshape([-1 if other == number + 1 else 1 for other in range(spatial)])
    lead = [slice(None)] * (sums.ndim - spatial)
    sums[(*lead, *place)] += output[(*lead, *taken)] * weight.to(output.device)


def _move(sums: torch.Tensor, axis: int, by: int) -> None:
    """Takes the first ``by`` pixels along an axis away, and puts as many empty ones behind."""
    kept = sums.shape[axis] - by
    rest = sums.narrow(axis, by, kept)
    sums.narrow(axis, 0, kept).copy_(rest.clone() if kept > by else rest)  # a copy where both overlap
    sums.narrow(axis, kept, by).zero_()
