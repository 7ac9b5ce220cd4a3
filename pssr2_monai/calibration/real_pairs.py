"""Windows of real LR and HR images, read in bounded memory, brought to one contrast, and checked to show one field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from tqdm import tqdm

from pssr2_monai.calibration.grey_windows import Levels, grey_windows, patches, places, sampling, warn_of_saturation
from pssr2_monai.calibration.registration.alignment import MIN_SCORE, MIN_SIDE_PX, align
from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.data.pairs import Sheet, check_pairs
from pssr2_monai.errors import InputError, nearest
from pssr2_monai.images.axes import is_volume
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, second_difference
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size

BLOCK_SIDE = 8  # side of the blocks whose means are compared, so that their noise is an eighth of a pixel's
GAIN_SPREAD, MIN_GAIN_SPREAD = 0.2, 0.002
"""Relative scatter of the gains of one set's images: assumed where they are too few to measure it, and at least."""
CLIPPED_DEVIATIONS = 2.5  # of noise that must fit between a block and the ends of the detector's range
MIN_BLOCKS = 4  # blocks that a line is fitted to, at least
MIN_CORRELATION = 0.4  # correlation of the block means of LR and HR, below which they are taken for different fields
MIN_STRUCTURE_LEVELS = 1.0  # structure of an HR image in grey levels, below which its correlation means nothing
MIN_SHIFT_PX = 0.05  # LR pixels between LR and HR, below which nothing is moved
MIN_GOOD_SHARE = 0.01  # share of the pixels that must not be saturated
REGISTERS = ("shift", "none")
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating]
_Part = tuple[FloatArray, FloatArray, BoolArray, FloatArray, tuple[float, float]]


@dataclass(frozen=True)
class Reading:
    """How ``calibrate`` reads images."""

    scale: int | None
    downsample: str
    register: str
    intensity: IntensitySettings
    pair_pattern: str | None
    axes: str | None
    image: int | str | None

    def validate(self) -> None:
        """Raise an InputError for an option that cannot be."""
        Downsample(1 if self.scale is None else self.scale, self.downsample)
        if is_volume(self.scale or 1):
            raise InputError(
                f"scale: {self.scale!r} is a volume's, but calibration takes plane by plane; give one number"
            )
        if self.register not in REGISTERS:
            near = nearest(self.register, REGISTERS)
            raise InputError(f"register: {self.register!r} is unknown{near}; use {' or '.join(REGISTERS)}")


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

    hr: FloatArray  # means of the downsampled HR image
    lr: FloatArray  # means of the LR image
    darkest: FloatArray  # least value of the HR image in each
    brightest: FloatArray  # greatest value
    noise: float  # standard deviation of a pixel's noise in the LR image


def blocks_of(hr: FloatArray, lr: FloatArray, good: npt.NDArray[np.bool_]) -> Blocks:
    """Return the blocks of the windows ``(windows, Y, X)`` of a pair in which every pixel is ``good``."""
    side = min(BLOCK_SIDE, *hr.shape[1:])
    whole = patches(good, side).all(axis=-1)
    hr_blocks, lr_blocks = patches(hr, side)[whole], patches(lr, side)[whole]
    return Blocks(
        hr=hr_blocks.mean(axis=1, dtype=np.float64),
        lr=lr_blocks.mean(axis=1, dtype=np.float64),
        darkest=hr_blocks.min(axis=1),
        brightest=hr_blocks.max(axis=1),
        noise=float(np.median(np.abs(second_difference(lr)))) / NORMAL_MEDIAN,
    )


