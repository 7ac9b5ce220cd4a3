"""One interface to every image file: its shape, dtype, axes and pixel size, and regions of pixels read on demand."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.images.axes import LETTERS, check_axes
from pssr2_monai.images.contents import Contents, Entry, chosen, contents_of, divided, known_axes
from pssr2_monai.images.data_bar import COPY_TOLERANCE, JPEG_TOLERANCE, bar_of_all_frames
from pssr2_monai.images.files import SUFFIXES, UNREAD, format_of, is_zarr, list_images, log_once
from pssr2_monai.images.metadata import ImageMetadata
from pssr2_monai.images.safeguards import check_regular

SEARCHED_FOR_BARS = ("tiff", "pillow")  # formats of electron microscopes that may have a data bar in the image
Region = tuple[slice, ...]


@dataclass(eq=False)
class LazyImage(AbstractContextManager["LazyImage"]):
    """An image file whose pixels are read on demand, in the axis order of the file.

    It may be closed, pickled, and used in forked or spawned worker processes: the next read there opens the file again.

    Attributes:
        path: the file or folder.
        shape: size along each axis, without the rows of a data bar.
        dtype: of the pixels, in native byte order: integers or floats.
        axes: distinct letters out of "TZCYX", one a dimension, in the file's order.
        pixel_size: micrometres along "Z", "Y" and "X"; unknown ones are missing.
        channel_names: one a channel, or empty where unknown.
        reader: returns the pixels of a region (one slice with start and stop an axis) as a new array; call it through
            `read`.
        closer: closes the files that the reader keeps open.
        alpha_reader: as ``reader``, for the opacity of the pixels, with one channel; None where the file has none. Call
            it through `read_alpha`.
        axes_given, image_given: what the user gave to `open_image`, if anything.
        number: which image of the file this is, from 1.
        entries: all images of the file.
        metadata: what else the file states about the image.
        bar_rows: rows below the image with the data bar of an electron microscope, which are no part of ``shape``.
        bar_stated: whether the file states ``bar_rows``; otherwise `open_image` looks for a bar.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    pixel_size: Mapping[str, float]
    reader: Callable[[Region], np.ndarray]
    channel_names: tuple[str, ...] = ()
    closer: Callable[[], None] = lambda: None
    alpha_reader: Callable[[Region], np.ndarray] | None = None
    axes_given: str | None = None
    image_given: int | str | None = None
    number: int = 1
    entries: tuple[Entry, ...] = ()
    metadata: ImageMetadata = field(default_factory=ImageMetadata)
    bar_rows: int = 0
    bar_stated: bool = False
    _process: int = field(default_factory=os.getpid, init=False, repr=False)  # which has the file open; 0 for none

    @property
    def place(self) -> str:
        """Which image of its file this is, such as ``image 2 of 3 (Pos1)``."""
        name = self.entries[self.number - 1].name if self.entries else ""
        return f"image {self.number} of {len(self.entries) or 1}{f' ({name})' * bool(name)}"

    @property
    def full_shape(self) -> tuple[int, ...]:
        """The size along each axis with the rows of the data bar, as in the file."""
        return tuple(size + self.bar_rows * (axis == "Y") for axis, size in zip(self.axes, self.shape, strict=True))

    def read(self, region: Sequence[slice] | None = None, *, with_bar: bool = False) -> np.ndarray:
        """The pixels of a region, or all of them: a new array in native byte order.

        Args:
            region: one slice an axis, in the order of ``axes``, without steps; open-ended or negative bounds are
                those of numpy. Only the chunks, tiles or strips that the region touches are read.
            with_bar: the region lies in ``full_shape``.

        Raises:
            InputError: the pixels are damaged, or a file to be opened again has changed.
            ValueError: the region has another number of slices than the image has axes, or steps.
        """
        bounds = self._bounds(region, with_bar)
        self._reopen()
        return self._read(self.reader, bounds)

    @property
    def has_alpha(self) -> bool:
        """Whether the file has opacity (alpha), which is none of the image's channels."""
        return self.alpha_reader is not None

    def read_alpha(self, region: Sequence[slice] | None = None, *, with_bar: bool = False) -> np.ndarray:
        """The opacity of a region, or of all, of the image's dtype and axes, with a channel axis of length 1.

        Args:
            region, with_bar: as for `read`; the slice of the channels is ignored.

        Raises:
            InputError: the file has no opacity, or damaged pixels.
        """
        bounds = [
            slice(0, 1) if axis == "C" else part
            for axis, part in zip(self.axes, self._bounds(region, with_bar), strict=True)
        ]
        self._reopen()
        if self.alpha_reader is None:
            raise InputError(f"{self.path.name}: has no alpha; ask `has_alpha` first")
        return self._read(self.alpha_reader, tuple(bounds))

    def _bounds(self, region: Sequence[slice] | None, with_bar: bool) -> Region:
        whole, shape = [slice(None)] * len(self.shape), self.full_shape if with_bar else self.shape
        return region_bounds(whole if region is None else region, shape, self.path.name)

    def _reopen(self) -> None:
        """Open the file again where it was closed, and in a forked process.

        A forked process shares the file position of its parent: each would move it for the other.
        """
        if self._process != os.getpid():
            fresh = open_image(self.path, self.axes_given, self.number if self.entries else self.image_given)
            if _layout(fresh) != _layout(self):
                raise InputError(f"{self.path.name}: was changed since it was opened; wait until it is complete")
            self.reader, self.closer, self.alpha_reader = fresh.reader, fresh.closer, fresh.alpha_reader
            self._process = os.getpid()

    def _read(self, reader: Callable[[Region], np.ndarray], bounds: Region) -> np.ndarray:
        try:
            pixels = reader(bounds)
        except InputError:
            raise
        except MemoryError as error:
            raise MemoryError(f"{self.path.name}: {error or 'out of memory'}") from error
        except Exception as error:  # decoders raise all kinds of errors on damaged bytes
            if "allocate" in str(error):  # ITK has no class for it
                raise MemoryError(f"{self.path.name}: {one_line(error)}") from error
            raise InputError(
                f"{self.path.name}: pixels cannot be read ({one_line(error)}); the file may be damaged, save or copy "
                "it again"
            ) from error
        return np.ascontiguousarray(pixels, dtype=self.dtype)

    def read_over(
        self, over: Callable[[Callable[[Region], np.ndarray]], Callable[[Region], np.ndarray]], **changes: Any
    ) -> LazyImage:
        """The image with other fields, whose pixels and opacity are read by what ``over`` makes of their readers."""
        alpha_reader = self.alpha_reader and over(self.alpha_reader)
        return replace(self, reader=over(self.reader), alpha_reader=alpha_reader, **changes)

    def close(self) -> None:
        """Close the file, until the next read opens it again."""
        self.closer()
        self.reader = self.closer = _closed
        self.alpha_reader = self.alpha_reader and _closed
        self._process = 0

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        closed = {"reader": _closed, "closer": _closed, "_process": 0}
        closed["alpha_reader"] = self.alpha_reader and _closed
        return self.__dict__ | closed | {"path": self.path.absolute()}  # the current folder may be another there


