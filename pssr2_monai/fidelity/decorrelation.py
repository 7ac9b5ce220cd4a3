"""Resolution of a single image by decorrelation analysis (Descloux, Grußmayer and Radenovic 2019, Nat. Methods 16:918).

The spectrum is compared with itself after every coefficient was divided by its magnitude: their correlation inside a
disk of radius r rises while the disk gains signal, and falls when it gains noise alone. High-pass filters that take
away more and more of the coarse structure move that peak to finer ones, up to the cut-off of the signal. Neither truth
nor a second image is needed. Noise that neighbouring pixels share, as after interpolation or denoising, ends where the
interpolation ends: of a restored image this is the finest period that it shows, not the finest that is true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft2

from pssr2_monai.errors import InputError

MIN_DECORRELATION_SIDE_PX = 32
EDGE_PX = 20  # faded to the mean at each border, at most a quarter of the side
RADII, FILTERS = 50, 10
WEAKEST_SIGMA_PX = 0.15  # of the Gaussian that a high-pass filter subtracts; the strongest is that of the first peak
MIN_DROP = 5e-4  # of the correlation behind a peak
MIN_HEIGHT = 0.05  # of a peak; lower ones are noise
BINS = 4096  # of radii, up to the highest frequency of the pixels
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Peak:
    """A peak of the correlation."""

    radius: float  # 1 is the highest frequency of the pixels, half a period per pixel
    height: float


def decorrelation_resolution(image: np.ndarray) -> float:
    """Return the finest period, in pixels, that an image ``(frames, Y, X)`` or ``(Y, X)`` holds above its noise.

    One for all frames; 2 is the finest that pixels hold. NaN where a side is below 32 pixels, and where there is no
    peak, as in noise and in constant images.
    """
    if min(image.shape[-2:]) < MIN_DECORRELATION_SIDE_PX:
        return math.nan
    finest = max(peaks(image), key=lambda peak: peak.radius, default=None)
    return 2 / finest.radius if finest else math.nan


def peaks(image: np.ndarray) -> list[Peak]:
    """Return the peaks of the correlation of the image and of its high-pass filtered versions.

    The filters and radii around the finest peak are gone through once more in smaller steps, and those peaks returned.

    Raises:
        InputError: a side is below 32 pixels.
    """
    if min(image.shape[-2:]) < MIN_DECORRELATION_SIDE_PX:
        raise InputError(
            f"decorrelation analysis: {image.shape[-2]} x {image.shape[-1]} pixels are too few; give at least "
            f"{MIN_DECORRELATION_SIDE_PX} a side"
        )
    spectrum = _Spectrum.of(image)
    radii = np.linspace(0, 1, RADII)
    first = spectrum.peak(None, radii)
    longest = 2 / first.radius if first else max(image.shape[-2:]) / 2
    sigmas = [max(image.shape[-2:]) / 4, *np.geomspace(longest, WEAKEST_SIGMA_PX, FILTERS)]
    candidates = [(sigma, spectrum.peak(sigma, radii)) for sigma in sigmas]
    clear = [(sigma, peak) for sigma, peak in candidates if peak and peak.height > MIN_HEIGHT]
    found = [peak for peak in (first, *(peak for _, peak in clear)) if peak]
    if not clear:
        return found
    # Once more, finer, around the filters with the finest peak and with the one that is both fine and high.
    chosen = [max(clear, key=key) for key in (lambda c: c[1].radius, lambda c: c[1].radius * c[1].height)]
    step = 1 / (RADII - 1)
    low, high = (end(peak.radius for _, peak in chosen) for end in (min, max))
    finer = np.linspace(max(0, low - step), min(1, high + 2 * step), RADII)
    places = [sigmas.index(sigma) for sigma, _ in chosen]
    ends = sigmas[max(1, min(places) - 1)], sigmas[min(len(sigmas) - 1, max(places) + 1)]
    refined = [spectrum.peak(sigma, finer) for sigma in np.geomspace(*ends, FILTERS)]
    return [peak for peak in refined if peak and peak.height > MIN_HEIGHT] or found


@dataclass(frozen=True)
class _Spectrum:
    """Sums over the coefficients of a spectrum, in bins of their radius."""

    counts: FloatArray
    magnitudes: FloatArray
    powers: FloatArray

    @classmethod
    def of(cls, image: np.ndarray) -> _Spectrum:
        planes = np.asarray(image, np.float32).reshape(-1, *image.shape[-2:])
        height, width = planes.shape[-2:]
        window = np.outer(_faded(height), _faded(width)).astype(np.float32)
        y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
        radius = np.minimum((2 * BINS * np.hypot(y, x)).astype(np.intp), BINS).ravel()
        weights = np.broadcast_to(multiplicities(width), (height, x.shape[1])).ravel()
        sums = np.zeros((3, BINS + 1))
        for plane in planes:
            magnitude = np.abs(rfft2((plane - plane.mean()) * window)).ravel().astype(np.float64)
            for row, values in zip(sums, (weights, weights * magnitude, weights * magnitude**2), strict=True):
                row += np.bincount(radius, values, minlength=BINS + 1)
        return cls(*sums[:, :BINS])

    def peak(self, sigma: float | None, radii: FloatArray) -> Peak | None:
        """Return the peak after a high-pass filter, the image minus its Gaussian of sigma pixels."""
        frequency = (np.arange(BINS) + 0.5) / (2 * BINS)
        kept = 1.0 if sigma is None else 1 - np.exp(-2 * (math.pi * sigma * frequency) ** 2)
        total = float(np.sum(self.powers * kept**2))
        if not total:
            return None
        index = np.round(radii * BINS).astype(np.intp)
        inside, number = (
            np.concatenate([[0.0], np.cumsum(part)])[index] for part in (self.magnitudes * kept, self.counts)
        )
        norm = np.sqrt(total * number)
        correlation = np.divide(inside, norm, out=np.zeros_like(inside), where=norm > 0)
        place = peak_of(correlation)
        return None if place is None else Peak(float(radii[place]), float(correlation[place]))


def peak_of(curve: FloatArray) -> int | None:
    """Return where a curve is highest before it falls for good; None where it does not.

    A maximum at the end is not a peak, nor one behind which the curve hardly falls: the end is then left out.
    """
    for end in range(len(curve), 1, -1):
        place = int(np.argmax(curve[:end]))
        if place == 0:
            return None
        if curve[place] - curve[place:end].min() >= MIN_DROP:
            return place
    return None


def multiplicities(width: int) -> FloatArray:
    """How many coefficients of ``fft2`` each column of ``rfft2`` stands for, which leaves out one of two mirrored."""
    counts = np.full(width // 2 + 1, 2.0)
    counts[0] = 1
    if width % 2 == 0:
        counts[-1] = 1
    return counts


def _faded(length: int) -> FloatArray:
    """Weights of 1 that fall to 0 at both ends, by a raised cosine."""
    edge = min(EDGE_PX, length // 4)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    return np.concatenate([rise, np.ones(length - 2 * edge), rise[::-1]])
