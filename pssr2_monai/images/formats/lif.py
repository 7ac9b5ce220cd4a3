"""Leica LIF and LOF, mapped into memory with liffile; colours are decoded whole, then kept while the image is open."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.images.contents import Contents, Entry
from pssr2_monai.images.formats.shown import with_joined_samples
from pssr2_monai.images.formats.units import known_sizes, micrometres, seconds
from pssr2_monai.images.image import LazyImage, Region
from pssr2_monai.images.metadata import ImageMetadata
from pssr2_monai.images.safeguards import check_length

logger = logging.getLogger(__name__)
COLORS = {  # of the names of Leica's lookup tables
    "red": "FF0000",
    "green": "00FF00",
    "blue": "0000FF",
    "gray": "FFFFFF",
    "grey": "FFFFFF",
    "cyan": "00FFFF",
    "magenta": "FF00FF",
    "yellow": "FFFF00",
}
AXES = {"M": "P", "Λ": "W", "λ": "w"}  # tiles of a mosaic are positions; emission and excitation have axes of their own


def open_file(path: Path) -> Contents:
    """Open the images of a Leica file: its series, by their names."""
    try:
        import liffile
    except ImportError:
        raise InputError(
            f'{path.name}: reading LIF needs liffile; install it: pip install "pssr2-monai[lif]"'
        ) from None
    document = liffile.LifFile(path, squeeze=False)
    images = []
    try:
        for series in document.images:
            try:
                images.append((str(series.path).removeprefix(f"{document.name}/"), _image(path, document, series)))
            except InputError:
                raise
            except (ValueError, NotImplementedError) as error:  # lifetimes, or channels of different types
                logger.warning("%s: %s is left out: %s", path.name, series.name, one_line(error))
        if not images:
            raise InputError(f"{path.name}: holds no image that can be read")
    except BaseException:
        document.close()
        raise
    entries = tuple(Entry(name, image.shape, image.dtype, image.axes) for name, image in images)
    return Contents(entries, lambda place: images[place][1], document.close)


def _image(path: Path, document: Any, series: Any) -> LazyImage:
    if series.is_flim:
        raise ValueError("it holds photon arrivals, not an image")
    check_length(path.name, math.prod(series.shape) * np.dtype(series.dtype).itemsize, path.stat().st_size)
    decoded: list[np.ndarray] = []

    def reader(region: Region) -> np.ndarray:
        if "S" not in series.dims:
            return np.array(series.asarray(out="memmap")[region])  # maps the file for this read only
        if not decoded:
            decoded.append(series.asarray())
        return decoded[0][region].copy()

    def close() -> None:
        decoded.clear()
        document.close()

    image = LazyImage(
        path,
        tuple(series.shape),
        np.dtype(series.dtype),
        "".join(AXES.get(axis, axis) if len(axis) == 1 else "D" for axis in series.dims),
        known_sizes({axis: micrometres(_step(series, axis), "m") for axis in "ZYX"}),
        reader,
        _dyes(series),
        close,
        metadata=ImageMetadata(
            stage=_stage(series), time_step=seconds(_step(series, "T"), "s"), colors=_colors(series)
        ),
    )
    return with_joined_samples(image)


def _step(series: Any, axis: str) -> float | None:
    """The distance from one pixel or frame to the next, in metres or seconds."""
    places = series.coords.get(axis, ())
    return abs(float(places[-1] - places[0])) / (len(places) - 1) if len(places) > 1 else None


def _stage(series: Any) -> tuple[dict[str, float], ...]:
    """Where the stage stood in micrometres: for each tile of a mosaic, or for the image; empty where unknown."""
    image = series.xml_element.find("./Data/Image")
    tiles = [entry.attrib for entry in image.findall("./Attachment[@Name='TileScanInfo']/Tile")]
    if tiles:
        return tuple(_places(tile, {"Z": "PosZ", "Y": "PosY", "X": "PosX"}) for tile in tiles)
    settings = (entry.attrib for entry in image.iter() if "StagePosX" in entry.attrib)
    return tuple(_places(setting, {"Z": "ZPosition", "Y": "StagePosY", "X": "StagePosX"}) for setting in settings)[:1]


def _places(attributes: Mapping[str, str], names: Mapping[str, str]) -> dict[str, float]:
    return known_sizes({axis: micrometres(attributes.get(name), "m", any_sign=True) for axis, name in names.items()})


def _channels(series: Any) -> list[dict[str, str]]:
    """The attributes of each channel and the properties within it."""
    found = series.xml_element.findall("./Data/Image/ImageDescription/Channels/ChannelDescription")
    channels = []
    for channel in sorted(found, key=lambda channel: int(channel.attrib.get("BytesInc", 0))):
        properties = {
            str(entry.findtext("Key")): str(entry.findtext("Value") or "") for entry in channel.iter("ChannelProperty")
        }
        channels.append(properties | dict(channel.attrib))
    return channels


def _dyes(series: Any) -> tuple[str, ...]:
    dyes = tuple(channel.get("DyeName", "") for channel in _channels(series))
    return dyes if all(dyes) else ()


def _colors(series: Any) -> tuple[str, ...]:
    colors = tuple(COLORS.get(channel.get("LUTName", "").lower(), "") for channel in _channels(series))
    return colors if all(colors) else ()
