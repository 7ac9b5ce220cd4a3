"""Writing TIFF region by region: a file laid out at once, filled in place."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pssr2_monai.errors import InputError
from pssr2_monai.images.outputs import Spread, check_room, move_into_place, part_path, remove

IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
OME_DTYPES = (*IMAGEJ_DTYPES, "int8", "int16", "int32", "uint32", "float64")
IMAGEJ_BYTES = 2**32 - 2**24
"""Largest image written as an ImageJ hyperstack: classic TIFF, with room for its header."""


class TiffWriter:
    """An uncompressed TIFF that is filled region by region; BigTIFF where needed.

    Files named ``.ome.tif`` carry OME-XML. Others carry ImageJ's description, which Fiji reads without a plugin, where
    it can say all there is to say, and OME-XML otherwise. Y and X come last, or C after them for interleaved samples.

    Args:
        path: the file to write.
        shape: size along each axis.
        dtype: of the pixels.
        axes: letters out of "TZCYX".
        pixel_size: micrometres along those of "Z", "Y" and "X" that are known.
        channel_names: one a channel, or none.
        resume: go on with the file begun, if it is there.

    Raises:
        InputError: a dtype or an order of axes that the format does not know, or no room on the disk.
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        axes: str,
        pixel_size: Mapping[str, float],
        channel_names: Sequence[str],
        resume: bool = False,
    ) -> None:
        if dtype.name not in OME_DTYPES:
            raise InputError(f"{path.name}: TIFF for microscopy holds no {dtype}; write .ome.zarr, or another dtype")
        if not axes.endswith(("YX", "YXC")):
            raise InputError(f"{path.name}: TIFF keeps Y and X last, not axes {axes!r}; write .ome.zarr")
        nbytes = math.prod(shape) * dtype.itemsize
        self._path, self._part, self._shape, self._dtype = path, part_path(path), tuple(shape), dtype
        self.chunks: tuple[int, ...] | None = (1,) * len(shape)
        if resume and self._part.is_file():
            with tifffile.TiffFile(self._part) as begun:
                self._offset = begun.pages.first.dataoffsets[0]
            return
        check_room(path, nbytes)
        stored_axes = axes[:-1] + "S" if axes.endswith("C") else axes
        imagej = not path.name.lower().endswith((".ome.tif", ".ome.tiff")) and _fits_imagej(
            shape, dtype, stored_axes, pixel_size, nbytes
        )
        describe = _imagej if imagej else _ome
        options = describe(path, shape, stored_axes, pixel_size, channel_names)
        try:
            with tifffile.TiffWriter(self._part, imagej=imagej, ome=not imagej, bigtiff=nbytes > IMAGEJ_BYTES) as tif:
                place = tif.write(
                    shape=self._shape, dtype=dtype, returnoffset=True, **_samples(stored_axes, shape), **options
                )
            _reserve(self._part)
        except BaseException:
            remove(self._part)
            raise
        assert place is not None
        self._offset = place[0]

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        """Sets the pixels of a region; see `writer.Writer`."""
        # Mapped for this write only: pages of a long-lived map would count as the process's own memory.
        pixels = np.memmap(self._part, self._dtype, "r+", self._offset, self._shape)
        pixels[tuple(region)] = array

    def close(self, spread: Spread = map) -> None:
        """Moves the file into place."""
        move_into_place(self._part, self._path)

    def abort(self) -> None:
        """Removes the file begun."""
        remove(self._part)


def _reserve(path: Path) -> None:
    """Takes the file's room on the disk now: of a file with holes, a disk that fills kills whoever maps it."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _fits_imagej(
    shape: Sequence[int], dtype: np.dtype[Any], axes: str, pixel_size: Mapping[str, float], nbytes: int
) -> bool:
    """Whether ImageJ's description can hold the image: its dtypes, T, Z, C in this order, one unit for all axes."""
    ordered = [axis for axis in "TZCYXS" if axis in axes] == list(axes)
    rgb = "S" not in axes or (shape[-1] in (3, 4) and dtype == np.uint8)
    in_plane = ("Y" in pixel_size) == ("X" in pixel_size) and ("X" in pixel_size or not pixel_size)
    return dtype.name in IMAGEJ_DTYPES and ordered and rgb and in_plane and nbytes <= IMAGEJ_BYTES


def _samples(axes: str, shape: Sequence[int]) -> dict[str, Any]:
    """How the samples of a pixel lie in the file."""
    if not axes.endswith("S"):
        return {"photometric": "minisblack"}
    return {"photometric": "rgb" if shape[-1] in (3, 4) else "minisblack", "planarconfig": "contig"}


def _imagej(
    path: Path, shape: Sequence[int], axes: str, pixel_size: Mapping[str, float], channel_names: Sequence[str]
) -> dict[str, Any]:
    """tifffile's options for an ImageJ hyperstack; without a unit, which stands for unknown, ImageJ says pixels."""
    size = dict(zip(axes, shape, strict=True))
    planes = math.prod(n for axis, n in size.items() if axis in "TZC")
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"metadata": metadata}
    if size.get("C", 1) > 1:
        metadata["mode"] = "composite"
    if channel_names and planes == len(channel_names):
        metadata["Labels"] = list(channel_names)
    if pixel_size:
        metadata["unit"] = "micron"
        options |= {"resolution": (1 / pixel_size["X"], 1 / pixel_size["Y"]), "resolutionunit": "NONE"}
    if "Z" in pixel_size:
        metadata["spacing"] = pixel_size["Z"]
    return options


def _ome(
    path: Path, shape: Sequence[int], axes: str, pixel_size: Mapping[str, float], channel_names: Sequence[str]
) -> dict[str, Any]:
    """tifffile's options for OME-XML. The identifier follows from name and layout: the same output is the same file."""
    identity = f"{path.name} {tuple(shape)} {axes}"
    metadata: dict[str, Any] = {"axes": axes, "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, identity))}
    for axis, size in pixel_size.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    if channel_names and not axes.endswith("S"):
        metadata["Channel"] = {"Name": list(channel_names)}
    return {"metadata": metadata}
