"""A filter that learns nothing, to compare networks with: the noise is estimated from the image itself.

Variance-stabilised non-local means: the curvature of pixels of each brightness gives the variance over brightness, with
which the generalised Anscombe transform makes the noise white and of the variance 1; non-local means (Buades et al.
2005) of scikit-image takes it away, and the exact unbiased inverse (Mäkitalo and Foi 2013, IEEE Trans. Image Process.
22:91) brings back grey levels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import minimum_filter, uniform_filter
from skimage.restoration import denoise_nl_means

from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, black_level, second_difference, variance_line
from pssr2_monai.images.padding import without_data

FloatArray = npt.NDArray[np.float32]
BRIGHTNESS_BINS = 8
MIN_BIN_PIXELS = 200  # fewer bins are made of a small plane
MIN_BINS = 4  # with fewer, noise is taken to be the same at any brightness
LEAST = 1e-3  # gain and sigma in grey levels, below which there is none
MIN_DEVIATE = 2 * np.sqrt(3 / 8)  # of stabilised counts, that of no counts without Gaussian noise
PATCH_SIDE_PX, SEARCH_PX, STRENGTH = 7, 5, 0.8
"""Of non-local means: the side of patches, how far alike ones are looked for, and the smoothing in units of the noise;
the best of some on the real images that docs/bundle.md lists."""
REACH_PX = SEARCH_PX + PATCH_SIDE_PX // 2  # pixels around one, on which its result depends, but for the noise's level


def non_local_means(stable: FloatArray) -> FloatArray:
    """Denoise a plane ``(Y, X)`` whose noise has the variance 1."""
    clean = denoise_nl_means(
        stable, patch_size=PATCH_SIDE_PX, patch_distance=SEARCH_PX, h=STRENGTH, sigma=1.0, fast_mode=True
    )
    return np.asarray(clean, np.float32)


def denoise(planes: FloatArray, smooth: Callable[[FloatArray], FloatArray] = non_local_means) -> FloatArray:
    """Denoise planes ``(frames, Y, X)`` in grey levels, each by itself, with hot and dead pixels mended.

    Pixels without data, which are not finite or padding, remain as they are. ``smooth`` denoises a plane whose noise
    has the variance 1.
    """
    return np.stack([_denoised(plane, smooth) for plane in planes])


def _denoised(plane: FloatArray, smooth: Callable[[FloatArray], FloatArray]) -> FloatArray:
    data = plane[np.isfinite(plane)]
    if not data.size or data.min() == data.max():
        return plane
    scale = IntensitySettings(mode="percentile").fit(plane, plane.dtype)
    missing = without_data(plane, scale.padding)
    grey = scale.measured(plane) * np.float32(GREY_LEVELS)
    floor = float(np.percentile(grey, 0.1))  # signal is not negative
    gain, sigma, black = noise_line(grey - floor, np.ones(plane.shape, bool) if missing is None else ~missing)
    if gain >= LEAST:
        black += floor
        clean = unstabilised(smooth(stabilised(grey - black, gain, sigma)), gain, sigma) + black
    elif sigma >= LEAST:
        clean = smooth(grey / sigma) * sigma
    else:
        return plane
    restored = np.asarray(scale.undo(clean / GREY_LEVELS), np.float32)
    return restored if missing is None else np.where(missing, plane, restored)


def noise_line(grey: FloatArray, good: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return the noise of the good pixels of a plane ``(Y, X)``: gain, Gaussian sigma and black level.

    The variance is ``gain * (brightness - black) + sigma**2``. Fine texture counts as noise, and of noise that
    neighbouring pixels share a part.
    """
    whole = minimum_filter(good, 3)[1:-1, 1:-1]
    curvature = np.abs(second_difference(grey))[whole]
    bins = min(BRIGHTNESS_BINS, len(curvature) // MIN_BIN_PIXELS)
    if bins < MIN_BINS:
        return 0.0, _spread(curvature), 0.0
    level = uniform_filter(grey, 3)[1:-1, 1:-1][whole]
    cuts = np.unique(np.quantile(level, np.linspace(0, 1, bins + 1)[1:-1]))
    members = [inside for inside in np.searchsorted(cuts, level) == np.arange(len(cuts) + 1)[:, None] if inside.any()]
    brightness = np.array([level[inside].mean() for inside in members])
    variance = np.array([_spread(curvature[inside]) ** 2 for inside in members])
    known = variance > 0
    if not known.any():
        return 0.0, 0.0, 0.0
    black = black_level(brightness[known], variance[known])
    line = variance_line(brightness[known] - black, variance[known])
    return line["poisson"] ** 2, line["gaussian"], black


def _spread(curvature: FloatArray) -> float:
    """The standard deviation of noise of this absolute curvature; by the mean where most pixels have none."""
    if not curvature.size:
        return 0.0
    return float(np.median(curvature)) / NORMAL_MEDIAN or float(np.sqrt(np.pi / 2) * curvature.mean())


def stabilised(signal: FloatArray, gain: float, sigma: float) -> FloatArray:
    """Transform signal of the variance ``gain * signal + sigma**2`` to one of the variance 1 (generalised Anscombe)."""
    return np.asarray(2 / gain * np.sqrt(np.maximum(gain * signal + 3 / 8 * gain**2 + sigma**2, 0)), np.float32)


def unstabilised(values: FloatArray, gain: float, sigma: float) -> FloatArray:
    """Invert ``stabilised`` for the mean of noisy values, without bias (Makitalo & Foi 2013, closed form)."""
    d = np.maximum(values, MIN_DEVIATE)
    root = np.sqrt(3 / 2)
    counts = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8 - (sigma / gain) ** 2
    return np.asarray(gain * counts, np.float32)
