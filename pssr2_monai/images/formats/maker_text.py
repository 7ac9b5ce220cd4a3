"""Pixel size and data bar in the text of electron microscopes: header text, and files next to the image."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pssr2_monai.images.formats.units import known_sizes, micrometres

LARGEST_BAR_SHARE = 0.5  # of the height of a file: with more, the text is that of another image
SIDECAR_BYTES = 2**17


@dataclass(frozen=True)
class Statement:
    """What a microscope states about its image.

    Attributes:
        pixel_size: micrometres along each axis; unknown ones missing.
        bar_rows: rows of the data bar below the image; None where nothing is said about it.
    """

    pixel_size: Mapping[str, float] = field(default_factory=dict)
    bar_rows: int | None = None


def square_pixels(size: float | None) -> dict[str, float]:
    return known_sizes({"Y": size, "X": size})


def bar_below(height: int, image_height: float | None) -> int | None:
    """The rows of a file of this height below those of the scan; None if that is not possible."""
    if image_height is None:
        return None
    rows = height - round(image_height)
    return rows if 0 <= rows <= height * LARGEST_BAR_SHARE else None


def entries(text: str, separator: str = "=") -> dict[str, str]:
    """The values of lines "key=value", whatever their section; the first one of a key counts."""
    pairs = re.findall(rf"([$\w]+)[ \t]*{separator}[ \t]*([^\r\n\0]*)", text)
    return {key: value.strip() for key, value in reversed(pairs)}


def number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def two_numbers(text: str) -> tuple[int, int] | None:
    """Columns and rows from text such as "1280x960" and "1024 * 768"."""
    numbers = re.findall(r"\d+", text)
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else None


def tescan(text: str, height: int, width: int) -> Statement:
    """TESCAN: sizes in metres, and the height of the strip."""
    stated = entries(text)
    sizes = {axis: micrometres(stated.get(f"PixelSize{axis}"), "m") for axis in "YX"}
    strip = number(stated.get("ImageStripSize"))
    return Statement(known_sizes(sizes), None if strip is None else bar_below(height, height - strip))


def hitachi(text: str, height: int, width: int) -> Statement:
    """Hitachi: the size of a pixel in nanometres, and the size of the scan."""
    stated = entries(text)
    return _of_scan(micrometres(stated.get("PixelSize"), "nm"), stated.get("DataSize", ""), height, width)


def jeol(text: str, height: int, width: int) -> Statement:
    """JEOL: the length of the scale bar and its pixels, and the size of the scan."""
    stated = entries(text, separator="")
    pixels = number(stated.get("$$SM_MICRON_BAR"))
    length = re.match(r"([\d.]+)\s*(\S+)", stated.get("$$SM_MICRON_MARKER", ""))
    size = micrometres(float(length[1]) / pixels, length[2]) if length and pixels else None
    return _of_scan(size, stated.get("$CM_FULL_SIZE", ""), height, width)


def _of_scan(size: float | None, columns_and_rows: str, height: int, width: int) -> Statement:
    """From the size of a pixel and the size of the scan without the data bar; nothing for a part or a reduced copy."""
    columns, rows = two_numbers(columns_and_rows) or (width, None)
    if columns != width:
        return Statement()
    return Statement(square_pixels(size), bar_below(height, rows) or None)  # a bar may cover part of the scan


_SIDECARS: tuple[tuple[str, Callable[[str, int, int], Statement]], ...] = (
    ("[SemImageFile]", hitachi),
    ("[TemImageFile]", hitachi),
    ("$CM_FORMAT", jeol),
    ("$SM_MICRON_BAR", jeol),
    ("PixelSizeX=", tescan),
)
"""What is in the text of each microscope, and what reads it."""


def read_sidecar(path: Path, height: int, width: int) -> Statement:
    """What the text file next to an image states: ``cell.txt`` or TESCAN's ``cell-tif.hdr`` next to ``cell.tif``."""
    suffix = path.suffix.lstrip(".")
    for end in (".txt", ".TXT", ".Txt", ".hdr", f"-{suffix}.hdr", f".{suffix}.txt"):
        sidecar = path.with_name(path.stem + end)
        text = _text(sidecar) if sidecar.is_file() else ""
        for mark, read in _SIDECARS:
            if mark in text:
                return read(text, height, width)
    return Statement()


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(SIDECAR_BYTES)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "replace") if b"\xc2\xb5" in content else content.decode("latin-1")
