"""Intervals and tests against the t distribution, tables and formulas; verdicts on figures made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.evaluation.verdict import best_interpolation, best_rival, difference, mean_interval, verdict


def test_the_interval_of_many_normal_values_is_that_of_student() -> None:
    values = np.random.default_rng(0).normal(3, 2, 200)
    low, high = mean_interval(values)
    reach = t.ppf(0.975, 199) * values.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * reach)
    assert mean_interval(values) == (low, high)
    assert mean_interval(values, seed=1) != (low, high)


def test_few_or_equal_values() -> None:
    assert mean_interval([1.0]) is None
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert mean_interval([1.0, np.inf, np.nan]) is None
    low, high = mean_interval([1.0, 1.0, 1.0, 2.0])
    assert 1 <= low < high <= 2


def test_p_of_signed_ranks_is_that_of_the_table() -> None:
    # All of n differences positive: 2 / 2^n, two-sided (Wilcoxon 1945).
    for count in (5, 6, 8):
        found = difference(np.arange(1, count + 1) * 0.1 + 1, [1.0] * count)
        assert found.p == pytest.approx(2 / 2**count)
        assert found.mean == pytest.approx(0.05 * (count + 1))
        assert found.interval[0] > 0
        assert found.images == count


def test_what_is_not_finite_is_left_out() -> None:
    found = difference([1.0, np.inf, 2.0, np.nan, np.inf], [0.5, 1.0, 1.0, 2.0, np.inf])
    assert (found.images, found.mean) == (2, 0.75)
    assert difference([np.inf], [1.0]).images == 0
    equal = difference([1.0, 2.0], [1.0, 2.0])
    assert (equal.p, equal.interval) == (1.0, (0.0, 0.0))


def _result(
    psnr: tuple[float, float], ssim: tuple[float, float], images: int = 8, p: float = 0.01, **more: object
) -> dict:
    """Figures whose differences from both interpolations have these 95 % intervals."""
    methods = ("bilinear", "bicubic", "model")
    mean = {method: dict.fromkeys(METRICS, 1.0) for method in methods}
    mean["bicubic"]["psnr_fitted"] = 2.0
    same = {"mean": 0.0, "interval": (0.0, 0.0), "p": 1.0, "images": images}
    gaps = {"psnr_fitted": psnr, "ssim_fitted": ssim}
    found = {
        name: {"mean": sum(interval) / 2, "interval": interval if images > 1 else None, "p": p, "images": images}
        for name, interval in gaps.items()
    }
    against = {method: {**dict.fromkeys(METRICS, same), **found} for method in methods[:2]}
    settings = {"input": "real LR images", "normalise": "least_squares", "scale": 4}
    return {"mean": mean, "against": against, "settings": settings, "samples": [], **more}


@pytest.mark.parametrize(
    ("psnr", "ssim", "options", "level", "words"),
    [
        ((0.5, 0.9), (0.03, 0.05), {}, "better", "Better than interpolation on these images."),
        ((0.1, 0.2), (0.001, 0.002), {}, "better", "A little better than interpolation on these images."),
        ((-0.9, -0.5), (-0.05, -0.03), {}, "worse", "Worse than interpolation"),
        ((-0.9, -0.5), (0.03, 0.05), {}, "unclear", "Mixed"),
        ((-0.1, 0.5), (0.03, 0.05), {}, "unclear", "No clear difference"),
        ((0.5, 0.9), (0.03, 0.05), {"p": 0.06}, "unclear", "No clear difference"),
        (
            (0.5, 0.9),
            (0.03, 0.05),
            {"images": 3, "p": 0.25},
            "unclear",
            "Better than interpolation on 3 images, too few to be sure",
        ),
        (
            (-0.9, -0.5),
            (-0.05, -0.03),
            {"images": 1},
            "unclear",
            "No better than interpolation on 1 image, too few to be sure",
        ),
        ((0.5, 0.9), (0.03, 0.05), {"images": 0}, "unclear", "Nothing to compare"),
    ],
)
def test_headlines(psnr: tuple[float, float], ssim: tuple[float, float], options: dict, level: str, words: str) -> None:
    if options.get("images") == 3:
        options = {**options, "p": 0.25}
    found = verdict(_result(psnr, ssim, **options))
    assert found.level == level
    assert found.headline.startswith(words)


GOOD, SMALL, BAD, NONE, MIXED = (
    ((0.5, 0.9), (0.03, 0.05)),
    ((0.1, 0.2), (0.001, 0.002)),
    ((-0.9, -0.5), (-0.05, -0.03)),
    ((-0.1, 0.5), (0.03, 0.05)),
    ((0.5, 0.9), (-0.05, -0.03)),
)


@pytest.mark.parametrize(
    ("interpolation", "filtered", "images", "level", "headline"),
    [
        (GOOD, GOOD, 8, "better", "Better than interpolation and a filter that learns nothing on these images."),
        (GOOD, SMALL, 8, "better", "A little better than a filter that learns nothing on these images."),
        (
            GOOD,
            NONE,
            8,
            "unclear",
            "Better than interpolation, but no clear difference from a filter that learns nothing on these images.",
        ),
        (
            SMALL,
            BAD,
            8,
            "worse",
            "Better than interpolation, but worse than a filter that learns nothing on these images: do not use these "
            "weights for them.",
        ),
        (
            GOOD,
            MIXED,
            8,
            "unclear",
            "Better than interpolation, but mixed: better than a filter that learns nothing by one measure, worse by "
            "the other.",
        ),
        (BAD, GOOD, 8, "worse", "Better than a filter that learns nothing, but worse than interpolation on these"),
        (NONE, BAD, 8, "worse", "Worse than a filter that learns nothing on these images"),
        (BAD, BAD, 8, "worse", "Worse than interpolation and a filter that learns nothing on these images"),
        (GOOD, GOOD, 3, "unclear", "Better than interpolation and a filter that learns nothing on 3 images, too few"),
        (GOOD, MIXED, 1, "unclear", "Better than interpolation, but better by one measure only than a filter"),
        (GOOD, BAD, 3, "unclear", "Better than interpolation, but no better than a filter that learns nothing on 3"),
    ],
)
def test_the_network_must_be_better_than_the_filter_too(
    interpolation: tuple, filtered: tuple, images: int, level: str, headline: str
) -> None:
    p = 0.01 if images >= 6 else 0.25
    result, other = (_result(*gaps, images=images, p=p) for gaps in (interpolation, filtered))
    result["against"]["filter"] = other["against"]["bicubic"]
    result["mean"]["filter"] = result["mean"]["model"]
    judged = verdict(result)
    assert judged.level == level
    assert judged.headline.startswith(headline)
    assert sum("against the filter" in reason for reason in judged.reasons) == 2
    result["settings"]["scale"] = 1
    assert "the input" in verdict(result).headline or "interpolation" not in headline
    assert "any smoothing filter" not in " ".join(verdict(result).cautions)


def test_the_best_rival_may_be_the_filter() -> None:
    result = _result((0.5, 0.9), (0.03, 0.05))
    result["against"]["filter"] = result["against"]["bicubic"]
    for value, expected in ((3.0, "filter"), (1.5, "bicubic"), (None, "bicubic")):
        result["mean"]["filter"] = {"psnr_fitted": value}
        assert best_rival(result, "psnr_fitted") == expected
    assert best_interpolation(result, "psnr_fitted") == "bicubic"


def test_reasons_name_the_better_interpolation() -> None:
    result = _result((0.5, 0.9), (0.03, 0.05))
    assert best_interpolation(result, "psnr_fitted") == "bicubic"
    assert best_interpolation({"mean": {"bilinear": {"nrmse": 0.1}, "bicubic": {"nrmse": 0.2}}}, "nrmse") == "bilinear"
    assert verdict(result).reasons[0] == (
        "PSNR, fitted +0.70 dB against bicubic (95 % interval +0.50 to +0.90, p = 0.01)."
    )


def test_cautions_about_what_a_reader_should_know() -> None:
    result = _result((0.5, 0.9), (0.03, 0.05))
    assert verdict(result).cautions == ()
    result["mean"]["model"]["psnr_fitted"] = 4.0
    assert "differ from HR's, since they keep the grey levels of the scans: fitting" in verdict(result).cautions[0]
    result["mean"]["model"]["psnr_fitted"] = float("inf")  # of flat images
    assert verdict(result).cautions == ()
    result["mean"]["model"]["psnr_fitted"] = 4.0
    result["settings"]["input"] = "crappified HR images"
    result["samples"] = [{}]
    result["against"]["bicubic"]["frc_resolution"] = {"mean": 1.0, "interval": (0.5, 1.5), "p": 0.01, "images": 8}
    words = " ".join(verdict(result).cautions)
    for part in (
        "made by the crappifier",
        "of one file",
        "differ from HR's: fitting them brings 3.0 dB",
        "may be invented",
    ):
        assert part in words
    result["settings"]["scale"] = 1
    assert verdict(result).headline == "Better than the input on these images."
    assert "any smoothing filter" in " ".join(verdict(result).cautions)
    assert "Only 2 images" in " ".join(verdict(_result((0.5, 0.9), (0.03, 0.05), images=2)).cautions)
