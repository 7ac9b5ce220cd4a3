"""Errors of a restored image against its scan, without ground truth, as NanoJ-SQUIRREL has them (Culley et al. 2018).

"Quantitative mapping and minimization of super-resolution optical imaging artifacts", Nat. Methods 15:263. The restored
image, brought to the pixels of the scan, is blurred with a Gaussian, the resolution scaling function, and multiplied by
a gain and shifted by an offset; all three are those of the least squared error. What remains is the error map; its
root mean square is the resolution-scaled error (RSE), and the correlation of the two images is the resolution-scaled
Pearson coefficient (RSP). NanoJ-SQUIRREL enlarges the reference to the restored image's pixels instead, and registers
the two, which here share a grid. The noise of the scan counts as error: compare results for one and the same scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar

from pssr2_monai.crappify.noise import GREY_LEVELS

MAX_SIGMA_PX = 8.0  # of the resolution scaling function, in pixels of the scan
TRUNCATE = 4.0  # standard deviations at which its weights end
MAX_REACH_PX = math.ceil(TRUNCATE * MAX_SIGMA_PX)  # around a pixel, on which its predicted value may depend
ROUNDING = 1e-12  # share of a mean square below which a variance is nothing but rounding
BINS = 4096  # of squared frequencies, up to the highest of the pixels
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ResolutionScaling:
    """How a restored image becomes the scan that it predicts: blurred, multiplied and shifted."""

    sigma: float  # of the Gaussian, in pixels of the scan
    gain: float
    offset: float

    def apply(self, planes: FloatArray) -> FloatArray:
        """Predict the scan from the restored planes ``(..., Y, X)`` on its pixels."""
        widths = (0.0,) * (planes.ndim - 2) + (self.sigma, self.sigma)
        blurred = gaussian_filter(planes, widths, truncate=TRUNCATE) if self.sigma else planes
        predicted: FloatArray = blurred * self.gain + self.offset
        return predicted


@dataclass
class ErrorSums:
    """Running sums of predicted and scanned pixels, for RSE and RSP."""

    count: int = 0
    sums: npt.NDArray[np.float64] | None = None  # of both, both squares and the product

    def add(self, predicted: FloatArray, scan: FloatArray) -> None:
        a, b = (np.asarray(planes, np.float64).ravel() for planes in (predicted, scan))
        sums = np.array([a.sum(), b.sum(), a @ a, b @ b, a @ b])
        self.count += a.size
        self.sums = sums if self.sums is None else self.sums + sums

    @property
    def rse(self) -> float:
        """The root mean square difference; NaN without pixels."""
        if self.sums is None or not self.count:
            return math.nan
        _, _, squares, others, products = self.sums / self.count
        return math.sqrt(max(0.0, squares + others - 2 * products))

    @property
    def rsp(self) -> float:
        """Pearson's correlation; NaN where either is constant."""
        if self.sums is None or not self.count:
            return math.nan
        mean, other_mean, squares, others, products = self.sums / self.count
        variances = squares - mean**2, others - other_mean**2
        if variances[0] <= ROUNDING * squares or variances[1] <= ROUNDING * others:
            return math.nan
        return float((products - mean * other_mean) / math.sqrt(variances[0] * variances[1]))

    def figures(self, scaling: ResolutionScaling) -> dict[str, float | None]:
        """RSE and RSP by these names, None where there is none, and the scaling."""
        found = {"rse": self.rse, "rsp": self.rsp}
        return {name: value if math.isfinite(value) else None for name, value in found.items()} | asdict(scaling)


