"""Zeiss CZI, plain or compressed, read plane by plane and window by window with pylibCZIrw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.units import known_sizes, micrometres
from pssr2_monai.images.image import LazyImage

# Pixel types by their names in libCZI: dtype and samples a pixel. Colours are stored as blue, green, red.
_PIXELS = {
    "Gray8": ("u1", 1),
    "Gray16": ("u2", 1),
    "Gray32Float": ("f4", 1),
    "Bgr24": ("u1", 3),
    "Bgr48": ("u2", 3),
    "Bgr96Float": ("f4", 3),
}


def open_file(path: Path) -> LazyImage:
    """Open the first scene of a CZI at full resolution, axes TZCYX (and S for colours).

    Other dimensions (views, phases, rotations, illuminations) and channels of different pixel types are not read.
    """
    try:
        from pylibCZIrw import czi
    except ImportError:
        raise InputError(
            f'{path.name}: reading CZI needs pylibCZIrw; install it: pip install "pssr2-monai[czi]"'
        ) from None
    document = czi.CziReader(str(path))
    try:
        return _image(path, document)
    except BaseException:
        document.close()
        raise


def _image(path: Path, document: Any) -> LazyImage:
    bounds = document.total_bounding_box_no_pyramid
    unknown = [
        f"{axis} = {end - start}" for axis, (start, end) in bounds.items() if axis not in "TZCYX" and end - start > 1
    ]
    if unknown:
        raise InputError(
            f"{path.name}: holds dimensions other than T, Z, C, Y, X ({', '.join(unknown)}); export one of each"
        )
    kinds = set(document.pixel_types.values())
    if len(kinds) != 1 or not kinds <= set(_PIXELS):
        raise InputError(f"{path.name}: pixel types {', '.join(sorted(kinds))} are not read; export as one type")
    (kind,) = kinds
    dtype, samples = np.dtype(_PIXELS[kind][0]), _PIXELS[kind][1]
    scenes = document.scenes_bounding_rectangle_no_pyramid
    scene = min(scenes, default=None)
    frame = document.total_bounding_rectangle_no_pyramid if scene is None else scenes[scene]
    first = {axis: bounds.get(axis, (0, 1))[0] for axis in "TZC"}
    sizes = {axis: bounds.get(axis, (0, 1))[1] - first[axis] for axis in "TZC"}
    shape = (sizes["T"], sizes["Z"], sizes["C"], frame.h, frame.w, samples)

    def reader(region: tuple[slice, ...]) -> np.ndarray:
        y, x, sample = region[3:]
        out = np.empty([part.stop - part.start for part in region], dtype)
        if 0 in out.shape:
            return out
        roi = (frame.x + x.start, frame.y + y.start, x.stop - x.start, y.stop - y.start)
        for index in np.ndindex(*out.shape[:3]):
            plane = {axis: first[axis] + region[i].start + index[i] for i, axis in enumerate("TZC")}
            pixels = document.read(roi=roi, plane=plane, scene=scene, pixel_type=kind)
            out[index] = pixels[..., ::-1][..., sample]
        return out

    metadata = document.metadata["ImageDocument"]["Metadata"] or {}
    return LazyImage(
        path, shape, dtype, "TZCYXS", _pixel_size(metadata), reader, _channel_names(metadata), document.close
    )


def _pixel_size(metadata: Mapping[str, Any]) -> dict[str, float]:
    items = _inside(metadata, "Scaling", "Items", "Distance")  # in metres, 0 where unknown
    return known_sizes({item["@Id"]: micrometres(item.get("Value"), "m") for item in items if item["@Id"] in "ZYX"})


def _channel_names(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    channels = _inside(metadata, "Information", "Image", "Dimensions", "Channels", "Channel")
    names = tuple(str(channel.get("@Name") or "") for channel in channels)
    return names if all(names) else ()


def _inside(metadata: Any, *keys: str) -> list[Any]:
    """The elements at a path of the metadata as a list, empty if the path does not exist."""
    for key in keys:
        metadata = metadata.get(key) if isinstance(metadata, Mapping) else None
    return metadata if isinstance(metadata, list) else [] if metadata is None else [metadata]
