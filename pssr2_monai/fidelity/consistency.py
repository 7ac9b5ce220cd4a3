"""Whether an SR image agrees with the LR one that it was made from: z-scores of pixels, and scores of structures.

The SR is seen as the crappifier would see it: downsampled, with the detector's response and the noise that the record
of the weights tells. What is left of the LR, over the standard deviation of its noise, is a z-score. One pixel says
little about a faint structure of several; z-scores smoothed to the structure's size say much more. A network follows
some of the noise, at some places more than at others, so that what is left is quieter than the noise and not the same
everywhere: a smoothed z-score is compared with the mean and the spread of those around it, or with the noise where that
says more.

Images are ``(frames, Y, X)`` or ``(Y, X)`` arrays in grey levels of 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d, gaussian_filter

from pssr2_monai.crappify import NoiseCurve
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, second_difference, variance_line

SIGMAS = (0.8, 1.2, 1.8, 2.6)
"""Standard deviations, in LR pixels, to which z-scores are smoothed: disks of about 2 to 9 pixels."""
AROUND, INNER = 8.0, 4.0
"""LR pixels (standard deviations) of the ring around a place whose z-scores say what is usual there: Gaussian weights
of which narrower ones of the same height are taken off, so that a structure is not compared with itself."""
CUT = 3.0
"""Smoothed z-scores count no more than so many spreads in what is usual, so that neighbours do not hide each other."""
FLOOR = 0.05
"""Share of the variance that the noise alone gives smoothed z-scores, added to what is usual: where a network follows
all of the noise, nothing is left, and a trifle would stand out."""
REACH = 3.0
"""Standard deviations at which Gaussian weights end."""
NEAR = 1.0
"""LR pixels (a standard deviation) over which the LR's own brightness is taken."""
HALO = math.ceil(REACH * (AROUND + max(SIGMAS) + NEAR)) + 1
"""LR pixels around a block that its scores depend on."""
FALSE_ALARMS = 0.002
"""Chance that an image without any invented structure shows one, if what is left of it were Gaussian."""
FLATTEST, SMALLEST, FEWEST, PARTS = 0.3, 8, 500, 16
"""Share of the pixels, the flattest, that tell the noise; the least side of a window, the fewest pixels
for it, and the groups by brightness."""
LEAST_SPREAD = 0.25
"""Grey levels; no detector is quieter, and a pixel that cannot vary would have an infinite z-score."""
SATURATED = (0.5, 254.5)
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Expectation:
    """How the SR should look at LR size, and how far the LR may be from that.

    Attributes:
        curve: of the noises.
        gain: factor that the detector's response lacks.
        offset: grey levels that it lacks.
        strength: of the image's noise, as a factor of the curve's standard deviation.
        measured: that strength as the LR image shows it; None where it could not be measured.
        rounding: grey levels between two values that the file can hold.
        brighter: grey levels by which the LR is brighter, on average, than the crappifier would make it of the SR.
    """

    curve: NoiseCurve
    gain: float = 1.0
    offset: float = 0.0
    strength: float = 1.0
    measured: float | None = None
    rounding: float = 0.0
    brighter: float = 0.0

    def expected(self, downsampled: FloatArray) -> FloatArray:
        """The noiseless LR image of a downsampled SR."""
        seen = self.curve.response(_blurred(downsampled, self.curve.blur))
        return np.asarray(self.gain * seen + self.offset)

    def z_scores(self, lr: FloatArray, downsampled: FloatArray) -> npt.NDArray[np.float32]:
        """SR less LR over the noise, positive where the SR is too bright; 0 at lost pixels."""
        expected = self.expected(downsampled)
        # A place that the SR shows too dark has the noise of its true brightness, of which the LR tells.
        bright = np.maximum(expected, _blurred(lr, NEAR))
        own = self.curve.variance_at((bright - self.offset) / self.gain) * (self.gain * self.strength) ** 2
        spread = np.sqrt(np.maximum(own + self.rounding**2 / 12, LEAST_SPREAD**2))
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
    """The expectation of an image, from a sample of its windows.

    Gain and offset are those of least squares. The strength is that of the LR's flat patches, kept within what the
    crappifier draws: fine texture passes for noise, so that the image alone would claim too much.

    Args:
        curve: of the crappifier's noises, at the middle of what it draws.
        strengths: weakest and strongest noise that is drawn, as factors of that.
        lr: windows ``(Y, X)``.
        downsampled: the SR there, downsampled.
        rounding: grey levels between two values that the file can hold.
    """
    clean = [curve.response(_blurred(each, curve.blur)) for each in downsampled]
    seen = np.concatenate([each.ravel() for each in clean])
    real = np.concatenate([each.ravel() for each in lr])
    used = (real > SATURATED[0]) & (real < SATURATED[1])
    gain, offset = 1.0, 0.0
    if used.sum() > 2 and float(np.std(seen[used])) > 1e-3:
        gain, offset = (float(each) for each in np.polyfit(seen[used], real[used], 1))
        if gain <= 0.05:  # the SR has nothing of the LR; its own brightness is the better guess
            gain, offset = 1.0, float(np.mean(real[used] - seen[used]))
    measured = _measured_strength(curve, gain, lr, clean)
    low, high = strengths
    strength = 1.0 if measured is None else min(max(measured, low), high)
    brighter = float(np.mean(real - seen))
    return Expectation(curve, gain, offset, strength, measured, rounding, brighter)


