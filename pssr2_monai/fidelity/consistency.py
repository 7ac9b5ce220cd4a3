"""Agreement of an SR image with the LR image that it was restored from: z-scores of pixels, scores of structures.

The SR is crappified without drawing noise: downsampled, with the detector's response. Its difference from the LR, over
the standard deviation of the noise that the record of the weights names, is a z-score. A single pixel shows little of a
faint structure of several pixels; z-scores smoothed to the structure's size show much more. A network reproduces some
of the noise, at some places more than at others, so that the differences are smaller than the noise and not uniform: a
smoothed z-score is compared with the mean and the spread of those around it, or with the noise where that is stricter.

Images are ``(frames, Y, X)`` or ``(Y, X)`` arrays in grey levels of 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.optimize import brentq

from pssr2_monai.crappify.noise import GREY_LEVELS, NoiseCurve
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, second_difference, variance_line

SIGMAS = (0.8, 1.2, 1.8, 2.6)  # LR pixels to which z-scores are smoothed: disks of about 2 to 9 pixels
RING_SIGMA, RING_INNER_SIGMA = 8.0, 4.0
"""LR pixels (standard deviations) of the ring with which a place is compared: Gaussian weights minus narrower ones of
the same height, so that a structure is not compared with itself."""
MAX_NEIGHBOUR_SCORE = 3.0  # spreads at which smoothed z-scores are clipped in the ring, lest they hide each other
MIN_VARIANCE_SHARE = 0.05
"""Share of the variance that noise alone gives smoothed z-scores, added to the ring's: where a network reproduces all
of the noise, the ring's is nearly 0, and any trifle would stand out."""
TRUNCATE = 3.0  # standard deviations at which Gaussian weights end
BRIGHTNESS_SIGMA = 1.0  # LR pixels (a standard deviation) over which the LR's brightness is averaged
HALO = math.ceil(TRUNCATE * (RING_SIGMA + max(SIGMAS) + BRIGHTNESS_SIGMA)) + 1  # LR pixels that a block's scores need
FALSE_ALARMS = 0.002  # probability that an image without invented structure shows one, if differences were Gaussian
FLAT_SHARE = 0.3  # of the pixels, the flattest, whose noise is measured
MIN_WINDOW_PX, MIN_FLAT_PIXELS, BRIGHTNESS_GROUPS = 8, 500, 16
"""Least side of a window and least number of flat pixels for that measurement, and groups by brightness."""
MIN_NOISE = 0.25  # grey levels; no detector has less, and a pixel that cannot vary would have an infinite z-score
SATURATED = (0.5, 254.5)  # grey levels below and above which pixels are saturated or lost
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Expectation:
    """The LR image that is expected of an SR image, and its noise."""

    curve: NoiseCurve  # mean and variance that the crappifier's noises give
    gain: float = 1.0  # factor by which the LR's contrast differs from that
    offset: float = 0.0  # grey levels by which its brightness differs from that
    strength: float = 1.0  # of the image's noise, as a factor of the curve's standard deviation
    measured: float | None = None  # that strength as measured in the LR; None where it could not be measured
    rounding: float = 0.0  # grey levels between two values of the file
    brighter: float = 0.0  # grey levels by which the LR is on average brighter than the crappified SR

    def z_scores(self, lr: FloatArray, downsampled: FloatArray) -> npt.NDArray[np.float32]:
        """Return SR minus LR over the noise, positive where the SR is too bright; 0 at lost pixels."""
        expected = self.gain * self.curve.response(_blurred(downsampled, self.curve.blur)) + self.offset
        # Where the SR is too dark, the noise is that of the true brightness, which the LR shows.
        brightness = np.maximum(expected, _blurred(lr, BRIGHTNESS_SIGMA))
        variance = self.curve.variance_at((brightness - self.offset) / self.gain) * (self.gain * self.strength) ** 2
        spread = np.sqrt(np.maximum(variance + self.rounding**2 / 12, MIN_NOISE**2))
        z = (expected - lr) / spread
        if self.curve.lost:
            z = np.where((lr <= SATURATED[0]) | (lr >= SATURATED[1]), 0.0, z)
        return z.astype(np.float32)