def region_bounds(region: Sequence[slice], shape: Sequence[int], name: str) -> Region:
    """The slices of a region with start and stop inside an image of this shape."""
    if len(region) != len(shape):
        raise ValueError(f"{name}: a region of {len(region)} slices for {len(shape)} axes; give one slice an axis")
    bounds = []
    for part, size in zip(region, shape, strict=True):
        start, stop, step = part.indices(size)
        if step != 1:
            raise ValueError(f"{name}: region {part} has a step, which is not supported; leave it out")
        bounds.append(slice(start, max(start, stop)))
    return tuple(bounds)


def open_image(path: str | Path, axes: str | None = None, image: int | str | None = None) -> LazyImage:
    """Open an image file, a Zarr folder, or a folder of numbered slices as one stack.

    Axes of length 1 other than Y and X are left out. Samples of a colour pixel are channels. One axis of unknown
    meaning is taken for Z (T if there is a Z); a folder of slices is a ZYX stack in the natural order of the names.

    A file may hold several images: series, scenes, positions, detectors, thumbnails. By default the largest is opened,
    never a thumbnail, label or overview; which one it is, of how many, is logged. The levels of a pyramid are one
    image, as are pages of one size and type that were written one by one, and the files of an OME-TIFF set. The data
    bar of an electron microscope below an image is no part of it.

    Args:
        path: the file or folder.
        axes: letters out of "TZCYX" where those of the file are missing or wrong; one a dimension, with or without
            those of length 1.
        image: number (from 1) or name of the image to open.

    Raises:
        InputError: no such file, an unknown format, damaged contents, pixels that are not real numbers, axes that do
            not fit or are unknown, no such image, or the package that reads the format is not installed.

    Example:
        >>> with open_image("stacks/stack.ome.tif") as image:
        ...     image.axes, image.shape, image.read((slice(2, 3), slice(0, 64), slice(0, 48))).shape
        ('ZYX', (10, 192, 192), (1, 64, 48))
    """
    opened = _opened(Path(path), axes, image)
    if len(opened.entries) > 1:
        is_guess = image is None and sum(not entry.is_preview for entry in opened.entries) > 1
        advice = "; choose another by number or name (--image)" if is_guess else ""
        text = f"{opened.place}, {opened.entries[opened.number - 1].text}{advice}"
        log_once(opened.path.absolute(), text, logging.WARNING if is_guess else logging.INFO)
    return opened


