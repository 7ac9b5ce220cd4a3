"""How the restoring of one image is divided: columns, blocks, shards, jobs. Arithmetic only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pssr2_monai.axes import Frames, factors, frames_of, is_volume, sample_centres
from pssr2_monai.io import omezarr_writer
from pssr2_monai.io.image import LazyImage
from pssr2_monai.io.sheets import plane_size
from pssr2_monai.record import Record
from pssr2_monai.restoration.blocks import Job, columns, divided, rows_of_jobs
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journals import Journal
from pssr2_monai.tiles import WindowAxis

__all__ = ["Layout", "layout_of"]

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
    side = 2 * omezarr_writer.CHUNK if target.suffix.lower() == ".zarr" else 1
    frames = frames_of(image.axes, image.shape, record.stack)
    layout = Layout(frames, plane_size(image), record, inferer, (1, side, side), image.dtype.itemsize)
    return layout.sharded() if side > 1 else layout
