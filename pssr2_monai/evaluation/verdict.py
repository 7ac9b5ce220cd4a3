"""What the figures of an evaluation say: confidence intervals, paired tests, and a verdict in words."""

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


KEYS = ("psnr_fitted", "ssim_fitted")
"""What decides: fitted, since else a network that only learnt the brightness of the HR images would win."""
ENOUGH = 6
"""Below six pairs Wilcoxon's test cannot fall under 0.05."""
LIMIT = 0.05
SHIFTED_DB = 1.0
LITTLE = {"psnr_fitted": 0.25, "ssim_fitted": 0.02}
"""Gains that stay below all of these are called small, however sure they are."""


@dataclass(frozen=True)
class Verdict:
    """The answer to "may I trust this?".

    Attributes:
        level: ``better``, ``worse``, ``unclear``.
        headline: one sentence.
        reasons: the figures it rests on, a sentence each.
        cautions: what a reader should know before using the images.
    """

    level: str
    headline: str
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


def best_interpolation(result: Mapping[str, Any], metric: str) -> str:
    """The interpolation with the better mean."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    return max(INTERPOLATIONS, key=lambda method: sign * _number(result["mean"][method][metric]))


def rival(scale: Any) -> str:
    """What the restored images are compared with, in words: at scale 1 nothing is interpolated."""
    return "interpolation" if max(factors(scale)) > 1 else "the input"


def verdict(result: Mapping[str, Any]) -> Verdict:
    """Judges the figures of an evaluation; see ``evaluation.evaluate``.

    Better or worse is said where both fitted PSNR and SSIM differ from the better interpolation's in the same sense,
    with a 95 % interval that leaves out 0 and Wilcoxon's p below 0.05.
    """
    signs = [_sign(result["against"][best_interpolation(result, metric)][metric]) for metric in KEYS]
    found = [result["against"][best_interpolation(result, metric)][metric] for metric in KEYS]
    trend = [each["mean"] > 0 for each in found]
    count = min(each["images"] for each in found)
    other = rival(result["settings"]["scale"])
    if count == 0:
        level, headline = "unclear", "Nothing to compare: an image has no score of its own, or equals its target."
    elif all(sign > 0 for sign in signs):
        little = all(each["mean"] < LITTLE[metric] for each, metric in zip(found, KEYS, strict=True))
        level, headline = "better", f"{'A little better' if little else 'Better'} than {other} on these images."
    elif all(sign < 0 for sign in signs):
        level, headline = "worse", f"Worse than {other} on these images: do not use these weights for them."
    elif any(sign > 0 for sign in signs) and any(sign < 0 for sign in signs):
        level, headline = "unclear", f"Mixed: better than {other} by one measure, worse by the other."
    elif count < ENOUGH:
        tendency = "better" if all(trend) else "no better" if not any(trend) else "better by one measure only"
        level = "unclear"
        headline = f"{tendency.capitalize()} on {images_in_words(count)}, too few to be sure: compare {ENOUGH} or more."
    else:
        level, headline = "unclear", f"No clear difference from {other} on these images."
    return Verdict(level, headline, tuple(_reasons(result)), tuple(_cautions(result, count)))


def _sign(found: Mapping[str, Any]) -> int:
    """1 or -1 where a difference is more than chance, 0 where it may be chance."""
    if found["interval"] is None or found["p"] is None or found["p"] >= LIMIT:
        return 0
    low, high = found["interval"]
    return 1 if low > 0 else -1 if high < 0 else 0


def _reasons(result: Mapping[str, Any]) -> list[str]:
    words = []
    for metric in KEYS:
        method = best_interpolation(result, metric)
        found, told = result["against"][method][metric], METRICS[metric]
        gap = f"{found['mean']:+.{told.digits}f} {told.unit}".strip()
        spread = ""
        if found["interval"] is not None:
            low, high = (f"{end:+.{told.digits}f}" for end in found["interval"])
            spread = f" (95 % interval {low} to {high}, p = {found['p']:.2g})"
        words.append(f"{told.label} {gap} against {method}{spread}.")
    own = _number(result["mean"]["model"]["frc_resolution"])
    other = _number(result["mean"]["bicubic"]["frc_resolution"])
    if own == own and other == other:
        words.append(f"Detail agrees with HR down to {own:.1f} px, that of bicubic to {other:.1f} px.")
    return words


def _cautions(result: Mapping[str, Any], count: int) -> list[str]:
    words = []
    if result["settings"]["input"] != "real LR images":
        words.append(
            "The inputs were made by the crappifier: this says how well its damage is undone. Real scans may fare "
            "otherwise; real pairs, given with --lr, tell."
        )
    if rival(result["settings"]["scale"]) == "the input":
        words.append(
            "At scale 1 the comparison is with the noisy input itself, which any smoothing filter betters, too."
        )
    if count < ENOUGH:
        words.append(f"Only {images_in_words(count)} compared; from {ENOUGH} on chance can be told from a difference.")
    if result["samples"]:
        words.append(
            "All samples are frames or blocks of one file and resemble each other: the intervals are too narrow."
        )
    raw, fitted = (_number(result["mean"]["model"][name]) for name in ("psnr", "psnr_fitted"))
    if fitted - raw > SHIFTED_DB and result["settings"]["normalise"] == "least_squares":
        words.append(
            f"Brightness or contrast of the restored images is not HR's: fitting it brings {fitted - raw:.1f} dB. Do "
            "not compare grey levels."
        )
    finer = result["against"]["bicubic"]["frc_resolution"]
    if finer["interval"] is not None and finer["interval"][0] > 0:
        words.append("The restored detail agrees with HR less far than bicubic's: some of it may be invented.")
    return words


def images_in_words(count: int) -> str:
    """``1 image`` or ``2 images``."""
    return f"{count} image{'' if count == 1 else 's'}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