def _opened(path: Path, axes: str | None, image: int | str | None) -> LazyImage:
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    check_regular(path, path.name, folders=True)
    module = "omezarr" if is_zarr(path) else format_of(path)
    if path.is_dir() and module != "omezarr":
        return _open_slices(path, axes, image)
    if module is None:
        suffix = path.suffix.lower()
        problem = f"files ending in {suffix!r} are not read; images end in {', '.join(sorted(SUFFIXES))}"
        if suffix in UNREAD:
            problem = f"{UNREAD[suffix]} files are not read; export the image as OME-TIFF (Fiji: Bio-Formats Exporter)"
        raise InputError(f"{path.name}: {problem}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name}: the file is empty (0 bytes); save or copy it again")
    contents: Contents | None = None
    try:
        file = importlib.import_module(f"{__package__}.formats.{module}").open_file(path)
        contents = divided(contents_of(file) if isinstance(file, LazyImage) else file, axes)
        place = chosen(contents.entries, image, path.name)
        resolved = _resolved(contents.open(place), axes)
        entries = list(contents.entries)
        entries[place] = replace(entries[place], shape=resolved.shape, dtype=resolved.dtype, axes=resolved.axes)
        return replace(resolved, image_given=image, number=place + 1, entries=tuple(entries))
    except BaseException as error:
        if contents is not None:
            contents.closer()
        if isinstance(error, InputError) or not isinstance(error, Exception):
            raise
        if isinstance(error, MemoryError):
            raise MemoryError(f"{path.name}: {error or 'out of memory'}") from error
        # Parsers raise all kinds of errors on bytes that are not of their format.
        raise InputError(
            f"{path.name}: cannot be read as {path.suffix.lstrip('.').upper()} ({one_line(error)}); check that the "
            "file is whole and is what its name says"
        ) from error


def _closed(*_: object) -> Any:
    """In place of the reader and the closer of a closed image."""


def _resolved(image: LazyImage, axes_given: str | None) -> LazyImage:
    """The image with axes out of "TZCYX", those that the user gave if any, and without axes of length 1."""
    name, stored = image.path.name, image.reader
    if image.dtype == bool:
        dtype = np.dtype(np.uint8)  # black and white
        image = replace(image, dtype=dtype, reader=lambda region: stored(region).astype(dtype) * np.uint8(255))
    if image.dtype.kind not in "uif":
        kind = "complex numbers" if image.dtype.kind == "c" else f"values of type {image.dtype}"
        raise InputError(f"{name}: the pixels are {kind}; save them as integers or real numbers")
    letters = image.axes
    axes_given = axes_given.strip().upper() if axes_given else None
    if axes_given and len(axes_given) == len(letters):
        letters = axes_given
    kept = [i for i, letter in enumerate(letters) if image.shape[i] != 1 or letter in "YX"]
    shape = tuple(image.shape[i] for i in kept)
    axes = "".join(letters[i] for i in kept)
    if axes_given and axes_given != letters:
        axes = axes_given
    elif not axes_given and len(shape) > 1:
        axes = known_axes(axes)
        if any(letter not in LETTERS for letter in axes):
            sizes = " x ".join(str(size) for size in shape)
            raise InputError(
                f"{name}: the meaning of the axes is unknown (shape {sizes}, axes {axes!r}); name them, such as "
                "axes='TZYX'"
            )
    check_axes(axes, shape, name)
    channels = shape[axes.index("C")] if "C" in axes else 1

    def over(read: Callable[[Region], np.ndarray]) -> Callable[[Region], np.ndarray]:
        """A reader of regions of the axes that are kept."""

        def reader(region: Region) -> np.ndarray:
            full = [slice(0, 1)] * len(image.shape)
            for i, part in zip(kept, region, strict=True):
                full[i] = part
            return read(tuple(full)).reshape([part.stop - part.start for part in region])

        return reader if len(kept) < len(image.shape) else read

    resolved = LazyImage(
        path=image.path,
        shape=shape,
        dtype=image.dtype.newbyteorder("="),
        axes=axes,
        pixel_size={axis: size for axis, size in image.pixel_size.items() if axis in axes},
        reader=over(image.reader),
        channel_names=image.channel_names if len(image.channel_names) == channels else (),
        closer=image.closer,
        alpha_reader=image.alpha_reader and over(image.alpha_reader),
        axes_given=axes_given,
        metadata=replace(image.metadata.at_position(0).of_channels(channels), bar_rows=0),  # which is none of the image
        bar_stated=True,
    )
    return _without_bar(resolved, image.bar_rows if image.bar_stated else None)


