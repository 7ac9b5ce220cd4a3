"""Dividing the restoring of an image into pieces of bounded memory.

A *job* is one sample of frames (a plane, a group of planes or the run of a volume) within one column and some rows; it
is gone along from its first row (of a volume, its first frame) to its last, and every block of rows is written when it
is finished. What is written does not depend on how the image is divided, and no two jobs write to one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from pssr2_monai.tiles import WindowAxis

__all__ = ["Job", "columns", "divided", "regrouped", "rows_of_jobs"]

COLUMN_BYTES = 2**27
"""Memory for the sums of one column, in float32, of planes."""

VOLUME_COLUMN_BYTES = 2**28
"""The same of volumes, whose columns have windows of their neighbours all around them, so that narrow ones cost."""

MOST_STEPS = 16
"""Windows that a job of several workers is long, at most: those at its ends are computed twice."""

LEAST_STEPS = 2
JOBS_PER_WORKER = 4
"""So that the last of them to finish does not keep the others waiting for long."""


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        name: of the sample and the column.
        frames: numbers of the LR frames that it is made from.
        given: numbers of the restored frames.
        column: LR pixels along Y and X for volumes, along X for planes.
        rows: LR pixels along the axis that is gone along: Y, or the run of frames of a volume.
    """

    name: str
    frames: tuple[int, ...]
    given: tuple[int, ...]
    column: tuple[range, ...]
    rows: range


def columns(
    axes: Sequence[WindowAxis], scale: Sequence[int], chunks: Sequence[int], frames: int = 1
) -> list[tuple[range, ...]]:
    """The parts into which an image is divided across the axis that is gone along.

    Args:
        axes: windows along each axis; the first is gone along.
        scale: HR over LR pixels along each.
        chunks: HR pixels along each that parts are to be multiples of, since two of them never write to one chunk.
        frames: that are restored at once, of planes.

    Returns:
        For each part its range of LR pixels along the axes but the first.
    """
    along, *across = axes
    memory = COLUMN_BYTES if len(across) == 1 else VOLUME_COLUMN_BYTES
    budget = memory / (4 * frames * along.length * scale[0])
    # Of planes a width, of volumes the side of a square.
    side = budget ** (1 / len(across))
    parts = []
    for axis, factor, chunk in zip(across, scale[1:], chunks[1:], strict=True):
        multiple = math.lcm(chunk, factor) // factor
        length = max(1, int(side / factor) // multiple) * multiple
        parts.append([range(first, min(first + length, axis.size)) for first in range(0, axis.size, length)])
    return [tuple(part) for part in product(*parts)]


def rows_of_jobs(along: WindowAxis, multiple: int, columns: int, workers: int) -> int:
    """How many LR rows a job has.

    Args:
        along: windows along the axis that is gone along.
        multiple: LR rows that jobs are to be multiples of, since two of them never write to one chunk.
        columns: of all samples together.
        workers: that share the jobs; of a single one, a job has all rows of its column.
    """
    if workers <= 1:
        return along.size
    wanted = max(math.ceil(JOBS_PER_WORKER * workers / columns), math.ceil(along.size / (MOST_STEPS * along.step)))
    length = max(math.ceil(along.size / wanted), LEAST_STEPS * along.step)
    return math.ceil(length / multiple) * multiple


def divided(rows: range, length: int) -> list[range]:
    """Rows, divided at the multiples of a length."""
    places = [rows.start, *range((rows.start // length + 1) * length, rows.stop, length), rows.stop]
    return [range(first, stop) for first, stop in pairwise(places)]


def regrouped(
    slabs: Iterable[tuple[range, np.ndarray]], multiple: int, first: int
) -> Iterator[tuple[range, np.ndarray]]:
    """Slabs of rows, joined and divided anew so that each ends at a multiple of so many LR rows, but for the last.

    Args:
        slabs: consecutive LR rows, and the restored ones ``(rows, ...)``.
        multiple: LR rows.
        first: the first row of the first slab, a multiple of that.
    """
    waiting: list[np.ndarray] = []
    stop = first
    for rows, slab in slabs:
        waiting.append(slab)
        factor = len(slab) // len(rows)
        stop = rows.stop
        ready = stop // multiple * multiple
        if ready > first:
            joined = np.concatenate(waiting)
            yield range(first, ready), joined[: (ready - first) * factor]
            # A copy, so that what was given does not stay in memory with what is left of it.
            waiting, first = [joined[(ready - first) * factor :].copy()], ready
            del joined
    if stop > first:
        yield range(first, stop), np.concatenate(waiting)
