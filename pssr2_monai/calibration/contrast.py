"""The straight line from the brightness of an HR image to that of its LR partner, fitted in spite of noise in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NORMAL_MEDIAN", "Blocks", "Contrast", "blocks_of", "fit_contrasts", "second_difference"]

BLOCK = 8
"""Side of the blocks whose means are compared, so that their noise is an eighth of a pixel's."""

GAIN_SPREAD, LEAST_GAIN_SPREAD = 0.2, 0.002
"""How far the gains of images of one set lie apart, as a share: where too few tell, and at least."""

CUT = 2.5
"""Standard deviations of noise that must fit between a block and the ends of the detector's range."""

FEWEST = 4
"""Blocks that a line is fitted to at least."""

NORMAL_MEDIAN = 0.6745
"""The median of the absolute value of a normal deviate."""

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


def second_difference(images: FloatArray) -> FloatArray:
    """What no slope of brightness passes, and noise does with its own power: ``(..., Y - 2, X - 2)``.

    The second difference along both axes (Immerkaer 1996, Comput. Vis. Image Underst. 64:300).
    """
    along_y = images[..., :-2, :] - 2 * images[..., 1:-1, :] + images[..., 2:, :]
    return np.asarray((along_y[..., :-2] - 2 * along_y[..., 1:-1] + along_y[..., 2:]) / 6)


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
