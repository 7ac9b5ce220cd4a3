"""How the restoring of one image is divided: columns, blocks, shards, jobs. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.images.axes import Frames, factors, frames_of, is_volume, sample_centres
from pssr2_monai.images.formats import omezarr
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.windows import plane_size
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.blending import WindowAxis
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journal import Journal

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


MOST_FILES = 2**15
"""Chunks of an OME-Zarr that have a file each; of more of them, those of a block are put together in a shard."""
SHARD_BYTES = 2**26
"""Of a shard at most, uncompressed: each is in memory whole when it is written."""


@dataclass(frozen=True)
class Layout:
    """How the restoring of an image is divided.

    Attributes:
        frames: the LR frames.
        plane: LR pixels along Y and X.
        record: of the network.
        inferer: how the network is laid over the image.
        chunks: HR pixels along the run of frames, Y and X that are written to one chunk, or one shard, of the target.
        itemsize: bytes of a pixel that is written.
        in_shards: whether they are shards.
    """

    frames: Frames
    plane: tuple[int, int]
    record: Record
    inferer: SeamlessInferer
    chunks: tuple[int, ...]
    itemsize: int
    in_shards: bool = False

    @property
    def scale(self) -> tuple[int, ...]:
        """HR over LR pixels along the axes that windows lie along."""
        return factors(self.record.scale) if self.inferer.volume else factors(self.record.scale)[1:]

    @property
    def sizes(self) -> tuple[int, ...]:
        """LR pixels along these axes."""
        return (self.frames.run, *self.plane) if self.inferer.volume else self.plane

    @property
    def axes(self) -> list[WindowAxis]:
        """The windows along these axes."""
        return self.inferer.axes(self.sizes)

    @property
    def multiple(self) -> int:
        """LR rows that blocks are multiples of."""
        chunk = self.chunks[-len(self.scale)]
        return math.lcm(chunk, self.scale[0]) // self.scale[0]

    @property
    def columns(self) -> list[tuple[range, ...]]:
        """The parts of each sample."""
        return columns(self.axes, self.scale, self.chunks[-len(self.scale) :], self.bytes_across)

    @property
    def bytes_across(self) -> int:
        """Memory for each HR pixel across: two blocks to be written, and float32 sums where windows overlap."""
        along = self.axes[0]
        shared = along.shared - 2 * along.edge if len(along.starts) > 1 else 0
        blocks = max(2, math.ceil((along.length - 2 * along.edge) / self.rows_of_blocks))  # that a window lies in
        rows = min(along.size, blocks * self.rows_of_blocks)
        return self.together * self.scale[0] * (self.itemsize * rows + 4 * shared)

    @property
    def together(self) -> int:
        """How many planes windows give at once; of a volume it is one of the axes that they lie along."""
        return 1 if self.inferer.volume else self.record.n_frames[1]

    @property
    def samples(self) -> list[tuple[Sequence[int], Sequence[int]]]:
        """The frames that are restored together and the frames that they give, numbered in the restored image."""
        frames, scale = self.frames, self.record.scale
        if is_volume(scale):
            factor = factors(scale)[0]
            runs = [range(first, first + frames.run) for first in range(0, frames.count, frames.run)]
            return [(run, range(run.start * factor, run.stop * factor)) for run in runs]
        lr_frames, hr_frames = self.record.n_frames
        # Windows of the frames to be written, each restored from the frames around the same centre.
        centres = sample_centres(frames, hr_frames, slide=False, edges=hr_frames == 1)
        return [(frames.window(centre, lr_frames), frames.window(centre, hr_frames)) for centre in centres]

    def shards(self, axes: str) -> tuple[int, ...] | None:
        """HR pixels of a shard along each axis of the image, if there are shards."""
        along = dict(zip((self.frames.run_axis, "Y", "X"), self.chunks, strict=True))
        return tuple(along.get(axis, 1) for axis in axes) if self.in_shards else None

    def sharded(self) -> Layout:
        """With blocks for chunks, as large as shards may be, if there are very many chunks."""
        factor, *others = self.scale
        sizes = [size * each for size, each in zip(self.sizes, self.scale, strict=True)]
        grid = self.chunks[-len(sizes) :]
        planes = self.frames.count if not self.inferer.volume else self.frames.count // self.frames.run
        if planes * math.prod(-(-size // chunk) for size, chunk in zip(sizes, grid, strict=True)) <= MOST_FILES:
            return self
        across = [
            math.ceil(len(part) * each / math.lcm(chunk, each)) * math.lcm(chunk, each)
            for part, each, chunk in zip(self.columns[0], others, grid[1:], strict=True)
        ]
        unit = self.multiple * factor
        along = max(1, SHARD_BYTES // (self.itemsize * unit * math.prod(across))) * unit
        return replace(self, chunks=(*self.chunks[: -len(sizes)], along, *across), in_shards=True)

    @property
    def rows_of_blocks(self) -> int:
        """LR rows that are written at once: those of a step of the windows, in whole chunks."""
        return math.ceil(self.axes[0].step / self.multiple) * self.multiple

    @property
    def blocks(self) -> int:
        """How many blocks there are in all."""
        return len(self.samples) * len(self.columns) * math.ceil(self.sizes[0] / self.rows_of_blocks)

    @property
    def windows(self) -> int:
        """Windows that go through the network, those on the borders of columns once for each."""
        along, *across = self.axes
        rows = len(along.covering(0, along.size))
        of_columns = [
            math.prod(len(axis.covering(part.start, part.stop)) for axis, part in zip(across, column, strict=True))
            for column in self.columns
        ]
        return len(self.samples) * rows * sum(of_columns)

    def jobs(self, journal: Journal | None = None, workers: int = 1) -> Iterator[Job]:
        """The pieces of work that are left, each of which may be done on its own."""
        parts, samples = self.columns, self.samples
        length = rows_of_jobs(self.axes[0], self.multiple, len(parts) * len(samples), workers)
        for sample, (frames, given) in enumerate(samples):
            for part, column in enumerate(parts):
                name = f"{sample}.{part}"
                size = self.sizes[0]
                for gap in journal.missing(name, size) if journal is not None else [range(size)]:
                    for rows in divided(gap, length):
                        yield Job(name, tuple(frames), tuple(given), column, rows)


def layout_of(image: LazyImage, target: Path, record: Record, inferer: SeamlessInferer) -> Layout:
    """How the restoring of an image into a file or folder of this name is divided."""
    side = 2 * omezarr.CHUNK if target.suffix.lower() == ".zarr" else 1
    frames = frames_of(image.axes, image.shape, record.stack)
    layout = Layout(frames, plane_size(image), record, inferer, (1, side, side), image.dtype.itemsize)
    return layout.sharded() if side > 1 else layout
