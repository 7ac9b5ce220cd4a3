"""Pixel size and data bar by the tags of a TIFF: those of the makers of microscopes, and the standard's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from pssr2_monai.images.formats.maker_text import (
    Statement,
    bar_below,
    number,
    read_sidecar,
    square_pixels,
    tescan,
    two_numbers,
)
from pssr2_monai.images.formats.units import from_print_resolution, known_sizes, micrometres

RESOLUTION_UNITS = {2: "inch", 3: "cm"}  # of the resolution tags, those that are lengths
ZEISS_COLUMNS = 1024  # of the screen whose pixel size Zeiss states, whatever the columns of the file
ZEISS, PHENOM, TESCAN, SIS, TVIPS = 34118, 34683, 50431, 33560, 37706
FEI = (34682, 34680)
GATAN_UNITS = {"X": 65003, "Y": 65004, "Z": 65005}
GATAN_SIZES = {"X": 65009, "Y": 65010, "Z": 65011}
LSM = 34412
METAMORPH_CALIBRATION, METAMORPH_PLANES = 33628, 33629


def stated_by_maker(page: tifffile.TiffPage) -> Statement:
    """What the maker of the microscope states about an image: by its own tags, or in a file next to it.

    Args:
        page: the first of the image.
    """
    statements = [read(page) for read in MAKERS]
    path, height, width = Path(page.parent.filehandle.path), page.imagelength, page.imagewidth
    statements.append(read_sidecar(path, height, width))
    sizes = next((statement.pixel_size for statement in statements if statement.pixel_size), {})
    bars = [statement.bar_rows for statement in statements if statement.bar_rows is not None]
    return Statement(sizes, bars[0] if bars else None)


def resolution_size(page: tifffile.TiffPage) -> dict[str, float]:
    """The pixel size by the resolution tags, if it is plausible: see `units.from_print_resolution`."""
    unit = RESOLUTION_UNITS.get(int(page.tags.valueof("ResolutionUnit", 2)))
    if unit is None:
        return {}
    return known_sizes({axis: from_print_resolution(resolution(page, axis), unit) for axis in "YX"})


def resolution(page: tifffile.TiffPage, axis: str) -> float:
    """Pixels per unit along an axis; 0 where unknown."""
    value = page.tags.valueof(f"{axis}Resolution")
    return value[0] / value[1] if value and value[1] else 0.0


def _zeiss(page: tifffile.TiffPage) -> Statement:
    """Zeiss SmartSEM: the field of view over the columns, since the size of a pixel may be that on the screen."""
    meta = _mapping(page, ZEISS)
    width, size, screen = (
        micrometres(entry[1], str(entry[2])) if len(entry) == 3 else None
        for entry in (meta.get(key, ()) for key in ("ap_width", "ap_image_pixel_size", "ap_pixel_size"))
    )
    unnamed = meta.get("", ())  # in metres
    if screen is None and len(unnamed) > 3:
        screen = micrometres(unnamed[3], "m")
    if width:
        size = width / page.imagewidth
    elif size is None and screen:
        size = screen * ZEISS_COLUMNS / page.imagewidth
    columns, rows = two_numbers(str(meta.get("dp_image_store", ("", ""))[1])) or (None, None)
    bar = bar_below(page.imagelength, rows) if columns == page.imagewidth else None
    return Statement(square_pixels(size), bar or None)  # without rows of its own, a bar may cover part of the image


def _fei(page: tifffile.TiffPage) -> Statement:
    """FEI and Thermo Fisher: sizes in metres; the resolution is that of the scan, without the data bar."""
    meta = {section: entry for tag in FEI for section, entry in _mapping(page, tag).items() if isinstance(entry, dict)}
    sizes: dict[str, float] = {}
    for section in ("Scan", "EScan", "IScan"):
        scan = meta.get(section, {})
        sizes = sizes or known_sizes(
            {"Y": micrometres(scan.get("PixelHeight"), "m"), "X": micrometres(scan.get("PixelWidth"), "m")}
        )
    image = meta.get("Image", {})
    columns, rows = number(image.get("ResolutionX")), number(image.get("ResolutionY"))
    bar = bar_below(page.imagelength, rows) if columns in (None, page.imagewidth) else None
    height = number(meta.get("PrivateFei", {}).get("DatabarHeight"))
    if not bar and height:  # a bar may cover part of the scan
        bar = bar_below(page.imagelength, page.imagelength - height) if rows is None else None
    return Statement(sizes, bar)


def _phenom(page: tifffile.TiffPage) -> Statement:
    """Phenom: XML with units."""
    text = _text(page.tags.valueof(PHENOM))
    stated = {key: (value, unit) for key, unit, value in re.findall(r'<(\w+)(?: unit="(\w+)")?>([^<]*)(?=<)', text)}
    sides = {"Y": stated.get("pixelHeight"), "X": stated.get("pixelWidth")}
    height = number(stated.get("databarHeight", ("", ""))[0])
    bar = None if height is None else bar_below(page.imagelength, page.imagelength - height)
    return Statement(known_sizes({axis: micrometres(*side) for axis, side in sides.items() if side}), bar)


def _tescan(page: tifffile.TiffPage) -> Statement:
    return tescan(_text(page.tags.valueof(TESCAN)), page.imagelength, page.imagewidth)


def _sis(page: tifffile.TiffPage) -> Statement:
    meta = _mapping(page, SIS)
    return Statement(known_sizes({axis: micrometres(meta.get(f"pixelsize{axis.lower()}"), "m") for axis in "YX"}))


def _tvips(page: tifffile.TiffPage) -> Statement:
    meta = _mapping(page, TVIPS)
    return Statement(known_sizes({axis: micrometres(meta.get(f"PixelSize{axis}"), "nm") for axis in "YX"}))


def _gatan(page: tifffile.TiffPage) -> Statement:
    """Gatan DigitalMicrograph: a unit and a size for each axis. JEOL uses some of these tags, but not the units."""
    sizes = {}
    for axis in "ZYX":
        unit = _text(page.tags.valueof(GATAN_UNITS[axis]))
        sizes[axis] = micrometres(page.tags.valueof(GATAN_SIZES[axis]), unit) if unit else None
    return Statement(known_sizes(sizes))


def _metamorph(page: tifffile.TiffPage) -> Statement:
    """MetaMorph: its tags in stacks (STK), or XML or lines of text in the description."""
    meta, planes = _mapping(page, METAMORPH_CALIBRATION), _mapping(page, METAMORPH_PLANES)
    sizes: dict[str, float | None] = {}
    if meta.get("SpatialCalibration", 1):
        unit = str(meta.get("CalibrationUnits", ""))
        sizes = {axis: micrometres(meta.get(f"{axis}Calibration"), unit) for axis in "YX"}
        distances = np.unique(planes.get("ZDistance", ()))
        if len(distances) == 1 and sizes["X"]:
            sizes["Z"] = micrometres(distances[0], unit)
    stated = dict(re.findall(r'(spatial-calibration-[a-z]+)(?:"[^>]*?value="|: *)([^"\r\n]*)', page.description))
    if stated and stated.get("spatial-calibration-state", "on") == "on":
        unit = stated.get("spatial-calibration-units", "")
        sizes = {axis: micrometres(stated.get(f"spatial-calibration-{axis.lower()}"), unit) for axis in "YX"}
    return Statement(known_sizes(sizes))


def _lsm(page: tifffile.TiffPage) -> Statement:
    """Zeiss LSM: voxels in metres."""
    meta = _mapping(page, LSM)
    return Statement(known_sizes({axis: micrometres(meta.get(f"VoxelSize{axis}"), "m") for axis in "ZYX"}))


def _openfibsem(page: tifffile.TiffPage) -> Statement:
    """openFIBSEM: JSON in the description, in metres."""
    try:
        meta = json.loads(page.description)
        sizes = meta["pixel_size"]
        return Statement(known_sizes({axis: micrometres(sizes[axis.lower()], "m") for axis in "YX"}))
    except (ValueError, KeyError, TypeError):
        return Statement()


MAKERS: tuple[Callable[[tifffile.TiffPage], Statement], ...] = (
    _zeiss,
    _fei,
    _phenom,
    _tescan,
    _sis,
    _tvips,
    _gatan,
    _metamorph,
    _lsm,
    _openfibsem,
)
"""One function for each maker; the first one that finds something counts."""


def _mapping(page: tifffile.TiffPage, tag: int) -> Mapping[Any, Any]:
    """A tag that tifffile parses; empty without it, or where it cannot be parsed."""
    value = page.tags.valueof(tag)
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    """A tag with text, whatever its type."""
    if isinstance(value, np.ndarray):
        value = value.tobytes()
    elif isinstance(value, tuple) and all(isinstance(item, int) and 0 <= item < 256 for item in value):
        value = bytes(value)
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.replace("\0", "").strip() if isinstance(value, str) else ""
