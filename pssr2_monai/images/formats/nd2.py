"""Nikon ND2, read plane by plane with nd2."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.contents import POSITION
from pssr2_monai.images.formats.shown import with_joined_samples
from pssr2_monai.images.formats.units import known_sizes, micrometres, seconds
from pssr2_monai.images.image import LazyImage, Region
from pssr2_monai.images.metadata import ImageMetadata

PLANE_AXES = "CYXS"  # of what ND2 stores as one frame


def open_file(path: Path) -> LazyImage:
    """Open an ND2 file, axes T, P (positions), Z, C, Y, X, and S for colours, as far as it has them, in its order."""
    try:
        import nd2
    except ImportError:
        raise InputError(f'{path.name}: reading ND2 needs nd2; install it: pip install "pssr2-monai[nd2]"') from None
    document = nd2.ND2File(path)
    try:
        return with_joined_samples(_image(path, document))
    except BaseException:
        document.close()
        raise


def _image(path: Path, document: Any) -> LazyImage:
    sizes = dict(document.sizes)
    outer = [axis for axis in sizes if axis not in PLANE_AXES]
    counts, plane = [sizes[axis] for axis in outer], [sizes[axis] for axis in sizes if axis in PLANE_AXES]
    dtype = np.dtype(document.dtype)

    def reader(region: Region) -> np.ndarray:
        out = np.empty([part.stop - part.start for part in region], dtype)
        for index in np.ndindex(*out.shape[: len(outer)]):
            place = [part.start + i for part, i in zip(region, index, strict=False)]
            number = int(np.ravel_multi_index(place, counts)) if outer else 0
            out[index] = document.read_frame(number).reshape(plane)[tuple(region[len(outer) :])]
        return out

    channels = document.metadata.channels or []
    names = tuple(str(channel.channel.name or "") for channel in channels)
    return LazyImage(
        path,
        (*counts, *plane),
        dtype,
        "".join([*outer, *(axis for axis in sizes if axis in PLANE_AXES)]),
        _pixel_size(document, channels, sizes),
        reader,
        names if all(names) else (),
        document.close,
        metadata=ImageMetadata(
            stage=tuple(_stage(document, outer, counts, index) for index in range(sizes.get(POSITION, 1))),
            time_step=_time_step(document),
            colors=tuple("{:02X}{:02X}{:02X}".format(*channel.channel.color[:3]) for channel in channels),
        ),
    )


def _stage(document: Any, outer: list[str], counts: list[int], index: int) -> dict[str, float]:
    """Where the stage stood for the first frame of a position, micrometres; empty where the file does not say it."""
    place = [index if axis == POSITION else 0 for axis in outer]
    frame = document.frame_metadata(int(np.ravel_multi_index(place, counts)) if outer else 0)
    for channel in getattr(frame, "channels", None) or ():  # files of old versions state it otherwise
        stage = channel.position.stagePositionUm
        places = {"Z": float(stage.z), "Y": float(stage.y), "X": float(stage.x)}
        return places if any(places.values()) else {}
    return {}


def _pixel_size(document: Any, channels: list[Any], sizes: dict[str, int]) -> dict[str, float]:
    """Micrometres along the axes that the microscope has calibrated."""
    voxel = document.voxel_size()
    x, y, z = channels[0].volume.axesCalibrated if channels else (False, False, False)
    known = {"Z": z and voxel.z, "Y": y and voxel.y, "X": x and voxel.x}
    return known_sizes({axis: micrometres(size or None, "um") for axis, size in known.items() if axis in sizes})


def _time_step(document: Any) -> float | None:
    """Seconds between the frames of a time-lapse of one interval."""
    loops = [loop for loop in document.experiment if loop.type == "TimeLoop"]
    step = seconds(loops[0].parameters.periodMs, "ms") if len(loops) == 1 else None
    return step if step is not None and math.isfinite(step) and step > 0 else None
