"""One face for every image file: its shape, dtype, axes and pixel size, and windows of its pixels read on demand."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import LETTERS, check_axes
from pssr2_monai.images.registry import list_images, module_of, unread

Region = tuple[slice, ...]


def _nothing() -> None:
    """What closing does where nothing is held open."""


@dataclass(eq=False)
class LazyImage:
    """An image file whose pixels are read on demand, in its own axis order.

    It may be pickled and used in forked or spawned worker processes: each opens the file anew.

    Attributes:
        path: the file or folder.
        shape: size along each axis.
        dtype: of the pixels, in native byte order: integers or floats.
        axes: distinct letters out of "TZCYX", one a dimension, in the file's order.
        pixel_size: micrometres along "Z", "Y" and "X"; an axis whose pixel size is unknown is missing.
        channel_names: one a channel, or empty where unknown.
        reader: gives the pixels of a region (one slice with start and stop an axis) as an array that is the caller's
            to keep; `read` is the way to call it.
        closer: lets go of what the reader holds open.
        axes_given: the axes that the user gave to `open_image`, if any.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    pixel_size: Mapping[str, float]
    reader: Callable[[Region], np.ndarray]
    channel_names: tuple[str, ...] = ()
    closer: Callable[[], None] = _nothing
    axes_given: str | None = None
    _process: int = field(default_factory=os.getpid, init=False, repr=False)

    def read(self, region: Sequence[slice] | None = None) -> np.ndarray:
        """The pixels of a region, or all of them: a new array in native byte order.

        Args:
            region: one slice an axis, in the order of ``axes``, without steps. Like numpy's, they may be open-ended
                or negative. Only the chunks, tiles or strips that the region touches are read.

        Raises:
            InputError: the pixels are damaged.
            ValueError: the region does not fit the image's dimensions.
        """
        bounds = self._bounds(region)
        if self._process != os.getpid():
            # A forked process shares the parent's file position, so that both would read each other's bytes.
            fresh = open_image(self.path, self.axes_given)
            self.reader, self.closer, self._process = fresh.reader, fresh.closer, os.getpid()
        try:
            pixels = self.reader(bounds)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever a decoder raises on damaged bytes
            raise InputError(
                f"{self.path.name}: pixels cannot be read ({_one_line(error)}); the file may be damaged, save or copy "
                "it again"
            ) from error
        return np.ascontiguousarray(pixels, dtype=self.dtype)

    def close(self) -> None:
        """Let go of the file; the image cannot be read afterwards."""
        self.closer()
        self.reader, self.closer = _closed, _nothing

    def __enter__(self) -> LazyImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return open_image, (self.path, self.axes_given)

    def _bounds(self, region: Sequence[slice] | None) -> Region:
        """``region`` with start and stop inside the image."""
        if region is None:
            return tuple(slice(0, size) for size in self.shape)
        if len(region) != len(self.shape):
            raise ValueError(f"{self.path.name}: {len(region)} slices for axes {self.axes!r}; give one an axis")
        bounds = []
        for part, size in zip(region, self.shape, strict=True):
            start, stop, step = part.indices(size)
            if step != 1:
                raise ValueError(f"{self.path.name}: region {part} has a step; read all and thin out afterwards")
            bounds.append(slice(start, max(start, stop)))
        return tuple(bounds)


def open_image(path: str | Path, axes: str | None = None) -> LazyImage:
    """An image file, a Zarr folder, or a folder of numbered slices as one stack, opened for reading.

    Axes of length 1 other than Y and X are left out. Samples of a colour pixel are channels. One axis of unknown
    meaning is taken for Z (T if there is a Z); a folder of slices is a ZYX stack in the natural order of the names.
    Of a file with several images (series, scenes, resolutions), the first at full resolution is opened.

    Args:
        path: the file or folder.
        axes: letters out of "TZCYX" where the file's own are missing or wrong; one a dimension, with or without those
            of length 1.

    Raises:
        InputError: no such file, an unknown format, damaged contents, pixels that are no real numbers, or axes that do
            not fit or are unknown; a package that reads the format is missing.

    Example:
        >>> with open_image("stacks/stack.ome.tif") as image:
        ...     image.axes, image.shape, image.read((slice(2, 3), slice(0, 64), slice(0, 48))).shape
        ('ZYX', (10, 192, 192), (1, 64, 48))
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    module = module_of(path)
    if module is None and path.is_dir():
        return _settled(_open_slices(path), axes)
    if module is None:
        raise InputError(f"{path.name}: {unread(path)}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name}: the file is empty (0 bytes); save or copy it again")
    try:
        image: LazyImage = importlib.import_module(f"{__package__}.formats.{module}").open_file(path)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever a parser raises on bytes that are not of its format
        raise InputError(
            f"{path.name}: cannot be read as {path.suffix.lstrip('.').upper()} ({_one_line(error)}); check that the "
            "file is whole and is what its name says"
        ) from error
    try:
        return _settled(image, axes)
    except BaseException:
        image.close()
        raise


def _one_line(error: Exception) -> str:
    """An error's message for the inside of a one-line message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def _closed(region: Region) -> np.ndarray:
    raise ValueError("the image was closed")


