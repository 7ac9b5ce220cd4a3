"""Windows of frames out of sheets: what training, evaluation and restoring read pixels with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.images.axes import Frames, frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.windows import Window, reflect_indices
from pssr2_monai.images.writer import Writer

SAMPLE_FRAMES = 16
SAMPLE_SIDE = 512


def sample_pixels(image: LazyImage, stack: str = "TZ") -> Iterator[np.ndarray]:
    """At most 16 windows ``(Y, X)`` of up to 512 x 512 pixels, spread over the frames and over the plane."""
    height, width = plane_size(image)
    count = frames_of(image.axes, image.shape, stack).count
    side_y, side_x = min(SAMPLE_SIDE, height), min(SAMPLE_SIDE, width)
    frames = np.linspace(0, count - 1, SAMPLE_FRAMES).round().astype(int)
    # Places on a 4 x 4 lattice, taken in an order that scatters them.
    places = [(5 * number % SAMPLE_FRAMES) for number in range(SAMPLE_FRAMES)]
    windows = [
        Window((height - side_y) * (p // 4) // 3, (width - side_x) * (p % 4) // 3, side_y, side_x) for p in places
    ]
    for frame, window in dict.fromkeys(zip(frames.tolist(), windows, strict=True)):
        yield read_window(image, [frame], window, stack)[0]


def fit_image_intensity(image: LazyImage, settings: IntensitySettings, stack: str = "TZ") -> Intensity:
    """The intensity scale of a sheet, from a bounded sample of its pixels.

    Raises:
        InputError: see ``intensity.fit_intensity``.
    """
    if not settings.needs_sample(image.dtype):
        return settings.fit(np.empty(0, image.dtype), image.dtype, image.path.name)
    sample = np.concatenate([window.ravel() for window in sample_pixels(image, stack)])
    return settings.fit(sample, image.dtype, image.path.name)


def plane_size(image: LazyImage) -> tuple[int, int]:
    """Height and width of a sheet."""
    return image.shape[image.axes.index("Y")], image.shape[image.axes.index("X")]


def write_window(
    writer: Writer, order: Frames, frame: int, window: Window, pixels: np.ndarray, count: int | None = None
) -> None:
    """Writes a window where it belongs in the writer's axes.

    Args:
        writer: of the sheet.
        order: of its frames.
        frame: number of the frame.
        window: where, in pixels.
        pixels: ``(Y, X)``, or ``(frames, Y, X)`` of neighbouring frames.
        count: how many frames, if ``pixels`` has an axis of them.
    """
    rows, columns = window.slices()
    at = {axis: slice(index, index + 1) for axis, index in order.position(frame).items()} | {"Y": rows, "X": columns}
    given = "YX"
    if count is not None and order.run_axis is not None:
        run = at[order.run_axis].start
        at[order.run_axis], given = slice(run, run + count), order.run_axis + given
    block = pixels.transpose([given.index(axis) for axis in writer.axes if axis in given])
    singletons = tuple(index for index, axis in enumerate(writer.axes) if axis not in given)
    writer.write([at[axis] for axis in writer.axes], np.expand_dims(block, singletons))


def read_window(image: LazyImage, frames: Sequence[int], window: Window, stack: str = "TZ") -> np.ndarray:
    """Reads one window of some frames.

    Args:
        image: the open sheet.
        frames: numbers of the frames wanted, in the order of ``axes.frames_of``; a number may repeat.
        window: where, in pixels; what sticks out of the sheet is filled by reflection.
        stack: order of T and Z.

    Returns:
        Array ``(frames, Y, X)`` in the sheet's dtype.
    """
    order = frames_of(image.axes, image.shape, stack)
    height, width = plane_size(image)
    rows = reflect_indices(window.y, window.height, height)
    columns = reflect_indices(window.x, window.width, width)
    top, left = int(rows.min()), int(columns.min())
    inside = {"Y": slice(top, int(rows.max()) + 1), "X": slice(left, int(columns.max()) + 1)}
    planes = {frame: _read_plane(image, order, frame, inside) for frame in dict.fromkeys(frames)}
    return np.stack([planes[frame][np.ix_(rows - top, columns - left)] for frame in frames])


def _read_plane(image: LazyImage, order: Frames, frame: int, inside: dict[str, slice]) -> np.ndarray:
    """One frame within ``inside``, as (Y, X)."""
    at = {axis: slice(index, index + 1) for axis, index in order.position(frame).items()} | inside
    block = image.read(tuple(at[axis] for axis in image.axes))
    kept = tuple(index for index, axis in enumerate(image.axes) if axis not in "YX")
    plane = np.squeeze(block, axis=kept)
    return plane if image.axes.index("Y") < image.axes.index("X") else plane.T


class SheetReader:
    """Reads windows by path, keeping sheets open and, within a bound, their frames decoded.

    Args:
        cache_bytes: how many bytes of decoded frames may be kept. A frame larger than a quarter of it is read
            window by window.
        axes: axes of files that do not tell theirs, or tell them wrongly.
        stack: order of T and Z.
        open_files: how many files may be open at a time.
    """

    def __init__(
        self, cache_bytes: int = 2**29, axes: str | None = None, stack: str = "TZ", open_files: int = 64
    ) -> None:
        self.cache_bytes = cache_bytes
        self.axes = axes
        self.stack = stack
        self.open_files = open_files
        self._images: OrderedDict[str, LazyImage] = OrderedDict()
        self._planes: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._cached = 0

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens its own files.
        return self.__dict__ | {"_images": OrderedDict(), "_planes": OrderedDict(), "_cached": 0}

    def image(self, path: str | Path) -> LazyImage:
        """The open sheet at ``path``."""
        key = str(path)
        if key not in self._images:
            if len(self._images) >= self.open_files:
                self._images.popitem(last=False)[1].close()
            self._images[key] = open_image(path, axes=self.axes)
        self._images.move_to_end(key)
        return self._images[key]

    def read(self, path: str | Path, frames: Sequence[int], window: Window) -> np.ndarray:
        """Window of some frames of the sheet at ``path``, as ``(frames, Y, X)``; see ``read_window``."""
        image = self.image(path)
        height, width = plane_size(image)
        if height * width * image.dtype.itemsize > self.cache_bytes // 4:
            return read_window(image, frames, window, self.stack)
        planes = [self._plane(str(path), image, frame) for frame in frames]
        if 0 <= window.y <= height - window.height and 0 <= window.x <= width - window.width:
            return np.stack([plane[window.slices()] for plane in planes])
        rows = reflect_indices(window.y, window.height, height)
        columns = reflect_indices(window.x, window.width, width)
        return np.stack([plane[np.ix_(rows, columns)] for plane in planes])

    def _plane(self, path: str, image: LazyImage, frame: int) -> np.ndarray:
        key = (path, frame)
        if key in self._planes:
            self._planes.move_to_end(key)
            return self._planes[key]
        whole = {axis: slice(0, image.shape[image.axes.index(axis)]) for axis in "YX"}
        plane = np.ascontiguousarray(_read_plane(image, frames_of(image.axes, image.shape, self.stack), frame, whole))
        self._planes[key] = plane
        self._cached += plane.nbytes
        while self._cached > self.cache_bytes:
            self._cached -= self._planes.popitem(last=False)[1].nbytes
        return plane
