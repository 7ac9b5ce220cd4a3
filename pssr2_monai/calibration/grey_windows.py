"""Windows of images in grey levels, read in bounded memory, with the values that their files can hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.outliers import mended
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_window, spread_windows

WINDOW_SIDE = 256  # side of a window in LR pixels, at most
MAX_WINDOWS = 16  # windows of one image, at most
SATURATED_SHARE = 0.01  # share of saturated pixels above which a warning is due
CLIPPED_SHARE = 0.001  # of the pixels at the greatest value, above which that value is where the detector ends
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Levels:
    """The values that LR files can hold, in grey levels of their intensity range; ``(images,)`` each."""

    zero: FloatArray  # the grey level of the file's 0
    step: FloatArray  # from one integer to the next; 0 for files of real numbers
    bottom: FloatArray  # the least
    top: FloatArray  # the greatest

    def rounded(self, images: FloatArray) -> FloatArray:
        """Return images ``(images, Y, X)`` as files would hold them."""
        zero, step, bottom, top = (
            levels.astype(np.float32)[:, None, None] for levels in (self.zero, self.step, self.bottom, self.top)
        )
        whole = np.where(step > 0, step, 1)
        numbers = (images - zero) / whole
        np.rint(numbers, out=numbers, where=np.broadcast_to(step > 0, numbers.shape))
        return np.clip(numbers * whole + zero, bottom, top)

    def beyond(self) -> tuple[float, float]:
        """How far the values go below black and above white, where 1 lies between the two: the median of the images."""
        return float(np.median(-self.bottom)) / GREY_LEVELS, float(np.median(self.top)) / GREY_LEVELS - 1

    def of(self, images: npt.NDArray[np.intp]) -> Levels:
        return Levels(self.zero[images], self.step[images], self.bottom[images], self.top[images])

    @classmethod
    def joined(cls, parts: Sequence[Levels]) -> Levels:
        return cls(*(np.concatenate(values) for values in zip(*map(astuple, parts), strict=True)))

    @classmethod
    def of_windows(
        cls, image: LazyImage, scales: Sequence[Intensity], frames: Sequence[int], grey: FloatArray, ends: BoolArray
    ) -> Levels:
        """The levels of windows ``(windows, Y, X)`` of an image in these frames; ``ends`` are saturated pixels."""
        channels = channels_of(image, frames)
        rows = np.tile([0.0, 0.0, -np.inf, np.inf], (len(grey), 1))
        for channel in np.unique(channels) if image.dtype.kind in "iu" else ():
            of_channel = channels == channel
            scale, pixels, saturated = scales[channel], grey[of_channel], ends[of_channel]
            unit = GREY_LEVELS / (scale.high - scale.low)
            bottom, top = (end * GREY_LEVELS for end in scale.limits(image.dtype))
            # A camera of 12 bits ends before its file's 16 do.
            if saturated.any() and saturated[pixels == pixels.max()].all():
                top = float(pixels.max())
            rows[of_channel] = [-scale.low * unit, unit, bottom, top]
        return cls(*rows.T)


def channels_of(image: LazyImage, frames: Sequence[int]) -> npt.NDArray[np.intp]:
    order = frames_of(image.axes, image.shape)
    return np.array([order.channel(frame) for frame in frames])


def grey_windows(
    image: LazyImage, scales: Sequence[Intensity], windows: Sequence[tuple[int, Window]]
) -> tuple[FloatArray, BoolArray]:
    """Read windows (frame, place) of an image: ``(windows, Y, X)`` in grey levels, and which pixels are saturated.

    ``scales`` are those of the channels. Hot pixels are mended; missing ones count as saturated.
    """
    raw = np.stack([read_window(image, [frame], window)[0] for frame, window in windows])
    channels = channels_of(image, [frame for frame, _ in windows])
    grey, saturated = np.empty(raw.shape, np.float32), ~np.isfinite(raw)
    limits = np.iinfo(raw.dtype) if raw.dtype.kind in "iu" else None
    for channel in np.unique(channels):
        pixels = np.stack([mended(window, scales[channel].outlier) for window in raw[channels == channel]])
        grey[channels == channel] = scales[channel].measured(pixels)
        least, greatest = np.nanmin(pixels), np.nanmax(pixels)
        for value, end in ((least, limits.min if limits else None), (greatest, limits.max if limits else None)):
            equal = pixels == value
            if value == end or (value == greatest and least < greatest and equal.mean() > CLIPPED_SHARE):
                saturated[channels == channel] |= equal
    return grey * np.float32(GREY_LEVELS), saturated


def sampling(
    paths: Sequence[Path], pixels: int, axes: str | None, choice: int | str | None = None, scale: int = 1
) -> tuple[tuple[int, int], list[int], int]:
    """Return the size ``(Y, X)`` of windows, the images to read them from (numbers), and how many from each.

    Sides are multiples of ``scale``, and that many times as large at most.
    """
    sides = [WINDOW_SIDE * scale] * 2
    for path in paths:
        with open_image(path, axes, choice) as image:
            sides = [min(pair) for pair in zip(sides, plane_size(image), strict=True)]
    sides = [max(1, side // scale) * scale for side in sides]
    area = sides[0] * sides[1]
    numbers = evenly(len(paths), max(1, pixels // area))
    return (sides[0], sides[1]), numbers, max(1, min(MAX_WINDOWS, pixels // (area * len(numbers))))


def places(image: LazyImage, side: tuple[int, int], count: int) -> list[tuple[int, Window]]:
    """Spread windows of a size over the frames and the area of an image; fewer where they would repeat."""
    return spread_windows(range(frames_of(image.axes, image.shape).count), plane_size(image), side, count)


def evenly(many: int, few: int) -> list[int]:
    """Return at most ``few`` of the numbers below ``many``."""
    return np.unique(np.linspace(0, many - 1, min(few, many)).round().astype(int)).tolist()


def warn_of_saturation(kind: str, share: float) -> None:
    if share > SATURATED_SHARE:
        logger.warning(
            "saturated: %.1f %% of the pixels of the %s images are at an end of their range%s",
            100 * share,
            kind,
            "; they are left out" if kind == "HR" else ", where their noise is cut off",
        )


@dataclass(frozen=True)
class Windows:
    """Windows of images of one kind, in grey levels: ``(windows, Y, X)``."""

    pixels: FloatArray
    good: BoolArray  # pixels that are not saturated
    levels: Levels  # of the file of each window
    image: npt.NDArray[np.intp]  # (windows,) number of the image of each
    names: list[str]  # of the files


def read_unpaired(
    paths: Sequence[Path],
    pixels: int,
    intensity: IntensitySettings,
    axes: str | None = None,
    choice: int | str | None = None,
    shrink: Downsample | None = None,
) -> Windows:
    """Read windows of LR images, or of good images that ``shrink`` downsamples, of so many LR pixels at most."""
    scale = int(np.max(shrink.factors)) if shrink is not None else 1
    side, numbers, count = sampling(paths, pixels * scale**2, axes, choice, scale)
    images, good, levels = [], [], []
    for number in tqdm(numbers, desc="reading", unit="image", disable=None):
        with open_image(paths[number], axes, choice) as image:
            scales, windows = fit_image_intensity(image, intensity, shrink=(scale, scale)), places(image, side, count)
            grey, saturated = grey_windows(image, scales, windows)
            levels.append(Levels.of_windows(image, scales, [frame for frame, _ in windows], grey, saturated))
        if shrink is not None and scale > 1:
            grey = np.asarray(shrink(grey))
            blocks = saturated.reshape(len(grey), grey.shape[1], scale, grey.shape[2], scale)
            saturated = np.asarray(blocks.any(axis=(2, 4)))
        images.append(grey)
        good.append(~saturated)
    index = np.repeat(np.arange(len(images)), [len(part) for part in images])
    names = [paths[number].name for number in numbers]
    return Windows(np.concatenate(images), np.concatenate(good), Levels.joined(levels), index, names)
