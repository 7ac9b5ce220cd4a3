"""Zeiss CZI, plain or compressed, read plane by plane and window by window with pylibCZIrw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.contents import Contents, Entry
from pssr2_monai.images.formats.shown import with_joined_samples
from pssr2_monai.images.formats.units import known_sizes, micrometres, seconds, steady_step
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.metadata import ImageMetadata

# Pixel types by their names in libCZI: dtype and samples a pixel. Colours are stored as blue, green, red.
_PIXELS = {
    "Gray8": ("u1", 1),
    "Gray16": ("u2", 1),
    "Gray32Float": ("f4", 1),
    "Bgr24": ("u1", 3),
    "Bgr48": ("u2", 3),
    "Bgr96Float": ("f4", 3),
}
Bounds = dict[str, tuple[int, int]]
_STAGE = {"MTBStageAxisX": "X", "MTBStageAxisY": "Y", "MTBFocus": "Z"}  # the axes of Zeiss's drives
_LETTERS = {"R": "A"}  # of dimensions that other formats call otherwise: rotations are angles


def open_file(path: Path) -> Contents:
    """Open the images of a CZI at full resolution, axes TZC, those of other dimensions, YX and S for colours.

    Each scene is an image, and in it the channels of each pixel type.
    """
    try:
        from pylibCZIrw import czi
    except ImportError:
        raise InputError(
            f'{path.name}: reading CZI needs pylibCZIrw; install it: pip install "pssr2-monai[czi]"'
        ) from None
    document = czi.CziReader(str(path))
    try:
        bounds = _bounds_by_scene(document)
        images = [image for scene in _scenes(document) for image in _images(path, document, *scene, bounds)]
    except BaseException:
        document.close()
        raise
    entries = tuple(Entry(name, image.shape, image.dtype, image.axes) for name, image in images)
    return Contents(entries, lambda place: images[place][1], document.close)


def _scenes(document: Any) -> list[tuple[str, int | None, Any]]:
    """The name, the index and the frame in the plane of each scene; a document without scenes is one."""
    frames = document.scenes_bounding_rectangle_no_pyramid
    if not frames:
        return [("", None, document.total_bounding_rectangle_no_pyramid)]
    described = _described_scenes(_metadata(document))
    names = {str(scene.get("@Index")): str(scene.get("@Name") or "") for scene in described}
    several = len(frames) > 1
    return [
        (names.get(str(scene)) or f"scene {number}" * several, scene, frames[scene])
        for number, scene in enumerate(sorted(frames), 1)
    ]


def _images(
    path: Path, document: Any, name: str, scene: int | None, frame: Any, bounds: Mapping[int | None, Bounds]
) -> list[tuple[str, LazyImage]]:
    """The images of a scene: one for each pixel type of its channels."""
    of_scene = bounds[scene] if scene in bounds else bounds[None]
    types = {channel: document.get_channel_pixel_type(channel) for channel in range(*of_scene["C"])}
    kinds = list(dict.fromkeys(types.values()))
    unknown = sorted(set(kinds) - set(_PIXELS))
    if unknown or not kinds:
        raise InputError(
            f"{path.name}: pixel types {', '.join(unknown)} are not read; export as 8 or 16 bits or floats"
        )
    images = []
    for kind in kinds:
        channels = [channel for channel in types if types[channel] == kind]
        label = kind if len(kinds) > 1 else ""
        first_channel = min(first for first, _ in (part["C"] for part in bounds.values()))
        image = _image(path, document, scene, frame, kind, channels, of_scene, first_channel)
        images.append((" ".join(filter(None, [name, label])), image))
    return images


def _image(
    path: Path,
    document: Any,
    scene: int | None,
    frame: Any,
    kind: str,
    channels: Sequence[int],
    bounds: Bounds,
    first_channel: int,
) -> LazyImage:
    outer = list(bounds)
    sizes = {axis: stop - first for axis, (first, stop) in bounds.items()} | {"C": len(channels)}
    dtype, samples = np.dtype(_PIXELS[kind][0]), _PIXELS[kind][1]
    shape = (*sizes.values(), frame.h, frame.w, samples)

    def reader(region: tuple[slice, ...]) -> np.ndarray:
        y, x, sample = region[-3:]
        out = np.empty([part.stop - part.start for part in region], dtype)
        if 0 in out.shape:
            return out
        roi = (frame.x + x.start, frame.y + y.start, x.stop - x.start, y.stop - y.start)
        for index in np.ndindex(*out.shape[:-3]):
            place = {axis: region[i].start + index[i] for i, axis in enumerate(outer)}
            plane = {axis: bounds[axis][0] + place[axis] for axis in outer} | {"C": channels[place["C"]]}
            pixels = document.read(roi=roi, plane=plane, scene=scene, pixel_type=kind)
            out[index] = pixels[..., ::-1][..., sample]
        return out

    metadata = _metadata(document)
    names = _channel_names(metadata)
    places = [channel - first_channel for channel in channels]
    kept = tuple(names[place] for place in places) if places[-1] < len(names) else ()
    axes = "".join(_LETTERS.get(axis, axis) for axis in outer) + "YXS"
    stated = replace(_shown(metadata, places, dtype), stage=(_stage(metadata, scene),))
    pixel_size = _pixel_size(metadata)
    image = LazyImage(path, shape, dtype, axes, pixel_size, reader, kept, document.close, metadata=stated)
    return with_joined_samples(image)


def _bounds_by_scene(document: Any) -> dict[int | None, Bounds]:
    """The first index along T, Z, C and other dimensions, and the one after the last: of each scene, or of all (None).

    Scenes may have different depths and channels.
    """
    whole = {axis: ends for axis, ends in document.total_bounding_box_no_pyramid.items() if axis not in "YX"}
    order = ["T", "Z", "C", *(axis for axis in whole if axis not in "TZC")]
    scenes = document.scenes_bounding_rectangle_no_pyramid
    if len(scenes) < 2:
        first = _first_indices(document)
        sizes = {axis: whole[axis][1] - whole[axis][0] if axis in whole else 1 for axis in order}
        return {None: {axis: (first.get(axis, 0), first.get(axis, 0) + sizes[axis]) for axis in order}}
    seen: dict[int | None, dict[str, set[int]]] = {scene: {axis: set() for axis in order} for scene in scenes}

    def note(number: int, block: Any) -> bool:
        place = block.coordinate.to_dict()
        for axis, indices in seen.get(place.get("S"), {}).items():
            indices.add(place.get(axis, 0))
        return True

    document.enumerate_subblocks(note)
    return {
        scene: {axis: (min(indices), max(indices) + 1) for axis, indices in by_axis.items()}
        for scene, by_axis in seen.items()
    }


def _first_indices(document: Any) -> dict[str, int]:
    """The lowest index along each dimension: the Z of a part of a stack may begin at 3, which the bounds do not say."""
    lowest: dict[str, int] = {}

    def note(number: int, block: Any) -> bool:
        for axis, index in block.coordinate.to_dict().items():
            lowest[axis] = min(lowest.get(axis, index), index)
        return any(index > 0 for axis, index in lowest.items() if axis != "S")

    document.enumerate_subblocks(note)
    return {axis: index for axis, index in lowest.items() if axis in document.CZI_DIMS}


def _metadata(document: Any) -> Mapping[str, Any]:
    return document.metadata["ImageDocument"]["Metadata"] or {}


def _pixel_size(metadata: Mapping[str, Any]) -> dict[str, float]:
    items = _inside(metadata, "Scaling", "Items", "Distance")  # in metres, 0 where unknown
    return known_sizes({item["@Id"]: micrometres(item.get("Value"), "m") for item in items if item["@Id"] in "ZYX"})


def _stage(metadata: Mapping[str, Any], scene: int | None) -> dict[str, float]:
    """Where the stage stood in micrometres: the centre of a scene, else where it was set; empty where unknown."""
    scenes = _described_scenes(metadata)
    centres = [str(entry.get("CenterPosition", "")) for entry in scenes if entry.get("@Index") == str(scene or 0)]
    for centre in centres:
        return known_sizes(dict(zip("XY", (micrometres(part, "um", True) for part in centre.split(",")), strict=False)))
    if len(scenes) > 1:
        return {}
    places = {}
    for device in _inside(metadata, "HardwareSetting", "ParameterCollection"):
        position = device.get("Position")
        if device.get("@Id") in _STAGE and isinstance(position, Mapping):
            places[_STAGE[device["@Id"]]] = micrometres(position.get("#text"), position.get("@Unit"), any_sign=True)
    return known_sizes(places)


def _described_scenes(metadata: Mapping[str, Any]) -> list[Any]:
    return _inside(metadata, "Information", "Image", "Dimensions", "S", "Scenes", "Scene")


def _channel_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    channels = _inside(metadata, "Information", "Image", "Dimensions", "Channels", "Channel")
    names = tuple(str(channel.get("@Name") or "") for channel in channels)
    return names if all(names) else ()


def _shown(metadata: Mapping[str, Any], channels: Sequence[int], dtype: np.dtype[Any]) -> ImageMetadata:
    """The time step, and colours and grey windows of the channels."""
    settings = _inside(metadata, "DisplaySetting", "Channels", "Channel")
    settings = [settings[channel] for channel in channels] if channels[-1] < len(settings) else []
    colors = [str(setting.get("Color") or "") for setting in settings]
    windows: list[tuple[float, float]] = []
    if dtype.kind == "u" and all("High" in setting for setting in settings):
        top = np.iinfo(dtype).max
        windows = [(float(setting.get("Low", 0)) * top, float(setting["High"]) * top) for setting in settings]
    return ImageMetadata(
        time_step=_time_step(metadata),
        colors=tuple(color[-6:].upper() for color in colors) if all(len(color) == 9 for color in colors) else (),
        windows=tuple(windows),
    )


def _time_step(metadata: Mapping[str, Any]) -> float | None:
    """Seconds between frames, if the times are steady."""
    positions = ("Information", "Image", "Dimensions", "T", "Positions")
    for increment in _inside(metadata, *positions, "Interval", "Increment"):
        return seconds(increment, "s")
    offsets = " ".join(map(str, _inside(metadata, *positions, "List", "Offsets"))).split()
    return steady_step([float(offset) for offset in offsets])


def _inside(metadata: Any, *keys: str) -> list[Any]:
    """The elements at a path of the metadata as a list, empty if the path does not exist."""
    for key in keys:
        metadata = metadata.get(key) if isinstance(metadata, Mapping) else None
    return metadata if isinstance(metadata, list) else [] if metadata is None else [metadata]
