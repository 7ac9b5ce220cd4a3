"""The example in a BioImage.IO package: a part of a scan, or a made image where there is none, and its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from pssr2_monai.axes import frames_of, is_volume
from pssr2_monai.errors import InputError
from pssr2_monai.export.description import Images
from pssr2_monai.io.image import open_image
from pssr2_monai.io.sheets import plane_size, read_window
from pssr2_monai.pictures import grey_window, panel
from pssr2_monai.tiles import Window

__all__ = ["example_of", "picture_of"]

SIDE, VOLUME_SIDE, DEPTH = 128, 80, 20
"""LR pixels of an example: of planes, and of volumes with their depth."""

COVER = 512


def example_of(images: Images, path: str | Path | None) -> np.ndarray:
    """The middle of a scan, or an image with structure at several sizes, ``(frames, Y, X)``.

    Raises:
        InputError: the scan is too small, or has too few frames.
    """
    volume = is_volume(images.record.scale)
    frames, side = (DEPTH, VOLUME_SIDE) if volume else (images.record.n_frames[0], SIDE)
    if path is None:
        noise = np.random.default_rng(0).normal(size=(frames, side, side))
        texture = sum(gaussian_filter(noise, (sigma / 2, sigma, sigma)) * sigma for sigma in (1, 2, 4))
        return images.intensity.cast(0.5 + 0.4 * texture / np.abs(texture).max(), images.dtype)
    with open_image(path) as scan:
        order = frames_of(scan.axes, scan.shape, images.record.stack)
        order.check_n_frames(images.least("Z") if images.stacked else 1, scan.path.name)
        run = min(frames, order.run) if volume else frames
        height, width = (min(side, size) for size in plane_size(scan))
        if min(height, width) < images.least("Y"):
            raise InputError(
                f"{scan.path.name}: {height} x {width} pixels are too few for an example; give a scan of "
                f"{images.least('Y')} x {images.least('X')} or more"
            )
        y, x = ((size - part) // 2 for size, part in zip(plane_size(scan), (height, width), strict=True))
        return read_window(scan, order.window(order.run // 2, run), Window(y, x, height, width), images.record.stack)


def picture_of(lr: np.ndarray, restored: np.ndarray) -> Image.Image:
    """The middle frames side by side in one grey window, twice as wide as high.

    Args:
        lr: ``(frames, Y, X)``.
        restored: likewise, each axis a whole number of times as long.
    """
    before, after = (stack[len(stack) // 2].astype(np.float64) for stack in (lr, restored))
    picture = Image.fromarray(panel([before, after], *grey_window(after)))
    return picture.resize((COVER, COVER // 2), Image.Resampling.LANCZOS)
