"""Which downsampling makes the LR images of pairs out of the HR images: the one that leaves the least of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pssr2_monai.calibration.grey_windows import evenly
from pssr2_monai.calibration.real_pairs import Pairs, Reading, read_pairs
from pssr2_monai.crappify.crappify import DOWNSAMPLINGS
from pssr2_monai.data.pairs import Sheet

COMPARED_PAIRS = 6  # read once with each downsampling
COMPARED_PIXELS = 2**18  # LR pixels of them
CLEAR_ERRORS = 4.0  # standard errors by which another downsampling must leave less than the default
LEAST_GAIN = 0.002  # share of what the default leaves, by which it must do so, too
FloatArray = npt.NDArray[np.floating]


def find_downsampling(sheets: Sequence[Sheet], scale: int, reading: Reading) -> str:
    """Return the downsampling of the HR images that is nearest to the LR images.

    It is the first of ``DOWNSAMPLINGS`` unless another is clearly nearer, which takes structure of a few HR pixels that
    noise does not hide. Where LR pixels are wrongly taken to be blurred, networks sharpen real scans too much.
    """
    default, *others = DOWNSAMPLINGS
    if scale == 1:
        return default
    chosen = [sheets[number] for number in evenly(len(sheets), COMPARED_PAIRS)]
    left = {
        mode: _left(read_pairs(chosen, scale, COMPARED_PIXELS, replace(reading, downsample=mode), quiet=True))
        for mode in DOWNSAMPLINGS
    }
    nearest = min(others, key=lambda mode: float(np.nanmean(left[mode])))
    return nearest if _clearly_less(left[nearest], left[default]) else default


def _left(pairs: Pairs) -> FloatArray:
    """The squared difference of each LR image from its line over the HR image's pixels; NaN where they are not good."""
    left = np.full(pairs.lr.shape, np.nan)
    for image in np.unique(pairs.image):
        pixels = pairs.good & (pairs.image == image)[:, None, None]
        x, y = (stack[pixels].astype(np.float64) for stack in (pairs.clean, pairs.lr))
        if len(x):
            x -= x.mean()
            slope = (x @ y) / max(float(x @ x), 1e-12)
            left[pixels] = (y - y.mean() - slope * x) ** 2
    return left


def _clearly_less(tried: FloatArray, default: FloatArray) -> bool:
    """Whether the mean over the same pixels is less by more than chance, and by enough to matter."""
    less = (default - tried).ravel()
    less = less[np.isfinite(less)]
    if len(less) < 2:
        return False
    error = float(less.std(ddof=1)) / math.sqrt(len(less))
    return float(less.mean()) > max(CLEAR_ERRORS * error, LEAST_GAIN * float(np.nanmean(default)))
