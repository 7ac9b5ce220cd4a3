"""Windows of an image in Y and X: grids, splits by place, reflection, orientations; reading and writing windows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import Frames, frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.writer import Writer

if TYPE_CHECKING:
    import torch

# An orientation is a number of three bits: flipped along Y (1), flipped along X (2), then Y and X swapped (4).
ORIENTATIONS, SWAPPED = 8, 4
SAMPLE_COUNT, SAMPLE_SIDE_PX = 16, 512  # of windows, and their sides
MARGIN_PX = 4  # around a window, on which the mending and filling of its pixels depends


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels: rows ``y`` to ``y + height - 1`` and columns ``x`` to ``x + width - 1``."""

    y: int
    x: int
    height: int
    width: int

    def slices(self) -> tuple[slice, slice]:
        """The window as an index into the last two axes, (Y, X)."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def widened(window: Window, margin: int, plane: tuple[int, int]) -> Window:
    """A window enlarged by a margin on each side, within the plane."""
    top, left = max(window.y - margin, 0), max(window.x - margin, 0)
    bottom, right = min(window.y + window.height + margin, plane[0]), min(window.x + window.width + margin, plane[1])
    return Window(top, left, bottom - top, right - left)


def inside(inner: Window, outer: Window) -> Window:
    """The place of a window within another."""
    return Window(inner.y - outer.y, inner.x - outer.x, inner.height, inner.width)


def scaled_window(window: Window, along_y: int, along_x: int) -> Window:
    """The window of a larger image that shows the same."""
    return Window(window.y * along_y, window.x * along_x, window.height * along_y, window.width * along_x)


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """The first pixels of windows of length ``tile`` that cover ``[0, size)``.

    Neighbours share ``overlap`` pixels; the last window is shifted inside to end at ``size`` and may share more.
    A ``size`` of at most ``tile`` gives one window at 0.
    """
    if size < 1 or tile < 1:
        raise InputError(f"tile: size {size} and tile {tile} must be at least 1 pixel")
    if not 0 <= overlap < tile:
        raise InputError(f"overlap: {overlap} px do not fit a tile of {tile} px; use 0 to {tile - 1}")
    last = max(size - tile, 0)
    return [*range(0, last, tile - overlap), last]


def grid(shape_yx: Sequence[int], tile: int, overlap: int) -> list[Window]:
    """The square windows of side ``tile`` that cover an image, row by row; neighbours share ``overlap`` pixels.

    They reach beyond the image only along an axis on which it is smaller than the tile; reading pads by reflection.
    """
    rows, columns = (starts(size, tile, overlap) for size in shape_yx)
    return [Window(y, x, tile, tile) for y in rows for x in columns]


def regions_by_place(
    shape_yx: Sequence[int], tile: int, fraction: float, guard: int = 0
) -> tuple[Window, Window | None]:
    """The regions of an image for training and for validation, with ``guard`` unused pixels between them.

    The last ``fraction`` of the longer side (Y where both are equal) is for validation, the first part for training,
    less the guard. Both span the whole of the shorter side. Without a fraction there is no validation.
    """
    height, width = shape_yx
    if not 0 <= fraction < 1:
        raise InputError(f"validation fraction: {fraction} is not in [0, 1); use 0.1 to 0.3, or 0 for no validation")
    if guard < 0:
        raise InputError(f"guard: {guard} is negative; use 0 or more pixels")
    whole = Window(0, 0, height, width)
    if fraction == 0:
        return whole, None
    length = max(height, width)
    validation = round(length * fraction)
    training = length - validation - guard
    least = min(validation, training)
    if least < tile:
        smaller = f"tile of {least} px at most" if least > 0 else "smaller guard"
        raise InputError(
            f"split by place: a sheet of {height} x {width} px leaves {max(training, 0)} px for training and "
            f"{validation} px for validation (fraction {fraction:g}, guard {guard}), but a tile is {tile} px; "
            f"use a {smaller}, another fraction, or split by file"
        )
    if height >= width:
        return replace(whole, height=training), replace(whole, y=length - validation, height=validation)
    return replace(whole, width=training), replace(whole, x=length - validation, width=validation)


def reflect_indices(start: int, length: int, size: int) -> npt.NDArray[np.intp]:
    """Indices into an axis of ``size`` for the window ``[start, start + length)``, which may reach beyond both ends.

    Beyond the ends the axis is mirrored at the edge of its last pixel, as ``numpy.pad`` does in mode "symmetric",
    however far the window reaches. Mirrored at the pixel's middle, HR pixels beyond that would continue backwards what
    the image shows: restored edges were worse (root mean square error 15.3 instead of 12.2 grey levels at scale 4).
    """
    index = np.arange(start, start + length, dtype=np.intp) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


def rounded_up(size: int, unit: int) -> int:
    """The next multiple of ``unit`` that is at least ``size``."""
    return -(-size // unit) * unit


def oriented(image: np.ndarray, number: int) -> np.ndarray:
    """An image ``(..., Y, X)`` in one of its eight orientations; 0 keeps it as it is.

    Equal to MONAI's ``RandFlipd`` and ``RandRotate90d``, but for the integers of a file, before they become floats.

    Example:
        >>> oriented(np.array([[1, 2], [3, 4]]), 3).tolist(), oriented(np.array([[1, 2], [3, 4]]), 4).tolist()
        ([[4, 3], [2, 1]], [[1, 3], [2, 4]])
    """
    flipped = np.flip(image, _flipped_axes(number))
    return np.ascontiguousarray(flipped.swapaxes(-2, -1) if number & SWAPPED else flipped)


def turned(image: torch.Tensor, number: int, back: bool = False) -> torch.Tensor:
    """Images ``(..., Y, X)`` in one of the orientations of ``oriented``, or back from it."""
    axes = _flipped_axes(number)
    if back and number & SWAPPED:
        return image.transpose(-2, -1).flip(axes)
    image = image.flip(axes)
    return image.transpose(-2, -1) if number & SWAPPED else image


def _flipped_axes(number: int) -> tuple[int, ...]:
    return tuple(axis for bit, axis in ((1, -2), (2, -1)) if number & bit)


def plane_size(image: LazyImage) -> tuple[int, int]:
    """Height and width of an image, in pixels."""
    return image.shape[image.axes.index("Y")], image.shape[image.axes.index("X")]


def read_window(image: LazyImage, frames: Sequence[int], window: Window, stack: str = "TZ") -> np.ndarray:
    """Read one window of some frames, as ``(frames, Y, X)`` in the dtype of the image.

    The frames are numbers in the order of ``axes.frames_of`` with this ``stack``; one may repeat. The window may reach
    beyond the image, which is continued by reflection.
    """
    order = frames_of(image.axes, image.shape, stack)
    height, width = plane_size(image)
    rows = reflect_indices(window.y, window.height, height)
    columns = reflect_indices(window.x, window.width, width)
    top, left = int(rows.min()), int(columns.min())
    inside = {"Y": slice(top, int(rows.max()) + 1), "X": slice(left, int(columns.max()) + 1)}
    planes = {frame: _read_plane(image, order, frame, inside) for frame in dict.fromkeys(frames)}
    return np.stack([planes[frame][np.ix_(rows - top, columns - left)] for frame in frames])


def read_bar(image: LazyImage, frames: Sequence[int], columns: range, stack: str = "TZ") -> np.ndarray:
    """Read the rows of the data bar below some frames, as ``(frames, Y, X)`` in the dtype of the image."""
    order, height = frames_of(image.axes, image.shape, stack), plane_size(image)[0]
    inside = {"Y": slice(height, height + image.bar_rows), "X": slice(columns.start, columns.stop)}
    return np.stack([_read_plane(image, order, frame, inside, with_bar=True) for frame in frames])


def _read_plane(
    image: LazyImage, order: Frames, frame: int, inside: dict[str, slice], with_bar: bool = False
) -> np.ndarray:
    """One frame within the slices ``inside`` of Y and X, as ``(Y, X)``."""
    bounds = {axis: slice(index, index + 1) for axis, index in order.position(frame).items()} | inside
    block = image.read(tuple(bounds[axis] for axis in image.axes), with_bar=with_bar)
    plane = np.squeeze(block, axis=tuple(index for index, axis in enumerate(image.axes) if axis not in "YX"))
    return plane if image.axes.index("Y") < image.axes.index("X") else plane.T


def write_window(writer: Writer, order: Frames, frame: int, window: Window, pixels: np.ndarray) -> None:
    """Write a window ``(Y, X)`` of a frame, or ``(frames, Y, X)`` of consecutive frames of a run from ``frame`` on."""
    rows, columns = window.slices()
    bounds = {axis: slice(i, i + 1) for axis, i in order.position(frame).items()} | {"Y": rows, "X": columns}
    axes = "YX"
    if pixels.ndim == 3:
        assert order.run_axis is not None
        first = bounds[order.run_axis].start
        bounds[order.run_axis], axes = slice(first, first + len(pixels)), order.run_axis + axes
    block = pixels.transpose([axes.index(axis) for axis in writer.axes if axis in axes])
    singletons = tuple(index for index, axis in enumerate(writer.axes) if axis not in axes)
    writer.write([bounds[axis] for axis in writer.axes], np.expand_dims(block, singletons))


def read_scaled(
    image: LazyImage, frames: Sequence[int], window: Window, scales: Sequence[Intensity], stack: str = "TZ"
) -> npt.NDArray[np.float32]:
    """One window of some frames on the scales of their channels, hot and missing pixels replaced: ``(frames, Y, X)``.

    ``scales`` has one scale a channel; see ``read_window`` and ``fit_image_intensity``.
    """
    around = Window(
        window.y - MARGIN_PX, window.x - MARGIN_PX, window.height + 2 * MARGIN_PX, window.width + 2 * MARGIN_PX
    )
    pixels = read_window(image, frames, around, stack)
    inner = slice(MARGIN_PX, -MARGIN_PX)
    return scaled_frames(pixels, frames, frames_of(image.axes, image.shape, stack), scales)[:, inner, inner]


def scaled_frames(
    pixels: np.ndarray, frames: Sequence[int], order: Frames, scales: Sequence[Intensity]
) -> npt.NDArray[np.float32]:
    """Pixels ``(frames, Y, X)`` of these frames, those of each channel on its scale; see ``Intensity.measured``."""
    channels = [order.channel(frame) for frame in frames]
    if len(set(channels)) == 1:
        return scales[channels[0]].measured(pixels)
    return np.stack([scales[channel].measured(plane) for channel, plane in zip(channels, pixels, strict=True)])


def sample_pixels(image: LazyImage, stack: str = "TZ", channel: int = 0) -> Iterator[np.ndarray]:
    """At most 16 windows ``(Y, X)`` of up to 512 x 512 pixels, spread over a channel's frames and over the plane."""
    for frame, window in sample_places(image, stack, channel):
        yield read_window(image, [frame], window, stack)[0]


