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
from typing import Any

import numpy as np

from pssr2_monai.tiles import WindowAxis

__all__ = ["Gathered", "Job", "columns", "divided", "rows_of_jobs"]

COLUMN_BYTES = 2**28
"""Memory for one column: narrow ones cost, since the windows at their borders are computed for both sides."""

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
    axes: Sequence[WindowAxis], scale: Sequence[int], chunks: Sequence[int], bytes_across: int
) -> list[tuple[range, ...]]:
    """The parts into which an image is divided across the axis that is gone along.

    Args:
        axes: windows along each axis; the first is gone along.
        scale: HR over LR pixels along each.
        chunks: HR pixels along each that parts are to be multiples of, since two of them never write to one chunk.
        bytes_across: memory for each HR pixel across.

    Returns:
        For each part its range of LR pixels along the axes but the first.
    """
    _, *across = axes
    # Of planes a width, of volumes the side of a square.
    side = (COLUMN_BYTES / bytes_across) ** (1 / len(across))
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
    """The pieces of a job as the windows give them, put together to blocks of so many LR rows across the column.

    A block is used before the next piece is added: all of a job's are made in the same memory.

    Args:
        job: the job.
        length: LR rows of each block but the last.
    """

    def __init__(self, job: Job, length: int) -> None:
        self.job = job
        self._length = length
        self._begun: dict[int, np.ndarray] = {}
        self._spare: list[np.ndarray] = []

    def add(
        self, place: Sequence[range], piece: np.ndarray, cast: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[tuple[range, np.ndarray]]:
        """Takes a piece, and gives the blocks that it completes.

        Args:
            place: LR rows of the piece, and its LR pixels across.
            piece: what they became, ``(restored rows, ..., restored pixels across)``.
            cast: makes of some restored rows what a block holds.

        Yields:
            LR rows, and what is written for them.
        """
        (rows, *across), job = place, self.job
        factor = len(piece) // len(rows)
        factors = [size // len(part) for size, part in zip(piece.shape[-len(across) :], across, strict=True)]
        within: tuple[Any, ...] = (
            ...,
            *(
                slice((part.start - whole.start) * each, (part.stop - whole.start) * each)
                for part, whole, each in zip(across, job.column, factors, strict=True)
            ),
        )
        widths = [len(whole) * each for whole, each in zip(job.column, factors, strict=True)]
        last = all(part.stop == whole.stop for part, whole in zip(across, job.column, strict=True))
        step = max(1, CAST_PIXELS // max(1, piece[0].size))
        top = job.rows.start
        for part in divided(range(rows.start - top, rows.stop - top), self._length):
            first = part.start // self._length * self._length
            pixels = piece[(top + part.start - rows.start) * factor : (top + part.stop - rows.start) * factor]
            for row in range(0, len(pixels), step):
                written = cast(pixels[row : row + step])
                if first not in self._begun:
                    longest = min(self._length, len(job.rows)) * factor
                    shape = (longest, *written.shape[1 : -len(across)], *widths)
                    self._begun[first] = self._spare.pop() if self._spare else np.empty(shape, written.dtype)
                begin = (part.start - first) * factor + row
                self._begun[first][begin : begin + len(written)][within] = written
            stop = min(first + self._length, len(job.rows))
            if last and part.stop == stop:
                block = self._begun.pop(first)
                yield range(top + first, top + stop), block[: (stop - first) * factor]
                self._spare.append(block)
