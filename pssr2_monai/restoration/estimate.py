"""What restoring will take, before it runs: pixels, bytes, blocks, memory, time; and whether there is room for it."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zarr

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import frames_of, is_volume, scaled_shape
from pssr2_monai.images.image import LazyImage, is_zarr, open_image
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_window
from pssr2_monai.images.writer import part_path
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.layout import CAST_PIXELS, Layout, layout_of

TRIAL_WINDOWS = 4
PYRAMID = 4 / 3
"""An image with all its halved levels, over the image."""


@dataclass(frozen=True)
class Output:
    """What one file will become.

    Attributes:
        path: of the output.
        shape: its pixels along each axis.
        nbytes: on the disk, uncompressed, with its pyramid.
        blocks: that are written on their own.
        windows: that go through the network; none for a map beside an output.
        memory: bytes that a worker holds for it besides the network and its windows.
    """

    path: Path
    shape: tuple[int, ...]
    nbytes: int
    blocks: int
    windows: int
    memory: int


@dataclass(frozen=True)
class Estimate:
    """The outputs, and what was measured in a short trial, if there was one.

    Attributes:
        outputs: one a file, and the maps beside them.
        workers: that are to share the work.
        window_seconds: for reading, restoring and casting one window.
        process_bytes: that this process held at most during the trial.
    """

    outputs: tuple[Output, ...]
    workers: int
    window_seconds: float | None = None
    process_bytes: int | None = None

    def seconds(self, output: Output) -> float | None:
        """How long a file takes, the workers being equally busy; None of one that does not go through the network."""
        return (
            None
            if self.window_seconds is None or not output.windows
            else output.windows * self.window_seconds / self.workers
        )

    @property
    def memory(self) -> int | None:
        """Bytes that all workers hold at most, together."""
        if self.process_bytes is None:
            return None
        return self.workers * (self.process_bytes + max(output.memory for output in self.outputs))


def output_of(source: Path, target: Path, record: Record, inferer: SeamlessInferer, axes: str | None) -> Output:
    """What a file will become.

    Raises:
        InputError: its chunks do not fit into memory.
    """
    with open_image(source, axes=axes) as image:
        _check_chunks(image)
        frames = frames_of(image.axes, image.shape, record.stack)
        shape = scaled_shape(image.axes, image.shape, frames.scale_by_axis(record.scale))
        layout = layout_of(image, target, record, inferer)
        nbytes = math.prod(shape) * image.dtype.itemsize
        whole = nbytes if target.suffix == ".png" else 0
        return Output(
            target,
            tuple(shape),
            stored_bytes(target, shape, image.dtype.itemsize),
            layout.blocks,
            layout.windows,
            _memory(layout) + whole,
        )


def stored_bytes(path: Path, shape: Sequence[int], itemsize: int) -> int:
    """What an image takes on the disk, uncompressed, with its pyramid where the format has one."""
    return int(math.prod(shape) * itemsize * (PYRAMID if path.suffix.lower() == ".zarr" else 1))


def check_output_room(outputs: Sequence[Output]) -> None:
    """Refuses outputs that cannot be written where they are to go.

    What is there already of an interrupted run is not needed again; compression is not counted on.

    Raises:
        InputError: the folder may not be written to, or the disk has no room for all of them.
    """
    if not outputs:
        return
    folder = next(parent for parent in outputs[0].path.absolute().parents if parent.is_dir())
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder}: may not be written to; give an output elsewhere, or change its permissions")
    needed = sum(max(0, output.nbytes - _on_disk(part_path(output.path))) for output in outputs)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{outputs[0].path.name if len(outputs) == 1 else outputs[0].path.parent}: needs {needed / 1e9:.2f} GB "
            f"uncompressed, but {folder} has {free / 1e9:.2f} GB free; write elsewhere or make room"
        )


def estimate(
    pairs: Sequence[tuple[Path, Path]],
    outputs: Sequence[Output],
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer,
    axes: str | None = None,
    workers: int = 1,
    trial: bool = True,
) -> Estimate:
    """What the outputs take, those of the pairs first; a trial measures a few windows of the largest file.

    Nothing is written.
    """
    if not trial:
        return Estimate(tuple(outputs), workers)
    largest = max(range(len(pairs)), key=lambda number: outputs[number].windows)
    with open_image(pairs[largest][0], axes=axes) as image:
        seconds = _trial(image, network, record, inferer)
    return Estimate(tuple(outputs), workers, seconds, peak_memory())


def table(estimated: Estimate) -> str:
    """The estimate for people to read, a line a file."""
    timed = estimated.window_seconds is not None
    lines = [f"{'output':40}{'pixels':>24}{'GB':>9}{'blocks':>9}{'windows':>10}" + f"{'time':>11}" * timed]
    for output in estimated.outputs:
        pixels = " x ".join(map(str, output.shape))
        lines.append(_row(output.path.name, pixels, [output], estimated))
    if len(estimated.outputs) > 1:
        lines.append(_row("in all", "", estimated.outputs, estimated))
    if estimated.memory is not None and estimated.window_seconds is not None:
        workers = f"{estimated.workers} workers" if estimated.workers > 1 else "1 process"
        lines.append(
            f"peak memory about {estimated.memory / 2**30:.1f} GiB ({workers}); GB on the disk are uncompressed; time "
            f"by a trial of {TRIAL_WINDOWS} windows ({estimated.window_seconds * 1e3:.0f} ms each)"
            + (", without that of the maps" if any(not output.windows for output in estimated.outputs) else "")
        )
    return "\n".join(lines)


def peak_memory() -> int:
    """Bytes that this process has held in memory at most."""
    try:
        import resource
    except ImportError:  # Windows
        return 2**29
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _row(name: str, pixels: str, outputs: Sequence[Output], estimated: Estimate) -> str:
    size = sum(output.nbytes for output in outputs) / 1e9
    blocks, windows = sum(output.blocks for output in outputs), sum(output.windows for output in outputs)
    seconds = [found for found in map(estimated.seconds, outputs) if found is not None]
    time_ = f"{_duration(sum(seconds)):>11}" if seconds else ""
    return f"{name[-39:]:40}{pixels:>24}{size:9.3f}{blocks:9}{windows:10}{time_}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _memory(layout: Layout) -> int:
    """The blocks of a column, the sums that its windows have in common, and two windows being weighted."""
    widths = [
        math.prod(len(part) * each for part, each in zip(column, layout.scale[1:], strict=True))
        for column in layout.columns
    ]
    window = math.prod(axis.length * each for axis, each in zip(layout.axes, layout.scale, strict=True))
    return max(widths) * layout.bytes_across + layout.together * 2 * 4 * window + 24 * CAST_PIXELS


def _trial(image: LazyImage, network: torch.nn.Module, record: Record, inferer: SeamlessInferer) -> float:
    """Seconds for one window of an image, the first of them not counted."""
    frames = frames_of(image.axes, image.shape, record.stack)
    intensity = fit_image_intensity(image, record.intensity, record.stack)
    volume = is_volume(record.scale)
    plane = plane_size(image)
    axes = inferer.axes((frames.run, *plane) if volume else plane)
    device = next(network.parameters()).device
    numbers = list(range(axes[0].length)) if volume else frames.window(frames.count // 2, record.n_frames[0])
    began = time.perf_counter()
    for number in range(TRIAL_WINDOWS + 1):
        if number == 1:
            began = time.perf_counter()
        # Along the diagonal, so that not all of them lie in one chunk.
        y, x = (number * max(0, axis.size - axis.length) // TRIAL_WINDOWS for axis in axes[-2:])
        window = Window(y, x, axes[-2].length, axes[-1].length)
        pixels = intensity.apply(read_window(image, numbers, window, record.stack))
        with torch.inference_mode():
            (output,) = inferer.predicted([torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device)], network)
        intensity.cast(output.cpu().numpy(), image.dtype)
    return (time.perf_counter() - began) / TRIAL_WINDOWS


def _on_disk(path: Path) -> int:
    """Bytes that a file or folder takes up on the disk."""
    if path.is_dir():
        return sum(_on_disk(each) for each in path.iterdir())
    return getattr(path.stat(), "st_blocks", 0) * 512 if path.exists() else 0


def _check_chunks(image: LazyImage) -> None:
    """Refuses a Zarr of which not even one chunk fits into memory."""
    if not is_zarr(image.path):
        return
    node = zarr.open(str(image.path), mode="r")
    arrays = [node] if isinstance(node, zarr.Array) else [each for _, each in node.arrays()]
    largest = max((math.prod(each.chunks) * each.dtype.itemsize for each in arrays), default=0)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else math.inf
    if largest > memory:
        raise InputError(
            f"{image.path.name}: its chunks hold {largest / 1e9:.1f} GB each, this machine {memory / 1e9:.1f} GB; "
            "store it anew in smaller chunks"
        )
