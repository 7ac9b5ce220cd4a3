"""Dividing the restoring of an image into pieces of bounded memory, and remembering which of them are done.

A *job* is one sample of frames (a plane, a group of planes or the run of a volume) within one column; it is gone along
from its first row (of a volume, its first frame) to its last, and every block of rows is written when it is finished.
What is written depends neither on how the image is divided nor on what was done before an interruption.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.tiles import WindowAxis

__all__ = ["Job", "Journal", "columns", "regrouped"]

COLUMN_BYTES = 2**28
"""Memory for the sums of one column, in float32."""


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        name: tells it from all others of the image.
        frames: numbers of the LR frames that it is made from.
        given: numbers of the restored frames.
        column: LR pixels along Y and X for volumes, along X for planes.
    """

    name: str
    frames: tuple[int, ...]
    given: tuple[int, ...]
    column: tuple[range, ...]


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
    budget = COLUMN_BYTES / (4 * frames * along.length * scale[0])
    # Of planes a width, of volumes the side of a square.
    side = budget ** (1 / len(across))
    parts = []
    for axis, factor, chunk in zip(across, scale[1:], chunks[1:], strict=True):
        multiple = math.lcm(chunk, factor) // factor
        length = max(1, int(side / factor) // multiple) * multiple
        parts.append([range(first, min(first + length, axis.size)) for first in range(0, axis.size, length)])
    return [tuple(part) for part in product(*parts)]


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
            waiting, first = [joined[(ready - first) * factor :]], ready
    if stop > first:
        yield range(first, stop), np.concatenate(waiting)


class Journal:
    """Which rows of which job are written, in a file beside the output under way.

    Args:
        path: the file; what it tells of is only taken over if it was begun with the same settings.
        settings: all that the output depends on.

    Raises:
        InputError: the file was begun with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.done: dict[str, int] = {}
        wanted = json.dumps(settings, sort_keys=True)
        if path.exists():
            lines = path.read_text(encoding="utf-8").split("\n")
            if lines[0] != wanted:
                raise InputError(
                    f"{path}: a restoring of other settings was interrupted here; finish it with those, or ask to "
                    "overwrite it"
                )
            for line in lines[1:-1]:  # what follows the last line break was cut off
                job, _, rows = line.rpartition(" ")
                self.done[job] = int(rows)
        else:
            path.write_text(wanted + "\n", encoding="utf-8")

    def note(self, job: str, rows: int) -> None:
        """So many rows of a job are written."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{job} {rows}\n")
        self.done[job] = rows
