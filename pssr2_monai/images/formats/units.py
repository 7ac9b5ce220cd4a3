"""Pixel sizes as files state them, in micrometres (unknown ones stay unknown), and pixels mapped from a file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MAX_PRINT_PIXEL_UM = 10.0
"""Pixels per inch or centimetre are plausible only below this pixel size (2540 dpi).

Cameras, screens and word processors fill these fields with 72, 96, 300 or 600 dpi, which do not describe the specimen;
printers have at most 2400 dpi, and point-scanning microscopes rarely have pixels of this size.
"""
_IN_MICROMETRES = {
    **dict.fromkeys(("m", "meter"), 1e6),
    **dict.fromkeys(("cm", "centimeter"), 1e4),
    **dict.fromkeys(("mm", "millimeter"), 1e3),
    **dict.fromkeys(("um", "micron", "micrometer"), 1.0),
    **dict.fromkeys(("nm", "nanometer"), 1e-3),
    **dict.fromkeys(("å", "a", "angstrom", "ångström"), 1e-4),
    **dict.fromkeys(("pm", "picometer"), 1e-6),
    **dict.fromkeys(("in", "inch"), 25400.0),
}


STEADY_SHARE = 0.05
_IN_SECONDS = {
    **dict.fromkeys(("h", "hr", "hour"), 3600.0),
    **dict.fromkeys(("min", "minute"), 60.0),
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond"), 1e-3),
    **dict.fromkeys(("us", "usec", "microsecond"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanosecond"), 1e-9),
    **dict.fromkeys(("d", "day"), 86400.0),
}


def micrometres(value: object, unit: str | None, any_sign: bool = False) -> float | None:
    """A length in micrometres, or None if it is not a number or its unit is not a length (such as "pixel").

    The unit may have any usual spelling: "nm", "µm", "micron", "micrometre", "Å", ImageJ's "\\\\u00B5m". Sizes are
    positive; with ``any_sign``, as for positions, 0 and negative numbers are known, too.
    """
    length = _converted(value, unit, _IN_MICROMETRES)
    return length if length is not None and (any_sign or length > 0) else None


def seconds(value: object, unit: str | None, any_sign: bool = False) -> float | None:
    """A time in seconds, or None if it is not a positive number (see `micrometres`) or its unit is not one of time."""
    time = _converted(value, unit, _IN_SECONDS)
    return time if time is not None and (any_sign or time > 0) else None


def steady_step(times: Sequence[float | None]) -> float | None:
    """The step from one time to the next, None if the steps differ by more than 5 % or a time is unknown."""
    if None in times or len(times) < 2:
        return None
    steps = np.diff(np.array(times, float))
    mean = float(steps.mean())
    return mean if mean > 0 and float(np.ptp(steps)) <= STEADY_SHARE * mean else None


def _converted(value: object, unit: str | None, units: Mapping[str, float]) -> float | None:
    if unit is None or value is None:
        return None
    name = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda escape: chr(int(escape[1], 16)), unit).strip().lower()
    # There are two characters for mu: the micro sign (which lower() keeps) and the Greek letter.
    name = name.replace("\u00b5", "u").replace("\u03bc", "u").replace("metre", "meter")
    factor = units.get(name) or units.get(name.removesuffix("s"))
    try:
        number = float(str(value)) * (factor or math.nan)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def from_print_resolution(per_unit: float, unit: str) -> float | None:
    """The pixel size in micrometres from pixels per inch or centimetre; None if it looks like a print resolution."""
    size = micrometres(1 / per_unit, unit) if per_unit > 0 else None
    return size if size is not None and size < MAX_PRINT_PIXEL_UM else None


def known_sizes(sizes: Mapping[str, float | None]) -> dict[str, float]:
    return {axis: float(size) for axis, size in sizes.items() if size is not None}


def read_mapped(
    path: Path, stored: np.dtype[Any], offset: int, shape: Sequence[int], region: tuple[slice, ...]
) -> np.ndarray:
    """Read a region of an array that lies uncompressed in a file after ``offset`` bytes, in the file's byte order.

    Only the pages of the file that hold rows of the region are read. The map ends with the call, since its pages count
    as memory of the process.
    """
    return np.array(np.memmap(path, stored, "r", offset, tuple(shape))[region])
