"""Blending windows: a restored image is the weighted sum of overlapping windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.profiler import record_function


@dataclass(frozen=True)
class WindowAxis:
    """The windows along an axis, and their weights where they overlap.

    They begin at multiples of ``step``, less a margin, wherever the axis is divided for other reasons, so that a pixel
    is made from the same windows whatever part of the image is asked for. An axis that is no longer than a window has
    one window of the axis's size.
    """

    size: int  # all in pixels
    window: int
    shared: int  # that neighbours have in common
    margin: int  # by which the first window begins before the axis, and the last at least ends behind it

    @property
    def length(self) -> int:
        return min(self.size, self.window)

    @property
    def edge(self) -> int:
        """Pixels at each end of a window whose weight is 0, where another window has weight."""
        return self.shared // 4

    @property
    def step(self) -> int:
        return self.window - self.shared

    @property
    def starts(self) -> range:
        """First pixels of the windows; the first one is negative."""
        if self.size <= self.window:
            return range(1)
        count = 1 + -(-(self.size + 2 * self.margin - self.window) // self.step)
        return range(-self.margin, -self.margin + count * self.step, self.step)

    def covering(self, first: int, stop: int) -> list[int]:
        """The starts of the windows with weight between two pixels."""
        return [
            start
            for start in self.starts
            if len(self.starts) == 1 or (start + self.edge < stop and start + self.window - self.edge > first)
        ]

    def weights(self, start: int, scale: int = 1) -> npt.NDArray[np.float32]:
        """The weights of the pixels of a window, ``(length * scale,)``; those of all windows add up to 1.

        They are 0 in a quarter of the overlap at each end, whose surroundings the network has not seen, and rise along
        a raised cosine over the half between.
        """
        if len(self.starts) == 1:
            return np.ones(self.length * scale, np.float32)
        profile = self._profile(scale)
        total, length = np.zeros_like(profile), len(profile)
        for neighbour in self.starts:
            shift = (neighbour - start) * scale
            if abs(shift) < length:
                total[max(shift, 0) : length + min(shift, 0)] += profile[max(-shift, 0) : length - max(shift, 0)]
        return np.divide(profile, total, out=np.zeros_like(profile), where=total > 0).astype(np.float32)

    def _profile(self, scale: int) -> npt.NDArray[np.float64]:
        edge = self.edge * scale
        ramp = self.shared * scale - 2 * edge
        rising = np.ones(self.window * scale)
        rising[:edge] = 0
        rising[edge : edge + ramp] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
        return rising * rising[::-1]


Place = tuple[range, ...]  # LR pixels along each axis


def blended(
    outputs: Iterator[torch.Tensor], axes: Sequence[WindowAxis], parts: Sequence[range]
) -> Iterator[tuple[Place, torch.Tensor]]:
    """Sum restored windows ``(..., sizes along the axes)``; yield each piece once no later window has weight there.

    The windows, which are changed, come in the order of their starts, along the last axis first. The pieces cover the
    parts, LR pixels along each of the last axes; they are yielded with their place, row of windows by row of windows,
    as long as a step. No more of the image is held than what a row of windows has in common with the next. Each pixel
    is summed in the same order whatever part is asked for.
    """
    (axis, *inner), (part, *inner_parts) = axes, parts
    starts, dim = axis.covering(part.start, part.stop), -len(axes)
    sums: dict[Place, torch.Tensor] = {}  # to which the next window is added
    first = part.start
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        stop = end = part.stop
        if following is not None:
            end = min(start + axis.length - axis.edge, end)
            stop = max(first, min(following + axis.edge, stop))
        slabs: Iterable[tuple[Place, torch.Tensor]]
        slabs = blended(outputs, inner, inner_parts) if inner else [((), next(outputs))]
        for place, slab in slabs:
            with record_function("blend"):
                factor = slab.shape[dim] // axis.length
                weighted = slice((first - start) * factor, (end - start) * factor)
                slab = slab.narrow(dim, weighted.start, weighted.stop - weighted.start)
                _weigh(slab, axis.weights(start, factor)[weighted], dim)
                if place in sums:
                    slab.narrow(dim, 0, sums[place].shape[dim]).add_(sums[place])
                ready, rest = slab.split([(stop - first) * factor, (end - stop) * factor], dim)
                sums[place] = rest.clone()  # not the whole slab
            if stop > first:
                yield (range(first, stop), *place), ready
        first = stop


def _weigh(slab: torch.Tensor, weights: npt.NDArray[np.float32], dim: int) -> None:
    """Multiply a window by its weights along an axis, in place, except for the middle where they are 1."""
    ones = np.flatnonzero(weights == 1)
    whole = not len(ones) or ones[-1] - ones[0] >= len(ones)
    ends = [(0, len(weights))] if whole else [(0, int(ones[0])), (int(ones[-1]) + 1, len(weights))]
    for low, high in ends:
        factors = torch.from_numpy(weights[low:high]).to(slab.device)
        slab.narrow(dim, low, high - low).mul_(factors.reshape(-1, *[1] * (-1 - dim)))
