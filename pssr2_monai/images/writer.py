"""Writing images region by region, and any output under a temporary name until it is complete."""

from __future__ import annotations

import importlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from pssr2_monai.errors import InputError, check_folder
from pssr2_monai.images.axes import check_axes
from pssr2_monai.images.files import is_zarr, list_images, stem_of
from pssr2_monai.images.image import Region, region_bounds
from pssr2_monai.images.metadata import ImageMetadata

WRITTEN = {
    ".tif": ("tiff", "TiffWriter"),
    ".tiff": ("tiff", "TiffWriter"),
    ".zarr": ("omezarr", "OmeZarrWriter"),
    ".png": ("pillow", "PngWriter"),
}
"""The module of ``formats`` and its class that write files of a suffix, ".ome.tif" and ".ome.zarr" among them."""
ZARR_CHUNK = 512  # side of a chunk of an OME-Zarr along Y and X, in pixels
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Applies a function that can be pickled to all items, as ``map`` does, in this or other processes, in any order."""


@dataclass(frozen=True)
class ImageSpec:
    """An image to write, as described by ``write_image``."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    pixel_size: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    metadata: ImageMetadata = field(default_factory=ImageMetadata)
    alpha: bool = False

    def __post_init__(self) -> None:
        name = self.path.name
        check_axes(self.axes, self.shape, name)
        channels = self.shape[self.axes.index("C")] if "C" in self.axes else 1
        if self.channel_names and len(self.channel_names) != channels:
            raise InputError(
                f"{name}: {len(self.channel_names)} channel names for {channels} channels; give one a channel"
            )
        if set(self.pixel_size) - set("ZYX") or any(not size > 0 for size in self.pixel_size.values()):
            raise InputError(
                f"{name}: pixel size {dict(self.pixel_size)} is not in micrometres along Z, Y and X; leave out axes "
                "whose size is unknown"
            )

    @property
    def known_pixel_size(self) -> dict[str, float]:
        """The pixel size along axes of the image."""
        return {axis: float(size) for axis, size in self.pixel_size.items() if axis in self.axes}


class _Format(Protocol):
    """The writer of a format; regions and arrays have been checked."""

    chunks: tuple[int, ...] | None
    holds_alpha: bool

    def write(self, region: Sequence[slice], array: np.ndarray) -> None: ...

    def close(self, spread: Spread = map) -> None: ...

    def abort(self) -> None: ...


class _AlphaFormat(_Format, Protocol):
    """The writer of a format that holds opacity."""

    def write_alpha(self, region: Sequence[slice], array: np.ndarray) -> None: ...


class Writer(AbstractContextManager["Writer"]):
    """Write an image region by region; its name appears when it is complete.

    As a context manager it completes the image at the end of the block, or removes it if the block raises.

    Attributes:
        path: the file or folder.
        shape: size along each axis.
        dtype: of the pixels.
        axes: letters out of "TZCYX", one a dimension.
        chunks: the grid on which several processes may write regions at the same time, each with a pickled copy of the
            writer, one of which closes it; None where one process must write all. Whole chunks are quickest.
        holds_alpha: whether opacity was asked for and the format holds it.
    """

    def __init__(self, spec: ImageSpec, target: _Format) -> None:
        self.path, self.shape, self.dtype, self.axes = spec.path, spec.shape, spec.dtype, spec.axes
        self.chunks, self.holds_alpha = target.chunks, target.holds_alpha
        self._target: _Format | None = target

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        """Write the pixels of a region.

        Args:
            region: one slice an axis; open-ended ones are allowed, steps are not.
            array: of the region's shape and of the image's dtype; it is not cast.

        Raises:
            ValueError: another shape or dtype, or a region outside the image.
        """
        target, bounds = self._checked(region, np.asarray(array), self.shape)
        target.write(bounds, np.asarray(array))

    def write_alpha(self, region: Sequence[slice], array: np.ndarray) -> None:
        """Write the opacity of a region, which `holds_alpha` says that the image has.

        Args:
            region: one slice an axis; that of the channels is ``slice(0, 1)``.
            array: of the region's shape and of the image's dtype.

        Raises:
            ValueError: another shape or dtype, or a region outside the image.
        """
        sizes = [1 if axis == "C" else size for axis, size in zip(self.axes, self.shape, strict=True)]
        target, bounds = self._checked(region, np.asarray(array), sizes)
        cast(_AlphaFormat, target).write_alpha(bounds, np.asarray(array))

    def _checked(self, region: Sequence[slice], array: np.ndarray, shape: Sequence[int]) -> tuple[_Format, Region]:
        """The writer of the format and the bounds of a region of an image of this shape, for an array that fits it."""
        if self._target is None:
            raise ValueError(f"{self.path.name}: the writer was closed")
        if array.dtype != self.dtype:
            raise ValueError(f"{self.path.name}: holds {self.dtype}, got {array.dtype}; cast the array first")
        bounds = region_bounds(region, shape, self.path.name)
        for part, size in zip(region, shape, strict=True):
            if part.stop is not None and part.stop > size:
                raise ValueError(f"{self.path.name}: region {part} does not lie in an axis of {size} pixels")
        expected = tuple(part.stop - part.start for part in bounds)
        if array.shape != expected:
            raise ValueError(f"{self.path.name}: the region has shape {expected}, the array {array.shape}")
        return self._target, bounds

    def close(self, keep: bool = False, spread: Spread = map) -> None:
        """Complete the image and move it into place. Pixels that were never written are 0.

        Args:
            keep: if completing fails, for instance on a full disk, leave it to the caller to suspend or abort.
            spread: how the remaining work, such as a pyramid, is distributed; by default all is done in this process.
        """
        if self._target is not None:
            try:
                self._target.close(spread)
            except BaseException:
                if not keep:
                    self.abort()
                raise
            self._target = None

    def suspend(self) -> None:
        """Leave the unfinished image for another writer to resume."""
        self._target = None

    def abort(self) -> None:
        """Remove the unfinished image; an older one of its name stays."""
        if self._target is not None:
            target, self._target = self._target, None
            target.abort()

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None:
            self.close()
        else:
            self.abort()