def _settled(image: LazyImage, given: str | None) -> LazyImage:
    """The image with axes out of "TZCYX", without axes of length 1, and with the axes that the user gave."""
    name = image.path.name
    if image.dtype.kind not in "uif":
        what = "complex numbers" if image.dtype.kind == "c" else f"values of type {image.dtype}"
        raise InputError(f"{name}: the pixels are {what}; save them as integers or real numbers")
    letters = image.axes
    given = given.strip().upper() if given else None
    if given and len(given) == len(letters):
        letters = given
    kept = [i for i, letter in enumerate(letters) if image.shape[i] != 1 or letter in "YX"]
    shape = tuple(image.shape[i] for i in kept)
    axes = "".join(letters[i] for i in kept)
    if given and given != letters:
        axes = given
    elif not given and len(shape) > 1:
        axes = _named(axes, shape, name)
    check_axes(axes, shape, name)
    channels = shape[axes.index("C")] if "C" in axes else 1
    read = image.reader

    def reader(region: Region) -> np.ndarray:
        full = [slice(0, 1)] * len(image.shape)
        for i, part in zip(kept, region, strict=True):
            full[i] = part
        return read(tuple(full)).reshape([part.stop - part.start for part in region])

    return LazyImage(
        path=image.path,
        shape=shape,
        dtype=image.dtype.newbyteorder("="),
        axes=axes,
        pixel_size={axis: size for axis, size in image.pixel_size.items() if axis in axes},
        reader=reader if len(kept) < len(image.shape) else read,
        channel_names=image.channel_names if len(image.channel_names) == channels else (),
        closer=image.closer,
        axes_given=given,
    )


def _named(axes: str, shape: Sequence[int], name: str) -> str:
    """The axes with samples ("S") as channels and one unknown axis as Z or T."""
    if "S" in axes and "C" not in axes:
        axes = axes.replace("S", "C")
    unknown = [i for i, letter in enumerate(axes) if letter not in LETTERS]
    free = [letter for letter in "ZT" if letter not in axes]
    if not unknown:
        return axes
    if len(unknown) > 1 or not free:
        sizes = " x ".join(str(size) for size in shape)
        raise InputError(
            f"{name}: the meaning of the axes is unknown (shape {sizes}, axes {axes!r}); name them, such as axes='TZYX'"
        )
    return axes[: unknown[0]] + free[0] + axes[unknown[0] + 1 :]


def _open_slices(folder: Path) -> LazyImage:
    """A folder of slices as one stack, its first axis Z; each read opens the slices it needs and no others."""
    paths = list_images(folder)
    with open_image(paths[0]) as first:
        shape, dtype, axes, pixel_size = first.shape, first.dtype, first.axes, first.pixel_size
        channel_names = first.channel_names
    if "Z" in axes:
        raise InputError(f"{folder.name}: {paths[0].name} is a stack itself (axes {axes!r}); open the files one by one")
    for path in paths[1:]:
        with open_image(path) as other:
            found = (other.shape, other.dtype, other.axes)
        if found != (shape, dtype, axes):
            raise InputError(
                f"{folder.name}: {path.name} is {_described(*found)}, but {paths[0].name} is "
                f"{_described(shape, dtype, axes)}; slices of one stack are alike, take the odd one out"
            )

    def reader(region: Region) -> np.ndarray:
        sizes = [part.stop - part.start for part in region]
        stack = np.empty(sizes, dtype)
        for k in range(sizes[0]):
            with open_image(paths[region[0].start + k]) as slice_:
                stack[k] = slice_.read(region[1:])
        return stack

    return LazyImage(folder, (len(paths), *shape), dtype, "Z" + axes, pixel_size, reader, channel_names)


def _described(shape: Sequence[int], dtype: np.dtype[Any], axes: str) -> str:
    return f"{' x '.join(str(size) for size in shape)} {dtype} {axes}"
