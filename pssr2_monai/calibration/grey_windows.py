"""Windows of LR images, in bounded memory and in grey levels, and which values their files can hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_window

SIDE = 256
"""Side of the windows in LR pixels, at most."""
PLACES = 16
"""Windows of one image, at most."""
SATURATED_SHARE = 0.01
"""Share of saturated pixels above which a warning is due."""
HEAP = 0.001
"""Share of the pixels that have the greatest value, above which that value is where the detector ends."""
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Levels:
    """The values that LR files can hold, in grey levels of their intensity range; one number an image each.

    Attributes:
        zero: the grey level of the file's 0.
        step: that from one integer to the next; 0 for files of real numbers.
        bottom: the least.
        top: the greatest.
    """

    zero: FloatArray
    step: FloatArray
    bottom: FloatArray
    top: FloatArray

    def rounded(self, images: FloatArray) -> FloatArray:
        """Images ``(images, Y, X)`` as files would hold them."""
        zero, step, bottom, top = (
            each.astype(np.float32)[:, None, None] for each in (self.zero, self.step, self.bottom, self.top)
        )
        whole = np.where(step > 0, step, 1)
        numbers = (images - zero) / whole
        np.rint(numbers, out=numbers, where=np.broadcast_to(step > 0, numbers.shape))
        return np.clip(numbers * whole + zero, bottom, top)

    def of(self, images: npt.NDArray[np.intp]) -> Levels:
        """Those of some of the images."""
        return Levels(self.zero[images], self.step[images], self.bottom[images], self.top[images])


def grey_windows(
    image: LazyImage, intensity: Intensity, windows: Sequence[tuple[int, Window]], stack: str = "TZ"
) -> tuple[FloatArray, BoolArray]:
    """Windows of an image, each a frame and a place, in grey levels; and which of their pixels are saturated."""
    raw = np.stack([read_window(image, [frame], window, stack)[0] for frame, window in windows])
    saturated = np.zeros(raw.shape, dtype=bool)
    least, greatest = raw.min(), raw.max()
    limits = np.iinfo(raw.dtype) if raw.dtype.kind in "iu" else None
    for value, end in ((least, limits.min if limits else None), (greatest, limits.max if limits else None)):
        at = raw == value
        if value == end or (value == greatest and least < greatest and at.mean() > HEAP):
            saturated |= at
    return np.asarray(intensity.apply(raw) * np.float32(GREY_LEVELS)), saturated


def levels_of(image: LazyImage, intensity: Intensity, grey: FloatArray, saturated: BoolArray) -> FloatArray:
    """Zero, step, bottom and top of ``Levels``."""
    unit = GREY_LEVELS / (intensity.high - intensity.low)
    if image.dtype.kind == "f":
        return np.array([0.0, 0.0, -np.inf, np.inf])
    info = np.iinfo(image.dtype)
    ends = [(float(end) - intensity.low) * unit for end in (info.min, info.max)]
    # A camera of 12 bits ends before its file's 16 do.
    top = float(grey.max()) if saturated.any() and saturated[grey == grey.max()].all() else ends[1]
    return np.array([-intensity.low * unit, unit, ends[0], top])


def window_size(paths: Sequence[Path], axes: str | None) -> tuple[int, int]:
    """The size of the windows: that of the smallest image, up to 256 pixels a side."""
    sizes = []
    for path in paths:
        with open_image(path, axes=axes) as image:
            sizes.append(plane_size(image))
    return min(SIDE, *(height for height, _ in sizes)), min(SIDE, *(width for _, width in sizes))


def places(image: LazyImage, side: tuple[int, int], count: int, stack: str) -> list[tuple[int, Window]]:
    """Frames and windows spread over an image, as ``io.sheets.sample_pixels`` spreads them."""
    height, width = plane_size(image)
    frames = np.linspace(0, frames_of(image.axes, image.shape, stack).count - 1, max(count, 1)).round().astype(int)
    found = []
    for number, frame in enumerate(frames.tolist()):
        # Places on a 4 x 4 lattice, taken in an order that scatters them.
        place = 5 * number % 16
        found.append(
            (frame, Window((height - side[0]) * (place // 4) // 3, (width - side[1]) * (place % 4) // 3, *side))
        )
    return list(dict.fromkeys(found))


def evenly(many: int, few: int) -> list[int]:
    """At most ``few`` numbers below ``many``, evenly spread."""
    return np.unique(np.linspace(0, many - 1, min(few, many)).round().astype(int)).tolist()


def warn_of_saturation(kind: str, share: float) -> None:
    """Tells of the share of saturated pixels, where it matters."""
    if share > SATURATED_SHARE:
        logger.warning(
            "saturated: %.1f %% of the pixels of the %s images are at an end of their range%s",
            100 * share,
            kind,
            "; they are left out" if kind == "HR" else ", where their noise is cut off",
        )


def read_unpaired(
    paths: Sequence[Path], pixels: int, intensity: IntensitySettings, axes: str | None = None, stack: str = "TZ"
) -> tuple[FloatArray, BoolArray]:
    """Windows of LR images alone, in grey levels, and which of their pixels are not saturated: ``(windows, Y, X)``."""
    side = window_size(paths, axes)
    chosen = [paths[number] for number in evenly(len(paths), max(1, pixels // (side[0] * side[1])))]
    each = max(1, min(PLACES, pixels // (side[0] * side[1] * len(chosen))))
    images, good = [], []
    for path in chosen:
        with open_image(path, axes=axes) as image:
            scale = fit_image_intensity(image, intensity, stack)
            grey, saturated = grey_windows(image, scale, places(image, side, each, stack), stack)
        images.append(grey)
        good.append(~saturated)
    share = 1 - float(np.mean([use.mean() for use in good]))
    warn_of_saturation("LR", share)
    return np.concatenate(images), np.concatenate(good)
