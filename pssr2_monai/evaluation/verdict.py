"""Confidence intervals and paired tests of an evaluation's scores, and its verdict in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, wilcoxon

from pssr2_monai.evaluation.compare import INTERPOLATIONS
from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.images.axes import factors

RESAMPLES, RESAMPLES_AT_ONCE = 9999, 500  # of the bootstrap
DECIDING = ("psnr_fitted", "ssim_fitted")
"""The metrics that decide: fitted, or else a network that only learnt the brightness of the HR images would win."""
MIN_IMAGES = 6  # with fewer pairs the p of Wilcoxon's test cannot be below 0.05
MAX_P = 0.05
SHIFT_DB = 1.0
"""PSNR that fitting brings, above which brightness or contrast of the restored images are called not HR's."""
SMALL_GAIN = {"psnr_fitted": 0.25, "ssim_fitted": 0.02}
"""Gains below all of these are called small, however certain they are."""


@dataclass(frozen=True)
class Difference:
    """The difference between two methods' scores of the same images."""

    mean: float  # of first minus second
    interval: tuple[float, float] | None  # 95 % interval of that mean; None for fewer than two images
    p: float | None  # two-sided p of Wilcoxon's signed-rank test; None for fewer than two images
    images: int  # number of those with two finite scores, which alone count


