"""Windows of LR images in grey levels, and the noise of images by themselves, from patches where nothing is to be seen.

Windows are read in bounded memory, with the values that their files can hold.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, black_level, patches, second_difference, variance_line
from pssr2_monai.images.outliers import mended
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_window, spread_windows

WINDOW_SIDE = 256  # side of a window in LR pixels, at most
MAX_WINDOWS = 16  # windows of one image, at most
SATURATED_SHARE = 0.01  # share of saturated pixels above which a warning is due
CLIPPED_SHARE = 0.001  # of the pixels at the greatest value, above which that value is where the detector ends
PATCH_SIDE = 8  # side of a patch, pixels
FLAT_SHARE = 0.3  # share of the patches of each brightness that are taken for flat
BRIGHTNESS_BINS = 16
MIN_PATCHES = 10  # flat patches in a bin of brightness, at least
JACKKNIFE_PARTS = 10  # parts of the patches, of which one at a time is left out for the standard error (jackknife)
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
    paths: Sequence[Path], pixels: int, axes: str | None, choice: int | str | None = None
) -> tuple[tuple[int, int], list[int], int]:
    """Return the size ``(Y, X)`` of windows, the images to read them from (numbers), and how many from each."""
    sides = [WINDOW_SIDE, WINDOW_SIDE]
    for path in paths:
        with open_image(path, axes, choice) as image:
            sides = [min(pair) for pair in zip(sides, plane_size(image), strict=True)]
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


def read_unpaired(
    paths: Sequence[Path],
    pixels: int,
    intensity: IntensitySettings,
    axes: str | None = None,
    choice: int | str | None = None,
) -> tuple[FloatArray, BoolArray]:
    """Read windows of LR images, ``(windows, Y, X)`` in grey levels, and which of the pixels are not saturated."""
    side, numbers, count = sampling(paths, pixels, axes, choice)
    images, good = [], []
    for number in numbers:
        with open_image(paths[number], axes, choice) as image:
            grey, saturated = grey_windows(image, fit_image_intensity(image, intensity), places(image, side, count))
        images.append(grey)
        good.append(~saturated)
    warn_of_saturation("LR", 1 - float(np.mean([use.mean() for use in good])))
    return np.concatenate(images), np.concatenate(good)


@dataclass(frozen=True)
class FlatNoise:
    values: dict[str, float]  # Poisson intensity and Gaussian sigma, as far as asked for
    errors: dict[str, float]  # their standard errors
    black: float  # grey level of the images without signal, which Poisson noise leaves out
    brightness: FloatArray  # mean of each brightness bin
    spread: FloatArray  # standard deviation of the noise there


def noise_of_flat_patches(
    images: FloatArray, good: BoolArray, names: Sequence[str] = ("poisson", "gaussian")
) -> FlatNoise:
    """Measure Poisson and Gaussian noise of images: a line through the variance of flat patches by brightness.

    The idea is that of Foi et al. 2008 (IEEE Trans. Image Process. 17:1737), in plain terms: whether a patch is flat is
    decided by its neighbours' means, on which the noise inside has next to no influence; the noise is the median
    absolute value of a second difference. Fine texture counts as noise; noise that neighbouring pixels share does not.
    """
    if min(images.shape[1:]) < 3 * PATCH_SIDE:
        raise InputError(
            f"LR images of {images.shape[1]} x {images.shape[2]} pixels are too small; 24 a side is the least"
        )
    means, steepness, details = [], [], []
    for image, use in zip(images, good, strict=True):
        mean, whole = patches(image, PATCH_SIDE).mean(axis=2), np.asarray(patches(use, PATCH_SIDE).all(axis=2))
        whole[[0, -1]] = whole[:, [0, -1]] = False
        means.append(mean[whole])
        steepness.append(np.hypot(*np.gradient(mean))[whole])
        details.append(np.abs(patches(np.pad(second_difference(image), 1), PATCH_SIDE)[whole]))
    mean, detail = np.concatenate(means), np.concatenate(details)
    if len(mean) < BRIGHTNESS_BINS * MIN_PATCHES:
        raise InputError(
            f"only {len(mean)} patches of 8 x 8 LR pixels are not saturated; give larger images, or others"
        )
    bins, flat = _flat_patches(mean, np.concatenate(steepness))
    brightness, spread = _curve(mean, detail, bins, flat)
    if not spread.any():
        raise InputError("the LR images are constant, or without any noise; there is nothing to measure")
    black = black_level(brightness, spread**2) if "poisson" in names else 0.0
    values = variance_line(brightness - black, spread**2, names)
    part = np.arange(len(mean)) * JACKKNIFE_PARTS // len(mean)
    without = []
    for number in range(JACKKNIFE_PARTS):
        curve = _curve(mean, detail, bins, flat & (part != number))
        without.append(variance_line(curve[0] - black, curve[1] ** 2, names))
    scale = (JACKKNIFE_PARTS - 1) / np.sqrt(JACKKNIFE_PARTS)
    errors = {name: float(np.std([line[name] for line in without]) * scale) for name in values}
    return FlatNoise(values, errors, black, brightness, spread)


def _flat_patches(mean: FloatArray, steepness: FloatArray) -> tuple[npt.NDArray[np.intp], BoolArray]:
    """The brightness bin of each patch, and whether it is among the flattest there."""
    cuts = np.unique(np.quantile(mean, np.linspace(0, 1, BRIGHTNESS_BINS + 1)[1:-1]))
    bins = np.searchsorted(cuts, mean, side="right")
    flat = np.zeros(len(mean), dtype=bool)
    for number in range(len(cuts) + 1):
        inside = bins == number
        if inside.any():
            flat |= inside & (steepness <= np.quantile(steepness[inside], FLAT_SHARE))
    return bins, flat


def _curve(
    mean: FloatArray, detail: FloatArray, bins: npt.NDArray[np.intp], flat: BoolArray
) -> tuple[FloatArray, FloatArray]:
    chosen = [flat & (bins == number) for number, count in enumerate(np.bincount(bins[flat])) if count >= MIN_PATCHES]
    brightness = np.array([mean[use].mean() for use in chosen])
    return brightness, np.array([np.median(detail[use]) / NORMAL_MEDIAN for use in chosen])