def create_writer(
    path: str | Path,
    *,
    shape: Sequence[int],
    dtype: np.dtype[Any] | type | str,
    axes: str,
    pixel_size: Mapping[str, float],
    channel_names: Sequence[str] = (),
    metadata: ImageMetadata | None = None,
    overwrite: bool = False,
    resume: bool = False,
    in_blocks: bool = False,
    shards: Sequence[int] | None = None,
    chunk: int | None = None,
    alpha: bool = False,
) -> Writer:
    """Create a writer for the format that the suffix names.

    ``.tif`` and ``.tiff`` are written for Fiji (ImageJ's own description where it can describe the image, else
    OME-XML), ``.ome.tif`` as OME-TIFF, ``.zarr`` as OME-Zarr 0.5 with a pyramid, ``.png`` for one 8- or 16-bit image.
    TIFF and Zarr are written in place on disk, so the image may be larger than memory. Until it is complete, its name
    ends in ``.part``.

    Args:
        path, axes, pixel_size, channel_names, metadata, overwrite: as for ``write_image``.
        shape: size along each axis.
        dtype: of the pixels.
        resume: continue the unfinished image that a writer of the same arguments left, if there is one.
        in_blocks: regions will be made of whole ``chunks`` of the writer, so that a pyramid needs no second reading.
        shards: for OME-Zarr in blocks: pixels along each axis that are stored in one file and written at once; by
            default each chunk has its own file.
        chunk: for OME-Zarr: side of the chunks along Y and X, in pixels; 512 by default.
        alpha: keep room for the opacity of the pixels if the format can hold it; see `Writer.holds_alpha`.
    """
    path, sizes = Path(path), tuple(int(size) for size in shape)
    channels = sizes[axes.index("C")] if "C" in axes else 1
    spec = ImageSpec(
        path,
        sizes,
        np.dtype(dtype).newbyteorder("="),
        axes,
        pixel_size,
        tuple(channel_names),
        (metadata or ImageMetadata()).of_channels(channels),
        alpha,
    )
    check_free(path, overwrite)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise InputError(f"{path.name}: files ending in {suffix!r} are not written; use {', '.join(WRITTEN)}")
    module, target = WRITTEN[suffix]
    to_zarr = suffix == ".zarr"
    if shards is not None and not (to_zarr and in_blocks):
        raise InputError(f"{path.name}: has no shards; write .ome.zarr, in blocks, or leave them out")
    zarr_options = {"in_blocks": in_blocks, "shards": shards, "chunk": chunk} if to_zarr else {}
    formats = importlib.import_module(f"{__package__}.formats.{module}")
    return Writer(spec, getattr(formats, target)(spec, resume, **zarr_options))