def _without_bar(image: LazyImage, stated_rows: int | None) -> LazyImage:
    """The image without the rows of its data bar, which are looked for where the file does not state them."""
    rows = stated_rows or 0
    if stated_rows is None and format_of(image.path) in SEARCHED_FOR_BARS:
        is_jpeg = image.path.suffix.lower() in (".jpg", ".jpeg")
        tolerance = JPEG_TOLERANCE if is_jpeg else COPY_TOLERANCE if image.dtype == np.uint8 else 0
        rows = bar_of_all_frames(image.read, image.axes, image.shape, tolerance)
    shape = [size - rows * (axis == "Y") for axis, size in zip(image.axes, image.shape, strict=True)]
    image.shape, image.bar_rows = tuple(shape), rows
    return image


def _open_slices(folder: Path, axes: str | None, image: int | str | None) -> LazyImage:
    """A folder of slices as one stack along Z; a read opens only the slices that it needs."""
    paths = list_images(folder)
    with open_image(paths[0], image=image) as first:
        layout = _layout(first)
    if "Z" in first.axes and len(paths) == 1:  # the files of one set
        return replace(_opened(paths[0], axes, image), path=folder)
    if "Z" in first.axes:
        raise InputError(
            f"{folder.name}: {paths[0].name} is a stack itself (axes {first.axes!r}); open the files one by one"
        )
    bars, has_alpha = {first.bar_rows}, first.has_alpha
    for path in paths[1:]:
        with _opened(path, None, image) as slice_:
            bars.add(slice_.bar_rows)
            has_alpha = has_alpha and slice_.has_alpha
            if _layout(slice_) != layout:
                raise InputError(
                    f"{folder.name}: {path.name} is {_layout(slice_)}, but {paths[0].name} is {layout}; the slices of "
                    "a stack must be alike, remove the one that differs"
                )

    first.bar_rows *= len(bars) == 1  # bars of only some slices have no place in the stack

    def reader(region: Region, read: Callable[..., np.ndarray] = LazyImage.read) -> np.ndarray:
        sizes = [part.stop - part.start for part in region]
        stack = np.empty(sizes, first.dtype)
        for k in range(sizes[0]):
            with _opened(paths[region[0].start + k], None, image) as slice_:
                stack[k] = read(slice_, region[1:], with_bar=True)
        return stack

    stack = LazyImage(
        path=folder,
        shape=(len(paths), *first.full_shape),
        dtype=first.dtype,
        axes="Z" + first.axes,
        pixel_size=first.pixel_size,
        reader=reader,
        channel_names=first.channel_names,
        alpha_reader=partial(reader, read=LazyImage.read_alpha) if has_alpha else None,
        metadata=first.metadata,
        bar_rows=first.bar_rows,
        bar_stated=True,
    )
    return replace(_resolved(stack, axes), image_given=image)


def _layout(image: LazyImage) -> str:
    return f"{' x '.join(str(size) for size in image.shape)} {image.dtype} {image.axes}"
