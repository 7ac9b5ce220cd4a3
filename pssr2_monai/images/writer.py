"""Writing images region by region, with their dtype, axes, pixel size and channel names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import check_axes
from pssr2_monai.images.outputs import Spread, check_free
from pssr2_monai.images.registry import is_zarr, list_images

WRITTEN = {
    ".tif": ("tiff_writer", "TiffWriter"),
    ".tiff": ("tiff_writer", "TiffWriter"),
    ".zarr": ("omezarr_writer", "OmeZarrWriter"),
    ".png": ("pillow", "PngWriter"),
}
"""Which class of which module of this package writes which files, ".ome.tif" and ".ome.zarr" among them."""


class _Format(Protocol):
    """What one format module's writer does; regions and arrays have been checked."""

    chunks: tuple[int, ...] | None

    def write(self, region: Sequence[slice], array: np.ndarray) -> None: ...

    def close(self, spread: Spread = map) -> None: ...

    def abort(self) -> None: ...


class Writer:
    """Writes an image region by region; nothing stands under its name until it is complete.

    As a context manager it completes the image at the end of the block, or removes it if the block raises.

    Attributes:
        path: the file or folder to be.
        shape: size along each axis.
        dtype: of the pixels.
        axes: letters out of "TZCYX", one a dimension.
        chunks: the grid on which regions may be written by several processes at once (each with a pickled copy of the
            writer, one of them closing it); None where one process must write all. Regions are best whole ones of it.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], axes: str, target: _Format) -> None:
        self.path, self.shape, self.dtype, self.axes = path, shape, dtype, axes
        self.chunks = target.chunks
        self._target: _Format | None = target

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        """Sets the pixels of a region.

        Args:
            region: one slice an axis; open-ended ones are allowed, steps are not.
            array: of the region's shape and of the image's dtype: casting is not a writer's business.

        Raises:
            ValueError: another shape or dtype, or a region outside the image.
        """
        if self._target is None:
            raise ValueError(f"{self.path.name}: was closed")
        array = np.asarray(array)
        if array.dtype != self.dtype:
            raise ValueError(f"{self.path.name}: holds {self.dtype}, got {array.dtype}; cast the array first")
        if len(region) != len(self.shape):
            raise ValueError(
                f"{self.path.name}: a region of {len(region)} slices for axes {self.axes!r}; give one an axis"
            )
        bounds = []
        for part, size in zip(region, self.shape, strict=True):
            start, stop, step = part.indices(size)
            if step != 1 or (part.stop is not None and part.stop > size):
                raise ValueError(f"{self.path.name}: region {part} does not lie in an axis of {size} pixels")
            bounds.append(slice(start, stop))
        expected = tuple(part.stop - part.start for part in bounds)
        if array.shape != expected:
            raise ValueError(f"{self.path.name}: the region has shape {expected}, the array {array.shape}")
        self._target.write(tuple(bounds), array)

    def close(self, keep: bool = False, spread: Spread = map) -> None:
        """Completes the image and moves it into place. Pixels that were never written are 0.

        Args:
            keep: leave it to the caller to suspend or abort where completing fails, of a full disk for instance.
            spread: how what is left to do, such as a pyramid, is shared; in this process, one after the other, by
                default.
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
        """Leaves what was begun for another writer to resume."""
        self._target = None

    def abort(self) -> None:
        """Removes what was begun; what stood under the name before stays."""
        if self._target is not None:
            target, self._target = self._target, None
            target.abort()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
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
    overwrite: bool = False,
    resume: bool = False,
    in_blocks: bool = False,
    shards: Sequence[int] | None = None,
) -> Writer:
    """A writer for the format that the suffix names.

    ``.tif`` and ``.tiff`` are written for Fiji (ImageJ's own description where it can hold the image, else OME-XML),
    ``.ome.tif`` as OME-TIFF, ``.zarr`` as OME-Zarr 0.5 with a pyramid, ``.png`` for one 8- or 16-bit image. TIFF and
    Zarr are written in place on disk, so the image may be larger than memory.

    Args:
        path: the file or folder to write; while under way it ends in ``.part``.
        shape: size along each axis.
        dtype: of the pixels.
        axes: letters out of "TZCYX", one a dimension.
        pixel_size: micrometres along "Z", "Y" and "X"; an axis that is missing stays unknown in the file.
        channel_names: one a channel, or none.
        overwrite: replace what stands under this name (when the new image is complete).
        resume: go on with what a writer of the same arguments left ending in ``.part``, if it is there.
        in_blocks: regions will be whole ones of the writer's ``chunks``, which saves reading them again for a pyramid.
        shards: of OME-Zarr in blocks, pixels along each axis that are stored in one file, and written at once; chunks
            have a file each by default.

    Raises:
        InputError: the suffix, the dtype or the axes cannot be written; the file exists; no such folder; no room;
            shards of another format, or of what is not written in blocks.
    """
    path, shape, dtype = Path(path), tuple(int(size) for size in shape), np.dtype(dtype).newbyteorder("=")
    check_axes(axes, shape, path.name)
    channels = shape[axes.index("C")] if "C" in axes else 1
    if channel_names and len(channel_names) != channels:
        raise InputError(f"{path.name}: {len(channel_names)} channel names for {channels} channels; give one a channel")
    unknown = set(pixel_size) - set("ZYX")
    if unknown or any(not size > 0 for size in pixel_size.values()):
        raise InputError(
            f"{path.name}: pixel size {dict(pixel_size)} is not in micrometres along Z, Y and X; leave out what is "
            "unknown"
        )
    sizes = {axis: float(size) for axis, size in pixel_size.items() if axis in axes}
    check_free(path, overwrite)
    target = _target_of(path)
    options: dict[str, Any] = {"resume": resume}
    is_zarr = path.suffix.lower() == ".zarr"
    if shards is not None and not (is_zarr and in_blocks):
        raise InputError(f"{path.name}: has no shards; write .ome.zarr, in blocks, or leave them out")
    if is_zarr:
        options |= {"in_blocks": in_blocks, "shards": shards}
    return Writer(path, shape, dtype, axes, target(path, shape, dtype, axes, sizes, tuple(channel_names), **options))