def own_curve(lr: Sequence[FloatArray], downsampled: Sequence[FloatArray]) -> NoiseCurve:
    """The noise of an image by its brightness, measured in itself: a line through the variance (Poisson and Gaussian).

    For weights that were trained on pairs of a microscope, whose record names no noise.
    """
    grey, detail = _flat_detail(lr, downsampled)
    clean = np.linspace(0, GREY_LEVELS, 256)
    if len(grey) < FEWEST:
        return NoiseCurve(clean, clean, np.ones_like(clean))
    parts = np.array_split(np.argsort(grey), PARTS)
    brightness = np.array([grey[part].mean() for part in parts])
    spread = np.array([np.median(np.abs(detail[part])) for part in parts]) / NORMAL_MEDIAN
    found = variance_line(brightness, spread**2)
    return NoiseCurve(clean, clean, found["poisson"] ** 2 * clean + found["gaussian"] ** 2)


def _measured_strength(
    curve: NoiseCurve, gain: float, lr: Sequence[FloatArray], seen: Sequence[FloatArray]
) -> float | None:
    """Noise of the LR where the SR is flattest, as a factor of the curve's standard deviation."""
    grey, detail = _flat_detail(lr, seen)
    own = np.sqrt(curve.variance_at(grey)) * gain
    told = own > LEAST_SPREAD
    if told.sum() < FEWEST:
        return None
    return float(np.median(np.abs(detail[told]) / own[told])) / NORMAL_MEDIAN


