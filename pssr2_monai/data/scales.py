"""The intensity scales of a set of images: one for all, or those of HR images through their contrast with LR images.

The contrast is the gain and offset that turn the grey levels of HR into those of LR.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors, frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings, dtype_limits, shrunk
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, patches, second_difference
from pssr2_monai.images.outliers import mended
from pssr2_monai.images.windows import read_window, sample_pixels, sample_places, scaled_window

BLOCK_SIDE = 8  # side of the blocks whose means are compared, so that their noise is an eighth of a pixel's
GAIN_SPREAD, MIN_GAIN_SPREAD = 0.2, 0.002
"""Relative scatter of the gains of one set's images: assumed where they are too few to measure it, and at least."""
CLIPPED_DEVIATIONS = 2.5  # of noise that must fit between a block and the ends of the detector's range
MIN_BLOCKS = 4  # blocks that a line is fitted to, at least
MIN_CORRELATION = 0.4  # correlation of the block means of LR and HR, below which they are taken for different fields
MAX_BLOCKS = 2048  # of a channel of a pair, to which its contrast is fitted
MAX_WINDOWS = 4  # of a channel of a pair, from which they come
FloatArray = npt.NDArray[np.floating]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contrast:
    """LR = gain * HR + offset."""

    gain: float
    offset: float  # grey levels
    correlation: float  # of the block means of the two: how far they show one field
    structure: float  # standard deviation of the HR image's block means, grey levels


@dataclass(frozen=True)
class Blocks:
    """The blocks of one pair without saturated pixels; grey levels."""

    hr: FloatArray  # means of their upper and lower halves in the downsampled HR image, (blocks, 2)
    lr: FloatArray  # the same of the LR image
    darkest: FloatArray  # least value of the HR image in each
    brightest: FloatArray  # greatest value
    noise: float  # standard deviation of a pixel's noise in the LR image


def blocks_of(hr: FloatArray, lr: FloatArray, good: npt.NDArray[np.bool_]) -> Blocks:
    """Return the blocks of the windows ``(windows, Y, X)`` of a pair in which every pixel is ``good``."""
    side = min(BLOCK_SIDE, *hr.shape[1:])
    whole = np.asarray(patches(good, side).all(axis=-1))
    if whole.sum() < MIN_BLOCKS:
        whole = np.ones_like(whole)
    hr_blocks, lr_blocks = patches(hr, side)[whole], patches(lr, side)[whole]
    return Blocks(
        hr=_means_of_halves(hr_blocks, side),
        lr=_means_of_halves(lr_blocks, side),
        darkest=hr_blocks.min(axis=1),
        brightest=hr_blocks.max(axis=1),
        noise=float(np.median(np.abs(second_difference(lr)))) / NORMAL_MEDIAN,
    )