def expectation(
    curve: NoiseCurve,
    strengths: tuple[float, float],
    lr: Sequence[FloatArray],
    downsampled: Sequence[FloatArray],
    rounding: float = 0.0,
) -> Expectation:
    """Fit the expectation of an image to a sample of its windows.

    Gain and offset are fitted by least squares to windows ``(Y, X)``. The strength is that of the LR's flat patches,
    limited to the weakest and strongest noise that the crappifier draws, as factors of its curve: fine texture counts
    as noise there, so that the image alone would give too much.
    """
    clean = [curve.response(_blurred(window, curve.blur)) for window in downsampled]
    seen = np.concatenate([window.ravel() for window in clean])
    real = np.concatenate([window.ravel() for window in lr])
    used = (real > SATURATED[0]) & (real < SATURATED[1])
    gain, offset = 1.0, 0.0
    if used.sum() > 2 and float(np.std(seen[used])) > 1e-3:
        gain, offset = (float(value) for value in np.polyfit(seen[used], real[used], 1))
        if gain <= 0.05:  # the SR is unrelated to the LR
            gain, offset = 1.0, float(np.mean(real[used] - seen[used]))
    measured = _measured_strength(curve, gain, lr, clean)
    low, high = strengths
    strength = 1.0 if measured is None else min(max(measured, low), high)
    brighter = float(np.mean(real - seen))
    return Expectation(curve, gain, offset, strength, measured, rounding, brighter)


def own_curve(lr: Sequence[FloatArray], downsampled: Sequence[FloatArray]) -> NoiseCurve:
    """Measure the noise, with a variance linear in the brightness, for weights whose record of real pairs has none."""
    grey, detail = _flat_detail(lr, downsampled)
    clean = np.linspace(0, GREY_LEVELS, 256)
    if len(grey) < MIN_FLAT_PIXELS:
        return NoiseCurve(clean, clean, np.ones_like(clean))
    groups = np.array_split(np.argsort(grey), BRIGHTNESS_GROUPS)
    brightness = np.array([grey[group].mean() for group in groups])
    spread = np.array([np.median(np.abs(detail[group])) for group in groups]) / NORMAL_MEDIAN
    line = variance_line(brightness, spread**2)
    return NoiseCurve(clean, clean, line["poisson"] ** 2 * clean + line["gaussian"] ** 2)


def _measured_strength(
    curve: NoiseCurve, gain: float, lr: Sequence[FloatArray], seen: Sequence[FloatArray]
) -> float | None:
    """Noise of the LR where the SR is flattest, as a factor of the curve's standard deviation."""
    grey, detail = _flat_detail(lr, seen)
    expected = np.sqrt(curve.variance_at(grey)) * gain
    used = expected > MIN_NOISE
    if used.sum() < MIN_FLAT_PIXELS:
        return None
    return float(np.median(np.abs(detail[used]) / expected[used])) / NORMAL_MEDIAN