def sample_places(image: LazyImage, stack: str = "TZ", channel: int = 0) -> list[tuple[int, Window]]:
    """The frames and windows of ``sample_pixels``."""
    frames = frames_of(image.axes, image.shape, stack).of_channel(channel)
    return spread_windows(frames, plane_size(image), (SAMPLE_SIDE_PX, SAMPLE_SIDE_PX), SAMPLE_COUNT)


def spread_windows(
    frames: Sequence[int], plane: tuple[int, int], side: tuple[int, int], count: int
) -> list[tuple[int, Window]]:
    """So many windows of at most a size ``(Y, X)``, spread over frames and plane; fewer where they would repeat."""
    side_y, side_x = (min(pair) for pair in zip(side, plane, strict=True))
    windows = []
    for number, index in enumerate(np.linspace(0, len(frames) - 1, count).round().astype(int).tolist()):
        # Places on a 4 x 4 lattice, in an order that scatters them.
        row, column = divmod(5 * number % 16, 4)
        window = Window((plane[0] - side_y) * row // 3, (plane[1] - side_x) * column // 3, side_y, side_x)
        windows.append((frames[index], window))
    return list(dict.fromkeys(windows))


def fit_image_intensity(
    image: LazyImage, settings: IntensitySettings, stack: str = "TZ", shrink: Sequence[int] = (1, 1)
) -> tuple[Intensity, ...]:
    """The intensity scale of each channel of an image, from samples of its pixels of bounded size.

    ``shrink`` is as in ``IntensitySettings.fit``.
    """
    channels = frames_of(image.axes, image.shape, stack).channels
    return tuple(
        settings.fit(list(sample_pixels(image, stack, channel)), image.dtype, image.path.name, shrink)
        for channel in range(channels)
    )


class SheetReader:
    """Read windows by path, keeping files open and, within a bound, their frames decoded.

    Args:
        cache_bytes: of decoded frames to keep at most; frames above a quarter of it are read window by window.
        axes: of files whose own are missing or wrong.
        stack: order of T and Z.
        open_files: files to keep open at most.
        image: number or name of the image to read of files that hold several.
    """

    def __init__(
        self,
        cache_bytes: int = 2**29,
        axes: str | None = None,
        stack: str = "TZ",
        open_files: int = 64,
        image: int | str | None = None,
    ) -> None:
        self.cache_bytes, self.open_files = cache_bytes, open_files
        self.axes, self.stack, self.image_given = axes, stack, image
        self._images: OrderedDict[str, LazyImage] = OrderedDict()
        self._planes: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._cached = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_images": OrderedDict(), "_planes": OrderedDict(), "_cached": 0}  # for its own process

    def image(self, path: str | Path) -> LazyImage:
        key = str(path)
        if key not in self._images:
            if len(self._images) >= self.open_files:
                self._images.popitem(last=False)[1].close()
            self._images[key] = open_image(path, axes=self.axes, image=self.image_given)
        self._images.move_to_end(key)
        return self._images[key]

    def read(self, path: str | Path, frames: Sequence[int], window: Window) -> np.ndarray:
        """A window of some frames of the image at ``path``, as ``(frames, Y, X)``; see ``read_window``."""
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
