"""Metrics against scikit-image, pytorch-msssim, the original package's figures and formulas written here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.measures import (
    METRICS,
    QualityMetric,
    frc_resolution,
    gain_offset,
    ms_ssim,
    nrmse,
    pixel_error,
    psnr,
    psnr_range_invariant,
    pssr2_normalised,
    scores,
    ssim,
)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """An image and its target, two frames of 200 x 180."""
    rng = np.random.default_rng(0)
    target = gaussian_filter(rng.normal(size=(2, 200, 180)), (0, 2, 2))
    target = ((target - target.min()) / np.ptp(target)).astype(np.float32)
    image = gaussian_filter(target, (0, 1, 1)) * 0.8 + 0.07 + rng.normal(scale=0.02, size=target.shape)
    return image.astype(np.float32), target


def test_psnr_and_ssim_are_those_of_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = pair
    assert psnr(image, target, 1.0) == pytest.approx(peak_signal_noise_ratio(target, image, data_range=1.0))
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = np.mean([structural_similarity(own, sr, **options) for sr, own in zip(image, target, strict=True)])
    assert ssim(image, target, 1.0) == pytest.approx(expected)
    assert ssim(255 * image, 255 * target, 255) == pytest.approx(expected, abs=1e-5)
    assert psnr(image, image, 1.0) == math.inf


def test_ms_ssim_agrees_with_pytorch_msssim(pair: tuple[np.ndarray, np.ndarray]) -> None:
    other = pytest.importorskip("pytorch_msssim")
    image, target = (torch.from_numpy(each)[:, None] for each in pair)
    expected = float(other.ms_ssim(image, target, data_range=1.0))
    assert ms_ssim(*pair, 1.0) == pytest.approx(expected, abs=1e-4)


def test_error_metrics_by_their_formulas(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = pair
    error = np.sqrt(((image.astype(float) - target) ** 2).mean())
    assert pixel_error(image, target, 1.0) == pytest.approx(255 * error, rel=1e-5)
    assert nrmse(image, target) == pytest.approx(error / (target.max() - target.min()), rel=1e-5)


def test_gain_and_offset_are_those_of_polyfit(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = pair
    gain, offset = np.polyfit(image.ravel().astype(float), target.ravel().astype(float), 1)
    fitted, same = gain_offset(image, target)
    np.testing.assert_allclose(fitted, gain * image + offset, atol=1e-6)
    assert same is target
    assert scores(image, target)["psnr_fitted"] == pytest.approx(psnr(gain * image + offset, target, 1.0), abs=1e-3)
    assert gain_offset(np.full((1, 4, 4), 0.3, np.float32), target[:1, :4, :4])[0].std() == 0


def test_range_invariant_psnr_by_its_formula(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = (each.astype(float) for each in pair)
    # The target standardised, the image without its mean times the factor of the least squared error.
    own = (target - target.mean()) / target.std()
    other = image - image.mean()
    other *= (own * other).sum() / (other**2).sum()
    span = (target.max() - target.min()) / target.std()
    expected = 20 * np.log10(span / np.sqrt(((own - other) ** 2).mean()))
    assert psnr_range_invariant(*pair) == pytest.approx(expected, abs=1e-3)
    assert psnr_range_invariant(3 * pair[0] - 0.4, pair[1]) == pytest.approx(expected, abs=1e-3)
    assert math.isnan(psnr_range_invariant(pair[0], np.zeros_like(pair[0])))


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


def test_the_metric_of_monai_gives_the_mean_over_images(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = (torch.from_numpy(each)[:, None] for each in pair)
    for name in METRICS:
        metric = QualityMetric(name)
        metric(image[:1], target[:1])
        metric([image[1]], [target[1]])
        alone = [scores(pair[0][n : n + 1], pair[1][n : n + 1])[name] for n in range(2)]
        assert float(metric.aggregate()) == pytest.approx(np.mean(alone), rel=1e-4), name
    volume = QualityMetric("frc_resolution")(image[:, 0][None, None], target[:, 0][None, None])
    assert volume.shape == (1, 1)
    assert float(volume) == pytest.approx(frc_resolution(*pair), rel=1e-5)


def test_unknown_names_are_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(InputError, match="use one of psnr, ssim"):
        QualityMetric("psrn")
    with pytest.raises(InputError, match="use least_squares or pssr2"):
        QualityMetric("psnr_fitted", normalise="percentile")
    with pytest.raises(InputError, match="use least_squares or pssr2"):
        scores(*pair, "percentile")
