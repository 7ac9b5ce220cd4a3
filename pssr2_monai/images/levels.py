"""The black and the white level of an image, which noise, hot pixels and padding do not move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, patches, second_difference

PERCENTILES = (0.1, 99.9)  # of the means of blocks
BLOCK_SIDE = 8  # pixels, so that noise is averaged to an eighth
TRIMMED_SHARE = 0.08  # of the darkest, and of the brightest, pixels of a block that its mean leaves out
MIN_PADDING_SHARE = 0.02  # of the blocks that hold one and the same value, from which on that value is padding
MAX_PADDING_PIXELS = 8  # with the value of padding, from which on a block lies at its edge
MIN_BLOCKS = 4  # with content, below which padding and constant blocks count, too
NOISE_SPANS = 1.5  # standard deviations of noise that the range spans at least, as in a field without any structure

FloatArray = npt.NDArray[np.float64]


def black_and_white(windows: Sequence[npt.NDArray[Any]]) -> tuple[float, float] | None:
    """The black and the white level of samples ``(Y, X)`` of an image; None where no pixel is finite.

    They are percentiles of the trimmed means of blocks, so that they follow the image and not its noise: nearly the
    same for a noisy scan and for the mean of many. Constant blocks of one value (padding, a mask) are left out, with
    what borders on them, and so are pixels that are not finite. A change of the pixels' gain and offset changes the
    levels by the same.
    """
    planes = [np.atleast_2d(np.asarray(window, dtype=np.float64)) for window in windows]
    side = min([BLOCK_SIDE, *(length for plane in planes for length in plane.shape)], default=0)
    means = np.empty(0)
    if not planes:
        return None
    if side > 1:
        blocks = np.concatenate([patches(plane, side).reshape(-1, side * side) for plane in planes])
        means = _trimmed_means(_with_content(blocks[np.isfinite(blocks).all(axis=1)]))
    if not means.size or means.min() == means.max():
        means = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    if not means.size:
        return None
    black, white = (float(level) for level in np.percentile(means, PERCENTILES))
    if not black < white:  # a few bright pixels on a flat background
        black, white = float(means.min()), float(means.max())
    if not black < white:
        return black, max(black + 1.0, math.nextafter(black, math.inf))
    lacking = NOISE_SPANS * noise_of(planes) - (white - black)
    return (black - lacking / 2, white + lacking / 2) if lacking > 0 else (black, white)


def _with_content(blocks: FloatArray) -> FloatArray:
    """The blocks ``(blocks, pixels)`` that are neither constant nor at the edge of padding; all if they are too few."""
    if not len(blocks):
        return blocks
    constant = blocks.min(axis=1) == blocks.max(axis=1)
    values, counts = np.unique(blocks[constant, 0], return_counts=True)
    kept = ~constant
    for value in values[counts >= MIN_PADDING_SHARE * len(blocks)]:
        kept &= (blocks == value).sum(axis=1) < MAX_PADDING_PIXELS
    if kept.sum() >= MIN_BLOCKS:
        return np.asarray(blocks[kept])
    return np.asarray(blocks[~constant]) if (~constant).sum() >= MIN_BLOCKS else blocks


def _trimmed_means(blocks: FloatArray) -> FloatArray:
    cut = round(TRIMMED_SHARE * blocks.shape[1])
    parted = np.partition(blocks, (cut, blocks.shape[1] - cut - 1), axis=1)
    return np.asarray(parted[:, cut : blocks.shape[1] - cut].mean(axis=1))


def noise_of(planes: Sequence[npt.NDArray[Any]]) -> float:
    """The median over the samples of the standard deviation of their noise; 0 for planes below 3 pixels a side."""
    large = [middle(plane).astype(np.float64) for plane in planes if plane.ndim == 2 and min(plane.shape) >= 3]
    medians = [
        np.nanmedian(np.abs(second_difference(plane[np.newaxis]))) for plane in large if np.isfinite(plane).any()
    ]
    return float(np.median(medians)) / NORMAL_MEDIAN if medians else 0.0


def middle(plane: npt.NDArray[Any], side: int = 256) -> npt.NDArray[Any]:
    """The middle of a plane ``(Y, X)``, of which so many pixels a side are enough."""
    top, left = (max(0, (length - side) // 2) for length in plane.shape)
    return plane[top : top + side, left : left + side]