def write_image(
    path: str | Path,
    array: np.ndarray,
    *,
    axes: str,
    pixel_size: Mapping[str, float],
    channel_names: Sequence[str] = (),
    metadata: ImageMetadata | None = None,
    overwrite: bool = False,
) -> None:
    """Write a whole array as an image file, which appears when it is complete.

    Args:
        path: the file or folder to write; its suffix names the format: .tif, .ome.tif, .ome.zarr or .png.
        array: pixels; their data type is kept.
        axes: letters out of "TZCYX", one a dimension of the array.
        pixel_size: micrometres along "Z", "Y" and "X"; an axis that is missing stays unknown in the file.
        channel_names: one a channel, or none.
        metadata: what else to state, as far as the format can.
        overwrite: replace an existing image.

    Raises:
        InputError: the suffix, the data type or the axes cannot be written; the file exists; no such folder; too little
            space on the disk.

    Example:
        >>> stack = np.zeros((5, 64, 48), dtype=np.uint16)
        >>> write_image("new.ome.tif", stack, axes="ZYX", pixel_size={"Z": 0.03, "Y": 0.004, "X": 0.004})
    """
    array = np.asarray(array)
    with create_writer(
        path,
        shape=array.shape,
        dtype=array.dtype,
        axes=axes,
        pixel_size=pixel_size,
        channel_names=channel_names,
        metadata=metadata,
        overwrite=overwrite,
        in_blocks=True,
    ) as writer:
        writer.write([slice(None)] * array.ndim, array.astype(writer.dtype, copy=False))


def target_files(
    source: Path,
    target: Path,
    overwrite: bool,
    format: str | None,
    may_exist: Callable[[Path], bool] = lambda path: False,
) -> list[tuple[Path, Path]]:
    """Pairs of source and target files for an image file or a folder of them.

    Args:
        source: the file or folder.
        target: the file to write, or the folder to write files of the same names into.
        overwrite: replace existing files.
        format: suffix of the files written into a folder, such as ``ome.zarr``; by default that of the source.
        may_exist: returns whether a target may exist without ``overwrite``.
    """
    if target.name.lower().endswith(tuple(WRITTEN)) and (is_zarr(target) or not target.is_dir()):
        # also for a folder of slices, which is one stack
        pairs = [(source, target)]
    elif source.is_dir() and not is_zarr(source):
        pairs = [(file, target / written_name(file, format)) for file in list_images(source)]
    elif target.suffix and not target.exists():
        raise InputError(
            f"{target.name}: {target.suffix} is not written; use tif, ome.tif, ome.zarr or png, or give a folder"
        )
    else:
        pairs = [(source, target / written_name(source, format))]
    outputs = Counter(output for _, output in pairs)
    for file, output in pairs:
        if outputs[output] > 1:
            raise InputError(
                f"{file.name}: another image of the folder would also be written to {output.name}; rename one of them"
            )
        if os.path.realpath(output) == os.path.realpath(file):  # resolve() raises an error on links in a circle
            raise InputError(f"{output}: the output is the input itself; give another output")
        if output.exists() and not (overwrite or may_exist(output)):
            raise InputError(f"{output}: exists already; give another output, or ask to overwrite it")
    for folder in {output.parent for output in outputs}:
        check_folder(folder)
    return pairs


def written_name(file: Path, format: str | None) -> str:
    """The name of a file with the suffix of a format; by default its own if it can be written, else ``.tif``."""
    if format is None and file.name.lower().endswith(tuple(WRITTEN)):
        return file.name
    suffix = "." + (format or "tif").lower().lstrip(".")
    if not suffix.endswith(tuple(WRITTEN)):
        raise InputError(f"format: {format!r} is not written; use tif, ome.tif, ome.zarr or png")
    return stem_of(file) + suffix


def part_path(path: Path) -> Path:
    """The temporary name of an output until it is complete: ``stack.ome.tif.part`` next to ``stack.ome.tif``."""
    return path.with_name(path.name + ".part")


@contextmanager
def written_atomically(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and move what is written there into place at the end of the block.

    The block may write a file or create a folder; if it raises, what it wrote is removed and ``path`` stays as it was.
    ``suffix`` follows ``.part`` in the temporary name, for libraries that choose a format by it.
    """
    part = path.with_name(part_path(path).name + suffix)
    remove(part)  # left by a process that was killed
    try:
        yield part
        move_into_place(part, path)
    except BaseException:
        remove(part)
        raise


def check_free(path: Path, overwrite: bool) -> None:
    """Check that an output may be written under a name."""
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or allow it to be overwritten")
    if path.is_dir() and not is_zarr(path):
        raise InputError(f"{path}: is a folder, but not a Zarr image, and is not overwritten; choose another name")


def check_room(path: Path, nbytes: int) -> None:
    """Check that the disk has space for an output."""
    free = shutil.disk_usage(path.parent).free
    if nbytes > free:
        raise InputError(
            f"{path.name}: needs {nbytes / 1e9:.2f} GB, but {path.parent} has {free / 1e9:.2f} GB free; "
            "write to another disk, or free some space"
        )


def move_into_place(part: Path, path: Path) -> None:
    """Move a complete output to its name, replacing an older one."""
    if path.is_dir():
        # A folder cannot be replaced in one step: the old one is renamed first, so that neither is ever incomplete.
        old = path.with_name(path.name + ".old.part")
        remove(old)
        path.rename(old)
        part.rename(path)
        remove(old)
    else:
        os.replace(part, path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
