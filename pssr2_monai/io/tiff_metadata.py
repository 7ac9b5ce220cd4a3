"""What the many dialects of TIFF say of pixel sizes and channel names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tifffile

from pssr2_monai.io.units import from_print_resolution, known_sizes, micrometres

__all__ = ["channel_names", "pixel_size"]

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
