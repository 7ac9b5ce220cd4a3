"""How the restoring of one image is divided: columns, blocks, shards, strips. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.images.axes import Frames, factors, frames_of, is_volume, sample_centres
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.windows import plane_size
from pssr2_monai.images.writer import ZARR_CHUNK
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer, WindowAxis
from pssr2_monai.restoration.journal import Journal

CAST_PIXELS = 2**18  # at a time: casting computes in float64, and what it computes should stay in the cache
MAX_STRIP_STEPS, MIN_STRIP_STEPS = 16, 2  # of the windows, for several workers; those at the ends are computed twice
MAX_IMBALANCE = 1.05  # work over that of the best division allowed for shorter strips, which forgive a slow worker


@dataclass(frozen=True)
class LayoutLimits:
    """Sizes that decide how an image is divided."""

    column_bytes: int = 2**28  # memory; windows at the borders of narrow columns are computed for both sides
    files: int = 2**15  # chunks of an OME-Zarr that have a file each; more are stored in shards of a block each
    shard_bytes: int = 2**26  # at most, uncompressed: a shard is in memory whole when it is written
    chunk: int = ZARR_CHUNK  # side of an OME-Zarr's chunks along Y and X in pixels


@dataclass(frozen=True)
class Strip:
    """Rows of one column of one sample, which can be restored on their own."""

    name: str  # of the sample and the column
    frames: tuple[int, ...]  # numbers of the LR frames that it is made from
    restored_frames: tuple[int, ...]
    column: tuple[range, ...]  # LR pixels along Y and X for volumes, along X for planes
    rows: range  # LR pixels along the scan axis: Y, or the frames of a volume


def columns(
    axes: Sequence[WindowAxis],
    scale: Sequence[int],
    chunks: Sequence[int],
    bytes_across: int,
    column_bytes: int = LayoutLimits.column_bytes,
) -> list[tuple[range, ...]]:
    """The parts across the scan axis, the first one: for each its LR pixels along the other axes.

    ``scale`` is HR over LR pixels along each axis. Parts are multiples of ``chunks`` HR pixels, so that two of them
    never write to one chunk, and take ``column_bytes`` of memory, each HR pixel across ``bytes_across``.
    """
    _, *across = axes
    # For planes the width, for volumes the side of a square.
    side = (column_bytes / bytes_across) ** (1 / len(across))
    parts = []
    for axis, factor, chunk in zip(across, scale[1:], chunks[1:], strict=True):
        multiple = math.lcm(chunk, factor) // factor
        length = max(1, int(side / factor) // multiple) * multiple
        # As many parts as that takes, but of similar size.
        length = math.ceil(axis.size / math.ceil(axis.size / length) / multiple) * multiple
        parts.append([range(first, min(first + length, axis.size)) for first in range(0, axis.size, length)])
    return [tuple(part) for part in product(*parts)]


def rows_of_strips(along: WindowAxis, multiple: int, columns: int, workers: int) -> int:
    """How many LR rows a strip has; all of its column for a single worker.

    Strips are multiples of ``multiple`` LR rows, so that two of them never write to one chunk; ``columns`` are those of
    all samples together.
    """
    if workers <= 1:
        return along.size
    steps = math.ceil(along.size / along.step)
    fewest = math.ceil(steps / MAX_STRIP_STEPS)
    # Strips of the busiest worker, times the windows of each along the column: one more than its steps.
    windows = {
        parts: math.ceil(parts * columns / workers) * (steps / parts + 1)
        for parts in range(fewest, max(fewest, steps // MIN_STRIP_STEPS) + 1)
    }
    parts = max(parts for parts, count in windows.items() if count <= MAX_IMBALANCE * min(windows.values()))
    return math.ceil(math.ceil(along.size / parts) / multiple) * multiple


def split_rows(rows: range, length: int) -> list[range]:
    """Rows, divided at the multiples of a length."""
    places = [rows.start, *range((rows.start // length + 1) * length, rows.stop, length), rows.stop]
    return [range(first, stop) for first, stop in pairwise(places)]


class BlockAssembler:
    """Assembles the restored pieces of a strip to blocks of ``length`` LR rows across the column.

    A block must be used before the next piece is added: all blocks of a strip are made in the same memory.
    """

    def __init__(self, strip: Strip, length: int) -> None:
        self.strip = strip
        self._length = length
        self._begun: dict[int, np.ndarray] = {}
        self._spare: list[np.ndarray] = []

    def add(
        self, place: Sequence[range], piece: np.ndarray, cast: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[tuple[range, np.ndarray]]:
        """Add a piece ``(restored rows, ..., restored pixels across)``; yield LR rows and pixels of finished blocks.

        ``place`` are LR rows of the piece, and its LR pixels across; ``cast`` converts rows to what a block holds.
        """
        (rows, *across), strip = place, self.strip
        factor = len(piece) // len(rows)
        factors = [size // len(part) for size, part in zip(piece.shape[-len(across) :], across, strict=True)]
        within: tuple[Any, ...] = (
            ...,
            *(
                slice((part.start - column.start) * scale, (part.stop - column.start) * scale)
                for part, column, scale in zip(across, strip.column, factors, strict=True)
            ),
        )
        widths = [len(column) * scale for column, scale in zip(strip.column, factors, strict=True)]
        last = all(part.stop == column.stop for part, column in zip(across, strip.column, strict=True))
        step = max(1, CAST_PIXELS // max(1, piece[0].size))
        top = strip.rows.start
        for part in split_rows(range(rows.start - top, rows.stop - top), self._length):
            first = part.start // self._length * self._length
            pixels = piece[(top + part.start - rows.start) * factor : (top + part.stop - rows.start) * factor]
            for row in range(0, len(pixels), step):
                written = cast(pixels[row : row + step])
                if first not in self._begun:
                    longest = min(self._length, len(strip.rows)) * factor
                    shape = (longest, *written.shape[1 : -len(across)], *widths)
                    self._begun[first] = self._spare.pop() if self._spare else np.empty(shape, written.dtype)
                begin = (part.start - first) * factor + row
                self._begun[first][begin : begin + len(written)][within] = written
            stop = min(first + self._length, len(strip.rows))
            if last and part.stop == stop:
                block = self._begun.pop(first)
                yield range(top + first, top + stop), block[: (stop - first) * factor]
                self._spare.append(block)


@dataclass(frozen=True)
class Layout:
    """How the restoring of an image is divided."""

    frames: Frames  # of the source
    plane: tuple[int, int]  # LR pixels along Y and X
    record: Record
    inferer: SeamlessInferer
    chunks: tuple[int, ...]  # HR pixels along frames, Y and X that are written to one chunk, or shard, of the target
    itemsize: int  # bytes of a pixel that is written
    limits: LayoutLimits = LayoutLimits()
    in_shards: bool = False  # whether the chunks are shards

    @property
    def scale(self) -> tuple[int, ...]:
        """HR over LR pixels along the axes of the windows."""
        return factors(self.record.scale) if self.inferer.volume else factors(self.record.scale)[1:]

    @property
    def sizes(self) -> tuple[int, ...]:
        """LR pixels along these axes."""
        return (self.frames.run, *self.plane) if self.inferer.volume else self.plane

    @property
    def axes(self) -> list[WindowAxis]:
        return self.inferer.axes(self.sizes)

    @property
    def row_multiple(self) -> int:
        """LR rows that blocks are multiples of."""
        chunk = self.chunks[-len(self.scale)]
        return math.lcm(chunk, self.scale[0]) // self.scale[0]

    @property
    def columns(self) -> list[tuple[range, ...]]:
        chunks = self.chunks[-len(self.scale) :]
        return columns(self.axes, self.scale, chunks, self.bytes_across, self.limits.column_bytes)

    @property
    def bytes_across(self) -> int:
        """Memory for each HR pixel across: two blocks to be written, and float32 sums where windows overlap."""
        along = self.axes[0]
        shared = along.shared - 2 * along.edge if len(along.starts) > 1 else 0
        blocks = max(2, math.ceil((along.length - 2 * along.edge) / self.block_rows))  # that a window lies in
        rows = min(along.size, blocks * self.block_rows)
        return self.planes * self.scale[0] * (self.itemsize * rows + 4 * shared)

    @property
    def planes(self) -> int:
        """Restored planes of a window; 1 for volumes, whose planes lie along an axis of the windows."""
        return 1 if self.inferer.volume else self.record.n_frames[1]

    @property
    def samples(self) -> list[tuple[Sequence[int], Sequence[int]]]:
        """The frames that are restored together, and the numbers of the restored frames."""
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
        """HR pixels of a shard along each axis of the image; None without shards."""
        along = dict(zip((self.frames.run_axis, "Y", "X"), self.chunks, strict=True))
        return tuple(along.get(axis, 1) for axis in axes) if self.in_shards else None

    def with_shards(self) -> Layout:
        """The layout whose chunks are shards of a block each, if there are more chunks than files are allowed."""
        factor, *others = self.scale
        sizes = [size * scale for size, scale in zip(self.sizes, self.scale, strict=True)]
        grid = self.chunks[-len(sizes) :]
        planes = self.frames.count if not self.inferer.volume else self.frames.count // self.frames.run
        chunks = planes * math.prod(-(-size // chunk) for size, chunk in zip(sizes, grid, strict=True))
        if chunks <= self.limits.files:
            return self
        across = [
            math.ceil(len(part) * scale / math.lcm(chunk, scale)) * math.lcm(chunk, scale)
            for part, scale, chunk in zip(self.columns[0], others, grid[1:], strict=True)
        ]
        unit = self.row_multiple * factor
        along = max(1, self.limits.shard_bytes // (self.itemsize * unit * math.prod(across))) * unit
        return replace(self, chunks=(*self.chunks[: -len(sizes)], along, *across), in_shards=True)

    @property
    def block_rows(self) -> int:
        """LR rows that are written at once: those of a step of the windows, in whole chunks."""
        return math.ceil(self.axes[0].step / self.row_multiple) * self.row_multiple

    @property
    def blocks(self) -> int:
        return len(self.samples) * len(self.columns) * math.ceil(self.sizes[0] / self.block_rows)

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

    def strips(self, journal: Journal | None = None, workers: int = 1) -> Iterator[Strip]:
        """The strips that are not yet written."""
        parts, samples = self.columns, self.samples
        length = rows_of_strips(self.axes[0], self.row_multiple, len(parts) * len(samples), workers)
        for sample, (frames, restored_frames) in enumerate(samples):
            for part, column in enumerate(parts):
                name = f"{sample}.{part}"
                size = self.sizes[0]
                for gap in journal.missing(name, size) if journal is not None else [range(size)]:
                    for rows in split_rows(gap, length):
                        yield Strip(name, tuple(frames), tuple(restored_frames), column, rows)


def layout_of(
    image: LazyImage,
    target: Path,
    record: Record,
    inferer: SeamlessInferer,
    limits: LayoutLimits | None = None,
    itemsize: int | None = None,
) -> Layout:
    """How the restoring of an image into a file or folder of this name is divided.

    ``itemsize`` are bytes of a pixel that is written, by default as in the source; with another there are no shards.
    """
    limits = limits or LayoutLimits()
    side = 2 * limits.chunk if target.suffix.lower() == ".zarr" else 1
    frames = frames_of(image.axes, image.shape, record.stack)
    size = itemsize or image.dtype.itemsize
    layout = Layout(frames, plane_size(image), record, inferer, (1, side, side), size, limits)
    return layout.with_shards() if side > 1 and itemsize is None else layout
