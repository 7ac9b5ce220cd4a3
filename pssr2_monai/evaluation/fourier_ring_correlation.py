"""Fourier ring correlation: down to which period two images agree, or an image holds more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import fftfreq, rfft2, rfftfreq
from scipy.ndimage import distance_transform_edt

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.decorrelation import multiplicities

FRC_THRESHOLD = 1 / 7  # correlation at which the resolution is read
MIN_FRC_SIDE_PX = 16  # of images that are compared; a single image needs twice as much
FADING_PX = 8  # at the border of a mask
FRC_SMOOTHING_SHARE = 1 / 24  # of the rings: the ragged curve is averaged over these before its crossing is sought


@dataclass(frozen=True)
class RingCorrelation:
    """A curve of Fourier ring correlation."""

    frequency: npt.NDArray[np.float64]  # radii of the rings in periods per pixel, ascending, at most 0.5
    correlation: npt.NDArray[np.float64]  # on each ring, from -1 to 1

    def resolution(self, threshold: float = FRC_THRESHOLD) -> float:
        """Return the period, in pixels, at which the smoothed curve first falls below the threshold.

        Two pixels, the finest that pixels can hold, if it never does; the coarsest ring's period if it always is below.
        """
        smooth = _smoothed(self.correlation)
        below = np.flatnonzero(smooth < threshold)
        if not below.size:
            return 2.0
        first = int(below[0])
        if first == 0:
            return float(1 / self.frequency[0])
        before, after = smooth[first - 1], smooth[first]
        share = (before - threshold) / (before - after)
        step = self.frequency[first] - self.frequency[first - 1]
        return max(2.0, float(1 / (self.frequency[first - 1] + share * step)))

    def at(self, frequency: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the correlation at other frequencies, interpolated linearly between the rings."""
        return np.interp(frequency, self.frequency, self.correlation)


def ring_correlation(first: np.ndarray, second: np.ndarray) -> RingCorrelation:
    """Compute the Fourier ring correlation of two images, with sums over all their frames.

    The mean of each frame is subtracted and the frame multiplied with a Hann window, without which the jump from one
    border to the opposite one would correlate. They are ``(frames, Y, X)`` or ``(Y, X)``, each side at least 16 pixels.

    Example:
        >>> image = np.random.default_rng(0).normal(size=(64, 64))
        >>> ring_correlation(image, image).resolution()
        2.0
    """
    if first.shape != second.shape:
        raise InputError(f"Fourier ring correlation: images of {first.shape} and {second.shape}; give equal shapes")
    return _correlation([(_planes(first), _planes(second))])


def single_image_correlation(image: np.ndarray) -> RingCorrelation:
    """Compute the Fourier ring correlation of an image with itself, between quarters of every second row and column.

    Pixels that touch at a corner are compared: even rows and columns with odd ones, and even rows and odd columns with
    their opposites. The shift of the quarters by a pixel bends the curve; its frequencies are corrected by the factor
    that Koho et al. 2019 measured for the threshold of 1/7 ("Fourier ring correlation simplifies image restoration in
    fluorescence microscopy", supplementary note 2). Noise that neighbouring pixels share, as after interpolation,
    denoising or drift correction, counts as detail. The image is ``(frames, Y, X)`` or ``(Y, X)``, each side at least
    32 pixels.
    """
    planes = _planes(image)
    height, width = (side // 2 * 2 for side in planes.shape[-2:])
    quarters = {(y, x): planes[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)}
    curve = _correlation([(quarters[0, 0], quarters[1, 1]), (quarters[0, 1], quarters[1, 0])])
    crossing = min(1.0, 2 / curve.resolution())  # as a share of the quarters' highest frequency
    factor = 0.95988146 * np.exp(13.90441896 * (crossing - 0.97979108)) + 0.55146136
    frequency = curve.frequency * factor
    return RingCorrelation(frequency[frequency <= 0.5], curve.correlation[frequency <= 0.5])


def frc_resolution(image: np.ndarray, target: np.ndarray) -> float:
    """Return the period in pixels down to which both agree, at a Fourier ring correlation of 1/7.

    NaN where a side is below 16 pixels.
    """
    return ring_correlation(image, target).resolution() if min(image.shape[-2:]) >= MIN_FRC_SIDE_PX else math.nan


def faded(planes: np.ndarray, counted: npt.NDArray[np.bool_]) -> np.ndarray:
    """Return planes ``(frames, Y, X)`` that fade to their mean over ``FADING_PX`` from pixels that are not counted.

    Their border would correlate like detail.
    """
    depth = np.stack([distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1] for plane in counted])
    weights = np.sin(np.pi / 2 * np.minimum(depth / FADING_PX, 1)) ** 2
    mean = planes[counted].mean(dtype=np.float64)
    result: np.ndarray = ((planes - mean) * weights + mean).astype(np.float32)
    return result


def _planes(image: np.ndarray) -> np.ndarray:
    return np.asarray(image, dtype=np.float32).reshape(-1, *image.shape[-2:])


def _correlation(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> RingCorrelation:
    """The curve of pairs ``(frames, Y, X)`` of one shape, summed over all pairs and frames."""
    height, width = pairs[0][0].shape[-2:]
    side = min(height, width)
    if side < MIN_FRC_SIDE_PX:
        raise InputError(
            f"Fourier ring correlation: {height} x {width} pixels are too few; give at least {MIN_FRC_SIDE_PX} a side"
        )
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    rings, weights = _rings(height, width, side)
    sums = np.zeros((3, side // 2 + 2))
    for planes in (planes for pair in pairs for planes in zip(*pair, strict=True)):
        a, b = (rfft2((plane - plane.mean()) * window) for plane in planes)
        products = (a.real * b.real + a.imag * b.imag, a.real**2 + a.imag**2, b.real**2 + b.imag**2)
        for row, product in zip(sums, products, strict=True):
            row += np.bincount(rings, (product * weights).ravel(), minlength=len(row))
    cross, *powers = sums[:, 1:-1]  # without the mean and the corners beyond the last ring
    norm = np.sqrt(powers[0] * powers[1])
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    return RingCorrelation(np.arange(1, side // 2 + 1) / side, correlation)


def _rings(height: int, width: int, side: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """The ring of each coefficient of ``rfft2``, with one more ring beyond the last, and its multiplicity."""
    radius = np.hypot(fftfreq(height)[:, None], rfftfreq(width)[None])
    ring = np.minimum(np.floor(radius * side + 0.5).astype(np.intp), side // 2 + 1)
    return ring.ravel(), multiplicities(width).astype(np.float32)


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means over a window that shrinks towards the ends."""
    index = np.arange(len(values))
    reach = np.minimum(int(len(values) * FRC_SMOOTHING_SHARE) // 2, np.minimum(index, len(values) - 1 - index))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    smooth: npt.NDArray[np.float64] = (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)
    return smooth
