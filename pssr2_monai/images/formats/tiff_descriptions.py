"""The descriptions of images in a TIFF, OME-XML and ImageJ's: what they state is read, and written for outputs."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import tifffile

from pssr2_monai.images.formats.tiff_series import TiffImage
from pssr2_monai.images.formats.tiff_tags import RESOLUTION_UNITS, resolution
from pssr2_monai.images.formats.units import from_print_resolution, known_sizes, micrometres, seconds, steady_step
from pssr2_monai.images.metadata import BAR_NOTE, ImageMetadata, bar_note, bar_of_note, color_ramp
from pssr2_monai.images.writer import ImageSpec

IMAGEJ_DTYPES = ("uint8", "uint16", "int16", "float32")
CALIBRATION_KEYS = ("cf", "c0", "c1", "c2", "c3", "c4", "vunit")
REFERENCE = "reference frame"  # the unit of positions in OME-XML where none is given
GREYS = color_ramp("FFFFFF")
SIGN_OFFSET = 2**15
SIGNED = {"cf": "0", "c0": "-32768.0", "c1": "1.0"}  # the function by which ImageJ shows numbers with a sign


def pixel_size(tif: tifffile.TiffFile, image: TiffImage) -> dict[str, float]:
    """Micrometres along "Z", "Y" and "X" by OME-XML or ImageJ's description; unknown ones are missing."""
    return known_sizes(_ome_size(tif, image)) or known_sizes(_imagej_size(tif, image))


def channel_names(tif: tifffile.TiffFile, image: TiffImage) -> tuple[str, ...]:
    """The names of the channels: of OME-XML or LSM, or ImageJ's labels if all planes of a channel share one."""
    if tif.is_lsm:
        return tuple(map(str, _lsm_channels(tif).get("ColorNames", ())))
    if tif.is_ome:
        names = [str(channel.get("Name", "")) for channel in _ome_channels(tif, image)]
        return tuple(names) if all(names) else ()
    meta = tif.imagej_metadata or {}
    labels, channels = _labels(meta), int(meta.get("channels", 1))
    firsts, steps = labels[:channels], int(meta.get("images", 1)) // channels
    return firsts if labels == firsts * steps and (channels > 1 or steps == 1) else ()


def metadata_of(tif: tifffile.TiffFile, image: TiffImage) -> ImageMetadata:
    """What OME-XML, LSM or ImageJ's description states besides pixel size and names."""
    if tif.is_lsm:
        colors = tuple("{:02X}{:02X}{:02X}".format(*color[:3]) for color in _lsm_channels(tif).get("Colors", ()))
        return ImageMetadata(time_step=seconds((tif.lsm_metadata or {}).get("TimeIntervall"), "s"), colors=colors)
    if tif.is_ome:
        return _ome_metadata(tif, image)
    return _imagej_metadata(tif, image) if tif.is_imagej else ImageMetadata()


