"""Writing what an aligned pair shares: the LR image's own pixels, the HR image resampled onto their grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.axes import frames_of
from pssr2_monai.io.image import LazyImage
from pssr2_monai.io.sheets import read_window, write_window
from pssr2_monai.io.writer import WRITTEN, create_writer
from pssr2_monai.registration.alignment import Alignment
from pssr2_monai.tiles import Window

__all__ = ["write_shared", "written_suffix"]

BAND_PIXELS = 2**22
"""About how many HR pixels are held at a time."""


def write_shared(image: LazyImage, path: Path, found: Alignment, is_hr: bool) -> None:
    """Writes what one image of a pair has in common with the other, of every frame.

    Args:
        image: the LR image, whose pixels are copied, or the HR image, whose are interpolated.
        path: the file to write; axes, dtype, pixel size and channel names are kept.
        found: how the two lie; they share at least one LR pixel.
        is_hr: which of the two it is.
    """
    order, shared = frames_of(image.axes, image.shape), found.window
    scale = found.scale if is_hr else 1
    sides = {"Y": shared.height * scale, "X": shared.width * scale}
    with create_writer(
        path,
        shape=[sides.get(axis, size) for axis, size in zip(image.axes, image.shape, strict=True)],
        dtype=image.dtype,
        axes=image.axes,
        pixel_size=image.pixel_size,
        channel_names=image.channel_names,
    ) as writer:
        for frame in range(order.count):
            for band in _bands(shared, BAND_PIXELS // found.scale**2):
                if is_hr:
                    source = found.source(band)
                    pixels = read_window(image, [frame], source)[0]
                    plane = _cast(found.resampled(pixels, band, source), image.dtype)
                else:
                    plane = read_window(image, [frame], band)[0]
                place = Window((band.y - shared.y) * scale, 0, band.height * scale, band.width * scale)
                write_window(writer, order, frame, place, plane)


def _bands(window: Window, pixels: int) -> Iterator[Window]:
    """The window in bands of whole rows, of about so many pixels each."""
    rows = max(1, pixels // window.width)
    for top in range(0, window.height, rows):
        yield Window(window.y + top, window.x, min(rows, window.height - top), window.width)


def _cast(plane: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Rounded and cut off at the ends of the dtype, which the spline exceeds at sharp edges."""
    if dtype.kind == "f":
        return plane.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(plane.astype(np.float64)), limits.min, limits.max).astype(dtype)


def written_suffix(image: LazyImage) -> str:
    """That of the image's file where it can be written, else that of TIFF."""
    suffix = image.path.suffix.lower()
    deep_colour = suffix == ".png" and image.axes != "YX" and image.dtype.itemsize > 1
    if suffix not in WRITTEN or deep_colour:
        return ".tif"
    return image.path.name.removeprefix(image.path.stem.removesuffix(".ome"))
