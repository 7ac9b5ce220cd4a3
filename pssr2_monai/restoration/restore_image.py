"""Doing the jobs of one image: windows are read, go through the network, are blended, cast and written."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch.profiler import record_function

from pssr2_monai.images.axes import factors, frames_of
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.windows import Window, plane_size, read_window, reflect_indices, write_window
from pssr2_monai.images.writer import Writer
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.blending import Place
from pssr2_monai.restoration.inferer import INT8, Read, SeamlessInferer
from pssr2_monai.restoration.layout import Gathered, Job, Layout

logger = logging.getLogger(__name__)
SAMPLES, SAMPLE_SIDE, SAMPLE_PIXELS = 8, 96, 2**20
"""Inputs that tell the range of a network's activations: how many, their sides, and LR pixels of all, but at least two
inputs."""


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
            (first, _), (y, height), (x, width) = spans
            write_window(self.writer, order, job.given[first], Window(y, x, height, width), block)
            return
        (y, height), (x, width) = spans
        for number, frame in enumerate(job.given):
            write_window(self.writer, order, frame, Window(y, x, height, width), block[:, number])


Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int = 1
) -> Iterator[Result]:
    """``map`` that has computed, or is computing, so many results more than are asked for."""
    coming: deque[Future[Result]] = deque()
    for item in items:
        coming.append(executor.submit(function, item))
        if len(coming) > depth:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def behind(executor: Executor, function: Callable[[Item], Iterable[Result]], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function for one item after the other, while the next item is made.

    An item must not be changed until the next but one is asked for.
    """
    last: Future[list[Result]] | None = None
    for item in items:
        if last is not None:
            yield from last.result()
        last = executor.submit(lambda one: list(function(one)), item)
    if last is not None:
        yield from last.result()
