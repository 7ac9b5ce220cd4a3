"""Lengths as files state them, in micrometres; what is unknown or implausible stays unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_PRINT_PIXEL = 10.0
"""Pixels per inch or centimetre are believed below this pixel size only (micrometres; 2540 dpi).

Cameras, screens and word processors fill these fields with 72, 96, 300 or 600 dpi, which say nothing of the specimen;
no printer goes beyond 2400 dpi, and point-scanning microscopes rarely have pixels as large as that.
"""
_IN_MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "å": 1e-4,
    "a": 1e-4,
    "angstrom": 1e-4,
    "ångström": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
    "inch": 25400.0,
    "in": 25400.0,
}


def micrometres(value: object, unit: str | None) -> float | None:
    """A length in micrometres, or None where it is no positive number or its unit is no length (such as "pixel").

    Args:
        value: a number, or its text.
        unit: its unit in any usual spelling: "nm", "µm", "micron", "micrometre", "Å", ImageJ's "\\\\u00B5m".
    """
    if unit is None or value is None:
        return None
    name = unit.strip().replace("\\u00B5", "u").lower()
    # Two characters look like a mu: the micro sign (which lower() keeps) and the Greek letter.
    name = name.replace("\u00b5", "u").replace("\u03bc", "u").replace("metre", "meter")
    factor = _IN_MICROMETRES.get(name) or _IN_MICROMETRES.get(name.removesuffix("s"))
    try:
        length = float(str(value)) * (factor or math.nan)
    except ValueError:
        return None
    return length if math.isfinite(length) and length > 0 else None


def from_print_resolution(per_unit: float, unit: str) -> float | None:
    """The pixel size in micrometres from pixels per inch or centimetre; None where it looks like dots on paper."""
    size = micrometres(1 / per_unit, unit) if per_unit > 0 else None
    return size if size is not None and size < LARGEST_PRINT_PIXEL else None


def known_sizes(sizes: Mapping[str, float | None]) -> dict[str, float]:
    """The entries that are known, as a pixel size."""
    return {axis: float(size) for axis, size in sizes.items() if size is not None}


def read_mapped(
    path: Path, stored: np.dtype[Any], offset: int, shape: Sequence[int], region: tuple[slice, ...]
) -> np.ndarray:
    """A region of an array that lies uncompressed in a file: a new array, in the file's byte order.

    Only the pages of the file that hold the region's rows are touched. The map ends with the call: pages of a map that
    lives on would count as memory of the process.

    Args:
        path: the file.
        stored: the dtype with the file's byte order.
        offset: bytes before the array.
        shape: of the array, its last axis contiguous.
        region: one slice an axis, inside the array.
    """
    return np.array(np.memmap(path, stored, "r", offset, tuple(shape))[region])
