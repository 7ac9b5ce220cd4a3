"""TIFF, OME-TIFF, ImageJ hyperstacks and BigTIFF, read window by window with tifffile."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.units import from_print_resolution, known_sizes, micrometres, read_mapped
from pssr2_monai.images.image import LazyImage

Region = tuple[slice, ...]


def open_file(path: Path) -> LazyImage:
    """The first series of a TIFF at full resolution.

    Uncompressed pixels are mapped row by row, so that a window of one large strip costs the window alone; tiles and
    compressed strips are decoded as far as the window touches them.

    Raises:
        InputError: the file ends before its pixels do, or planes that it announces are missing.
    """
    tif = tifffile.TiffFile(path)
    try:
        series = tif.series[0]
        offset = None if series.is_multifile else series.dataoffset
        pages = list(series) if offset is None else []
        _check_whole(tif, series, pages, offset, path.name)
        shape, axes, dtype = series.get_shape(False), series.get_axes(False), np.dtype(series.dtype)
        sizes, names = pixel_size(tif), channel_names(tif)
        mapped = _mapped(path, series, pages if offset is None else [offset], shape)
        if mapped is not None:
            tif.close()
            return LazyImage(path, shape, dtype, axes, sizes, mapped, names)
        array = zarr.open_array(series.aszarr(level=0, squeeze=False), mode="r")
    except BaseException:
        tif.close()
        raise
    return LazyImage(path, shape, dtype, axes, sizes, lambda region: array[region], names, tif.close)


def _check_whole(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, pages: list[Any], offset: int | None, name: str
) -> None:
    """Refuse a file that was cut short: tifffile would leave frames out, or fill them with zeros.

    Args:
        tif: the file.
        series: what is read of it.
        pages: its pages, not needed where the pixels lie in one piece.
        offset: where they begin, if they do.
        name: for the message.
    """
    missing = sum(page is None for page in pages)
    if missing:
        raise InputError(
            f"{name}: {missing} of the {len(pages)} planes that its metadata announce are missing; copy the file "
            "again, with the other files of its set"
        )
    for page in pages:
        size = page.parent.filehandle.size
        end = max((start + n for start, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if end > size:
            raise _cut_short(name, end, size)
    end = 0 if offset is None else offset + math.prod(series.shape) * np.dtype(series.dtype).itemsize
    if end > tif.filehandle.size:
        raise _cut_short(name, end, tif.filehandle.size)
    announced = (tif.imagej_metadata or {}).get("images", 1)
    if series.kind != "imagej" and announced > len(tif.pages):
        raise InputError(
            f"{name}: holds {len(tif.pages)} of the {announced} planes that its ImageJ description announces; copy or "
            "save it again"
        )
    if _next_directory(tif):
        raise InputError(f"{name}: its list of planes breaks off after {len(tif.pages)}; copy the file again")


def _cut_short(name: str, end: int, size: int) -> InputError:
    return InputError(f"{name}: is cut short: its pixels go on to byte {end}, but the file has {size}; copy it again")


def _next_directory(tif: tifffile.TiffFile) -> int:
    """Where the last directory that could be read says the next one is: 0 in a whole file."""
    layout, handle = tif.tiff, tif.filehandle
    offset = tif.pages[len(tif.pages) - 1].offset
    handle.seek(offset)
    (tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    handle.seek(offset + layout.tagnosize + tags * layout.tagsize)
    pointer = handle.read(layout.offsetsize)
    return int(struct.unpack(layout.offsetformat, pointer)[0]) if len(pointer) == layout.offsetsize else -1


def _mapped(
    path: Path, series: tifffile.TiffPageSeries, places: list[Any], shape: tuple[int, ...]
) -> Callable[[Region], np.ndarray] | None:
    """A reader that maps uncompressed planes into memory, or None where the pixels need decoding.

    Args:
        path: the file.
        series: what is read of it.
        places: where the pixels begin, or the pages that hold them.
        shape: of the series.
    """
    if series.transform is not None or series.is_multifile or not series.keyframe.is_final:
        return None
    if not all(isinstance(place, int) or _in_one_piece(place) for place in places):
        return None
    offsets = [place if isinstance(place, int) else place.dataoffsets[0] for place in places]
    split = next((k for k in range(len(shape)) if math.prod(shape[:k]) == len(offsets)), None)
    if split is None:
        return None
    outer, inner = shape[:split], shape[split:]
    stored = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder)

    def reader(region: Region) -> np.ndarray:
        starts = [part.start for part in region[:split]]
        out = np.empty([part.stop - part.start for part in region], stored.newbyteorder("="))
        for index in np.ndindex(*out.shape[:split]):
            plane = 0
            for start, i, size in zip(starts, index, outer, strict=True):
                plane = plane * size + start + i
            out[index] = read_mapped(path, stored, offsets[plane], inner, region[split:])
        return out

    return reader


def _in_one_piece(page: Any) -> bool:
    """Whether a page's strips follow one another and hold its pixels and nothing else."""
    offsets, counts = page.dataoffsets, page.databytecounts
    ends = [start + n for start, n in zip(offsets, counts, strict=True)]
    return ends[:-1] == list(offsets[1:]) and sum(counts) == page.nbytes