def _flat_detail(lr: Sequence[FloatArray], seen: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Brightness, and second difference of the LR, of the pixels where the SR is flattest."""
    brightness: list[FloatArray] = [np.empty(0)]
    details: list[FloatArray] = [np.empty(0)]
    steepness: list[FloatArray] = [np.empty(0)]
    for image, clean in zip(lr, seen, strict=True):
        if min(image.shape) >= SMALLEST:
            used = (image > SATURATED[0]) & (image < SATURATED[1])
            inside = used[1:-1, 1:-1]
            details.append(second_difference(image)[inside])
            brightness.append(clean[1:-1, 1:-1][inside])
            steepness.append(np.hypot(*np.gradient(gaussian_filter(clean, 1.0)))[1:-1, 1:-1][inside])
    steep = np.concatenate(steepness)
    flat = steep <= np.quantile(steep, FLATTEST) if len(steep) else np.zeros(0, dtype=bool)
    return np.concatenate(brightness)[flat], np.concatenate(details)[flat]


def smoothed_spreads(z: Sequence[FloatArray]) -> list[float]:
    """The usual size of z-scores, smoothed to each of ``SIGMAS``: a robust standard deviation of sample windows."""
    spreads = []
    for sigma in SIGMAS:
        values = np.concatenate([np.abs(_smoothed(each, sigma)).ravel() for each in z])
        spreads.append(max(float(np.median(values)) / NORMAL_MEDIAN, 1e-6))
    return spreads


def white_spreads() -> list[float]:
    """What ``smoothed_spreads`` would be of pixels that differ by the noise alone."""
    return [1 / (2 * math.sqrt(math.pi) * sigma) for sigma in SIGMAS]


def structure_scores(z: FloatArray, spreads: Sequence[float]) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """How much each place stands out from those around it or from the noise, at the size at which it does so most.

    Args:
        z: z-scores ``(Y, X)``.
        spreads: see ``smoothed_spreads``.

    Returns:
        Scores ``(Y, X)`` with the sign of the z-scores, in standard deviations of what is usual, and the number of the
        sigma in ``SIGMAS``.
    """
    scores = np.zeros(z.shape, np.float32)
    sizes = np.zeros(z.shape, np.intp)
    for number, (sigma, spread, white) in enumerate(zip(SIGMAS, spreads, white_spreads(), strict=True)):
        smooth = _smoothed(z, sigma)
        cut = np.clip(smooth, -CUT * spread, CUT * spread)
        mean = _around(cut)
        usual = np.maximum(_around(cut**2) - mean**2, 0) + FLOOR * white**2
        # As many degrees of freedom as the ring has places that differ; beyond what noise can do, none are needed.
        freedom = 2 * (AROUND**2 + INNER**2) / sigma**2
        own = _normal((smooth - mean) / np.sqrt(usual), freedom)
        noise = smooth / max(white, spread)
        own = np.where(np.abs(own) > np.abs(noise), own, noise)
        above = np.abs(own) > np.abs(scores)
        scores[above], sizes[above] = own[above], number
    return scores, sizes


def _smoothed(z: FloatArray, sigma: float) -> FloatArray:
    """Z-scores under a Gaussian, of the same variance at the edges as elsewhere if they are white."""
    reach = np.arange(-int(REACH * sigma + 0.5), int(REACH * sigma + 0.5) + 1)
    weights = np.exp(-(reach**2) / (2 * sigma**2))
    weights /= weights.sum()
    smooth = z
    for axis, size in ((0, z.shape[0]), (1, z.shape[1])):
        power = correlate1d(np.ones(size), weights**2, mode="constant") / (weights @ weights)
        smooth = correlate1d(smooth, weights, axis=axis, mode="constant")
        smooth = smooth / np.sqrt(power[:, None] if axis == 0 else power)
    return smooth


def _around(values: FloatArray) -> FloatArray:
    """The mean over the ring around each place."""
    wide, narrow = (gaussian_filter(values, each, truncate=REACH) for each in (AROUND, INNER))
    return np.asarray((AROUND**2 * wide - INNER**2 * narrow) / (AROUND**2 - INNER**2))


def _normal(t: FloatArray, freedom: float) -> FloatArray:
    """Student's t as the normal variable that is as rare (Wallace 1959, Ann. Math. Stat. 30:1121)."""
    size = np.sqrt(freedom * np.log1p(t**2 / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
    return np.asarray(np.copysign(size, t))


def score_limit(pixels: int, false_alarms: float = FALSE_ALARMS) -> float:
    """The score that an image of so many LR pixels exceeds anywhere with this chance, nothing being invented.

    The chance is the expected Euler characteristic of smoothed Gaussian noise (Worsley et al. 1996, Hum. Brain Mapp.
    4:58), of both signs, added up over all sizes: somewhat too careful, since the sizes share their pixels.
    """
    cells = sum(pixels / (2 * sigma**2) for sigma in SIGMAS)
    low, high = 2.0, 40.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        chance = 2 * cells * (2 * math.pi) ** -1.5 * middle * math.exp(-(middle**2) / 2)
        low, high = (middle, high) if chance > false_alarms else (low, middle)
    return high


def _blurred(image: FloatArray, sigma: float) -> FloatArray:
    if sigma <= 0:
        return image
    along = [0.0] * (image.ndim - 2) + [sigma, sigma]
    return np.asarray(gaussian_filter(image, along, mode="mirror", truncate=REACH))
