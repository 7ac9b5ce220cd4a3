"""Adding windows up to an image, each weighted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.profiler import record_function

from pssr2_monai.tiles import WindowAxis

__all__ = ["Place", "blended"]

Place = tuple[range, ...]
"""LR pixels along each axis."""


def blended(
    outputs: Iterator[torch.Tensor], axes: Sequence[WindowAxis], parts: Sequence[range]
) -> Iterator[tuple[Place, torch.Tensor]]:
    """Windows added up, and given as soon as no window to come counts for a piece.

    Of an image no more is held than what a row of windows has in common with the next. Each pixel is summed in the same
    order whatever part of the image is asked for.

    Args:
        outputs: what the network made of the windows that cover the part, ``(..., sizes along the axes)``, in the order
            of where they begin, along the last axis first. They are changed.
        axes: windows along each of the last axes.
        parts: LR pixels along each that are asked for.

    Yields:
        LR pixels along each axis and what they became, ``(..., HR pixels along the axes)``: pieces that cover the part,
        row of windows by row of windows, each but the first and last as long as the step of the windows.
    """
    (axis, *inner), (part, *inner_parts) = axes, parts
    starts, dim = axis.covering(part.start, part.stop), -len(axes)
    kept: dict[Place, torch.Tensor] = {}  # sums to which the next window is to be added
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
                counting = slice((first - start) * factor, (end - start) * factor)
                slab = slab.narrow(dim, counting.start, counting.stop - counting.start)
                _weigh(slab, axis.weights(start, factor)[counting], dim)
                if place in kept:
                    slab.narrow(dim, 0, kept[place].shape[dim]).add_(kept[place])
                ready, rest = slab.split([(stop - first) * factor, (end - stop) * factor], dim)
                kept[place] = rest.clone()  # not the whole slab
            if stop > first:
                yield (range(first, stop), *place), ready
        first = stop


def _weigh(slab: torch.Tensor, weights: npt.NDArray[np.float32], dim: int) -> None:
    """Multiplies a window by its weights along an axis, in place, but for the middle where they are 1."""
    ones = np.flatnonzero(weights == 1)
    whole = not len(ones) or ones[-1] - ones[0] >= len(ones)
    ends = [(0, len(weights))] if whole else [(0, int(ones[0])), (int(ones[-1]) + 1, len(weights))]
    for low, high in ends:
        own = torch.from_numpy(weights[low:high]).to(slab.device)
        slab.narrow(dim, low, high - low).mul_(own.reshape(-1, *[1] * (-1 - dim)))
