"""The metadata of OME-Zarr images: coordinates, units, and how channels are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import zarr

from pssr2_monai.images.formats.units import known_sizes, micrometres, seconds
from pssr2_monai.images.metadata import BAR_NOTE, ImageMetadata, bar_note
from pssr2_monai.images.writer import ImageSpec

TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


def stated(
    axes: str,
    described: Sequence[Mapping[str, Any]],
    transformed: Iterable[Mapping[str, Any]],
    channels: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, float], tuple[str, ...], ImageMetadata]:
    """Pixel size (micrometres), channel names and metadata of an image.

    Args:
        axes: a letter for each axis.
        described: the entry of each axis, with its unit.
        transformed: what has coordinate transformations, in the order in which they apply.
        channels: the channels of the entry omero.
    """
    scales, shifts = [1.0] * len(axes), [0.0] * len(axes)
    for transform in (part for entry in transformed for part in entry.get("coordinateTransformations", ())):
        kind = str(transform.get("type"))
        numbers = [float(number) for number in transform.get(kind, ())] if kind in ("scale", "translation") else []
        if len(numbers) == len(axes) and kind == "scale":
            scales = [scale * factor for scale, factor in zip(scales, numbers, strict=True)]
            shifts = [shift * factor for shift, factor in zip(shifts, numbers, strict=True)]
        elif len(numbers) == len(axes):
            shifts = [shift + further for shift, further in zip(shifts, numbers, strict=True)]
    units = [axis.get("unit") for axis in described]
    along = dict(zip(axes, zip(scales, shifts, units, strict=True), strict=True))
    space = {axis: along[axis] for axis in axes if axis in "ZYX"}
    sizes = known_sizes({axis: micrometres(scale, unit) for axis, (scale, _, unit) in space.items()})
    origin = {axis: micrometres(shift, unit, any_sign=True) for axis, (_, shift, unit) in space.items()}
    step, _, unit = along.get("T", (None, None, None))
    names = tuple(str(channel.get("label") or "") for channel in channels)
    metadata = replace(_display(channels), origin=known_sizes(origin), time_step=seconds(step, unit))
    return sizes, names if all(names) else (), metadata


def _display(channels: Sequence[Mapping[str, Any]]) -> ImageMetadata:
    """Colours and grey windows of the channels, if all have them."""
    colors = [str(channel.get("color") or "").lstrip("#")[:6].upper() for channel in channels]
    windows = [channel.get("window") or {} for channel in channels]
    complete = all("start" in window and "end" in window for window in windows)
    return ImageMetadata(
        colors=tuple(colors) if all(re.fullmatch("[0-9A-F]{6}", color) for color in colors) else (),
        windows=tuple((float(window["start"]), float(window["end"])) for window in windows) if complete else (),
    )


def image_metadata(spec: ImageSpec, axes: str, levels: Sequence[zarr.Array]) -> dict[str, Any]:
    """The metadata of version 0.5: multiscales and, with names, colours or windows of channels, omero.

    Args:
        spec: of the image.
        axes: in the order in which they are stored.
        levels: of the pyramid, from the full resolution on.
    """
    metadata, known = spec.metadata, spec.known_pixel_size
    units = dict.fromkeys(known, "micrometer") | ({"T": "second"} if metadata.time_step else {})
    described = [
        {"name": axis.lower(), "type": TYPES[axis]} | ({"unit": units[axis]} if axis in units else {}) for axis in axes
    ]
    steps = {**known, "T": metadata.time_step or 1.0}
    positions = {} if metadata.framed else metadata.origin
    starts = {axis: start for axis, start in {**metadata.shift, **positions}.items() if axis in known}
    sizes, origin = [steps.get(axis, 1.0) for axis in axes], [starts.get(axis, 0.0) for axis in axes]
    datasets = []
    for k in range(len(levels)):
        factors = [2**k if axis in "YX" else 1 for axis in axes]
        scale = [size * factor for size, factor in zip(sizes, factors, strict=True)]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if k or any(origin):  # the centre of the first pixel, which is wider in higher levels
            parts = zip(origin, sizes, factors, strict=True)
            shift = [start + size * (factor - 1) / 2 for start, size, factor in parts]
            transforms.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(k), "coordinateTransformations": transforms})
    name = spec.path.name.split(".")[0]
    multiscale: dict[str, Any] = {"name": name, "axes": described, "datasets": datasets, "type": "mean of 2 x 2"}
    if metadata.bar_rows:
        multiscale["metadata"] = {BAR_NOTE: bar_note(metadata.bar_rows, spec.shape[spec.axes.index("Y")])}
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale]}
    count = max(len(spec.channel_names), len(metadata.lut_colors()), len(metadata.windows))
    if count:
        ome["omero"] = {"channels": [_channel(spec, axes, i, levels[-1]) for i in range(count)]}
    return ome


def _channel(spec: ImageSpec, axes: str, i: int, coarsest: zarr.Array) -> dict[str, Any]:
    """The name of a channel, its colour and a grey window for viewers: by default that of the coarsest level."""
    region = tuple(slice(i, i + 1) if axis == "C" else slice(None) for axis in axes)
    pixels = np.nan_to_num(coarsest[region].astype(np.float64))
    low, high = float(pixels.min()), float(pixels.max())
    colors, windows = spec.metadata.lut_colors(), spec.metadata.windows
    start, end = windows[i] if windows else (low, high)
    window = {"min": min(low, start), "max": max(high, end), "start": start, "end": end}
    label = {"label": spec.channel_names[i]} if spec.channel_names else {}
    return {**label, "color": colors[i] if colors else "FFFFFF", "active": True, "window": window}
