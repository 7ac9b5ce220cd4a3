"""What restoring takes, before it runs: pixels, bytes, blocks, memory, time; and whether there is room for it."""

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

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import frames_of, is_volume, scaled_shape
from pssr2_monai.images.files import is_zarr
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_scaled, reflect_indices
from pssr2_monai.images.writer import part_path
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.layout import CAST_PIXELS, Layout, layout_of

TRIAL_WINDOWS = 4
PYRAMID_RATIO = 4 / 3  # pixels of an image with all its halved levels, over those of the image


@dataclass(frozen=True)
class Output:
    """What one output file will be."""

    path: Path
    shape: tuple[int, ...]
    nbytes: int  # on the disk, uncompressed, with its pyramid
    blocks: int  # that are written on their own
    windows: int  # that go through the network; none for a map of an output
    memory: int  # bytes that a worker holds for it besides the network and its windows


@dataclass(frozen=True)
class Estimate:
    """The outputs, and what was measured in a short trial, if there was one."""

    outputs: tuple[Output, ...]  # the restored files and their maps
    workers: int  # that share the work
    window_seconds: float | None = None  # for reading, restoring and casting one window
    process_bytes: int | None = None  # peak memory of this process during the trial

    def seconds(self, outputs: Sequence[Output]) -> float | None:
        """How long some files take, all workers being busy; None without a trial, or where no network is needed."""
        windows = sum(output.windows for output in outputs)
        return windows * self.window_seconds / self.workers if self.window_seconds is not None and windows else None

    @property
    def memory(self) -> int | None:
        """Peak memory of all workers together in bytes; None without a trial."""
        if self.process_bytes is None:
            return None
        return self.workers * (self.process_bytes + max(output.memory for output in self.outputs))

    def __str__(self) -> str:
        timed = self.window_seconds is not None
        lines = [f"{'output':40}{'pixels':>24}{'GB':>9}{'blocks':>9}{'windows':>10}" + f"{'time':>11}" * timed]
        for output in self.outputs:
            lines.append(self._row(output.path.name, " x ".join(map(str, output.shape)), [output]))
        if len(self.outputs) > 1:
            lines.append(self._row("in all", "", self.outputs))
        if self.memory is not None and self.window_seconds is not None:
            workers = f"{self.workers} workers" if self.workers > 1 else "1 process"
            lines.append(
                f"peak memory about {self.memory / 2**30:.1f} GiB ({workers}); GB on the disk are uncompressed; time "
                f"by a trial of {TRIAL_WINDOWS} windows ({self.window_seconds * 1e3:.0f} ms each)"
                + (", without that of the maps" if any(not output.windows for output in self.outputs) else "")
            )
        return "\n".join(lines)

    def _row(self, name: str, pixels: str, outputs: Sequence[Output]) -> str:
        size = sum(output.nbytes for output in outputs) / 1e9
        blocks, windows = sum(output.blocks for output in outputs), sum(output.windows for output in outputs)
        seconds = self.seconds(outputs)
        duration = "" if seconds is None else f"{_duration(seconds):>11}"
        return f"{name[-39:]:40}{pixels:>24}{size:9.3f}{blocks:9}{windows:10}{duration}"


def output_of(image: LazyImage, target: Path, record: Record, inferer: SeamlessInferer) -> Output:
    """Return what the restored image will be; refuse a source whose chunks do not fit into memory."""
    _check_chunks(image)
    frames = frames_of(image.axes, image.shape, record.stack)
    shape = tuple(scaled_shape(image.axes, image.full_shape, frames.scale_by_axis(record.scale)))
    layout = layout_of(image, target, record, inferer)
    itemsize = image.dtype.itemsize
    whole = math.prod(shape) * itemsize if target.suffix == ".png" else 0
    nbytes = stored_bytes(target, shape, itemsize)
    return Output(target, shape, nbytes, layout.blocks, layout.windows, _memory(layout) + whole)


def stored_bytes(path: Path, shape: Sequence[int], itemsize: int) -> int:
    """Bytes of an image on the disk, uncompressed, with its pyramid where the format has one."""
    return int(math.prod(shape) * itemsize * (PYRAMID_RATIO if path.suffix.lower() == ".zarr" else 1))


def check_output_room(outputs: Sequence[Output]) -> None:
    """Refuse outputs whose folder may not be written to, or whose disk has no room for all of them.

    What an interrupted run has written already is not needed again; compression is not counted on.
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


def peak_memory() -> int:
    """Peak memory of this process so far in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        return 2**29
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def window_seconds(image: LazyImage, network: torch.nn.Module, record: Record, inferer: SeamlessInferer) -> float:
    """Seconds for reading, restoring and casting one window of an image, the first of them not counted."""
    frames = frames_of(image.axes, image.shape, record.stack)
    scales = fit_image_intensity(image, record.intensity, record.stack)
    volume = is_volume(record.scale)
    plane = plane_size(image)
    axes = inferer.axes((frames.run, *plane) if volume else plane)
    device = next(network.parameters()).device
    numbers = frames.window(frames.count // 2, record.n_frames[0])
    if volume:
        numbers = reflect_indices(axes[0].starts[0], axes[0].length, frames.run).tolist()
    began = time.perf_counter()
    for number in range(TRIAL_WINDOWS + 1):
        if number == 1:
            began = time.perf_counter()
        # Along the diagonal, so that not all of them lie in one chunk.
        y, x = (number * max(0, axis.size - axis.length) // TRIAL_WINDOWS for axis in axes[-2:])
        window = Window(y, x, axes[-2].length, axes[-1].length)
        pixels = read_scaled(image, numbers, window, scales, record.stack)
        with torch.inference_mode():
            (output,) = inferer.predicted([torch.from_numpy(np.ascontiguousarray(pixels))[None].to(device)], network)
        scales[frames.channel(numbers[0])].cast(output.cpu().numpy(), image.dtype)
    return (time.perf_counter() - began) / TRIAL_WINDOWS


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _memory(layout: Layout) -> int:
    """The blocks of a column, the sums that its windows have in common, and two windows being weighted."""
    widths = [
        math.prod(len(part) * scale for part, scale in zip(column, layout.scale[1:], strict=True))
        for column in layout.columns
    ]
    window = math.prod(axis.length * scale for axis, scale in zip(layout.axes, layout.scale, strict=True))
    return max(widths) * layout.bytes_across + layout.planes * 2 * 4 * window + 24 * CAST_PIXELS


def _on_disk(path: Path) -> int:
    if path.is_dir():
        return sum(_on_disk(child) for child in path.iterdir())
    return getattr(path.stat(), "st_blocks", 0) * 512 if path.exists() else 0


def _check_chunks(image: LazyImage) -> None:
    if not is_zarr(image.path):
        return
    import zarr  # takes half a second

    node = zarr.open(str(image.path), mode="r")
    arrays = [node] if isinstance(node, zarr.Array) else [array for _, array in node.arrays()]
    largest = max((math.prod(array.chunks) * array.dtype.itemsize for array in arrays), default=0)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else math.inf
    if largest > memory:
        raise InputError(
            f"{image.path.name}: its chunks hold {largest / 1e9:.1f} GB each, this machine {memory / 1e9:.1f} GB; "
            "store it anew in smaller chunks"
        )
