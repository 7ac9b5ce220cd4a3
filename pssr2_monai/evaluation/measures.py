"""How near a restored image is to its target: figures of ``(frames, Y, X)``, the data range always given.

PSNR, SSIM and NRMSE are scikit-image's, MS-SSIM is that of the losses; ``METRICS`` names all that an evaluation
reports. The fitted ones and the range-invariant one first remove what a microscope's settings may change, gain and
offset; the others judge what was restored as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.regression import RegressionMetric
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.fourier_ring_correlation import LEAST_SIDE, ring_correlation
from pssr2_monai.training.losses import ms_ssim as batch_ms_ssim

SSIM_WINDOW = 11
"""Sides below it have no SSIM: the Gaussian window of sigma 1.5 reaches so far."""


def psnr(image: np.ndarray, target: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB, of all pixels together; infinite for equal images.

    Together, because of a volume of which every fourth slice is given those slices alone would be infinite.
    """
    return float(peak_signal_noise_ratio(target, image, data_range=data_range)) if _differ(image, target) else math.inf


def ssim(image: np.ndarray, target: np.ndarray, data_range: float) -> float:
    """Structural similarity with the Gaussian window of sigma 1.5 of Wang et al. 2004, the mean over the frames.

    Not a number where a side is below 11 pixels.
    """
    if min(image.shape[-2:]) < SSIM_WINDOW:
        return math.nan
    options = {"data_range": data_range, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(np.mean([structural_similarity(own, sr, **options) for sr, own in zip(image, target, strict=True)]))


def ms_ssim(image: np.ndarray, target: np.ndarray, data_range: float) -> float:
    """Multi-scale SSIM (Wang et al. 2003), the mean over the frames; below 161 pixels of fewer scales.

    Not a number where a side is below 11 pixels. See ``losses.ms_ssim``.
    """
    if min(image.shape[-2:]) < SSIM_WINDOW:
        return math.nan
    with torch.inference_mode():
        sr, hr = (torch.from_numpy(np.ascontiguousarray(each, np.float32))[:, None] for each in (image, target))
        return float(batch_ms_ssim(sr, hr, data_range).mean())


def nrmse(image: np.ndarray, target: np.ndarray) -> float:
    """Root mean square error over the target's range, its greatest value minus its least; not a number if that is 0."""
    if target.max() == target.min():
        return math.nan
    return float(normalized_root_mse(target, image, normalization="min-max"))


def pixel_error(image: np.ndarray, target: np.ndarray, data_range: float) -> float:
    """Root mean square error in grey levels of an 8-bit image: what PSSR2 calls the pixel metric."""
    return float(np.sqrt(np.mean((image - target) ** 2, dtype=np.float64)) * 255 / data_range)


def psnr_range_invariant(image: np.ndarray, target: np.ndarray) -> float:
    """PSNR in dB after the best gain and offset, with the target's own range for the data range.

    As in Weigert et al. 2018, "Content-aware image restoration", where the prediction is scaled and shifted to the
    least squared error before it is scored. Not a number for a target of one value.
    """
    span = float(target.max() - target.min())
    return psnr(gain_offset(image, target)[0], target, span) if span else math.nan


def frc_resolution(image: np.ndarray, target: np.ndarray) -> float:
    """The period in pixels down to which both agree, at a Fourier ring correlation of 1/7.

    Not a number where a side is below 16 pixels. See ``fourier_ring_correlation``.
    """
    return ring_correlation(image, target).resolution() if min(image.shape[-2:]) >= LEAST_SIDE else math.nan


def gain_offset(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image times a gain plus an offset, those of the least squared error, and the target as it is.

    One gain and one offset for all frames; nothing is clipped.
    """
    mean, target_mean = float(image.mean(dtype=np.float64)), float(target.mean(dtype=np.float64))
    centred = image.astype(np.float64) - mean
    variance = float(np.mean(centred**2))
    gain = float(np.mean(centred * (target - target_mean))) / variance if variance else 0.0
    return (centred * gain + target_mean).astype(np.float32), target


def pssr2_normalised(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image and target in [0, 1] as PSSR2 2.4.0's ``normalize_preds`` changes both before it scores them.

    Each frame by itself, on 8 bits: the target is stretched from its 0.1 to its 99.9 percentile, the image fitted to it
    by least squares, both brought to the target's brightness, clipped to 0..255 and cut to whole grey levels.
    """
    pairs = [_pssr2_plane(sr, own) for sr, own in zip(image, target, strict=True)]
    images, targets = (np.stack([pair[place] for pair in pairs]) for place in (0, 1))
    return images, targets


def _pssr2_plane(image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    grey, own = image.astype(np.float64) * 255, target.astype(np.float64) * 255
    low, high = np.percentile(own, [0.1, 99.9])
    brightness = own.mean()
    own = (own - low) / (high - low + 1e-20)
    own -= own.mean()
    grey -= grey.mean()
    variance = grey.var()
    grey *= np.mean(grey * own) * grey.size / (grey.size - 1) / variance if variance else 0.0
    black = own.min()
    shifted = [(each - black) * high for each in (grey, own)]
    levels = [np.clip(each * brightness / (each.mean() or 1.0), 0, 255).astype(np.uint8) for each in shifted]
    return levels[0].astype(np.float32) / 255, levels[1].astype(np.float32) / 255


NORMALISATIONS = {"least_squares": gain_offset, "pssr2": pssr2_normalised}
"""What may be done to an image, or to it and its target, before the fitted metrics."""


@dataclass(frozen=True)
class Metric:
    """A figure of an image beside its target.

    Attributes:
        label: for people.
        unit: likewise; empty for plain numbers.
        higher_is_better: or lower.
        digits: after the point.
        meaning: one sentence for people.
        function: of image and target ``(frames, Y, X)`` with data range 1.
    """

    label: str
    unit: str
    higher_is_better: bool
    digits: int
    meaning: str
    function: Callable[[np.ndarray, np.ndarray], float]


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR", "dB", True, 2, "Peak signal-to-noise ratio, as restored.", lambda sr, hr: psnr(sr, hr, 1.0)),
    "ssim": Metric("SSIM", "", True, 4, "Structural similarity, as restored.", lambda sr, hr: ssim(sr, hr, 1.0)),
    "ms_ssim": Metric(
        "MS-SSIM", "", True, 4, "Structural similarity at several sizes.", lambda sr, hr: ms_ssim(sr, hr, 1.0)
    ),
    "psnr_fitted": Metric(
        "PSNR, fitted", "dB", True, 2, "PSNR after gain and offset were fitted.", lambda sr, hr: psnr(sr, hr, 1.0)
    ),
    "ssim_fitted": Metric(
        "SSIM, fitted", "", True, 4, "SSIM after gain and offset were fitted.", lambda sr, hr: ssim(sr, hr, 1.0)
    ),
    "psnr_range_invariant": Metric(
        "PSNR, range-invariant", "dB", True, 2, "Fitted PSNR with HR's own range for the peak.", psnr_range_invariant
    ),
    "nrmse": Metric("NRMSE", "", False, 4, "Root mean square error over HR's range.", nrmse),
    "pixel_error": Metric(
        "Pixel error",
        "of 255",
        False,
        2,
        "Root mean square error in 8-bit grey levels.",
        lambda sr, hr: pixel_error(sr, hr, 1.0),
    ),
    "frc_resolution": Metric(
        "FRC resolution",
        "px",
        False,
        2,
        "Smallest period that agrees with HR, at a correlation of 1/7.",
        frc_resolution,
    ),
}
FITTED = ("psnr_fitted", "ssim_fitted")
"""The metrics that are taken after a normalisation."""


def scores(image: np.ndarray, target: np.ndarray, normalise: str = "least_squares") -> dict[str, float]:
    """All of ``METRICS`` of an image ``(frames, Y, X)`` in [0, 1] beside its target.

    Args:
        image: what was restored.
        target: what it should be.
        normalise: what is done before the fitted metrics: ``least_squares`` or ``pssr2``.

    Raises:
        InputError: an unknown normalisation.
    """
    check_normalisation(normalise)
    fitted = NORMALISATIONS[normalise](image, target)
    return {name: metric.function(*(fitted if name in FITTED else (image, target))) for name, metric in METRICS.items()}


def check_normalisation(normalise: str) -> None:
    """Refuses an unknown one."""
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise: {normalise!r} is unknown; use {' or '.join(NORMALISATIONS)}")


def _differ(image: np.ndarray, target: np.ndarray) -> bool:
    return not np.array_equal(image, target)


class QualityMetric(RegressionMetric):
    """One of ``metrics.METRICS``, cumulated over batches as MONAI's metrics are; one value an image.

    For PSNR, SSIM and mean errors MONAI has metrics of its own; here are those that it lacks.

    Args:
        metric: a name out of ``METRICS``, such as ``"psnr_range_invariant"`` or ``"frc_resolution"``.
        normalise: what is done before the fitted ones: ``"least_squares"`` or ``"pssr2"``.
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
        self,
        metric: str,
        normalise: str = "least_squares",
        reduction: str = "mean",
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction=reduction, get_not_nans=get_not_nans)
        if metric not in METRICS:
            raise InputError(f"metric: {metric!r} is unknown; use one of {', '.join(METRICS)}")
        check_normalisation(normalise)
        self.metric = metric
        self.normalise = normalise

    def _compute_metric(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Of ``(B, C, Y, X)`` or ``(B, C, Z, Y, X)``: ``(B, 1)``, each image's channels and slices its frames."""
        values = []
        for pair in zip(y_pred, y, strict=True):
            image, target = (each.detach().float().cpu().numpy().reshape(-1, *each.shape[-2:]) for each in pair)
            if self.metric in FITTED:
                image, target = NORMALISATIONS[self.normalise](image, target)
            values.append([METRICS[self.metric].function(image, target)])
        return torch.tensor(values, dtype=torch.float32, device=y_pred.device)
