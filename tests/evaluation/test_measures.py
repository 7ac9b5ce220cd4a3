"""Metrics against scikit-image, the original package's figures and formulas written here; names and scores."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.fourier_ring_correlation import frc_resolution
from pssr2_monai.evaluation.measures import (
    METRICS,
    QualityMetric,
    chosen_metrics,
    gain_offset,
    nrmse,
    pixel_error,
    psnr,
    psnr_range_invariant,
    pssr2_normalised,
    scores,
)


def test_psnr_is_that_of_scikit_image(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = noisy_pair
    assert psnr(image, target, 1.0) == pytest.approx(peak_signal_noise_ratio(target, image, data_range=1.0))
    assert psnr(image, image, 1.0) == math.inf


def test_error_metrics_by_their_formulas(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = noisy_pair
    error = np.sqrt(((image.astype(float) - target) ** 2).mean())
    assert pixel_error(image, target, 1.0) == pytest.approx(255 * error, rel=1e-5)
    assert nrmse(image, target) == pytest.approx(error / (target.max() - target.min()), rel=1e-5)


def test_gain_and_offset_are_those_of_polyfit(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = noisy_pair
    gain, offset = np.polyfit(image.ravel().astype(float), target.ravel().astype(float), 1)
    fitted, same = gain_offset(image, target)
    np.testing.assert_allclose(fitted, gain * image + offset, atol=1e-6)
    assert same is target
    assert scores(image, target)["psnr_fitted"] == pytest.approx(psnr(gain * image + offset, target, 1.0), abs=1e-3)
    assert gain_offset(np.full((1, 4, 4), 0.3, np.float32), target[:1, :4, :4])[0].std() == 0


def test_range_invariant_psnr_by_its_formula(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = (each.astype(float) for each in noisy_pair)
    # The target standardised, the image without its mean times the factor of the least squared error.
    own = (target - target.mean()) / target.std()
    other = image - image.mean()
    other *= (own * other).sum() / (other**2).sum()
    span = (target.max() - target.min()) / target.std()
    expected = 20 * np.log10(span / np.sqrt(((own - other) ** 2).mean()))
    assert psnr_range_invariant(*noisy_pair) == pytest.approx(expected, abs=1e-3)
    assert psnr_range_invariant(3 * noisy_pair[0] - 0.4, noisy_pair[1]) == pytest.approx(expected, abs=1e-3)
    assert math.isnan(psnr_range_invariant(noisy_pair[0], np.zeros_like(noisy_pair[0])))


def test_pssr2_normalisation_gives_the_figures_of_pssr() -> None:
    """``normalize_preds`` and ``pixel_metric`` of pssr 2.4.0 on these images, stored."""
    y, x = np.mgrid[:40, :48]
    hr = np.round(127 + 90 * np.sin(x / 3) * np.cos(y / 5))
    hat = np.round(60 + 50 * np.sin(x / 3 + 0.3) * np.cos(y / 5) + 8 * np.sin(x * y))
    target, image = ((each[None] / 255).astype(np.float32) for each in (hr, hat))
    fitted, stretched = pssr2_normalised(image, target)
    levels = [(255 * each[0]).round() for each in (stretched, fitted)]
    assert [each.mean() for each in levels] == pytest.approx([128.05104166666666, 128.046875])
    assert [(each[5, 7], each[20, 30], each.min(), each.max()) for each in levels] == [
        (175, 171, 0, 252),
        (149, 184, 0, 255),
    ]
    assert psnr(fitted, stretched, 1.0) == pytest.approx(20.992766702525074, abs=1e-5)
    assert scores(image, target, "pssr2")["ssim_fitted"] == pytest.approx(0.8450278141661333, abs=1e-5)
    assert pixel_error(image, target, 1.0) == pytest.approx(71.46254117834508, abs=1e-4)


def test_images_too_small_for_a_metric_have_none() -> None:
    image, target = np.random.default_rng(0).random((2, 1, 10, 20), dtype=np.float32)
    found = scores(image, target)
    assert {name for name, value in found.items() if math.isnan(value)} == {
        "ssim",
        "ms_ssim",
        "ssim_fitted",
        "frc_resolution",
    }


def test_the_metric_of_monai_gives_the_mean_over_images(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = (torch.from_numpy(each)[:, None] for each in noisy_pair)
    for name in (name for name in METRICS if METRICS[name].reference == "hr"):
        metric = QualityMetric(name)
        metric(image[:1], target[:1])
        metric([image[1]], [target[1]])
        alone = [scores(noisy_pair[0][n : n + 1], noisy_pair[1][n : n + 1], names=[name])[name] for n in range(2)]
        assert float(metric.aggregate()) == pytest.approx(np.mean(alone), rel=1e-4), name
    volume = QualityMetric("frc_resolution")(image[:, 0][None, None], target[:, 0][None, None])
    assert volume.shape == (1, 1)
    assert float(volume) == pytest.approx(frc_resolution(*noisy_pair), rel=1e-5)


def test_unknown_names_are_refused(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError, match="use one of psnr, ssim"):
        QualityMetric("psrn")
    with pytest.raises(InputError, match="'rse' is unknown"):  # MONAI's metrics are not handed the scan
        QualityMetric("rse")
    with pytest.raises(InputError, match="metrics: 'fsmi' is unknown; did you mean 'fsim'"):
        chosen_metrics("rse,fsmi")
    with pytest.raises(InputError, match="use least_squares or pssr2"):
        QualityMetric("psnr_fitted", normalise="percentile")
    with pytest.raises(InputError, match="use least_squares or pssr2"):
        scores(*noisy_pair, "percentile")


def test_the_usual_metrics_are_scored_and_those_named() -> None:
    usual = chosen_metrics()
    assert usual == chosen_metrics("psnr") == chosen_metrics([])
    assert set(chosen_metrics("fsim, rse")) - set(usual) == {"fsim", "rse"}
    assert chosen_metrics("all") == list(METRICS) == chosen_metrics(["all"])
    rng = np.random.default_rng(0)
    image, target = rng.random((2, 1, 64, 64), dtype=np.float32)
    scan = image.reshape(1, 32, 2, 32, 2).mean((2, 4))
    assert list(scores(image, target)) == usual
    every = scores(image, target, names=chosen_metrics("all"), scan=scan, known={"frc_resolution": 7.0})
    assert list(every) == list(METRICS)
    assert every["frc_resolution"] == 7
    assert every["rse"] == pytest.approx(0, abs=1e-4)
    assert every["rsp"] == pytest.approx(1)
    without = scores(image, target, names=["rse", "fsim"])
    assert math.isnan(without["rse"])
    assert without["fsim"] == every["fsim"]


def test_with_a_mask_only_its_pixels_are_scored(wavy_pair: Callable[[int, int], tuple[np.ndarray, np.ndarray]]) -> None:
    image, target = (planes[None] for planes in wavy_pair(96, 128))
    mask = np.zeros((1, 96, 128), bool)
    mask[0, 16:80, 32:112] = True
    spoilt = np.where(mask, image, 0.9 - image)
    scan = image.reshape(1, 48, 2, 64, 2).mean((2, 4))
    names = chosen_metrics("all")
    masked, also = (scores(pixels, target, names=names, scan=scan, mask=mask) for pixels in (image, spoilt))
    whole = scores(image[:, 16:80, 32:112], target[:, 16:80, 32:112], names=names, scan=scan[:, 8:40, 16:56])
    pixelwise = [name for name in names if METRICS[name].masked == "pixels"]
    assert pixelwise == ["psnr", "psnr_fitted", "psnr_range_invariant", "nrmse", "pixel_error"]
    for name in [*pixelwise, "ms_ssim", "fsim", "micro_ms3im"]:
        assert masked[name] == pytest.approx(whole[name], rel=1e-5), name
        assert also[name] == pytest.approx(whole[name], rel=1e-5), name
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    line = np.polyfit(image[mask].astype(float), target[mask].astype(float), 1)
    for name, inner in (("ssim", image), ("ssim_fitted", np.polyval(line, image))):
        similarities = structural_similarity(target[0], np.where(mask, inner, target)[0].astype(np.float32), **options)[
            1
        ]
        assert masked[name] == pytest.approx(similarities[mask[0]].mean(), abs=1e-4), name
        assert also[name] == masked[name]
    assert masked["rse"] == pytest.approx(0, abs=0.02)
    everywhere = scores(image, target, names=names, scan=scan, mask=np.ones_like(mask))
    assert everywhere == pytest.approx(scores(image, target, names=names, scan=scan), rel=1e-5)
    assert scores(image, target, "pssr2", mask=mask)["psnr_fitted"] > 10
