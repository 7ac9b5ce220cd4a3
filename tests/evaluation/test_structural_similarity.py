"""SSIM against scikit-image, MS-SSIM against pytorch-msssim, MicroMS3IM against microssim."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from pssr2_monai.evaluation.structural_similarity import best_gain, micro_ms3im, ms_ssim, ssim

WavyPair = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


def test_ssim_is_that_of_scikit_image(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = noisy_pair
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = np.mean([structural_similarity(hr, sr, **options) for sr, hr in zip(image, target, strict=True)])
    assert ssim(image, target) == pytest.approx(expected)
    assert ssim(255 * image, 255 * target, 255) == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_agrees_with_pytorch_msssim(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    other = pytest.importorskip("pytorch_msssim")
    image, target = (torch.from_numpy(planes)[:, None] for planes in noisy_pair)
    expected = float(other.ms_ssim(image, target, data_range=1.0))
    assert ms_ssim(*noisy_pair) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("shape", "expected", "gain"), [((200, 180), 0.9038882256, 1.2877747286), ((256, 256), 0.9008281231, 1.2781668517)]
)
def test_micro_ms3im_is_that_of_microssim(
    wavy_pair: WavyPair, shape: tuple[int, int], expected: float, gain: float
) -> None:
    """``MicroMS3IM().fit(target, image)`` and its score, of microssim 0.0.5 on these images, stored.

    It takes MS-SSIM from torchmetrics, which treats borders another way than pytorch-msssim: 0.002 here.
    """
    image, target = (planes[None] for planes in wavy_pair(*shape))
    above = (planes - np.percentile(planes, 3) for planes in (image, target))
    assert best_gain(*above) == pytest.approx(gain, rel=1e-5)
    assert micro_ms3im(image, target) == pytest.approx(expected, abs=3e-3)
    assert micro_ms3im(0.3 * image + 5, target) == pytest.approx(micro_ms3im(image, target), abs=1e-5)
    assert micro_ms3im(image, 1000 * target + 70) == pytest.approx(micro_ms3im(image, target), abs=1e-5)
    assert micro_ms3im(0.5 * target + 0.1, target) == pytest.approx(1)
    assert ms_ssim(0.3 * image + 5, target) < 0.5


def test_the_gain_is_that_of_the_highest_ssim(noisy_pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, target = noisy_pair[0][:1] - 0.1, noisy_pair[1][:1]
    gain = best_gain(image, target)
    span = float(np.ptp(target))
    values = [structural_similarity(target[0], image[0] * g, data_range=span) for g in (gain, 0.98 * gain, 1.02 * gain)]
    assert values[0] == max(values)
    assert best_gain(image, target, max_windows=3000) == pytest.approx(gain, rel=0.02)
    assert best_gain(np.ones_like(image), target) == 1


def test_images_without_a_score() -> None:
    image = np.random.default_rng(0).random((1, 10, 20), dtype=np.float32)
    assert all(math.isnan(metric(image, image)) for metric in (ssim, ms_ssim, micro_ms3im))
    assert math.isnan(micro_ms3im(np.ones((1, 32, 32)), np.ones((1, 32, 32))))