def _means_of_halves(blocks: FloatArray, side: int) -> FloatArray:
    rows = blocks.reshape(-1, side, side)
    half = max(1, side // 2)
    return np.stack([part.mean(axis=(1, 2), dtype=np.float64) for part in (rows[:, :half], rows[:, -half:])], axis=1)


def blocks_of_pair(
    lr: LazyImage, hr: LazyImage, scale: int | Sequence[int], stack: str, channel: int, outliers: tuple[float, float]
) -> Blocks:
    """Blocks of a channel of a pair, in the grey levels of its files.

    ``outliers`` are the distances of LR's and of HR's pixels from their neighbours beyond which they are mended.
    """
    along_run, along_y, along_x = factors(scale)
    places = sample_places(lr, stack, channel)
    places = places[:: -(-len(places) // MAX_WINDOWS)]
    lr_windows, hr_windows, good = [], [], []
    hr_order = frames_of(hr.axes, hr.shape, stack)
    for frame, window in places:
        large = scaled_window(window, along_y, along_x)
        # The run of HR frames has so many times the length of that of LR.
        hr_frames = [number for number in range(frame * along_run, (frame + 1) * along_run) if number < hr_order.count]
        fine = np.stack([mended(plane, outliers[1]) for plane in read_window(hr, hr_frames, large, stack)])
        coarse = np.mean([shrunk(plane, (along_y, along_x)) for plane in fine], axis=0)
        noisy = mended(read_window(lr, [frame], window, stack)[0], outliers[0]).astype(np.float64)
        saturated = fine >= np.iinfo(fine.dtype).max if fine.dtype.kind in "iu" else ~np.isfinite(fine)
        spoilt = np.asarray(saturated.any(axis=0))
        usable = (shrunk(spoilt, (along_y, along_x)) == 0) & np.isfinite(noisy)
        lr_windows.append(noisy)
        hr_windows.append(coarse)
        good.append(usable)
    blocks = blocks_of(np.stack(hr_windows), np.stack(lr_windows), np.stack(good))
    step = -(-len(blocks.hr) // MAX_BLOCKS) or 1
    return Blocks(blocks.hr[::step], blocks.lr[::step], blocks.darkest[::step], blocks.brightest[::step], blocks.noise)


def fit_contrasts(pairs: Sequence[Blocks], limits: tuple[float, float]) -> list[Contrast]:
    """Fit gain and offset of each image of a set, over the means of blocks.

    Both images are noisy, and a least-squares line is too flat by the share of the noise in the variance of the HR
    image: in the means of 64 pixels by 5 to 10 % where both are fast scans. So the two halves of a block, whose noise
    is independent, stand for each other: the gain is the covariance of one half in HR with the other in LR, over that
    of the two in HR (an instrumental variable; Fuller 1987, Measurement Error Models, section 1.4). Blocks with pixels
    so dark or bright that the LR detector cuts some of their noise off are left out, by their HR brightness, which does
    not select among the noise. The gain of an image is drawn towards that of all images, the more so the less certain
    it is and the less the images differ. ``limits`` are the LR detector's.
    """
    lines = _fit([(pair.hr, pair.lr) for pair in pairs])
    inside = []
    for pair, line in zip(pairs, lines, strict=True):
        reach = CLIPPED_DEVIATIONS * pair.noise
        ends = (line.gain * end + line.offset for end in (pair.darkest, pair.brightest))
        within = (next(ends) > limits[0] + reach) & (next(ends) < limits[1] - reach)
        enough = within.sum() >= MIN_BLOCKS and pair.hr[within].std() > 0.3 * pair.hr.std()
        inside.append((pair.hr[within], pair.lr[within]) if enough else (pair.hr, pair.lr))
    correlations = [(line.correlation, line.structure) for line in lines]
    return [Contrast(line.gain, line.offset, *whole) for line, whole in zip(_fit(inside), correlations, strict=True)]


def _fit(samples: Sequence[tuple[FloatArray, FloatArray]]) -> list[Contrast]:
    centred = [(x - x.mean(axis=0), y - y.mean(axis=0)) if len(x) else (x, y) for x, y in samples]
    powers = np.array([max(float(x[:, 0] @ x[:, 1]), 0.0) for x, _ in centred])
    products = np.array([float(x[:, 0] @ y[:, 1] + x[:, 1] @ y[:, 0]) / 2 for x, y in centred])
    wholes = [(x.mean(axis=1), y.mean(axis=1)) for x, y in centred]
    common = float(products.sum() / powers.sum()) if powers.sum() > 0 else 1.0
    scatter = np.array([float(np.mean((y - common * x) ** 2)) if len(x) else 0.0 for x, y in wholes])
    between = _variance_between(products, powers, scatter, common)
    contrasts = []
    for (x, y), (dx, dy), power, product, noise in zip(samples, wholes, powers, products, scatter, strict=True):
        steadying = noise / between if between > 0 else 0.0
        gain = float((product + steadying * common) / (power + steadying)) if power + steadying > 0 else common
        offset = float(y.mean() - gain * x.mean()) if len(x) else 0.0
        norm = math.sqrt(float(dx @ dx) * float(dy @ dy))
        correlation = float(dx @ dy) / norm if norm > 0 else 0.0
        contrasts.append(Contrast(gain, offset, correlation, float(dx.std()) if len(x) else 0.0))
    return contrasts


def _variance_between(products: FloatArray, powers: FloatArray, scatter: FloatArray, common: float) -> float:
    """How much the gains of the images differ, beyond what the scatter of their blocks makes of one and the same gain.

    The estimate of DerSimonian and Laird 1986 (Control. Clin. Trials 7:177) for what lies between the studies of a
    meta-analysis, here images.
    """
    tells = (powers > 0) & (scatter > 0)
    least = (MIN_GAIN_SPREAD * common) ** 2
    if tells.sum() < 2:
        return max(least, (GAIN_SPREAD * common) ** 2)
    weights = powers[tells] / scatter[tells]
    gains = products[tells] / powers[tells]
    mean = float(weights @ gains / weights.sum())
    excess = float(weights @ (gains - mean) ** 2) - (len(gains) - 1)
    return max(least, excess / float(weights.sum() - (weights @ weights) / weights.sum()))


Scales = dict[str, tuple[Intensity, ...]]  # of the images of a sheet by their keys, for each channel


def to_lr_levels(
    scales: Sequence[Scales],
    blocks: Sequence[Mapping[str, Sequence[Blocks]]],
    lr_dtypes: Sequence[np.dtype[Any]],
    names: Sequence[Mapping[str, str]],
) -> tuple[list[Scales], dict[str, float]]:
    """Scale the partners of LR images like these, after gain and offset.

    Args:
        scales: of each sheet, fitted to each of its images.
        blocks: of each sheet, its `blocks_of_pair` by key and channel.
        lr_dtypes: of the LR image of each sheet.
        names: of the files of each sheet, for messages.

    Returns:
        The scales, and the medians of gain and offset between HR and LR, as far as there are any.
    """
    results: list[Scales] = [dict(of_sheet) for of_sheet in scales]
    fitted: list[Contrast] = []
    ends = [dtype_limits(dtype) for dtype in lr_dtypes]
    detector = min(low for low, _ in ends), max(high for _, high in ends)
    for key in blocks[0]:
        for channel in range(max(len(of_sheet[key]) for of_sheet in blocks)):
            sheets = [number for number, of_sheet in enumerate(blocks) if channel < len(of_sheet[key])]
            contrasts = fit_contrasts([blocks[sheet][key][channel] for sheet in sheets], detector)
            clear = [contrast for contrast in contrasts if contrast.correlation >= MIN_CORRELATION]
            fitted += clear if key == "label" else []
            for sheet, contrast in zip(sheets, contrasts, strict=True):
                lr, own = (scales[sheet][name][channel] for name in ("image", key))
                scale = _scale_of_partner(lr, own, blocks[sheet][key][channel], contrast, clear)
                if scale is None:
                    logger.warning(
                        "%s: does not show what %s shows (correlation %.2f); its grey levels are scaled by themselves",
                        *(names[sheet][name] for name in ("image", key)),
                        contrast.correlation,
                    )
                else:
                    results[sheet][key] = (*results[sheet][key][:channel], scale, *results[sheet][key][channel + 1 :])
    if not fitted:
        return results, {}
    gain, offset = (float(np.median([getattr(contrast, name) for contrast in fitted])) for name in ("gain", "offset"))
    logger.info("pairs: LR = %.4g * HR + %.4g grey levels (medians of %d fits)", gain, offset, len(fitted))
    return results, {"gain": gain, "offset": offset}


def _scale_of_partner(
    lr: Intensity, own: Intensity, blocks: Blocks, contrast: Contrast, clear: Sequence[Contrast]
) -> Intensity | None:
    """LR's scale through the contrast of the pair or, where it shows nothing, of the others; None where none does."""
    gain, offset = contrast.gain, contrast.offset
    if contrast.correlation < MIN_CORRELATION:
        if not clear or not len(blocks.hr):
            return None
        gain = float(np.median([other.gain for other in clear]))
        offset = float(blocks.lr.mean() - gain * blocks.hr.mean())
    return replace(lr.through(gain, offset), outlier=own.outlier, padding=own.padding)


def shared_sample(image: LazyImage, stack: str, sheets: int) -> list[np.ndarray]:
    """Windows of an image among others, all of which together must fit into memory."""
    if (channels := frames_of(image.axes, image.shape, stack).channels) > 1:
        raise InputError(
            f"{image.path.name}: has {channels} channels, each with its own scale; set intensity#scope to 'file'"
        )
    windows = list(sample_pixels(image, stack))
    return windows[:: 1 + sheets // 8]


def shared_intensity(
    paths: Sequence[Path],
    intensity: IntensitySettings,
    stack: str,
    axes: str | None,
    choice: int | str | None,
    shrink: Sequence[int],
) -> Intensity:
    """Fit one scale to several HR images, as a training with the scope "dataset" does."""
    samples = []
    for path in paths:
        with open_image(path, axes, choice) as image:
            samples.append(shared_sample(image, stack, len(paths)))
    return scale_of_samples(samples, intensity, shrink, paths[0].parent)


def scale_of_samples(
    samples: Sequence[list[np.ndarray]], intensity: IntensitySettings, shrink: Sequence[int], folder: Path
) -> Intensity:
    windows = [window for sample in samples for window in sample]
    if len({window.dtype for window in windows}) > 1:
        raise InputError(
            f"{folder}: files of different types cannot share one intensity scale; convert them, or set "
            "intensity#scope to 'file'"
        )
    return intensity.fit(windows, windows[0].dtype, "label images", shrink)
