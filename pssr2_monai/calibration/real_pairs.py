"""Windows of real LR and HR images, read in bounded memory, brought to one contrast, and checked to show one field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from tqdm import tqdm

from pssr2_monai.calibration.grey_windows import (
    MAX_WINDOWS,
    Levels,
    evenly,
    grey_windows,
    levels_of,
    places,
    warn_of_saturation,
    window_size,
)
from pssr2_monai.calibration.registration.alignment import MIN_SCORE, SMALLEST, align
from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.data.pairs import Sheet, check_pairs
from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, second_difference
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size

BLOCK = 8
"""Side of the blocks whose means are compared, so that their noise is an eighth of a pixel's."""
GAIN_SPREAD, LEAST_GAIN_SPREAD = 0.2, 0.002
"""How far the gains of images of one set lie apart, as a share: where too few tell, and at least."""
CUT = 2.5
"""Standard deviations of noise that must fit between a block and the ends of the detector's range."""
FEWEST = 4
"""Blocks that a line is fitted to at least."""
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Contrast:
    """LR = gain * HR + offset.

    Attributes:
        gain: factor.
        offset: grey levels.
        correlation: of the block means of the two; how far they show one field.
        structure: standard deviation of the HR image's block means, grey levels; without any, nothing correlates.
    """

    gain: float
    offset: float
    correlation: float
    structure: float


@dataclass(frozen=True)
class Blocks:
    """The blocks of one pair without saturated pixels; grey levels.

    Attributes:
        hr: means of the downsampled HR image.
        lr: means of the LR image.
        darkest: least value of the HR image in each.
        brightest: greatest value.
        noise: standard deviation of a pixel's noise in the LR image.
    """

    hr: FloatArray
    lr: FloatArray
    darkest: FloatArray
    brightest: FloatArray
    noise: float


def blocks_of(hr: FloatArray, lr: FloatArray, good: npt.NDArray[np.bool_]) -> Blocks:
    """The blocks of the windows ``(windows, Y, X)`` of a pair, of which ``good`` tells the pixels to use."""
    whole = _blocks(good).all(axis=1)
    hr_blocks, lr_blocks = _blocks(hr)[whole], _blocks(lr)[whole]
    return Blocks(
        hr=hr_blocks.mean(axis=1, dtype=np.float64),
        lr=lr_blocks.mean(axis=1, dtype=np.float64),
        darkest=hr_blocks.min(axis=1),
        brightest=hr_blocks.max(axis=1),
        noise=float(np.median(np.abs(second_difference(lr)))) / NORMAL_MEDIAN,
    )