def fit_contrasts(pairs: Sequence[Blocks], limits: tuple[float, float]) -> list[Contrast]:
    """Fit gain and offset of each image of a set, by least squares over block means.

    A line through single pixels is too flat, since the HR image is noisy, too: its gain is too small by the share of
    the noise in the variance (Fuller 1987, Measurement Error Models, section 1.1). In the means of 64 pixels that share
    is a 64th. Blocks with pixels so dark or bright that the LR detector cuts some of their noise off are left out, by
    their HR brightness, which does not select among the noise. The gain of an image is drawn towards that of all
    images, the more so the less certain it is and the less the images differ. ``limits`` are the LR detector's.
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
    least = (MIN_GAIN_SPREAD * common) ** 2
    if tells.sum() < 2:
        return max(least, (GAIN_SPREAD * common) ** 2)
    weights = powers[tells] / scatter[tells]
    gains = products[tells] / powers[tells]
    mean = float(weights @ gains / weights.sum())
    excess = float(weights @ (gains - mean) ** 2) - (len(gains) - 1)
    return max(least, excess / float(weights.sum() - (weights @ weights) / weights.sum()))


@dataclass(frozen=True)
class Pairs:
    """Windows of LR images and of their downsampled HR partners; grey levels, ``(windows, Y, X)``."""

    clean: FloatArray  # the HR windows times the gain of their images, without the offset
    lr: FloatArray  # the real LR windows
    good: BoolArray  # pixels that no saturated HR pixel took part in
    offsets: FloatArray  # (windows,) to add to ``clean``
    levels: Levels  # of the LR file of each window
    image: npt.NDArray[np.intp]  # (windows,) number of the image of each
    names: list[str]  # file names of the LR images
    contrasts: list[Contrast]  # of each image
    saturated: tuple[float, float]  # share of saturated pixels, LR and HR

    @property
    def expected(self) -> FloatArray:
        return self.clean + self.offsets.astype(self.clean.dtype)[:, None, None]


def find_scale(sheets: Sequence[Sheet], axes: str | None = None, image: int | str | None = None) -> int:
    """Return HR size over LR size, from the first pair."""
    sheet = sheets[0]
    with open_image(sheet.label, axes, image) as hr, open_image(lr_path(sheet), axes, image) as lr:
        (hr_y, hr_x), (lr_y, lr_x) = plane_size(hr), plane_size(lr)
    if hr_y % lr_y or hr_x % lr_x or hr_y // lr_y != hr_x // lr_x:
        raise InputError(
            f"{lr_path(sheet).name}: {lr_y} x {lr_x} pixels, of which the {hr_y} x {hr_x} of {sheet.label.name} are "
            "not a whole multiple, the same along both sides; crop them, or register them first (pssr2 register)"
        )
    return hr_y // lr_y


def read_pairs(sheets: Sequence[Sheet], scale: int, pixels: int, reading: Reading) -> Pairs:
    """Read windows of pairs, ``pixels`` LR pixels at most, spread over the files, their frames and planes."""
    check_pairs(sheets, scale, reading.axes, image=reading.image)
    side, numbers, count = sampling([lr_path(sheet) for sheet in sheets], pixels, reading.axes, reading.image)
    chosen, shrink, parts = [sheets[number] for number in numbers], Downsample(scale, reading.downsample), []
    for sheet in tqdm(chosen, desc="reading", unit="pair", disable=None):
        hr, lr, saturated, levels, shares = _read_pair(sheet, scale, side, count, reading)
        inside = np.ones(side, dtype=bool)
        if reading.register == "shift" and min(side) >= MIN_SIDE_PX:
            hr, saturated, inside = _move(lr, hr, saturated, scale)
        bad = np.asarray(saturated.reshape(len(saturated), side[0], scale, side[1], scale).any(axis=(2, 4)))
        if scale > 1:
            # Downsampling reaches a pixel further on every side, which at the ends of a window it cannot.
            if bad.any():
                bad = np.stack([binary_dilation(plane, np.ones((3, 3))) for plane in bad])
            bad[:, [0, -1]] = bad[:, :, [0, -1]] = True
            hr = np.asarray(shrink(hr))
        parts.append((hr, lr, ~bad & inside, levels, shares))
    return _to_one_contrast(chosen, parts)


def _to_one_contrast(sheets: Sequence[Sheet], parts: Sequence[_Part]) -> Pairs:
    *arrays, shares = zip(*parts, strict=True)
    hr, lr, good, levels = map(np.concatenate, arrays)
    image = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    limits = float(levels[:, 2].min()), float(levels[:, 3].max())
    contrasts = fit_contrasts([blocks_of(*part[:3]) for part in parts], limits)
    for sheet, contrast in zip(sheets, contrasts, strict=True):
        _check_field(sheet, contrast)
    lr_share, hr_share = np.mean(shares, axis=0).tolist()
    warn_of_saturation("LR", lr_share)
    warn_of_saturation("HR", hr_share)
    folder = sheets[0].label.parent
    if good.mean() < MIN_GOOD_SHARE:
        raise InputError(f"{folder}: the HR images are saturated almost everywhere; give others")
    if not any(contrast.structure > 0 for contrast in contrasts):
        raise InputError(f"{folder}: the HR images are constant; give images with structure, to which noise is fitted")
    gains = np.array([contrast.gain for contrast in contrasts], dtype=np.float32)
    offsets = np.array([contrast.offset for contrast in contrasts])
    return Pairs(
        clean=hr * gains[image][:, None, None],
        lr=lr,
        good=good,
        offsets=offsets[image],
        levels=Levels(*levels.T),
        image=image,
        names=[lr_path(sheet).name for sheet in sheets],
        contrasts=contrasts,
        saturated=(lr_share, hr_share),
    )


def _read_pair(sheet: Sheet, scale: int, side: tuple[int, int], count: int, reading: Reading) -> _Part:
    """HR and LR windows in grey levels, saturated HR pixels, the LR levels, and the shares of saturated pixels."""
    with ExitStack() as opened:
        files = (sheet.label, lr_path(sheet))
        hr, lr = (opened.enter_context(open_image(path, reading.axes, reading.image)) for path in files)
        windows = places(lr, side, count)
        large = [(frame, Window(w.y * scale, w.x * scale, w.height * scale, w.width * scale)) for frame, w in windows]
        lr_range, hr_range = (fit_image_intensity(image, reading.intensity) for image in (lr, hr))
        lr_grey, lr_saturated = grey_windows(lr, lr_range, windows)
        hr_grey, hr_saturated = grey_windows(hr, hr_range, large)
        levels = np.tile(Levels.row(lr, lr_range, lr_grey, lr_saturated), (len(lr_grey), 1))
    return hr_grey, lr_grey, hr_saturated, levels, (float(lr_saturated.mean()), float(hr_saturated.mean()))


def _move(lr: FloatArray, hr: FloatArray, saturated: BoolArray, scale: int) -> tuple[FloatArray, BoolArray, BoolArray]:
    """HR windows on the LR windows, their saturated pixels, and which LR pixels ``(Y, X)`` have partners.

    All move by the shift of the window with most structure, if there is a clear one.
    """
    structured = int(np.argmax([window.std() for window in hr]))
    alignment = align(lr[structured], hr[structured], scale, model="shift")
    whole = np.ones(lr.shape[1:], dtype=bool)
    if alignment.score < MIN_SCORE or max(map(abs, alignment.shift)) < MIN_SHIFT_PX:
        return hr, saturated, whole
    place = Window(0, 0, *lr.shape[1:])
    moved = np.stack([alignment.resampled(window, place) for window in hr])
    if saturated.any():
        saturated = np.stack([alignment.resampled(window, place) > 0.05 for window in saturated])
    inside = np.zeros_like(whole)
    inside[alignment.window.slices()] = True
    return moved, saturated, inside


def _check_field(sheet: Sheet, contrast: Contrast) -> None:
    if contrast.structure < MIN_STRUCTURE_LEVELS:
        return
    if contrast.correlation < -MIN_CORRELATION:
        raise InputError(
            f"{lr_path(sheet).name}: is bright where {sheet.label.name} is dark (correlation "
            f"{contrast.correlation:.2f}); invert one of them"
        )
    if contrast.correlation < MIN_CORRELATION:
        raise InputError(
            f"{lr_path(sheet).name}: does not show the field of {sheet.label.name} (correlation "
            f"{contrast.correlation:.2f}); pair the right files, or register them first (pssr2 register)"
        )


def lr_path(sheet: Sheet) -> Path:
    assert sheet.image is not None
    return sheet.image
