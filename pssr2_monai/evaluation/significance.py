"""Whether a difference between two ways of restoring is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, wilcoxon

__all__ = ["Difference", "difference", "mean_interval"]

RESAMPLES = 9999
BATCH = 500


@dataclass(frozen=True)
class Difference:
    """The difference of one method's scores from another's on the same images.

    Attributes:
        mean: of first minus second.
        interval: 95 % interval of that mean; None for fewer than two images.
        p: of Wilcoxon's signed-rank test, two-sided; None for fewer than two images. Below six it cannot fall
            under 0.05.
        images: how many counted: those where both scores are finite.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float | None
    images: int


def mean_interval(values: npt.ArrayLike, seed: int = 0) -> tuple[float, float] | None:
    """The 95 % interval of the mean by bootstrap, bias-corrected and accelerated (Efron 1987).

    Args:
        values: one score an image; what is not finite is left out.
        seed: of the resampling.

    Returns:
        None for fewer than two finite values.
    """
    scores = _finite(values)
    if len(scores) < 2:
        return None
    if np.ptp(scores) == 0:
        return float(scores[0]), float(scores[0])
    for method in ("BCa", "percentile"):  # BCa may have no answer for a few values of which most are equal
        options = {"n_resamples": RESAMPLES, "batch": BATCH, "random_state": np.random.default_rng(seed)}
        with np.errstate(all="ignore"):
            low, high = bootstrap((scores,), np.mean, method=method, **options).confidence_interval
        if np.isfinite(low) and np.isfinite(high):
            break
    return float(low), float(high)


def difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> Difference:
    """Scores beside others of the same images, in the same order."""
    gaps = _finite(np.subtract(_numbers(first), _numbers(second)))
    mean = float(gaps.mean()) if gaps.size else float("nan")
    if len(gaps) < 2:
        return Difference(mean, None, None, len(gaps))
    p = float(wilcoxon(gaps).pvalue) if np.any(gaps) else 1.0
    return Difference(mean, mean_interval(gaps, seed), p, len(gaps))


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    scores = np.asarray(values, dtype=np.float64)
    return scores[np.isfinite(scores)]


def _numbers(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Infinities as nan, so that the difference of two is none."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)
