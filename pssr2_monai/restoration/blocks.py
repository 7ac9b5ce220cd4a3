"""Dividing the restoring of an image into pieces of bounded memory.

A *job* is one sample of frames (a plane, a group of planes or the run of a volume) within one column and some rows; it
is gone along from its first row (of a volume, its first frame) to its last, and every block of rows is written when it
is finished. What is written does not depend on how the image is divided, and no two jobs write to one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from pssr2_monai.tiles import WindowAxis

__all__ = ["Gathered", "Job", "columns", "divided", "rows_of_jobs"]

COLUMN_BYTES = 2**27
"""Memory for the sums of one column, in float32, of planes; twice as much is held, for the next sums are begun
while these are written."""

VOLUME_COLUMN_BYTES = 2**28
"""The same of volumes, whose columns have windows of their neighbours all around them, so that narrow ones cost."""

MOST_STEPS = 16
"""Windows that a job of several workers is long, at most: those at its ends are computed twice."""

CAST_PIXELS = 2**18
"""Pixels that are cast at a time: casting computes in float64, and what it computes should stay in the cache."""

LEAST_STEPS = 2
SLACK = 1.05
"""How much longer than in the best division the work may take in one of more jobs, which forgives a slow worker."""


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
        # As many parts as that takes, but alike.
        length = math.ceil(axis.size / math.ceil(axis.size / length) / multiple) * multiple
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
    steps = math.ceil(along.size / along.step)
    fewest = math.ceil(steps / MOST_STEPS)
    # Jobs that the busiest worker does, and the windows of each along the column: one more than its steps.
    took = {
        parts: math.ceil(parts * columns / workers) * (steps / parts + 1)
        for parts in range(fewest, max(fewest, steps // LEAST_STEPS) + 1)
    }
    parts = max(parts for parts, windows in took.items() if windows <= SLACK * min(took.values()))
    return math.ceil(math.ceil(along.size / parts) / multiple) * multiple


def divided(rows: range, length: int) -> list[range]:
    """Rows, divided at the multiples of a length."""
    places = [rows.start, *range((rows.start // length + 1) * length, rows.stop, length), rows.stop]
    return [range(first, stop) for first, stop in pairwise(places)]


class Gathered:
    """The rows of a job, which come in slabs as the windows give them and leave in blocks of so many LR rows.

    A block is used before the next slab is added: all of a job's are made in the same memory.

    Args:
        job: the job.
        length: LR rows of each block but the last.
    """

    def __init__(self, job: Job, length: int) -> None:
        self.job = job
        self._length = length
        self._first = job.rows.start
        self._memory: np.ndarray | None = None

    def add(
        self, rows: range, slab: np.ndarray, cast: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[tuple[range, np.ndarray]]:
        """Takes the next rows, and gives the blocks that they complete.

        Args:
            rows: LR rows.
            slab: what they became, ``(restored rows, ...)``.
            cast: makes of some restored rows what a block holds.
        """
        factor = len(slab) // len(rows)
        step = max(1, CAST_PIXELS // max(1, slab[0].size))
        done = rows.start
        while done < rows.stop:
            stop = min(rows.stop, self._first + self._length)
            for row in range((done - rows.start) * factor, (stop - rows.start) * factor, step):
                cast_rows = cast(slab[row : min(row + step, (stop - rows.start) * factor)])
                if self._memory is None:
                    longest = min(self._length, len(self.job.rows)) * factor
                    self._memory = np.empty((longest, *cast_rows.shape[1:]), cast_rows.dtype)
                place = row + (rows.start - self._first) * factor
                self._memory[place : place + len(cast_rows)] = cast_rows
            done = stop
            if stop == min(self._first + self._length, self.job.rows.stop):
                assert self._memory is not None
                yield range(self._first, stop), self._memory[: (stop - self._first) * factor]
                self._first = stop