def _lsm_channels(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    channels = (tif.lsm_metadata or {}).get("ChannelColors")
    return channels if isinstance(channels, Mapping) else {}


def is_signed(metadata: ImageMetadata, dtype: np.dtype[Any]) -> bool:
    """Whether pixels of 16 bits stand for numbers with a sign, 32768 less."""
    function = [metadata.calibration.get(key) for key in SIGNED]
    return dtype == np.uint16 and function == list(SIGNED.values())


def as_signed(metadata: ImageMetadata) -> ImageMetadata:
    """The metadata of the numbers with a sign; its calibration shows that ImageJ stored them without."""
    windows = tuple((low - SIGN_OFFSET, high - SIGN_OFFSET) for low, high in metadata.windows)
    return replace(metadata, windows=windows)


@lru_cache(maxsize=2)  # of many planes it may have megabytes
def _ome(xml: str) -> Mapping[str, Any]:
    return tifffile.xml2dict(xml).get("OME") or {}


def _ome_image(tif: tifffile.TiffFile, image: TiffImage) -> Mapping[str, Any]:
    images = as_list(_ome(tif.ome_metadata or "").get("Image"))
    place = image.ome_image
    return {} if place is None or place >= len(images) else images[place]


def _ome_pixels(tif: tifffile.TiffFile, image: TiffImage) -> Mapping[str, Any]:
    """The Pixels element of an image in the OME-XML."""
    pixels = as_list(_ome_image(tif, image).get("Pixels"))
    return pixels[0] if pixels else {}


def _ome_channels(tif: tifffile.TiffFile, image: TiffImage) -> list[Mapping[str, Any]]:
    return as_list(_ome_pixels(tif, image).get("Channel"))


def _ome_size(tif: tifffile.TiffFile, image: TiffImage) -> dict[str, float | None]:
    if not tif.is_ome:
        return {}
    pixels = _ome_pixels(tif, image)
    return {
        axis: micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    }


def _ome_metadata(tif: tifffile.TiffFile, image: TiffImage) -> ImageMetadata:
    pixels, channels = _ome_pixels(tif, image), _ome_channels(tif, image)
    planes = as_list(pixels.get("Plane"))
    first: Mapping[str, Any] = min(
        planes, key=lambda plane: [int(plane.get(f"The{axis}", 0)) for axis in "TZC"], default={}
    )
    positions = {axis: (first.get(f"Position{axis}"), first.get(f"Position{axis}Unit", REFERENCE)) for axis in "ZYX"}
    framed = any(position is not None and unit == REFERENCE for position, unit in positions.values())
    lengths = {axis: (position, "µm" if unit == REFERENCE else unit) for axis, (position, unit) in positions.items()}
    notes = dict(re.findall(r'<M K="([^"]*)">([^<]*)</M>', tif.ome_metadata or ""))
    colors = [int(channel["Color"]) for channel in channels if "Color" in channel]
    return ImageMetadata(
        origin=known_sizes({axis: micrometres(*position, any_sign=True) for axis, position in lengths.items()}),
        framed=framed,
        time_step=seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")) or _steady_step(planes),
        colors=tuple(f"{color & 0xFFFFFFFF:08X}"[:6] for color in colors) if len(colors) == len(channels) else (),
        notes=str(_ome_image(tif, image).get("Description") or ""),
        bar_rows=bar_of_note(notes.get(BAR_NOTE), image.series.keyframe.imagelength),
    )


def _steady_step(planes: Sequence[Mapping[str, Any]]) -> float | None:
    """The step between the times of the first plane of each frame."""
    firsts = [plane for plane in planes if not any(int(plane.get(f"The{axis}", 0)) for axis in "ZC")]
    times = {int(plane.get("TheT", 0)): (plane.get("DeltaT"), plane.get("DeltaTUnit", "s")) for plane in firsts}
    return steady_step([seconds(*times[frame], any_sign=True) for frame in sorted(times)])


def _imagej_size(tif: tifffile.TiffFile, image: TiffImage) -> dict[str, float | None]:
    meta = tif.imagej_metadata or {}
    unit = meta.get("unit")
    if unit is None:
        return {}
    units = {axis: str(meta.get(f"{axis.lower()}unit", unit)) for axis in "ZYX"}
    sizes: dict[str, float | None] = {}
    for axis in "YX":
        per_unit = resolution(image.series.keyframe, axis)
        if units[axis] in RESOLUTION_UNITS.values():
            sizes[axis] = from_print_resolution(per_unit, units[axis])
        else:
            sizes[axis] = micrometres(1 / per_unit, units[axis]) if per_unit else None
    # A stack scanned downwards has a negative spacing; with a print unit, Z is believed only if Y and X are plausible.
    spacing = meta.get("spacing")
    if isinstance(spacing, int | float) and (sizes["X"] or units["Z"] not in RESOLUTION_UNITS.values()):
        sizes["Z"] = micrometres(abs(spacing), units["Z"])
    return sizes


def _imagej_metadata(tif: tifffile.TiffFile, image: TiffImage) -> ImageMetadata:
    meta = tif.imagej_metadata or {}
    sizes = known_sizes(_imagej_size(tif, image))
    # Its origin is the pixel at the position 0.
    origins = {axis: meta[f"{axis.lower()}origin"] for axis in sizes if f"{axis.lower()}origin" in meta}
    levels = [float(level) for level in meta.get("Ranges", ())]
    if not levels and {"min", "max"} <= set(meta) and meta.get("channels", 1) == 1:
        levels = [float(meta["min"]), float(meta["max"])]
    luts = [np.asarray(lut, np.uint8) for lut in as_list(meta.get("LUTs"))]
    return ImageMetadata(
        origin={axis: -float(origin) * sizes[axis] for axis, origin in origins.items()},
        time_step=seconds(meta.get("finterval"), str(meta.get("tunit", "s"))),
        windows=tuple(zip(levels[::2], levels[1::2], strict=False)),
        luts=tuple(lut.tobytes() for lut in luts if lut.shape == (3, 256)),
        labels=_labels(meta),
        calibration={
            key: str(float(meta[key]) if key.startswith("c") and key != "cf" else meta[key])
            for key in CALIBRATION_KEYS
            if key in meta
        },
        notes=str(meta.get("Info", "")),
        bar_rows=bar_of_note(meta.get(BAR_NOTE), image.series.keyframe.imagelength),
    )


def _labels(meta: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(label) for label in as_list(meta.get("Labels")))


def as_list(value: Any) -> list[Any]:
    """An XML element that may occur once or more, as a list."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def stored_axes(spec: ImageSpec) -> str:
    """The axes as tifffile calls them, with "S" for the samples of a pixel."""
    return spec.axes[:-1] + "S" if spec.axes.endswith("C") else spec.axes + "S" * spec.alpha


def stored_shape(spec: ImageSpec) -> tuple[int, ...]:
    """The shape along these axes, with the opacity of a pixel as the last of its samples."""
    *sizes, last = spec.shape if spec.axes.endswith("C") else (*spec.shape, 1)
    return (*sizes, last + spec.alpha) if "S" in stored_axes(spec) else spec.shape


def fits_imagej(spec: ImageSpec) -> bool:
    """Whether ImageJ's description can describe an image: its dtypes, T, Z, C in this order, one unit for all axes."""
    axes, pixel_size = stored_axes(spec), spec.known_pixel_size
    ordered = [axis for axis in "TZCYXS" if axis in axes] == list(axes)
    rgb = "S" not in axes or (axes[:-1] + "C" == spec.axes and spec.shape[-1] == 3 and spec.dtype == np.uint8)
    in_plane = ("Y" in pixel_size) == ("X" in pixel_size) and ("X" in pixel_size or not pixel_size)
    # Other readers take ImageJ's numbers with a sign for numbers without: they are written where they were read.
    signed = SIGNED.items() <= spec.metadata.calibration.items()
    return spec.dtype.name in IMAGEJ_DTYPES and (spec.dtype != np.int16 or signed) and ordered and rgb and in_plane


def imagej_options(spec: ImageSpec) -> dict[str, Any]:
    """tifffile's options for an ImageJ hyperstack; without a pixel size there is no unit, and ImageJ shows pixels."""
    axes, pixel_size, stated = stored_axes(spec), spec.known_pixel_size, spec.metadata
    size = dict(zip(axes, spec.shape, strict=True))
    planes = math.prod(n for axis, n in size.items() if axis in "TZC")
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"metadata": metadata}
    if size.get("C", 1) > 1:
        metadata["mode"] = "composite"
    names = spec.channel_names * (planes // size.get("C", 1) if size.get("C", 1) > 1 else 1)
    labels = [labels for labels in (stated.labels, names) if len(labels) == planes]
    if labels and "S" not in axes:
        metadata["Labels"] = list(labels[0])
    if pixel_size:
        metadata["unit"] = "micron"
        options |= {"resolution": (1 / pixel_size["X"], 1 / pixel_size["Y"]), "resolutionunit": "NONE"}
    if "Z" in pixel_size:
        metadata["spacing"] = pixel_size["Z"]
    for axis in set() if stated.framed else set(stated.origin) & set(pixel_size):
        metadata[f"{axis.lower()}origin"] = -stated.origin[axis] / pixel_size[axis]
    if stated.time_step is not None:
        metadata["finterval"] = stated.time_step
    if "S" not in axes:
        metadata |= _imagej_display(stated, spec.dtype)
        if spec.dtype == np.uint8 and len(luts := stated.lookup_tables) == 1 and luts[0] != GREYS:
            palette = np.frombuffer(luts[0], np.uint8).reshape(3, 256)  # which ImageJ reads in no other form
            options |= {"photometric": "palette", "colormap": palette.astype(np.uint16) * 257}
    if stated.notes:
        metadata["Info"] = stated.notes
    if stated.bar_rows:
        metadata[BAR_NOTE] = bar_note(stated.bar_rows, size["Y"])
    return options


def _imagej_display(stated: ImageMetadata, dtype: np.dtype[Any]) -> dict[str, Any]:
    """How ImageJ shows the values: windows in stored pixels, colours as lookup tables, and the function of values."""
    display: dict[str, Any] = {**stated.calibration, **(SIGNED if dtype == np.int16 else {})}
    offset = SIGN_OFFSET if dtype == np.int16 else 0
    windows = [level + offset for window in stated.windows for level in window]
    if windows:
        display |= {"min": windows[0], "max": windows[1]}
    if len(windows) > 2:
        display["Ranges"] = windows
    if stated.lookup_tables:
        display["LUTs"] = [np.frombuffer(lut, np.uint8).reshape(3, 256) for lut in stated.lookup_tables]
    return display


def ome_options(spec: ImageSpec) -> dict[str, Any]:
    """tifffile's options for OME-XML; the UUID follows from name and layout, so that equal outputs are equal files."""
    axes, stated = stored_axes(spec), spec.metadata
    identity = f"{spec.path.name} {spec.shape} {axes}"
    metadata: dict[str, Any] = {"axes": axes, "UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, identity))}
    for axis, size in spec.known_pixel_size.items():
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    if stated.time_step is not None:
        metadata |= {"TimeIncrement": stated.time_step, "TimeIncrementUnit": "s"}
    if stated.notes:
        metadata["Description"] = stated.notes
    if stated.bar_rows:
        metadata["MapAnnotation"] = {BAR_NOTE: bar_note(stated.bar_rows, spec.shape[spec.axes.index("Y")])}
    if "S" not in axes:
        channels: dict[str, Sequence[Any]] = {
            "Name": spec.channel_names,
            "Color": [*map(_ome_color, stated.lut_colors())],
        }
        if any(channels.values()):
            metadata["Channel"] = {key: list(values) for key, values in channels.items() if values}
    if stated.origin:
        metadata["Plane"] = _positions(spec)
    return {"metadata": metadata}


def _ome_color(color: str) -> int:
    return int.from_bytes(bytes.fromhex(color + "FF"), signed=True)


def _positions(spec: ImageSpec) -> dict[str, list[Any]]:
    """The position of each plane, in the order in which they are stored."""
    axes = [axis for axis in spec.axes if axis in "TZC" and not (axis == "C" and spec.axes.endswith("C"))]
    planes = list(np.ndindex(*(spec.shape[spec.axes.index(axis)] for axis in axes)))
    positions: dict[str, list[Any]] = {}
    for axis, position in spec.metadata.origin.items():
        step = spec.known_pixel_size.get(axis, 0.0) if axis in axes else 0.0
        positions[f"Position{axis}"] = [position + step * (plane[axes.index(axis)] if step else 0) for plane in planes]
        positions[f"Position{axis}Unit"] = [REFERENCE if spec.metadata.framed else "µm"] * len(planes)
    return positions
