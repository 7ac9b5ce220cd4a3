"""Metrics of a restored image against its target, both ``(frames, Y, X)``.

PSNR, SSIM and NRMSE are scikit-image's, MS-SSIM is that of the losses; ``METRICS`` names all that an evaluation
reports. The fitted metrics and the range-invariant one first remove gain and offset, which a microscope's settings may
change; the others judge the restored image as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.regression import RegressionMetric
from scipy.fft import fftfreq, rfft2, rfftfreq
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from pssr2_monai.errors import InputError
from pssr2_monai.training.losses import ms_ssim as batch_ms_ssim

FRC_THRESHOLD = 1 / 7  # correlation at which the resolution is read
MIN_FRC_SIDE_PX = 16  # of images that are compared; a single image needs twice as much
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
    weights = np.full(ring.shape[1], 2, np.float32)  # rfft2 leaves out one of two mirrored coefficients
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    return ring.ravel(), weights


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Means over a window that shrinks towards the ends."""
    index = np.arange(len(values))
    reach = np.minimum(int(len(values) * FRC_SMOOTHING_SHARE) // 2, np.minimum(index, len(values) - 1 - index))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    smooth: npt.NDArray[np.float64] = (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)
    return smooth


MIN_SSIM_SIDE_PX = 11  # width of SSIM's Gaussian window of sigma 1.5


def psnr(image: np.ndarray, target: np.ndarray, data_range: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels of all frames; infinite for equal images.

    Not the mean over frames: in a volume whose input has every fourth slice, these slices alone may be infinite.
    """
    if np.array_equal(image, target):
        return math.inf
    return float(peak_signal_noise_ratio(target, image, data_range=data_range))


def ssim(image: np.ndarray, target: np.ndarray, data_range: float = 1.0) -> float:
    """Return the structural similarity with the Gaussian window of Wang et al. 2004, sigma 1.5, averaged over frames.

    NaN where a side is below 11 pixels.
    """
    if min(image.shape[-2:]) < MIN_SSIM_SIDE_PX:
        return math.nan
    options = {"data_range": data_range, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(np.mean([structural_similarity(hr, sr, **options) for sr, hr in zip(image, target, strict=True)]))


def ms_ssim(image: np.ndarray, target: np.ndarray, data_range: float = 1.0) -> float:
    """Return the multi-scale SSIM (Wang et al. 2003), averaged over frames; fewer scales below 161 pixels.

    NaN where a side is below 11 pixels. See ``pssr2_monai.training.losses.ms_ssim``.
    """
    if min(image.shape[-2:]) < MIN_SSIM_SIDE_PX:
        return math.nan
    with torch.inference_mode():
        sr, hr = (torch.from_numpy(np.ascontiguousarray(frames, np.float32))[:, None] for frames in (image, target))
        return float(batch_ms_ssim(sr, hr, data_range).mean())


def nrmse(image: np.ndarray, target: np.ndarray) -> float:
    """Return the root mean square error over the target's range, maximum minus minimum; NaN for a range of 0."""
    if target.max() == target.min():
        return math.nan
    return float(normalized_root_mse(target, image, normalization="min-max"))


def pixel_error(image: np.ndarray, target: np.ndarray, data_range: float = 1.0) -> float:
    """Return the root mean square error in grey levels of an 8-bit image, PSSR2's pixel metric."""
    return float(np.sqrt(np.mean((image - target) ** 2, dtype=np.float64)) * 255 / data_range)


def psnr_range_invariant(image: np.ndarray, target: np.ndarray) -> float:
    """Return the PSNR in dB after the best gain and offset, with the target's range for the data range.

    As in Weigert et al. 2018, "Content-aware image restoration", where the prediction is scaled and shifted to the
    least squared error before it is scored. NaN for a target of one value.
    """
    span = float(target.max() - target.min())
    return psnr(gain_offset(image, target)[0], target, span) if span else math.nan


def frc_resolution(image: np.ndarray, target: np.ndarray) -> float:
    """Return the period in pixels down to which both agree, at a Fourier ring correlation of 1/7.

    NaN where a side is below 16 pixels. See ``pssr2_monai.evaluation.measures``.
    """
    return ring_correlation(image, target).resolution() if min(image.shape[-2:]) >= MIN_FRC_SIDE_PX else math.nan


def gain_offset(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the image to the target by one gain and one offset for all frames, with the least squared error.

    Returns:
        The fitted image, unclipped, and the target unchanged.
    """
    mean, target_mean = float(image.mean(dtype=np.float64)), float(target.mean(dtype=np.float64))
    centred = image.astype(np.float64) - mean
    variance = float(np.mean(centred**2))
    gain = float(np.mean(centred * (target - target_mean))) / variance if variance else 0.0
    return (centred * gain + target_mean).astype(np.float32), target


def pssr2_normalised(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalise image and target in [0, 1] as PSSR2 2.4.0's ``normalize_preds`` does before it scores them.

    Each frame by itself, on 8 bits: the target is stretched from its 0.1 to its 99.9 percentile, the image fitted to it
    by least squares, both brought to the target's brightness, clipped to 0..255 and cut to whole grey levels.
    """
    pairs = [_pssr2_plane(sr, hr) for sr, hr in zip(image, target, strict=True)]
    return np.stack([sr for sr, _ in pairs]), np.stack([hr for _, hr in pairs])


def _pssr2_plane(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sr, hr = image.astype(np.float64) * 255, target.astype(np.float64) * 255
    low, high = np.percentile(hr, [0.1, 99.9])
    brightness = hr.mean()
    hr = (hr - low) / (high - low + 1e-20)
    hr -= hr.mean()
    sr -= sr.mean()
    variance = sr.var()
    sr *= np.mean(sr * hr) * sr.size / (sr.size - 1) / variance if variance else 0.0
    black = hr.min()
    shifted = [(plane - black) * high for plane in (sr, hr)]
    levels = [np.clip(plane * brightness / (plane.mean() or 1.0), 0, 255).astype(np.uint8) for plane in shifted]
    return levels[0].astype(np.float32) / 255, levels[1].astype(np.float32) / 255


NORMALISATIONS = {"least_squares": gain_offset, "pssr2": pssr2_normalised}
"""Functions from image and target to what the fitted metrics score."""


@dataclass(frozen=True)
class Metric:
    """A metric of an image against its target."""

    label: str
    unit: str  # empty for plain numbers
    higher_is_better: bool
    digits: int  # after the decimal point
    meaning: str  # one sentence
    function: Callable[[np.ndarray, np.ndarray], float]  # of image and target ``(frames, Y, X)`` in [0, 1]


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR", "dB", True, 2, "Peak signal-to-noise ratio, as restored.", psnr),
    "ssim": Metric("SSIM", "", True, 4, "Structural similarity, as restored.", ssim),
    "ms_ssim": Metric("MS-SSIM", "", True, 4, "Structural similarity at several sizes.", ms_ssim),
    "psnr_fitted": Metric("PSNR, fitted", "dB", True, 2, "PSNR after gain and offset were fitted.", psnr),
    "ssim_fitted": Metric("SSIM, fitted", "", True, 4, "SSIM after gain and offset were fitted.", ssim),
    "psnr_range_invariant": Metric(
        "PSNR, range-invariant", "dB", True, 2, "Fitted PSNR with HR's own range for the peak.", psnr_range_invariant
    ),
    "nrmse": Metric("NRMSE", "", False, 4, "Root mean square error over HR's range.", nrmse),
    "pixel_error": Metric(
        "Pixel error", "of 255", False, 2, "Root mean square error in 8-bit grey levels.", pixel_error
    ),
    "frc_resolution": Metric(
        "FRC resolution", "px", False, 2, "Smallest period that agrees with HR, at correlation 1/7.", frc_resolution
    ),
}
FITTED = ("psnr_fitted", "ssim_fitted")  # the metrics of normalised images


def scores(
    image: np.ndarray, target: np.ndarray, normalise: str = "least_squares", resolution: float | None = None
) -> dict[str, float]:
    """Score an image ``(frames, Y, X)`` in [0, 1] against its target by all of ``METRICS``.

    Args:
        image: the restored image.
        target: the true one.
        normalise: normalisation before the fitted metrics, ``least_squares`` or ``pssr2``.
        resolution: the ``frc_resolution``, where it is known already or was measured on other planes.

    Raises:
        InputError: an unknown normalisation.
    """
    check_normalisation(normalise)
    fitted = NORMALISATIONS[normalise](image, target)
    known = {} if resolution is None else {"frc_resolution": resolution}
    return {
        name: known[name] if name in known else metric.function(*(fitted if name in FITTED else (image, target)))
        for name, metric in METRICS.items()
    }


def check_normalisation(normalise: str) -> None:
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise: {normalise!r} is unknown; use {' or '.join(NORMALISATIONS)}")


class QualityMetric(RegressionMetric):
    """One of ``METRICS`` as a metric of MONAI, cumulated over batches, with one value for each image.

    It is meant for the metrics that MONAI lacks; for PSNR, SSIM and mean errors MONAI has its own.

    Args:
        metric: name in ``METRICS``, such as ``"psnr_range_invariant"`` or ``"frc_resolution"``.
        normalise: normalisation before the fitted metrics, ``"least_squares"`` or ``"pssr2"``.
        reduction: as in MONAI's ``RegressionMetric``.
        get_not_nans: likewise.

    Raises:
        InputError: an unknown metric or normalisation.

    Example:
        >>> metric = QualityMetric("psnr_fitted")
        >>> image = torch.rand(2, 1, 32, 32)
        >>> float(metric(0.5 * image + 0.1, image).min()) > 100
        True
    """

    def __init__(
        self, metric: str, normalise: str = "least_squares", reduction: str = "mean", get_not_nans: bool = False
    ) -> None:
        super().__init__(reduction=reduction, get_not_nans=get_not_nans)
        if metric not in METRICS:
            raise InputError(f"metric: {metric!r} is unknown; use one of {', '.join(METRICS)}")
        check_normalisation(normalise)
        self.metric = metric
        self.normalise = normalise

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """``(B, 1)`` from ``(B, C, Y, X)`` or ``(B, C, Z, Y, X)``; channels and slices count as frames."""
        values = []
        for pair in zip(y_pred, y, strict=True):
            image, target = (part.detach().float().cpu().numpy().reshape(-1, *part.shape[-2:]) for part in pair)
            if self.metric in FITTED:
                image, target = NORMALISATIONS[self.normalise](image, target)
            values.append([METRICS[self.metric].function(image, target)])
        return torch.tensor(values, dtype=torch.float32, device=y_pred.device)
