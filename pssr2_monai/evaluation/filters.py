"""A filter that learns nothing, to compare networks with: the noise is estimated from the image itself.

Variance-stabilised non-local means: the noise of flat patches gives the variance over brightness, with which the
generalised Anscombe transform makes the noise white and of the variance 1; non-local means (Buades et al. 2005) of
scikit-image takes it away, and the exact unbiased inverse (Mäkitalo and Foi 2013, IEEE Trans. Image Process. 22:91)
brings back grey levels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.restoration import denoise_nl_means

from pssr2_monai.calibration.scan_profiles import white_noise
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.errors import InputError
from pssr2_monai.images.noise_estimates import noise_level

FloatArray = npt.NDArray[np.float32]
LEAST = 1e-3  # gain and sigma in grey levels, below which there is none
MIN_DEVIATE = 2 * np.sqrt(3 / 8)  # of stabilised counts, that of no counts without Gaussian noise


def denoise(planes: FloatArray) -> FloatArray:
    """Denoise planes ``(frames, Y, X)`` in grey levels, each by itself."""
    return np.stack([_denoised(plane) for plane in planes])


def _denoised(plane: FloatArray) -> FloatArray:
    low, high = (float(level) for level in np.percentile(plane, [0.1, 99.9]))
    if not low < high:
        return plane
    grey = (plane - low) / (high - low) * GREY_LEVELS
    gain, sigma, black = _noise(grey)
    if gain < LEAST:
        scale = max(sigma, LEAST)
        clean = _smoothed(grey / scale) * scale
    else:
        clean = unstabilised(_smoothed(stabilised(grey - black, gain, sigma)), gain, sigma) + black
    return np.asarray(clean / GREY_LEVELS * (high - low) + low, np.float32)


def _noise(grey: FloatArray) -> tuple[float, float, float]:
    """Gain, Gaussian sigma and black level of a plane; of small ones the sigma alone."""
    try:
        intensity, sigma, black = white_noise(grey[None], np.ones((1, *grey.shape), bool))
    except InputError:
        return 0.0, float(np.nan_to_num(noise_level(grey))), 0.0
    return intensity**2, sigma, black


def _smoothed(stable: FloatArray) -> FloatArray:
    clean = denoise_nl_means(stable, patch_size=5, patch_distance=6, h=0.8, sigma=1.0, fast_mode=True)
    return np.asarray(clean, np.float32)


def stabilised(signal: FloatArray, gain: float, sigma: float) -> FloatArray:
    """Transform signal of the variance ``gain * signal + sigma**2`` to one of the variance 1 (generalised Anscombe)."""
    return np.asarray(2 / gain * np.sqrt(np.maximum(gain * signal + 3 / 8 * gain**2 + sigma**2, 0)), np.float32)


def unstabilised(values: FloatArray, gain: float, sigma: float) -> FloatArray:
    """Invert ``stabilised`` for the mean of noisy values, without bias (Makitalo & Foi 2013, closed form)."""
    d = np.maximum(values, MIN_DEVIATE)
    root = np.sqrt(3 / 2)
    counts = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8 - (sigma / gain) ** 2
    return np.asarray(gain * counts, np.float32)
