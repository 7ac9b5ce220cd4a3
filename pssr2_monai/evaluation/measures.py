"""Metrics of a restored image against its target, both ``(frames, Y, X)``.

``METRICS`` names all that an evaluation may report, ``usual`` those that it reports unasked. PSNR and NRMSE are
scikit-image's. The fitted metrics and the range-invariant one first remove gain and offset, which a microscope's
settings may change; MicroMS3IM, RSE and RSP do so by themselves. The others judge the restored image as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.regression import RegressionMetric
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio
from torch import Tensor

from pssr2_monai.errors import InputError, nearest
from pssr2_monai.evaluation.feature_similarity import fsim
from pssr2_monai.evaluation.fourier_ring_correlation import frc_resolution
from pssr2_monai.evaluation.structural_similarity import micro_ms3im, ms_ssim, ssim
from pssr2_monai.fidelity.decorrelation import decorrelation_resolution
from pssr2_monai.fidelity.error_map import rse, rsp


def psnr(image: np.ndarray, target: np.ndarray, data_range: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels of all frames; infinite for equal images.

    Not the mean over frames: in a volume whose input has every fourth slice, these slices alone may be infinite.
    """
    if np.array_equal(image, target):
        return math.inf
    return float(peak_signal_noise_ratio(target, image, data_range=data_range))


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
    function: Callable[..., float]  # of image and reference ``(frames, Y, X)`` in [0, 1]
    usual: bool = True  # whether an evaluation reports it unasked
    reference: str = "hr"  # what it compares with; "lr", the scan, needs no truth
    masked: str = "filled"
    """What it gets where a mask is: ``pixels``, those within in one row; ``mask``, the mask as an argument, too; or
    ``filled``, the box around it, in which pixels outside are those of the target."""


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR", "dB", True, 2, "Peak signal-to-noise ratio, as restored.", psnr, masked="pixels"),
    "ssim": Metric("SSIM", "", True, 4, "Structural similarity, as restored.", ssim, masked="mask"),
    "ms_ssim": Metric("MS-SSIM", "", True, 4, "Structural similarity at several sizes.", ms_ssim),
    "psnr_fitted": Metric(
        "PSNR, fitted", "dB", True, 2, "PSNR after gain and offset were fitted.", psnr, masked="pixels"
    ),
    "ssim_fitted": Metric("SSIM, fitted", "", True, 4, "SSIM after gain and offset were fitted.", ssim, masked="mask"),
    "psnr_range_invariant": Metric(
        "PSNR, range-invariant",
        "dB",
        True,
        2,
        "Fitted PSNR with HR's own range for the peak.",
        psnr_range_invariant,
        masked="pixels",
    ),
    "nrmse": Metric("NRMSE", "", False, 4, "Root mean square error over HR's range.", nrmse, masked="pixels"),
    "pixel_error": Metric(
        "Pixel error", "of 255", False, 2, "Root mean square error in 8-bit grey levels.", pixel_error, masked="pixels"
    ),
    "frc_resolution": Metric(
        "FRC resolution", "px", False, 2, "Smallest period that agrees with HR, at correlation 1/7.", frc_resolution
    ),
    "micro_ms3im": Metric(
        "MicroMS3IM", "", True, 4, "MS-SSIM after background and gain were removed.", micro_ms3im, usual=False
    ),
    "fsim": Metric("FSIM", "", True, 4, "Similarity of features: phase congruency and gradient.", fsim, usual=False),
    "rse": Metric(
        "RSE",
        "of 255",
        False,
        2,
        "Error against the scan after blurring and fitting (SQUIRREL).",
        rse,
        False,
        "lr",
        "mask",
    ),
    "rsp": Metric(
        "RSP", "", True, 4, "Correlation with the scan after blurring and fitting (SQUIRREL).", rsp, False, "lr", "mask"
    ),
    "decorrelation": Metric(
        "Decorrelation",
        "px",
        False,
        2,
        "Finest period of the image by itself, true or not.",
        lambda image, _: decorrelation_resolution(image),
        usual=False,
    ),
}
FITTED = ("psnr_fitted", "ssim_fitted")  # the metrics of normalised images