def _flat_detail(lr: Sequence[FloatArray], seen: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Brightness, and second difference of the LR, of the pixels where the SR is flattest."""
    parts: list[FloatArray] = [np.empty((3, 0))]
    for image, clean in zip(lr, seen, strict=True):
        if min(image.shape) >= MIN_WINDOW_PX:
            inside = ((image > SATURATED[0]) & (image < SATURATED[1]))[1:-1, 1:-1]
            slope = np.hypot(*np.gradient(gaussian_filter(clean, 1.0)))
            parts.append(np.stack([clean[1:-1, 1:-1], second_difference(image), slope[1:-1, 1:-1]])[:, inside])
    brightness, details, slopes = np.concatenate(parts, axis=1)
    flat = slopes <= np.quantile(slopes, FLAT_SHARE) if len(slopes) else np.zeros(0, dtype=bool)
    return brightness[flat], details[flat]


def smoothed_spreads(z: Sequence[FloatArray]) -> list[float]:
    """Return robust standard deviations of sample windows of z-scores smoothed to each of ``SIGMAS``."""
    spreads = []
    for sigma in SIGMAS:
        values = np.concatenate([np.abs(_smoothed(window, sigma)).ravel() for window in z])
        spreads.append(max(float(np.median(values)) / NORMAL_MEDIAN, 1e-6))
    return spreads


def white_spreads() -> list[float]:
    """Return the ``smoothed_spreads`` of pixels that differ by the noise alone."""
    return [1 / (2 * math.sqrt(math.pi) * sigma) for sigma in SIGMAS]


def structure_scores(z: FloatArray, spreads: Sequence[float]) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Score how much each place stands out from those around it or from the noise, at the size at which it does most.

    Takes z-scores and returns scores ``(Y, X)`` of their signs, in standard deviations of the surroundings, and the
    index of the size in ``SIGMAS``.
    """
    scores = np.zeros(z.shape, np.float32)
    sizes = np.zeros(z.shape, np.intp)
    for number, (sigma, spread, white) in enumerate(zip(SIGMAS, spreads, white_spreads(), strict=True)):
        smooth = _smoothed(z, sigma)
        clipped = np.clip(smooth, -MAX_NEIGHBOUR_SCORE * spread, MAX_NEIGHBOUR_SCORE * spread)
        mean = _ring_mean(clipped)
        variance = np.maximum(_ring_mean(clipped**2) - mean**2, 0) + MIN_VARIANCE_SHARE * white**2
        # The degrees of freedom are the independent places of the ring.
        freedom = 2 * (RING_SIGMA**2 + RING_INNER_SIGMA**2) / sigma**2
        from_ring = _normal((smooth - mean) / np.sqrt(variance), freedom)
        from_noise = smooth / max(white, spread)
        score = np.where(np.abs(from_ring) > np.abs(from_noise), from_ring, from_noise)
        higher = np.abs(score) > np.abs(scores)
        scores[higher], sizes[higher] = score[higher], number
    return scores, sizes


def _smoothed(z: FloatArray, sigma: float) -> FloatArray:
    """Gaussian-smoothed z-scores, normalised so that white ones have the same variance at the edges as elsewhere."""
    reach = int(TRUNCATE * sigma + 0.5)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    smooth = z
    for axis, size in ((0, z.shape[0]), (1, z.shape[1])):
        power = correlate1d(np.ones(size), weights**2, mode="constant") / (weights @ weights)
        smooth = correlate1d(smooth, weights, axis=axis, mode="constant")
        smooth = smooth / np.sqrt(power[:, None] if axis == 0 else power)
    return smooth


def _ring_mean(values: FloatArray) -> FloatArray:
    wide, narrow = (gaussian_filter(values, sigma, truncate=TRUNCATE) for sigma in (RING_SIGMA, RING_INNER_SIGMA))
    difference = RING_SIGMA**2 * wide - RING_INNER_SIGMA**2 * narrow
    return np.asarray(difference / (RING_SIGMA**2 - RING_INNER_SIGMA**2))


def _normal(t: FloatArray, freedom: float) -> FloatArray:
    """The normal variable that is as rare as Student's t (Wallace 1959, Ann. Math. Stat. 30:1121)."""
    size = np.sqrt(freedom * np.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return np.asarray(np.copysign(size, t))


def score_limit(pixels: int, false_alarms: float = FALSE_ALARMS) -> float:
    """Return the score that an image of so many LR pixels exceeds with this probability if nothing is invented.

    The probability is the expected Euler characteristic of smoothed Gaussian noise (Worsley et al. 1996, Hum. Brain
    Mapp. 4:58), for both signs, summed over all sizes: slightly too strict, since the sizes share their pixels.
    """
    cells = sum(pixels / (2 * sigma**2) for sigma in SIGMAS)
    factor = 2 * cells * (2 * math.pi) ** -1.5
    return float(brentq(lambda score: factor * score * math.exp(-(score**2) / 2) - false_alarms, 2, 40))


def _blurred(image: FloatArray, sigma: float) -> FloatArray:
    if sigma <= 0:
        return image
    sigmas = [0.0] * (image.ndim - 2) + [sigma, sigma]
    return np.asarray(gaussian_filter(image, sigmas, mode="mirror", truncate=TRUNCATE))