def write_image(
    path: str | Path,
    array: np.ndarray,
    *,
    axes: str,
    pixel_size: Mapping[str, float],
    channel_names: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Writes a whole array; what stands under the name appears when it is complete.

    Args:
        path: the file or folder to write; its suffix names the format: .tif, .ome.tif, .ome.zarr or .png.
        array: pixels, of the shape that the axes say; its data type is kept.
        axes: letters out of "TZCYX", one a dimension.
        pixel_size: micrometres along "Z", "Y" and "X"; an axis that is missing stays unknown in the file.
        channel_names: one a channel, or none.
        overwrite: replace what stands under this name.

    Raises:
        InputError: the suffix, the data type or the axes cannot be written; the file exists; no such folder; no room.

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
        overwrite=overwrite,
        in_blocks=True,
    ) as writer:
        writer.write([slice(None)] * array.ndim, array.astype(writer.dtype, copy=False))


def _target_of(path: Path) -> Callable[..., _Format]:
    """The class that writes files of this name."""
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise InputError(f"{path.name}: files ending in {path.suffix!r} are not written; use {', '.join(WRITTEN)}")
    module, name = WRITTEN[suffix]
    target: Callable[..., _Format] = getattr(importlib.import_module(f"{__package__}.formats.{module}"), name)
    return target


def target_files(
    source: Path,
    target: Path,
    overwrite: bool,
    format: str | None,
    may_exist: Callable[[Path], bool] = lambda path: False,
) -> list[tuple[Path, Path]]:
    """Which file is written for which source.

    Args:
        source: an image file, or a folder of them.
        target: the file to write, or the folder to write files of the same names into.
        overwrite: replace existing files.
        format: suffix of the files written into a folder, such as ``ome.zarr``; by default that of the source.
        may_exist: targets for which it is true may exist without ``overwrite``.

    Raises:
        InputError: a target exists, is its own source or is another's target, too; or the format is not written.
    """
    one_file = target.name.lower().endswith(tuple(WRITTEN)) and not (target.is_dir() and not is_zarr(target))
    if one_file:  # of a folder of slices, too, which is one stack
        pairs = [(source, target)]
    elif source.is_dir() and not is_zarr(source):
        pairs = [(file, target / _written_name(file, format)) for file in list_images(source)]
    elif target.suffix and not target.exists():
        raise InputError(
            f"{target.name}: {target.suffix} is not written; use tif, ome.tif, ome.zarr or png, or give a folder"
        )
    else:
        pairs = [(source, target / _written_name(source, format))]
    outputs = [output for _, output in pairs]
    for file, output in pairs:
        if outputs.count(output) > 1:
            raise InputError(
                f"{file.name}: another image of the folder would be written to {output.name}, too; rename one"
            )
        if output.resolve() == file.resolve():
            raise InputError(f"{output}: is the input itself; give another output")
        if output.exists() and not (overwrite or may_exist(output)):
            raise InputError(f"{output}: exists already; give another output, or ask to overwrite it")
    return pairs


def _written_name(file: Path, format: str | None) -> str:
    """The file's name, with the suffix asked for or else one that can be written."""
    if format is None and file.name.lower().endswith(tuple(WRITTEN)):
        return file.name
    suffix = "." + (format or "tif").lower().lstrip(".")
    if not suffix.endswith(tuple(WRITTEN)):
        raise InputError(f"format: {format!r} is not written; use tif, ome.tif, ome.zarr or png")
    stem = file.name.removesuffix(file.suffix)
    return stem.removesuffix(".ome") + suffix
