"""Adding windows up to an image, each weighted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch.profiler import record_function

from pssr2_monai.tiles import WindowAxis

__all__ = ["add_window", "next_sums"]

FloatArray = npt.NDArray[np.float32]


@record_function("blend")
def add_window(
    sums: torch.Tensor,
    output: torch.Tensor,
    weights: FloatArray,
    across: Sequence[WindowAxis],
    column: Sequence[range],
    corner: Sequence[int],
    scale: Sequence[int],
) -> None:
    """Adds a window, weighted, to the part of the column that it covers.

    Args:
        sums: ``(batch, frames, Y, X)`` of a column.
        output: of the network, ``(batch, frames, Y, X)``.
        weights: of the window along the first axis.
        across: windows along the other axes.
        column: LR pixels of the column along these.
        corner: where the window begins along these, in LR pixels of the image.
        scale: HR over LR pixels along all axes.
    """
    own, shifts = [weights], [0]
    for axis, part, start, each in zip(across, column, corner, scale[1:], strict=True):
        low, high = max(start, part.start), min(start + axis.length, part.stop)
        inside = np.zeros(axis.length * each, np.float32)
        counting = slice((low - start) * each, (high - start) * each)
        inside[counting] = axis.weights(start, each)[counting]
        own.append(inside)
        shifts.append((start - part.start) * each)
    spatial = len(own)
    lead = [slice(None)] * (sums.ndim - spatial)
    for stretches in product(*map(_stretches, own)):
        taken = [stretch for stretch, _ in stretches]
        place = [slice(part.start + shift, part.stop + shift) for part, shift in zip(taken, shifts, strict=True)]
        pixels = output[(*lead, *taken)]
        if not all(whole for _, whole in stretches):
            weight = torch.ones(1)
            for number, (stretch, values) in enumerate(zip(taken, own, strict=True)):
                weight = weight * torch.from_numpy(values[stretch]).reshape([-1] + [1] * (spatial - 1 - number))
            pixels = pixels * weight.to(output.device)
        sums[(*lead, *place)].add_(pixels)  # in place: += would copy the part onto itself, too


def _stretches(weights: FloatArray) -> list[tuple[slice, bool]]:
    """Where weights are not 0, in up to three parts, and whether all of a part are 1: most of a window is."""
    counting, ones = np.flatnonzero(weights), np.flatnonzero(weights == 1)
    first, stop = int(counting[0]), int(counting[-1]) + 1
    if not len(ones) or ones[-1] - ones[0] >= len(ones):
        return [(slice(first, stop), False)]
    low, high = int(ones[0]), int(ones[-1]) + 1
    parts = [(slice(first, low), False), (slice(low, high), True), (slice(high, stop), False)]
    return [(part, whole) for part, whole in parts if part.stop > part.start]


def next_sums(sums: torch.Tensor, spare: torch.Tensor | None, axis: int, by: int) -> torch.Tensor:
    """The sums of the next step, ``by`` pixels further along an axis, in the spare memory if there is any."""
    kept = sums.shape[axis] - by
    spare = torch.empty_like(sums) if spare is None else spare
    spare.narrow(axis, 0, kept).copy_(sums.narrow(axis, by, kept))
    spare.narrow(axis, kept, by).zero_()
    return spare