def fit_scaling(restored: Sequence[FloatArray], scans: Sequence[FloatArray]) -> ResolutionScaling:
    """Fit blur, gain and offset for windows ``(Y, X)`` of a restored image and of its scan, on the scan's pixels.

    A cosine transform of each window turns the Gaussian, with mirrored borders, into a product, so that a sigma is
    judged by a few sums.
    """
    count = sum(window.size for window in restored)
    mean, scan_mean = (
        sum(float(window.sum(dtype=np.float64)) for window in windows) / count for windows in (restored, scans)
    )
    powers, products = np.zeros(BINS), np.zeros(BINS)
    for window, scan in zip(restored, scans, strict=True):
        a, b = (
            dctn(np.asarray(plane, np.float32) - np.float32(m), norm="ortho")
            for plane, m in ((window, mean), (scan, scan_mean))
        )
        y, x = (np.arange(side) / (2 * side) for side in a.shape)
        bins = np.minimum((2 * BINS * (y[:, None] ** 2 + x[None] ** 2)).astype(np.intp), BINS - 1).ravel()
        powers += np.bincount(bins, (a.astype(np.float64) ** 2).ravel(), minlength=BINS)
        products += np.bincount(bins, (a.astype(np.float64) * b).ravel(), minlength=BINS)
    squared_frequency = np.arange(BINS) / (2 * BINS)

    def gain(sigma: float) -> tuple[float, float]:
        """The gain, and the squared error that it removes."""
        kept = np.exp(-2 * (math.pi * sigma) ** 2 * squared_frequency)
        product, power = float(products @ kept), float(powers @ kept**2)
        return (product / power, max(product, 0.0) ** 2 / power) if power else (0.0, 0.0)

    candidates = [0.0, *np.geomspace(0.2, MAX_SIGMA_PX, 12)]
    best = int(np.argmax([gain(sigma)[1] for sigma in candidates]))
    ends = candidates[max(0, best - 1)], candidates[min(len(candidates) - 1, best + 1)]
    found = minimize_scalar(lambda sigma: -gain(sigma)[1], bounds=ends, method="bounded", options={"xatol": 1e-4})
    sigma = float(max((candidates[best], found.x), key=lambda value: gain(value)[1]))  # the former where both are 0
    scale = gain(sigma)[0]
    return ResolutionScaling(sigma, scale, scan_mean - scale * mean)


def scaled_errors(
    restored: FloatArray, scan: FloatArray, mask: npt.NDArray[np.bool_] | None = None
) -> tuple[FloatArray, ErrorSums, ResolutionScaling]:
    """Compare restored planes ``(frames, Y, X)`` with the scan, with one scaling for all frames.

    Args:
        restored: of the size of the scan or whole times as large, along each axis; averaged over the scan's pixels.
        scan: the input.
        mask: of the restored pixels; the sums are of the scan's pixels that lie in it wholly.

    Returns:
        The error map, the absolute difference of each pixel; the sums that hold RSE and RSP; and the scaling.
    """
    seen = _on_pixels_of(scan, restored)
    scaling = fit_scaling(list(seen), list(scan))
    predicted = scaling.apply(seen)
    sums = ErrorSums()
    wholly = np.s_[:] if mask is None else _on_pixels_of(scan, mask.astype(np.float32)) == 1
    sums.add(predicted[wholly], scan[wholly])
    return np.abs(scan - predicted), sums, scaling


def rse(
    restored: FloatArray, scan: FloatArray, data_range: float = 1.0, mask: npt.NDArray[np.bool_] | None = None
) -> float:
    """Return the resolution-scaled error in grey levels of an 8-bit image; see ``scaled_errors``."""
    return GREY_LEVELS * scaled_errors(restored, scan, mask)[1].rse / data_range


def rsp(restored: FloatArray, scan: FloatArray, mask: npt.NDArray[np.bool_] | None = None) -> float:
    """Return the resolution-scaled Pearson coefficient; see ``scaled_errors``. NaN where either image is constant."""
    return scaled_errors(restored, scan, mask)[1].rsp


def _on_pixels_of(scan: FloatArray, restored: FloatArray) -> FloatArray:
    blocks = [(size, large // size) for size, large in zip(scan.shape, restored.shape, strict=True)]
    means: FloatArray = restored.reshape([length for pair in blocks for length in pair]).mean(axis=(1, 3, 5))
    return means
