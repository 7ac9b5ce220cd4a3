"""The scores of an image of several samples, and their means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pssr2_monai.evaluation.compare import Comparison
from pssr2_monai.evaluation.measures import METRICS, chosen_metrics, psnr
from pssr2_monai.evaluation.scored_image import FREQUENCIES, ScoredImage, mean_scores
from pssr2_monai.fidelity.decorrelation import decorrelation_resolution
from pssr2_monai.networks.record import Record


def _comparison(seed: int, depth: int = 1) -> Comparison:
    rng = np.random.default_rng(seed)
    hr = rng.random((depth, 64, 64), dtype=np.float32)
    restored = {"bicubic": hr * 0.9, "model": hr + rng.normal(scale=0.1, size=hr.shape).astype(np.float32)}
    return Comparison(hr[:1] if depth > 1 else hr, hr, restored)


def test_scores_are_means_over_samples_and_resolutions_are_those_of_the_images() -> None:
    image = ScoredImage("a.tif", 4.0, [(0, 255)])
    samples = [_comparison(0), _comparison(1)]
    for sample in samples:
        image.add(sample, Record(network={}, scale=1), "least_squares", chosen_metrics("all"))
    expected = np.mean([psnr(sample.restored["model"], sample.hr) for sample in samples])
    described = image.described()
    assert image.mean()["model"]["psnr"] == described["model"]["psnr"] == pytest.approx(expected)
    assert list(described["model"]) == list(METRICS)
    assert described["samples"] == 2
    assert set(described["single_image_resolution"]) == {"hr", "lr"}
    assert [len(curve) for curve in image.curves["model"]] == 2 * [len(FREQUENCIES)]
    assert math.isnan(described["decorrelation_resolution"]["hr"])  # of white noise


def test_where_frames_were_restored_detail_is_judged_in_cuts() -> None:
    image = ScoredImage("a.tif", None, [(0, 1)])
    sample = _comparison(0, depth=64)
    smooth = np.cumsum(sample.hr, axis=2) / 64
    image.add(Comparison(sample.lr, smooth, {"model": smooth}), Record(network={}, scale=1), "pssr2", ["decorrelation"])
    cuts = np.moveaxis(smooth, -1, 0)
    expected = decorrelation_resolution(cuts)
    assert image.mean()["model"]["decorrelation"] == pytest.approx(expected, nan_ok=True)
    assert set(image.mean()["model"]) == {"decorrelation"}


def test_means_leave_out_what_has_no_score() -> None:
    samples = [{"psnr": math.inf, "ssim": 0.5}, {"psnr": 30.0, "ssim": math.nan}]
    assert mean_scores(samples) == {"psnr": 30, "ssim": 0.5}
    assert mean_scores(samples[:1])["psnr"] == math.inf
    assert math.isnan(mean_scores(samples[1:])["ssim"])
