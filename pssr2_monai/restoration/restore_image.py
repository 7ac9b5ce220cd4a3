"""Restoring the strips of one image: windows are read, go through the network, are blended, cast and written."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from uuid import uuid4

import numpy as np
import torch
from torch.profiler import record_function

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.padding import SOLID_SIDE_PX, without_data
from pssr2_monai.images.windows import (
    Window,
    inside,
    plane_size,
    read_bar,
    read_scaled,
    read_window,
    reflect_indices,
    widened,
    write_window,
)
from pssr2_monai.images.writer import Writer
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.engines import WorkerNetwork, one_at_a_time
from pssr2_monai.restoration.inferer import INT8, Place, Read, SeamlessInferer
from pssr2_monai.restoration.layout import BlockAssembler, Layout, Strip

logger = logging.getLogger(__name__)
MAX_SAMPLES, MIN_SAMPLES, SAMPLE_SIDE_PX, SAMPLE_PIXELS = 8, 2, 96, 2**20
"""Inputs from which the range of a network's activations is found: their number, their sides, and LR pixels of all."""


@dataclass
class ImageRestorer:
    """Restores strips of one image."""

    image: LazyImage  # the source, open
    writer: Writer  # of the target
    network: torch.nn.Module  # in evaluation mode, on the device that does the work
    record: Record
    inferer: SeamlessInferer
    scales: tuple[Intensity, ...]  # of the source's channels
    layout: Layout
    _warned: bool = field(default=False, init=False)
    key: str = field(default_factory=lambda: uuid4().hex, kw_only=True)  # by which a worker recognises the image

    def run(
        self, strips: Iterable[Strip], before_window: Callable[[], None] = lambda: None
    ) -> Generator[tuple[Strip, range, int], None, None]:
        """Restore strips. While the network computes, the next windows are read, and finished ones cast and written.

        What ``before_window`` raises, called before each window goes through the network, ends the work. After each
        block is written, yields its strip, its LR rows (frames of a volume), and how many HR pixels it has.
        """
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer, torch.inference_mode():
            yield from behind(writer, self._finish, self._pieces(strips, reader, before_window))

    def _pieces(
        self, strips: Iterable[Strip], reader: Executor, before_window: Callable[[], None]
    ) -> Iterator[tuple[BlockAssembler, Place, torch.Tensor]]:
        """The restored pieces of strips, and where the blocks of each are assembled."""
        axes = self.layout.axes

        def read_all(read: Read, places: Iterable[Sequence[int]]) -> Iterator[torch.Tensor]:
            for window in ahead(reader, read, places, depth=self.inferer.batch_size):
                before_window()
                yield window

        for strip in strips:

            def read(starts: Sequence[int], strip: Strip = strip) -> torch.Tensor:
                frames, (y, x) = list(strip.frames), starts[-2:]
                if self.inferer.volume:
                    frames = [frames[index] for index in reflect_indices(starts[0], axes[0].length, axes[0].size)]
                return self.read(frames, Window(y, x, axes[-2].length, axes[-1].length))

            blocks = BlockAssembler(strip, self.layout.block_rows)
            for place, piece in self.inferer.stream(read, axes, self.network, (strip.rows, *strip.column), read_all):
                yield blocks, place, piece

    def _finish(self, restored: tuple[BlockAssembler, Place, torch.Tensor]) -> Iterator[tuple[Strip, range, int]]:
        """Cast a piece, and write the blocks that it completes."""
        blocks, place, piece = restored
        pixels = np.moveaxis(piece[0].cpu().numpy(), -3 if self.inferer.volume else -2, 0)
        for rows, block in blocks.add(place, pixels, partial(self.cast, blocks.strip)):
            with record_function("write"):
                self.write(blocks.strip, rows, block)
            yield blocks.strip, rows, block.size

    @record_function("read")
    def read(self, frames: Sequence[int], window: Window) -> torch.Tensor:
        """``(1, frames, Y, X)`` as the network takes them, on its device."""
        pixels = read_scaled(self.image, frames, window, self.scales, self.record.stack)
        return torch.from_numpy(pixels)[None].to(next(self.network.parameters()).device)

    def quantize(self) -> None:
        """Find the range of 8-bit integers by the image, where the network is to compute in them."""
        if self.inferer.precision == INT8:
            self.inferer = self.inferer.quantized_by(self.samples())

    def samples(self) -> list[torch.Tensor]:
        """Small inputs of the network, from one corner of the image to the other, from the first frames to the last."""
        axes = self.layout.axes
        runs = [frames for frames, _ in self.layout.samples]
        depth = axes[0].length if self.inferer.volume else len(runs[0])
        sides = [min(SAMPLE_SIDE_PX, axis.length) for axis in axes[-2:]]
        count = max(MIN_SAMPLES, min(MAX_SAMPLES, SAMPLE_PIXELS // (depth * math.prod(sides))))
        samples = []
        for number in range(count):
            frames = runs[number * (len(runs) - 1) // (count - 1)]
            first = number * (len(frames) - depth) // (count - 1)
            y, x = (number * (size - side) // (count - 1) for size, side in zip(self.layout.plane, sides, strict=True))
            samples.append(self.read(frames[first : first + depth], Window(y, x, *sides)))
        return samples

    @record_function("cast")
    def cast(self, strip: Strip, pixels: np.ndarray) -> np.ndarray:
        """What is written for restored rows of a strip: of the same shape, of any dtype."""
        channels = self.channels(strip)
        if len(set(channels)) == 1:
            return self.scales[channels[0]].cast(pixels, self.writer.dtype)
        planes = [self.scales[channel].cast(pixels[:, i], self.writer.dtype) for i, channel in enumerate(channels)]
        return np.stack(planes, axis=1)

    def channels(self, strip: Strip) -> list[int]:
        """The channel of each restored frame."""
        order = self.layout.frames.scaled(factors(self.record.scale)[0])
        return [order.channel(frame) for frame in strip.restored_frames]

    def without_data(self, strip: Strip, rows: range) -> tuple[np.ndarray, np.ndarray] | None:
        """Which pixels of a block ``(frames, Y, X)`` have no data in the source, and what it holds there."""
        frames, (down, across) = list(strip.restored_frames), (rows, *strip.column)[-2:]
        if self.inferer.volume:
            frames = [strip.frames[row] for row in rows]
        paddings = [self.scales[self.layout.frames.channel(frame)].padding for frame in frames]
        if self.image.dtype.kind != "f" and not any(padding is not None for padding in paddings):
            return None
        window = Window(down.start, across.start, len(down), len(across))
        around = widened(window, SOLID_SIDE_PX, plane_size(self.image))
        pixels = read_window(self.image, frames, around, self.record.stack)
        lacking = [without_data(plane, padding) for plane, padding in zip(pixels, paddings, strict=True)]
        if all(part is None for part in lacking):
            return None
        missing = np.stack([np.zeros(pixels.shape[1:], bool) if part is None else part for part in lacking])
        if not self._warned:
            self._warned = True
            logger.warning("%s: holds areas without data (padding, NaN), which stay as they are", self.image.path)
        part = (slice(None), *inside(window, around).slices())
        missing, pixels = missing[part], pixels[part]
        for axis, factor in enumerate(factors(self.record.scale)):
            pixels, missing = pixels.repeat(factor, axis), missing.repeat(factor, axis)
        return missing, pixels

    def write(self, strip: Strip, rows: range, block: np.ndarray) -> None:
        """Write ``(rows, frames, X)`` of planes or ``(frames, Y, X)`` of a volume, and the data bar below the last."""
        order = self.layout.frames.scaled(factors(self.record.scale)[0])
        if (lacking := self.without_data(strip, rows)) is not None:
            missing, pixels = (part if self.inferer.volume else part.swapaxes(0, 1) for part in lacking)
            block = np.where(missing, pixels, block).astype(block.dtype)
        block = self.with_bar(strip, rows, block)
        spans = [
            (part.start * factor, len(part) * factor)
            for part, factor in zip((rows, *strip.column), self.layout.scale, strict=True)
        ]
        if self.inferer.volume:
            (first, _), (y, _), (x, width) = spans
            window = Window(y, x, block.shape[1], width)
            write_window(self.writer, order, strip.restored_frames[first], window, block)
            return
        (y, _), (x, width) = spans
        for number, frame in enumerate(strip.restored_frames):
            write_window(self.writer, order, frame, Window(y, x, len(block), width), block[:, number])

    def with_bar(self, strip: Strip, rows: range, block: np.ndarray) -> np.ndarray:
        """A block with the data bar below it, whose pixels are only repeated, where the output keeps it."""
        scale = factors(self.record.scale)
        down, across = (rows, *strip.column)[-2:]
        kept_rows = self.writer.shape[self.writer.axes.index("Y")] - self.layout.plane[0] * scale[1]
        if not kept_rows or down.stop < self.layout.plane[0]:
            return block
        frames = [strip.frames[row] for row in rows] if self.inferer.volume else strip.restored_frames
        bar = read_bar(self.image, frames, across, self.record.stack)
        for axis, factor in enumerate(scale):
            bar = bar.repeat(factor, axis)
        return np.concatenate([block, bar], 1) if self.inferer.volume else np.concatenate([block, bar.swapaxes(0, 1)])


_last: ImageRestorer | None = None  # of this worker, kept from strip to strip: it may have compiled the network


def restore_strip(network: WorkerNetwork, restorer: ImageRestorer, strip: Strip) -> int | InputError:
    """Restore a strip in a worker; return the number of HR pixels, or the error that a retry would not mend."""
    global _last
    with one_at_a_time():
        try:
            if _last is None or _last.key != restorer.key:
                _last = replace(restorer, network=network.load()[0])
            return sum(pixels for *_, pixels in _last.run([strip]))
        except InputError as error:
            return error


Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], depth: int = 1
) -> Iterator[Result]:
    """``map`` that computes so many results ahead of those that are asked for."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(executor.submit(function, item))
        if len(pending) > depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def behind(executor: Executor, function: Callable[[Item], Iterable[Result]], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function for one item after the other, computed while the next item is made.

    An item must not be changed until the next but one is asked for.
    """
    last: Future[list[Result]] | None = None
    for item in items:
        if last is not None:
            yield from last.result()
        last = executor.submit(lambda argument: list(function(argument)), item)
    if last is not None:
        yield from last.result()