def chosen_metrics(names: str | Sequence[str] = "") -> list[str]:
    """Return the names of the usual metrics and of those named, one or several separated by commas; ``all`` for all.

    Raises:
        InputError: an unknown name.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in METRICS and name != "all":
            raise InputError(f"metrics: {name!r} is unknown{nearest(name, METRICS)}; use some of {', '.join(METRICS)}")
    return [name for name, metric in METRICS.items() if metric.usual or name in wanted or "all" in wanted]


def scores(
    image: np.ndarray,
    target: np.ndarray,
    normalise: str = "least_squares",
    names: Sequence[str] | None = None,
    scan: np.ndarray | None = None,
    known: Mapping[str, float] | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Score an image ``(frames, Y, X)`` in [0, 1] against its target.

    Args:
        image: the restored image.
        target: the true one.
        normalise: normalisation before the fitted metrics, ``least_squares`` or ``pssr2``.
        names: of the metrics, by default the usual ones.
        scan: the input, for the metrics that compare with it.
        known: scores that are known already or were measured on other planes.
        mask: which pixels of the target are scored, at least one; see ``Metric.masked``.

    Raises:
        InputError: an unknown normalisation.
    """
    check_normalisation(normalise)
    pairs = _Pairs(image, target, normalise, scan, mask)
    result = dict(known or {})
    chosen = names or chosen_metrics()
    return {name: result[name] if name in result else pairs.score(name) for name in chosen}


class _Pairs:
    """An image with its target and its scan, in the forms that metrics take."""

    def __init__(
        self,
        image: np.ndarray,
        target: np.ndarray,
        normalise: str,
        scan: np.ndarray | None,
        mask: npt.NDArray[np.bool_] | None,
    ) -> None:
        self.image, self.scan, self.mask = image, scan, mask
        if mask is None:
            self.whole, self.fitted = (image, target), NORMALISATIONS[normalise](image, target)
            return
        self.pixels = image[mask][None, None], target[mask][None, None]
        self.fitted_pixels = NORMALISATIONS[normalise](*self.pixels)
        self.whole, self.fitted = (
            (_placed(pair[0], target, mask), _placed(pair[1], target, mask))
            for pair in (self.pixels, self.fitted_pixels)
        )
        self.box = _box(mask)

    def score(self, name: str) -> float:
        metric = METRICS[name]
        arguments: dict[str, Any] = {"mask": self.mask} if self.mask is not None and metric.masked == "mask" else {}
        if metric.reference == "lr":
            return math.nan if self.scan is None else metric.function(self.image, self.scan, **arguments)
        pair = self.fitted if name in FITTED else self.whole
        if self.mask is not None and metric.masked == "pixels":
            pair = self.fitted_pixels if name in FITTED else self.pixels
        elif self.mask is not None and metric.masked == "filled":
            pair = pair[0][self.box], pair[1][self.box]
        return metric.function(*pair, **arguments)


def _placed(values: np.ndarray, target: np.ndarray, mask: npt.NDArray[np.bool_]) -> np.ndarray:
    planes = np.array(target, np.float32)
    planes[mask] = values.ravel()
    return planes


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box ``(frames, Y, X)`` of all frames that holds all of a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=(0, other))) for other in (2, 1))
    return slice(None), slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def check_normalisation(normalise: str) -> None:
    if normalise not in NORMALISATIONS:
        raise InputError(f"normalise: {normalise!r} is unknown; use {' or '.join(NORMALISATIONS)}")


class QualityMetric(RegressionMetric):
    """One of ``METRICS`` as a metric of MONAI, cumulated over batches, with one value for each image.

    It is meant for the metrics that MONAI lacks; for PSNR, SSIM and mean errors MONAI has its own.

    Args:
        metric: name in ``METRICS`` of one that needs no scan, such as ``"micro_ms3im"`` or ``"frc_resolution"``.
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
        if metric not in (known := [name for name in METRICS if METRICS[name].reference == "hr"]):
            raise InputError(f"metric: {metric!r} is unknown; use one of {', '.join(known)}")
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
