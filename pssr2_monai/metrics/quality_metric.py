"""The package's figures as a metric of MONAI, for Ignite's engines and bundle configs."""

from __future__ import annotations

import torch
from monai.metrics.regression import RegressionMetric
from torch import Tensor

from pssr2_monai.errors import InputError
from pssr2_monai.metrics.measures import FITTED, METRICS, NORMALISATIONS, check_normalisation

__all__ = ["QualityMetric"]


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
