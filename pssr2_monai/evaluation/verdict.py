"""Confidence intervals and paired tests of an evaluation's scores, and its verdict in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
FILTER = "a filter that learns nothing"
HEADLINES = {
    "worse": "Worse than {names} on these images: do not use these weights for them.",
    "mixed": "Mixed: better than {names} by one measure, worse by the other.",
    "no difference": "No clear difference from {names} on these images.",
    "few, not better": "No better than {names} on {images}, too few to be sure: compare {enough} or more.",
    "few, one better": "Better by one measure only than {names} on {images}, too few to be sure: compare {enough} or "
    "more.",
    "few, better": "Better than {names} on {images}, too few to be sure: compare {enough} or more.",
    "a little better": "A little better than {names} on these images.",
    "better": "Better than {names} on these images.",
}
"""What is said of the comparison with a rival, the least favourable first."""
GOOD_OUTCOMES = ("few, better", "a little better", "better")


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
    return _best(result, metric, INTERPOLATIONS)


def best_rival(result: Mapping[str, Any], metric: str) -> str:
    """Return the method with the best mean score of those that learn nothing."""
    return _best(result, metric, result["against"])


def _best(result: Mapping[str, Any], metric: str, methods: Iterable[str]) -> str:
    sign = 1 if METRICS[metric].higher_is_better else -1
    means = {method: sign * _number(result["mean"][method][metric]) for method in methods}
    return max(means, key=lambda method: (np.isfinite(means[method]), means[method]))


def rival(scale: int | Sequence[int]) -> str:
    """Return what interpolated images are, in words: at scale 1 nothing is interpolated."""
    return "interpolation" if max(factors(scale)) > 1 else "the input"


def verdict(result: Mapping[str, Any]) -> Verdict:
    """Judge the figures of ``evaluate``.

    The level is better or worse where both fitted PSNR and SSIM differ from the better interpolation's in the same
    direction, with a 95 % interval that excludes 0 and a p of Wilcoxon's test below 0.05. Where a filter was compared,
    the network must be better than that, too.
    """
    rivals = {rival(result["settings"]["scale"]): [best_interpolation(result, metric) for metric in DECIDING]}
    if "filter" in result["against"]:
        rivals[FILTER] = ["filter"] * len(DECIDING)
    gaps = {
        name: [result["against"][method][metric] for method, metric in zip(methods, DECIDING, strict=True)]
        for name, methods in rivals.items()
    }
    count = min(gap["images"] for pair in gaps.values() for gap in pair)
    level, headline = _judge(gaps, count)
    return Verdict(level, headline, tuple(_reasons(result)), tuple(_cautions(result, count)))


def _judge(gaps: Mapping[str, Sequence[Mapping[str, Any]]], count: int) -> tuple[str, str]:
    """Level and headline from the differences of the deciding metrics from each rival: that of the least favourable."""
    if count == 0:
        return "unclear", "Nothing to compare: each image lacks a score or equals its target."
    outcomes = {name: _outcome(pair) for name, pair in gaps.items()}
    least = min(outcomes.values(), key=list(HEADLINES).index)
    names = " and ".join(name for name, outcome in outcomes.items() if outcome == least)
    others = [name for name, outcome in outcomes.items() if outcome != least and outcome in GOOD_OUTCOMES]
    headline = HEADLINES[least].format(names=names, images=images_in_words(count), enough=MIN_IMAGES)
    if others and least not in GOOD_OUTCOMES:
        headline = f"Better than {others[0]}, but {headline[0].lower()}{headline[1:]}"
    return {"worse": "worse", "better": "better", "a little better": "better"}.get(least, "unclear"), headline


def _outcome(gaps: Sequence[Mapping[str, Any]]) -> str:
    """The key of ``HEADLINES`` for the differences of the deciding metrics from one rival."""
    signs = [_significant_sign(gap) for gap in gaps]
    if min(signs) > 0:
        small = all(gap["mean"] < SMALL_GAIN[metric] for gap, metric in zip(gaps, DECIDING, strict=True))
        return "a little better" if small else "better"
    if max(signs) < 0:
        return "worse"
    if min(signs) < 0 < max(signs):
        return "mixed"
    if min(gap["images"] for gap in gaps) < MIN_IMAGES:
        return ("few, not better", "few, one better", "few, better")[sum(gap["mean"] > 0 for gap in gaps)]
    return "no difference"


def _significant_sign(gap: Mapping[str, Any]) -> int:
    """1 or -1 for a significant difference, else 0."""
    if gap["interval"] is None or gap["p"] is None or gap["p"] >= MAX_P:
        return 0
    low, high = gap["interval"]
    return 1 if low > 0 else -1 if high < 0 else 0


def _reasons(result: Mapping[str, Any]) -> list[str]:
    reasons = []
    compared = [(name, best_interpolation(result, name)) for name in DECIDING]
    compared += [(name, "filter") for name in DECIDING if "filter" in result["against"]]
    for name, method in compared:
        metric, gap = METRICS[name], result["against"][method][name]
        mean = f"{gap['mean']:+.{metric.digits}f} {metric.unit}".strip()
        spread = ""
        if gap["interval"] is not None:
            low, high = (f"{end:+.{metric.digits}f}" for end in gap["interval"])
            spread = f" (95 % interval {low} to {high}, p = {gap['p']:.2g})"
        reasons.append(f"{metric.label} {mean} against {'the ' * (method == 'filter')}{method}{spread}.")
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
    if rival(result["settings"]["scale"]) == "the input" and "filter" not in result["against"]:
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
    if np.inf > fitted - raw > SHIFT_DB and result["settings"]["normalise"] == "least_squares":
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
