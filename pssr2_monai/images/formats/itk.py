"""NRRD, MetaImage and NIfTI with ITK: formats that are decoded whole, then kept while the image is open."""

from __future__ import annotations

import gzip
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import itk
import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.itk_storage import Storage, nrrd_header, storage_of
from pssr2_monai.images.formats.units import known_sizes, micrometres, seconds
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.metadata import ImageMetadata

NIFTI_UNITS = 123  # the byte with the units of a NIfTI-1
_stderr = threading.Lock()
# Component types by their names in ITK: the dtype, and the ITK type to read them with (Python's ITK lacks signed char).
_COMPONENTS = {
    "unsigned_char": ("u1", "UC"),
    "char": ("i1", "SS"),
    "unsigned_short": ("u2", "US"),
    "short": ("i2", "SS"),
    "unsigned_int": ("u4", "UI"),
    "int": ("i4", "SI"),
    "float": ("f4", "F"),
    "double": ("f8", "D"),
}


def open_file(path: Path) -> LazyImage:
    """Open a NRRD, MetaImage or NIfTI image, axes YX, ZYX or TZYX (and S for components), as stored.

    The anatomical orientation is not applied. The spacing is in millimetres, as these formats define it, unless a NRRD
    states its unit; a spacing of exactly 1, the default of these formats, is unknown, and so is one of a NIfTI that
    states that its unit is unknown. The whole image is decoded at
    the first read and kept until it is closed: ITK does not read these formats in part.
    """
    storage = storage_of(path)
    with _quiet_stderr():
        header = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
        if header is None:
            raise InputError(f"{path.name}: is not an image that ITK can read; check that the file is complete")
        header.SetFileName(str(path))
        header.ReadImageInformation()
    ndim, samples = int(header.GetNumberOfDimensions()), int(header.GetNumberOfComponents())
    component = header.GetComponentTypeAsString(header.GetComponentType())
    pixel = header.GetPixelTypeAsString(header.GetPixelType())
    if not 2 <= ndim <= 4 or component not in _COMPONENTS or "complex" in pixel:
        raise InputError(f"{path.name}: {ndim}-D {pixel} pixels of type {component} are not read; save it as OME-TIFF")
    dtype = np.dtype(_COMPONENTS[component][0])
    shape = (*(int(header.GetDimensions(i)) for i in reversed(range(ndim))), samples)
    sizes = _pixel_size(path, {axis: float(header.GetSpacing(i)) for i, axis in enumerate("XYZ"[:ndim])})
    step = header.GetSpacing(3) if ndim == 4 else None
    metadata = ImageMetadata(origin=_origin(header, sizes), time_step=_time_step(path, step))
    storage = storage.of_pixels(shape, dtype.itemsize)
    storage.check_sizes()
    decoded: list[np.ndarray] = []

    def reader(region: tuple[slice, ...]) -> np.ndarray:
        if not decoded:
            decoded.append(_decode(storage, ndim, component, samples).astype(dtype, copy=False).reshape(shape))
        return decoded[0][region].copy()

    axes = "TZYX"[-ndim:] + "S"
    return LazyImage(path, shape, dtype, axes, sizes, reader, closer=decoded.clear, metadata=metadata)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Leave out what ITK's libraries write of a damaged header, line by line, before ITK raises an error."""
    with _stderr:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _decode(storage: Storage, ndim: int, component: str, samples: int) -> np.ndarray:
    is_plain_gzip = storage.encoding == "gzip" and samples == 1 and nrrd_header(storage.path)
    if storage.encoding in ("bzip2", "zlib") or is_plain_gzip:  # which ITK does not read, or takes what it got of it
        stored = np.dtype(_COMPONENTS[component][0]).newbyteorder(storage.order)  # type: ignore[arg-type]
        return np.frombuffer(storage.decoded(), stored, storage.values)
    storage.check_pixels()
    kind = getattr(itk, _COMPONENTS[component][1])
    image_type = itk.Image[kind, ndim] if samples == 1 else itk.VectorImage[kind, ndim]
    reader = itk.ImageFileReader[image_type].New(FileName=str(storage.path))
    reader.Update()
    return itk.GetArrayFromImage(reader.GetOutput())


def _pixel_size(path: Path, spacing: Mapping[str, float]) -> dict[str, float]:
    if _nifti_units(path)[0] is None:
        return {}
    units = _nrrd_units(path)
    sizes: dict[str, float | None] = {}
    for i, (axis, size) in enumerate(spacing.items()):
        stated = units[i] if i < len(units) else None
        sizes[axis] = micrometres(size, stated or "mm") if stated or size != 1 else None
    return known_sizes(sizes)


def _time_step(path: Path, step: float | None) -> float | None:
    """Seconds from frame to frame, where a NRRD or a NIfTI states the unit; ITK reads those of NIfTI in seconds."""
    units = _nrrd_units(path)
    return seconds(step, units[3] if len(units) > 3 else _nifti_units(path)[1])


def _nifti_units(path: Path) -> tuple[str | None, str | None]:
    """The units of space and time in which ITK reads a NIfTI, None for unknown ones; millimetres for other formats."""
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        return "mm", None
    with gzip.open(path) if name.endswith(".gz") else path.open("rb") as file:
        code = file.read(NIFTI_UNITS + 1)[NIFTI_UNITS]
    return ("mm" if code & 0b111 else None), ("s" if code & 0b111000 else None)


def _origin(header: Any, sizes: Mapping[str, float]) -> dict[str, float]:
    """The position of the first pixel in micrometres, if one is stated and the axes are not turned."""
    axes = dict(enumerate("XYZ"[: int(header.GetNumberOfDimensions())]))
    turned = any(float(header.GetDirection(i)[i]) != 1 for i in axes)
    if turned or not any(header.GetOrigin(i) for i in axes):
        return {}
    return {
        axis: float(header.GetOrigin(i)) / float(header.GetSpacing(i)) * sizes[axis]
        for i, axis in axes.items()
        if axis in sizes
    }


def _nrrd_units(path: Path) -> list[str]:
    """The units of a NRRD's axes, fastest axis first, where its header states them."""
    header = nrrd_header(path)
    stated = header.get("space units", header.get("units", ""))
    return [unit for unit in re.findall(r'"([^"]*)"', stated) if unit]