def _blocks(windows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(blocks, pixels)`` of all blocks that the windows hold whole."""
    side = min(BLOCK, *windows.shape[1:])
    height, width = (length // side for length in windows.shape[1:])
    whole = windows[:, : height * side, : width * side].reshape(-1, height, side, width, side)
    return whole.swapaxes(2, 3).reshape(-1, side * side)


def fit_contrasts(pairs: Sequence[Blocks], limits: tuple[float, float]) -> list[Contrast]:
    """Gain and offset of each image of a set, by least squares over block means.

    A line through single pixels is too flat, since the HR image is noisy, too: its gain is too small by the share of
    the noise in the variance (Fuller 1987, Measurement Error Models, section 1.1). In the means of 64 pixels that share
    is a 64th. Blocks with pixels so dark or bright that the LR detector cuts some of their noise off are left out, by
    their HR brightness, which does not select among the noise. The gain of an image is drawn towards that of all
    images, the more so the less its own blocks tell and the less the images differ.

    Args:
        pairs: their blocks.
        limits: the LR detector's least and greatest grey level.
    """
    lines = _fit([(pair.hr, pair.lr) for pair in pairs])
    inside = []
    for pair, line in zip(pairs, lines, strict=True):
        reach = CUT * pair.noise
        ends = (line.gain * end + line.offset for end in (pair.darkest, pair.brightest))
        within = (next(ends) > limits[0] + reach) & (next(ends) < limits[1] - reach)
        enough = within.sum() >= FEWEST and pair.hr[within].std() > 0.3 * pair.hr.std()
        inside.append((pair.hr[within], pair.lr[within]) if enough else (pair.hr, pair.lr))
    correlations = [(line.correlation, line.structure) for line in lines]
    return [Contrast(line.gain, line.offset, *whole) for line, whole in zip(_fit(inside), correlations, strict=True)]


def _fit(samples: Sequence[tuple[FloatArray, FloatArray]]) -> list[Contrast]:
    centred = [(x - x.mean(), y - y.mean()) if len(x) else (x, y) for x, y in samples]
    powers = np.array([float(x @ x) for x, _ in centred])
    products = np.array([float(x @ y) for x, y in centred])
    common = float(products.sum() / powers.sum()) if powers.sum() > 0 else 1.0
    scatter = np.array([float(np.mean((y - common * x) ** 2)) if len(x) else 0.0 for x, y in centred])
    between = _variance_between(products, powers, scatter, common)
    contrasts = []
    for (x, y), (dx, dy), power, product, noise in zip(samples, centred, powers, products, scatter, strict=True):
        steadying = noise / between if between > 0 else 0.0
        gain = float((product + steadying * common) / (power + steadying)) if power + steadying > 0 else common
        norm = math.sqrt(power * float(dy @ dy))
        offset = float(y.mean() - gain * x.mean()) if len(x) else 0.0
        contrasts.append(
            Contrast(gain, offset, float(product) / norm if norm > 0 else 0.0, float(dx.std()) if len(x) else 0.0)
        )
    return contrasts


def _variance_between(products: FloatArray, powers: FloatArray, scatter: FloatArray, common: float) -> float:
    """How much the gains of the images differ, beyond what the scatter of their blocks makes of one and the same gain.

    The estimate of DerSimonian and Laird 1986 (Control. Clin. Trials 7:177) for what lies between the studies of a
    meta-analysis, here images.
    """
    tells = (powers > 0) & (scatter > 0)
    least = (LEAST_GAIN_SPREAD * common) ** 2
    if tells.sum() < 2:
        return max(least, (GAIN_SPREAD * common) ** 2)
    weights = powers[tells] / scatter[tells]
    gains = products[tells] / powers[tells]
    mean = float(weights @ gains / weights.sum())
    excess = float(weights @ (gains - mean) ** 2) - (len(gains) - 1)
    return max(least, excess / float(weights.sum() - (weights @ weights) / weights.sum()))


LEAST_CORRELATION = 0.4
"""Of the block means of LR and HR, below which they are taken for different fields."""
LEAST_SHIFT = 0.05
"""LR pixels between LR and HR below which nothing is moved."""
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Windows of LR images and of their downsampled HR partners; grey levels, ``(windows, Y, X)``.

    Attributes:
        clean: the HR windows times the gain of their images, without the offset.
        lr: the real LR windows.
        good: pixels that no saturated HR pixel took part in.
        offsets: ``(windows,)`` to add to ``clean``.
        levels: of the LR file of each window.
        image: ``(windows,)`` number of the image of each.
        names: file names of the LR images.
        contrasts: of each image.
        saturated: share of saturated pixels, LR and HR.
    """

    clean: FloatArray
    lr: FloatArray
    good: BoolArray
    offsets: FloatArray
    levels: Levels
    image: npt.NDArray[np.intp]
    names: list[str]
    contrasts: list[Contrast]
    saturated: tuple[float, float]

    @property
    def expected(self) -> FloatArray:
        """What the LR images would be without noise."""
        return self.clean + self.offsets.astype(self.clean.dtype)[:, None, None]


def find_scale(sheets: Sequence[Sheet], axes: str | None = None) -> int:
    """HR size over LR size, from the first pair.

    Raises:
        InputError: no whole number, or not the same along Y and X.
    """
    sheet = sheets[0]
    with open_image(sheet.label, axes=axes) as hr, open_image(_lr_of(sheet), axes=axes) as lr:
        (hr_y, hr_x), (lr_y, lr_x) = plane_size(hr), plane_size(lr)
    if hr_y % lr_y or hr_x % lr_x or hr_y // lr_y != hr_x // lr_x:
        raise InputError(
            f"{_lr_of(sheet).name}: {lr_y} x {lr_x} pixels do not go whole into the {hr_y} x {hr_x} of "
            f"{sheet.label.name}, along both sides alike; crop them, or register them first (pssr2 register)"
        )
    return hr_y // lr_y


def read_pairs(
    sheets: Sequence[Sheet],
    scale: int,
    *,
    pixels: int,
    downsample: str = "bilinear",
    intensity: IntensitySettings | None = None,
    register: str = "shift",
    axes: str | None = None,
    stack: str = "TZ",
    progress: bool = False,
) -> Pairs:
    """Reads windows of pairs, spread over the files, their frames and planes.

    Args:
        sheets: the pairs.
        scale: HR size over LR size.
        pixels: how many LR pixels to read, at most.
        downsample: how the HR images are shrunk; see ``crappify.Downsample``.
        intensity: how grey levels are found.
        register: ``shift`` moves each HR image to where its LR image lies; ``none`` takes the pairs as they are.
        axes: axes of files that do not tell theirs.
        stack: order of T and Z.
        progress: whether to show a progress bar.

    Raises:
        InputError: sizes that do not fit; an LR and an HR image that do not show one field, or whose contrast is
            inverted; images without structure; or nothing but saturated pixels.
    """
    check_pairs(sheets, scale, axes, stack)
    side = window_size([_lr_of(sheet) for sheet in sheets], axes)
    chosen = [sheets[number] for number in evenly(len(sheets), max(1, pixels // (side[0] * side[1])))]
    each = max(1, min(MAX_WINDOWS, pixels // (side[0] * side[1] * len(chosen))))
    settings = intensity or IntensitySettings()
    source = _Source(scale, side, each, settings, register, axes, stack)
    bar = tqdm(chosen, desc="reading", unit="pair", disable=None if progress else True)
    parts = [_read_pair(sheet, source, Downsample(scale, downsample)) for sheet in bar]
    hr, lr, good, levels = (np.concatenate([getattr(part, name) for part in parts]) for name in _Part.ARRAYS)
    image = np.repeat(np.arange(len(parts)), [len(part.hr) for part in parts])
    blocks = [blocks_of(part.hr, part.lr, part.good) for part in parts]
    contrasts = fit_contrasts(blocks, (float(levels[:, 2].min()), float(levels[:, 3].max())))
    names = [_lr_of(sheet).name for sheet in chosen]
    for sheet, contrast in zip(chosen, contrasts, strict=True):
        _check_field(sheet, contrast)
    lr_share, hr_share = (float(np.mean([part.saturated[k] for part in parts])) for k in (0, 1))
    warn_of_saturation("LR", lr_share)
    warn_of_saturation("HR", hr_share)
    if good.mean() < 0.01:
        raise InputError(f"{chosen[0].label.parent}: the HR images are saturated almost everywhere; give others")
    if not any(contrast.structure > 0 for contrast in contrasts):
        raise InputError(
            f"{chosen[0].label.parent}: the HR images are constant; noise is fitted to images of something"
        )
    gains = np.array([contrast.gain for contrast in contrasts], dtype=np.float32)
    offsets = np.array([contrast.offset for contrast in contrasts])
    clean = hr * gains[image][:, None, None]
    return Pairs(clean, lr, good, offsets[image], Levels(*levels.T), image, names, contrasts, (lr_share, hr_share))


@dataclass(frozen=True)
class _Source:
    """How windows are read; see ``read_pairs``."""

    scale: int
    side: tuple[int, int]
    count: int
    intensity: IntensitySettings
    register: str
    axes: str | None
    stack: str


@dataclass(frozen=True)
class _Part:
    """The windows of one pair."""

    ARRAYS = ("hr", "lr", "good", "levels")
    hr: FloatArray
    lr: FloatArray
    good: BoolArray
    levels: FloatArray
    saturated: tuple[float, float]


def _read_pair(sheet: Sheet, source: _Source, downsample: Downsample) -> _Part:
    scale, side, stack = source.scale, source.side, source.stack
    with ExitStack() as opened:
        hr, lr = (opened.enter_context(open_image(path, axes=source.axes)) for path in (sheet.label, _lr_of(sheet)))
        windows = places(lr, side, source.count, stack)
        large = [(frame, Window(w.y * scale, w.x * scale, w.height * scale, w.width * scale)) for frame, w in windows]
        lr_range, hr_range = (fit_image_intensity(image, source.intensity, stack) for image in (lr, hr))
        lr_grey, lr_cut = grey_windows(lr, lr_range, windows, stack)
        hr_grey, hr_cut = grey_windows(hr, hr_range, large, stack)
        levels = np.tile(levels_of(lr, lr_range, lr_grey, lr_cut), (len(lr_grey), 1))
    share = float(lr_cut.mean()), float(hr_cut.mean())
    inside = np.ones(side, dtype=bool)
    if source.register == "shift" and min(side) >= SMALLEST:
        hr_grey, hr_cut, inside = _moved(lr_grey, hr_grey, hr_cut, scale)
    cut = np.asarray(hr_cut.reshape(len(hr_cut), side[0], scale, side[1], scale).any(axis=(2, 4)))
    if scale > 1:
        # Downsampling looks a pixel further on every side, and at the ends of a window not as far as it should.
        if cut.any():
            cut = np.stack([binary_dilation(plane, np.ones((3, 3))) for plane in cut])
        cut[:, [0, -1]] = cut[:, :, [0, -1]] = True
        hr_grey = np.asarray(downsample(hr_grey))
    return _Part(hr_grey, lr_grey, ~cut & inside, levels, share)


def _moved(lr: FloatArray, hr: FloatArray, cut: BoolArray, scale: int) -> tuple[FloatArray, BoolArray, BoolArray]:
    """HR windows where the LR windows lie, their saturated pixels, and the LR pixels ``(Y, X)`` that have partners.

    The shift is that of the window with most structure; where none is found, or next to none, all stays in place.
    """
    most = int(np.argmax([window.std() for window in hr]))
    found = align(lr[most], hr[most], scale, model="shift")
    whole = np.ones(lr.shape[1:], dtype=bool)
    if found.score < MIN_SCORE or max(map(abs, found.shift)) < LEAST_SHIFT:
        return hr, cut, whole
    place = Window(0, 0, *lr.shape[1:])
    moved = np.stack([found.resampled(window, place) for window in hr])
    moved_cut = np.stack([found.resampled(window, place) > 0.05 for window in cut]) if cut.any() else cut
    inside = np.zeros_like(whole)
    inside[found.window.slices()] = True
    return moved, moved_cut, inside


def _check_field(sheet: Sheet, contrast: Contrast) -> None:
    """Refuses a pair whose brightness does not go together."""
    if contrast.structure < 1.0:
        return  # Less than a grey level of structure: nothing to tell by.
    if contrast.correlation < -LEAST_CORRELATION:
        raise InputError(
            f"{_lr_of(sheet).name}: is bright where {sheet.label.name} is dark (correlation "
            f"{contrast.correlation:.2f}); invert one of them"
        )
    if contrast.correlation < LEAST_CORRELATION:
        raise InputError(
            f"{_lr_of(sheet).name}: does not show the field of {sheet.label.name} (correlation "
            f"{contrast.correlation:.2f}); pair the right files, or register them first (pssr2 register)"
        )


def _lr_of(sheet: Sheet) -> Path:
    assert sheet.image is not None
    return sheet.image
