"""The jobs of one image, and doing them: windows are read, go through the network, are blended, cast and written."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import record_function

from pssr2_monai.axes import Frames, factors, frames_of, is_volume, sample_centres
from pssr2_monai.intensity import Intensity
from pssr2_monai.io import omezarr_writer
from pssr2_monai.io.image import LazyImage
from pssr2_monai.io.sheets import plane_size, read_window, write_window
from pssr2_monai.io.writer import Writer
from pssr2_monai.record import Record
from pssr2_monai.restoration.blending import Place
from pssr2_monai.restoration.blocks import Gathered, Job, columns, divided, rows_of_jobs
from pssr2_monai.restoration.inferer import INT8, Read, SeamlessInferer
from pssr2_monai.restoration.journals import Journal
from pssr2_monai.restoration.overlapping import ahead, behind
from pssr2_monai.tiles import Window, WindowAxis, reflect_indices

__all__ = ["Layout", "Restoring", "layout_of"]

logger = logging.getLogger(__name__)

MOST_FILES = 2**15
"""Chunks of an OME-Zarr that have a file each; of more of them, those of a block are put together in a shard."""

SAMPLES, SAMPLE_SIDE, SAMPLE_PIXELS = 8, 96, 2**20
"""Inputs that tell the range of a network's activations: how many, their sides, and LR pixels of all, but at least two
inputs."""

SHARD_BYTES = 2**26
"""Of a shard at most, uncompressed: each is in memory whole when it is written."""


@dataclass(frozen=True)
class Layout:
    """How the restoring of an image is divided; arithmetic only.

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


@dataclass
class Restoring:
    """What every job of one image needs.

    Attributes:
        image: the source, open.
        writer: of the target.
        network: in evaluation mode, on the device that is to do the work.
        record: of its weights.
        inferer: how the network is laid over the image.
        intensity: of the source.
    """

    image: LazyImage
    writer: Writer
    network: torch.nn.Module
    record: Record
    inferer: SeamlessInferer
    intensity: Intensity

    @property
    def layout(self) -> Layout:
        """How the image is divided."""
        frames = frames_of(self.image.axes, self.image.shape, self.record.stack)
        along = dict(zip(self.writer.axes, self.writer.chunks or (), strict=False))
        run, y, x = (along.get(letter, 1) for letter in (frames.run_axis or "", "Y", "X"))
        return Layout(frames, plane_size(self.image), self.record, self.inferer, (run, y, x), self.itemsize)

    @property
    def itemsize(self) -> int:
        """Bytes of a pixel of a block."""
        return self.image.dtype.itemsize

    def run(
        self, jobs: Iterable[Job], before_window: Callable[[], None] = lambda: None
    ) -> Generator[tuple[Job, range, int], None, None]:
        """Does jobs. A window is read, and what is finished is cast and written, while the network is busy with others.

        Args:
            jobs: see ``Layout.jobs``.
            before_window: called before each window that goes through the network; what it raises ends the work.

        Yields:
            After each block is written: its job, its LR rows (of a volume, frames), and how many HR pixels it has.
        """
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer, torch.inference_mode():
            yield from behind(writer, self._finish, self._pieces(jobs, reader, before_window))

    def _pieces(
        self, jobs: Iterable[Job], reader: Executor, before_window: Callable[[], None]
    ) -> Iterator[tuple[Gathered, Place, torch.Tensor]]:
        """What the network makes of jobs, and where the blocks of each are gathered."""
        layout = self.layout
        axes = layout.axes

        def mapped(read: Read, places: Iterable[Sequence[int]]) -> Iterator[torch.Tensor]:
            for window in ahead(reader, read, places, depth=self.inferer.batch_size):
                before_window()
                yield window

        for job in jobs:

            def read(starts: Sequence[int], job: Job = job) -> torch.Tensor:
                frames, (y, x) = list(job.frames), starts[-2:]
                if self.inferer.volume:
                    frames = [frames[index] for index in reflect_indices(starts[0], axes[0].length, axes[0].size)]
                return self.read(frames, Window(y, x, axes[-2].length, axes[-1].length))

            gathered = Gathered(job, layout.rows_of_blocks)
            for place, piece in self.inferer.stream(read, axes, self.network, (job.rows, *job.column), mapped):
                yield gathered, place, piece

    def _finish(self, made: tuple[Gathered, Place, torch.Tensor]) -> Iterator[tuple[Job, range, int]]:
        """Casts a piece, and writes the blocks that it completes."""
        gathered, place, piece = made
        pixels = np.moveaxis(piece[0].cpu().numpy(), -3 if self.inferer.volume else -2, 0)
        for done, block in gathered.add(place, pixels, self.cast):
            with record_function("write"):
                self.write(gathered.job, done, block)
            yield gathered.job, done, block.size

    @record_function("read")
    def read(self, frames: Sequence[int], window: Window) -> torch.Tensor:
        """``(1, frames, Y, X)`` as the network takes them, on its device."""
        pixels = read_window(self.image, frames, window, self.record.stack)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            told = "%s: holds NaN or infinite pixels, which are taken for black and white"
            logger.warning(told, self.image.path)
        return torch.from_numpy(self.intensity.apply(pixels))[None].to(next(self.network.parameters()).device)

    def quantize(self) -> None:
        """Where the network is to compute in 8-bit integers, finds their range by the image."""
        if self.inferer.precision == INT8:
            self.inferer = self.inferer.quantized_by(self.samples())

    def samples(self) -> list[torch.Tensor]:
        """Small inputs of the network, from one corner of the image to the other, of the first frames to the last."""
        layout = self.layout
        runs = [frames for frames, _ in layout.samples]
        depth = layout.axes[0].length if self.inferer.volume else len(runs[0])
        sides = [min(SAMPLE_SIDE, axis.length) for axis in layout.axes[-2:]]
        count = max(2, min(SAMPLES, SAMPLE_PIXELS // (depth * math.prod(sides))))
        found = []
        for number in range(count):
            frames = runs[number * (len(runs) - 1) // (count - 1)]
            first = number * (len(frames) - depth) // (count - 1)
            y, x = (number * (size - side) // (count - 1) for size, side in zip(layout.plane, sides, strict=True))
            found.append(self.read(frames[first : first + depth], Window(y, x, *sides)))
        return found

    @record_function("cast")
    def cast(self, pixels: np.ndarray) -> np.ndarray:
        """What is written for rows of what the network makes, of the same shape and of any dtype."""
        return self.intensity.cast(pixels, self.writer.dtype)

    def write(self, job: Job, rows: range, block: np.ndarray) -> None:
        """Writes ``(rows, frames, X)`` of planes or ``(frames, Y, X)`` of a volume."""
        layout = self.layout
        order = layout.frames.scaled(factors(self.record.scale)[0])
        spans = [
            (part.start * factor, len(part) * factor)
            for part, factor in zip((rows, *job.column), layout.scale, strict=True)
        ]
        if self.inferer.volume:
            (first, count), (y, height), (x, width) = spans
            write_window(self.writer, order, job.given[first], Window(y, x, height, width), block, count)
            return
        (y, height), (x, width) = spans
        for number, frame in enumerate(job.given):
            write_window(self.writer, order, frame, Window(y, x, height, width), block[:, number])