RESOLUTION_UNITS = {2: "inch", 3: "cm"}


def pixel_size(tif: tifffile.TiffFile) -> dict[str, float]:
    """Micrometres along "Z", "Y" and "X" as far as known, from the first dialect that says anything.

    OME-XML, then ImageJ's description, then what Thermo Fisher (FEI) and Zeiss electron microscopes write, then the
    resolution tags, believed below 10 micrometres only (see `units.from_print_resolution`).
    """
    for source in (_ome_size, _imagej_size, _fei_size, _zeiss_sem_size, _tag_size):
        sizes = known_sizes(source(tif))
        if sizes:
            return sizes
    return {}


def channel_names(tif: tifffile.TiffFile) -> tuple[str, ...]:
    """The names of the channels, from OME-XML or from ImageJ's labels of a file with one plane a channel; or none."""
    if tif.is_ome:
        channels = _as_list(_ome_pixels(tif).get("Channel"))
        names = [str(channel.get("Name", "")) for channel in channels]
        return tuple(names) if all(names) else ()
    meta = tif.imagej_metadata or {}
    labels = meta.get("Labels")
    if isinstance(labels, list) and len(labels) == meta.get("channels", 1) == meta.get("images", 1):
        return tuple(str(label) for label in labels)
    return ()


def _ome_pixels(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    """The Pixels element of the first image in the OME-XML."""
    ome = tifffile.xml2dict(tif.ome_metadata or "").get("OME", {})
    images = _as_list(ome.get("Image"))
    return _as_list(images[0].get("Pixels"))[0] if images else {}


def _ome_size(tif: tifffile.TiffFile) -> dict[str, float | None]:
    if not tif.is_ome:
        return {}
    pixels = _ome_pixels(tif)
    return {
        axis: micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    }


def _imagej_size(tif: tifffile.TiffFile) -> dict[str, float | None]:
    meta = tif.imagej_metadata or {}
    unit = meta.get("unit")
    if unit is None:
        return {}
    units = {axis: str(meta.get(f"{axis.lower()}unit", unit)) for axis in "ZYX"}
    sizes: dict[str, float | None] = {}
    for axis in "YX":
        per_unit = _resolution(tif, axis)
        if units[axis] in RESOLUTION_UNITS.values():
            sizes[axis] = from_print_resolution(per_unit, units[axis])
        else:
            sizes[axis] = micrometres(1 / per_unit, units[axis]) if per_unit else None
    # A stack scanned downwards has a negative spacing; without plausible Y and X the Z of a print unit means nothing.
    spacing = meta.get("spacing")
    if isinstance(spacing, int | float) and (sizes["X"] or units["Z"] not in RESOLUTION_UNITS.values()):
        sizes["Z"] = micrometres(abs(spacing), units["Z"])
    return sizes


def _fei_size(tif: tifffile.TiffFile) -> dict[str, float | None]:
    scan = (tif.fei_metadata or {}).get("Scan", {}) if tif.is_fei else {}
    return {"Y": micrometres(scan.get("PixelHeight"), "m"), "X": micrometres(scan.get("PixelWidth"), "m")}


def _zeiss_sem_size(tif: tifffile.TiffFile) -> dict[str, float | None]:
    meta = (tif.sem_metadata or {}) if tif.is_sem else {}
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        found = meta.get(key)
        if isinstance(found, tuple) and len(found) == 3:  # (description, value, unit)
            size = micrometres(found[1], str(found[2]))
            return {"Y": size, "X": size}
    return {}


def _tag_size(tif: tifffile.TiffFile) -> dict[str, float | None]:
    page = tif.series[0].keyframe
    unit = RESOLUTION_UNITS.get(int(page.tags.valueof("ResolutionUnit", 2)))
    if unit is None:
        return {}
    return {axis: from_print_resolution(_resolution(tif, axis), unit) for axis in "YX"}


def _resolution(tif: tifffile.TiffFile, axis: str) -> float:
    """Pixels per unit along an axis, from the resolution tags; 0 where unknown."""
    value = tif.series[0].keyframe.tags.valueof(f"{axis}Resolution")
    return value[0] / value[1] if value and value[1] else 0.0


def _as_list(value: Any) -> list[Any]:
    """An XML element that may occur once or more, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
