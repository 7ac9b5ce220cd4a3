"""FSIM: similarity of features by phase congruency and gradient (Zhang et al. 2011, IEEE TIP 20:2378).

Phase congruency, from 0 to 1, is high where the waves of many sizes are in phase: at edges, lines and corners, whatever
their contrast (Kovesi 1999, Videre 1:3). It says where an image has features, and weights the comparison.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import fft2, fftfreq, ifft2
from scipy.ndimage import convolve1d

from pssr2_monai.crappify.noise import GREY_LEVELS

WORKING_SIDE_PX = 256  # images are averaged down until their smaller side is about this
MIN_FSIM_SIDE_PX = 48  # half the longest wave would not fit into less
SIMILARITY_CONSTANTS = 0.85, 160.0  # T1 of phase congruency, T2 of gradients in squared 8-bit grey levels
SHORTEST_WAVE_PX, SCALES, WAVE_RATIO, ORIENTATIONS = 6, 4, 2, 4  # waves of 6, 12, 24 and 48 px
BANDWIDTH = 0.55  # of a log-Gabor filter: its standard deviation over its centre frequency
ANGULAR_SIGMA = math.pi / ORIENTATIONS / 1.2
LOW_PASS, LOW_PASS_ORDER = 0.45, 15  # Butterworth, against the corners of the spectrum
NOISE_SIGMAS, NOISE_SHRINKAGE = 2.0, 1.7  # response below which a feature is called noise
TINY = 1e-4
FloatArray = npt.NDArray[np.float32]


def fsim(image: np.ndarray, target: np.ndarray, data_range: float = 1.0) -> float:
    """Return the feature similarity index, 1 for equal images, averaged over frames.

    As published, an image whose smaller side is 384 pixels or more is first averaged over blocks of pixels, to a side
    of about 256: in larger images it judges coarse features only. NaN where a side is below 48 pixels.
    """
    if min(image.shape[-2:]) < MIN_FSIM_SIDE_PX:
        return math.nan
    factor = GREY_LEVELS / data_range
    pairs = zip(np.asarray(image, np.float32), np.asarray(target, np.float32), strict=True)
    return float(np.mean([_plane_fsim(*(_averaged_down(plane * factor) for plane in pair)) for pair in pairs]))


def _averaged_down(plane: FloatArray) -> FloatArray:
    """Means over square blocks of pixels; what does not fill a block at the end of an axis is left out."""
    side = max(1, int(min(plane.shape) / WORKING_SIDE_PX + 0.5))
    height, width = (length // side for length in plane.shape)
    blocks = plane[: height * side, : width * side].reshape(height, side, width, side)
    means: FloatArray = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means


def _plane_fsim(first: FloatArray, second: FloatArray) -> float:
    congruencies = [phase_congruency(plane) for plane in (first, second)]
    gradients = [_gradient(plane) for plane in (first, second)]
    similarity: np.ndarray = np.ones_like(first)
    for (a, b), constant in zip((congruencies, gradients), SIMILARITY_CONSTANTS, strict=True):
        similarity = similarity * (2 * a * b + constant) / (a * a + b * b + constant)
    weights = np.maximum(*congruencies)
    total = float(weights.sum(dtype=np.float64))
    return float((similarity * weights).sum(dtype=np.float64)) / total if total else math.nan


def _gradient(plane: FloatArray) -> FloatArray:
    """Return the gradient's magnitude by Scharr's operator, zeros beyond the border."""
    slopes = []
    for axis in (0, 1):
        smooth = convolve1d(plane, [3 / 16, 10 / 16, 3 / 16], axis=1 - axis, mode="constant")
        slopes.append(convolve1d(smooth, [1, 0, -1], axis=axis, mode="constant"))
    magnitude: FloatArray = np.hypot(*slopes)
    return magnitude


def phase_congruency(plane: FloatArray) -> FloatArray:
    """Return the phase congruency of a plane ``(Y, X)``, from 0 to 1, over all orientations."""
    radial, angular = _filters(*plane.shape)
    spectrum = fft2(np.asarray(plane, np.float32))
    congruent, amplitudes = np.zeros(plane.shape, np.float32), np.zeros(plane.shape, np.float32)
    for spread in angular:
        # A filter on one side of the spectrum: its response is the even part plus i times the odd part.
        responses = [ifft2(spectrum * (wave * spread)) for wave in radial]
        total = np.sum(responses, axis=0)
        direction = total / (np.abs(total) + TINY)
        energy = np.zeros(plane.shape, np.float32)
        for response in responses:
            aligned = response * np.conj(direction)  # its phase is that from the mean phase
            energy += aligned.real - np.abs(aligned.imag)
            amplitudes += np.abs(response)
        congruent += np.maximum(energy - _noise_response(responses[0], radial, spread), 0)
    return congruent / (amplitudes + TINY)


def _noise_response(finest: np.ndarray, radial: FloatArray, spread: FloatArray) -> float:
    """Return the energy that noise alone reaches, for white noise whose power is estimated from the finest filter.

    Its amplitudes follow Rayleigh's distribution, the squares of which have a median of ln 2 times their mean.
    """
    power = float(np.median(np.abs(finest) ** 2)) / math.log(2) / float(np.sum((radial[0] * spread) ** 2))
    summed = radial.sum(axis=0) * spread
    mirrored = np.roll(summed[::-1, ::-1], 1, axis=(0, 1))
    scale = math.sqrt(power * float(np.sum(((summed + mirrored) / 2) ** 2)))
    threshold = scale * (math.sqrt(math.pi / 2) + NOISE_SIGMAS * math.sqrt(2 - math.pi / 2))
    return threshold / NOISE_SHRINKAGE


@lru_cache(maxsize=4)
def _filters(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """The filters' radial parts ``(scales, Y, X)`` and angular ones ``(orientations, Y, X)``, in the order of a FFT."""
    y, x = fftfreq(height)[:, None], fftfreq(width)[None]
    radius = np.hypot(y, x)
    radius[0, 0] = 1  # whose response is set to 0 below
    low_pass = 1 / (1 + (radius / LOW_PASS) ** (2 * LOW_PASS_ORDER))
    centres = [1 / (SHORTEST_WAVE_PX * WAVE_RATIO**scale) for scale in range(SCALES)]
    radial = [np.exp(-(np.log(radius / centre) ** 2) / (2 * math.log(BANDWIDTH) ** 2)) * low_pass for centre in centres]
    for part in radial:
        part[0, 0] = 0
    angle = np.arctan2(-y, x)
    angular = []
    for orientation in range(ORIENTATIONS):
        turned = angle - orientation * math.pi / ORIENTATIONS
        distance = np.arctan2(np.sin(turned), np.cos(turned))
        angular.append(np.exp(-(distance**2) / (2 * ANGULAR_SIGMA**2)))
    return np.stack(radial).astype(np.float32), np.stack(angular).astype(np.float32)