def mean_interval(values: npt.ArrayLike, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % interval of the finite values' mean by BCa bootstrap (Efron 1987); None for fewer than two."""
    scores = np.asarray(values, dtype=np.float64)
    scores = scores[np.isfinite(scores)]
    if len(scores) < 2:
        return None
    if np.ptp(scores) == 0:
        return float(scores[0]), float(scores[0])
    for method in ("BCa", "percentile"):  # BCa may have no result for a few values most of which are equal
        options = {"n_resamples": RESAMPLES, "batch": RESAMPLES_AT_ONCE, "random_state": np.random.default_rng(seed)}
        with np.errstate(all="ignore"):
            low, high = bootstrap((scores,), np.mean, method=method, **options).confidence_interval
        if np.isfinite(low) and np.isfinite(high):
            break
    return float(low), float(high)


def difference(first: npt.ArrayLike, second: npt.ArrayLike, seed: int = 0) -> Difference:
    """Compare scores with others of the same images, in the same order."""
    pair = np.array([first, second], dtype=np.float64)
    gaps = np.subtract(*pair[:, np.isfinite(pair).all(axis=0)])
    mean = float(gaps.mean()) if gaps.size else float("nan")
    if len(gaps) < 2:
        return Difference(mean, None, None, len(gaps))
    p = float(wilcoxon(gaps).pvalue) if np.any(gaps) else 1.0
    return Difference(mean, mean_interval(gaps, seed), p, len(gaps))


@dataclass(frozen=True)
class Verdict:
    """The answer to "may I trust these weights?"."""

    level: str  # ``better``, ``worse`` or ``unclear``
    headline: str  # one sentence
    reasons: tuple[str, ...]  # the figures it rests on, a sentence each
    cautions: tuple[str, ...]  # limits of the comparison, a sentence each


def best_interpolation(result: Mapping[str, Any], metric: str) -> str:
    sign = 1 if METRICS[metric].higher_is_better else -1
    return max(INTERPOLATIONS, key=lambda method: sign * _number(result["mean"][method][metric]))


def rival(scale: int | Sequence[int]) -> str:
    """Return what the restored images are compared with, in words: at scale 1 nothing is interpolated."""
    return "interpolation" if max(factors(scale)) > 1 else "the input"


def verdict(result: Mapping[str, Any]) -> Verdict:
    """Judge the figures of ``evaluate``.

    The level is better or worse where both fitted PSNR and SSIM differ from the better interpolation's in the same
    direction, with a 95 % interval that excludes 0 and a p of Wilcoxon's test below 0.05.
    """
    gaps = [result["against"][best_interpolation(result, metric)][metric] for metric in DECIDING]
    level, headline = _judge(gaps, rival(result["settings"]["scale"]))
    count = min(gap["images"] for gap in gaps)
    return Verdict(level, headline, tuple(_reasons(result)), tuple(_cautions(result, count)))


def _judge(gaps: Sequence[Mapping[str, Any]], baseline: str) -> tuple[str, str]:
    """Level and headline from the differences of the deciding metrics."""
    signs = [_significant_sign(gap) for gap in gaps]
    count = min(gap["images"] for gap in gaps)
    if count == 0:
        return "unclear", "Nothing to compare: each image lacks a score or equals its target."
    if min(signs) > 0:
        small = all(gap["mean"] < SMALL_GAIN[metric] for gap, metric in zip(gaps, DECIDING, strict=True))
        return "better", f"{'A little better' if small else 'Better'} than {baseline} on these images."
    if max(signs) < 0:
        return "worse", f"Worse than {baseline} on these images: do not use these weights for them."
    if min(signs) < 0 < max(signs):
        return "unclear", f"Mixed: better than {baseline} by one measure, worse by the other."
    if count < MIN_IMAGES:
        positive = sum(gap["mean"] > 0 for gap in gaps)
        trend = ("No better", "Better by one measure only", "Better")[positive]
        return "unclear", f"{trend} on {images_in_words(count)}, too few to be sure: compare {MIN_IMAGES} or more."
    return "unclear", f"No clear difference from {baseline} on these images."


def _significant_sign(gap: Mapping[str, Any]) -> int:
    """1 or -1 for a significant difference, else 0."""
    if gap["interval"] is None or gap["p"] is None or gap["p"] >= MAX_P:
        return 0
    low, high = gap["interval"]
    return 1 if low > 0 else -1 if high < 0 else 0


def _reasons(result: Mapping[str, Any]) -> list[str]:
    reasons = []
    for name in DECIDING:
        method, metric = best_interpolation(result, name), METRICS[name]
        gap = result["against"][method][name]
        mean = f"{gap['mean']:+.{metric.digits}f} {metric.unit}".strip()
        spread = ""
        if gap["interval"] is not None:
            low, high = (f"{end:+.{metric.digits}f}" for end in gap["interval"])
            spread = f" (95 % interval {low} to {high}, p = {gap['p']:.2g})"
        reasons.append(f"{metric.label} {mean} against {method}{spread}.")
    restored, bicubic = (_number(result["mean"][method]["frc_resolution"]) for method in ("model", "bicubic"))
    if np.isfinite([restored, bicubic]).all():
        reasons.append(f"Detail agrees with HR down to {restored:.1f} px, that of bicubic to {bicubic:.1f} px.")
    return reasons


def _cautions(result: Mapping[str, Any], count: int) -> list[str]:
    cautions, is_crappified = [], result["settings"]["input"] != "real LR images"
    if is_crappified:
        cautions.append(
            "The inputs were made by the crappifier: this shows how well its damage is undone. Real scans may come out "
            "differently; evaluate real pairs with --lr."
        )
    if rival(result["settings"]["scale"]) == "the input":
        cautions.append(
            "At scale 1 the comparison is with the noisy input itself, which any smoothing filter improves on."
        )
    if count < MIN_IMAGES:
        cautions.append(f"Only {images_in_words(count)} compared; chance can be ruled out with {MIN_IMAGES} or more.")
    if result["samples"]:
        cautions.append(
            "All samples are frames or blocks of one file and resemble each other: the intervals are too narrow."
        )
    raw, fitted = (_number(result["mean"]["model"][name]) for name in ("psnr", "psnr_fitted"))
    if fitted - raw > SHIFT_DB and result["settings"]["normalise"] == "least_squares":
        reason = "" if is_crappified else ", since they keep the grey levels of the scans"
        cautions.append(
            f"Brightness or contrast of the restored images differ from HR's{reason}: fitting them brings "
            f"{fitted - raw:.1f} dB. Judge by the fitted metrics."
        )
    coarser = result["against"]["bicubic"]["frc_resolution"]
    if coarser["interval"] is not None and coarser["interval"][0] > 0:
        cautions.append("Less of the restored detail than of bicubic's agrees with HR: some of it may be invented.")
    return cautions


def images_in_words(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
