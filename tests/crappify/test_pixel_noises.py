"""Noises of single pixels against their formulas, to five standard errors; Poisson noise against the distribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from pssr2_monai.crappify import Detector, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise

COUNT = 400_000


def _draw(rate: float, seed: int = 1) -> np.ndarray:
    """Poisson numbers: with an intensity of 1, a pixel becomes as many counts as it has grey levels."""
    image = torch.full((1, COUNT // 500, 500), rate / 255)
    return np.asarray(PoissonNoise(1.0).set_random_state(seed)(image)).ravel().astype(np.float64) * 255


@pytest.mark.parametrize("rate", [0.02, 0.5, 1.0, 7.3, 60.0, 129.75, 254.9, 700.25])
def test_counts_follow_the_distribution(rate: float) -> None:
    """Chi-squared over all counts that are expected 20 times or more."""
    drawn = _draw(rate)
    np.testing.assert_allclose(drawn, drawn.round(), atol=1e-3)
    values = np.arange(int(drawn.max().round()) + 1)
    found = np.bincount(drawn.round().astype(int), minlength=len(values))
    expected = stats.poisson.pmf(values, rate) * COUNT
    often = expected > 20
    statistic = ((found - expected)[often] ** 2 / expected[often]).sum()
    assert stats.chi2.sf(statistic, max(1, often.sum() - 1)) > 1e-4


def test_seeds_replay_and_differ_and_neighbours_are_independent() -> None:
    np.testing.assert_array_equal(_draw(40.5, 3), _draw(40.5, 3))
    first, second = (_draw(40.5, seed) - 40.5 for seed in (3, 4))
    for other in (second, np.roll(first, 1), np.roll(first, COUNT // 2)):
        assert abs((first * other).mean()) < 5 * 40.5 / np.sqrt(COUNT)


@pytest.mark.parametrize("noise", [PoissonNoise(0.8), PoissonNoise(photons=30)])
def test_the_noise_of_a_seed_depends_neither_on_the_memory_nor_on_the_type_of_an_image(noise: PoissonNoise) -> None:
    across = np.random.default_rng(0).random((1, 300, 20), np.float32).transpose(0, 2, 1)
    images = (across, np.ascontiguousarray(across), torch.from_numpy(across), torch.from_numpy(across).contiguous())
    first, *others = (np.asarray(noise.set_random_state(0)(image)) for image in images)
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_draws_its_own() -> None:
    drawn = PoissonNoise(1.0).set_random_state(0)(torch.full((1, 800, 500), 40.5 / 255, device="cuda"))
    assert isinstance(drawn, torch.Tensor)
    assert drawn.device.type == "cuda"
    assert abs(float(drawn.mean()) * 255 - 40.5) < 5 * np.sqrt(40.5 / COUNT)


@pytest.mark.parametrize("level", [1, 20, 100, 200])
@pytest.mark.parametrize("intensity", [0.5, 1.0])
def test_poisson_mean_and_variance(
    level: int, intensity: float, check_moments: Callable[..., None], noisy_levels: Callable[..., np.ndarray]
) -> None:
    check_moments(noisy_levels(PoissonNoise(intensity), level), level, level * intensity**2, excess=1 / level)


@pytest.mark.parametrize("level", [5, 100, 255])
@pytest.mark.parametrize("photons", [0.5, 12, 900])
def test_photons_count_at_white(
    level: int, photons: float, check_moments: Callable[..., None], noisy_levels: Callable[..., np.ndarray]
) -> None:
    noisy = noisy_levels(PoissonNoise(photons=photons), level)
    check_moments(noisy, level, 255 * level / photons, excess=255 / (level * photons))
    counts = noisy * photons / 255
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)


def test_photons_of_255_are_an_intensity_of_1(noisy_levels: Callable[..., np.ndarray]) -> None:
    # The same counts, drawn from the same numbers.
    np.testing.assert_allclose(
        noisy_levels(PoissonNoise(photons=255), 90), noisy_levels(PoissonNoise(1.0), 90), atol=1e-3
    )


def test_poisson_at_levels_that_have_no_rate() -> None:
    """Below black there is nothing to count; NaN and infinity stay where they are and stop nothing."""
    levels = np.array([[[-40.0, 0.0, np.nan, np.inf, -np.inf, 100.0]]], np.float32) / 255
    for noise in (PoissonNoise(1.0), PoissonNoise(photons=50)):
        found = noise.set_random_state(0)(levels)[0, 0]
        np.testing.assert_array_equal(found[:5], levels[0, 0, :5])
        assert np.isfinite(found[5])


def test_gaussian_mean_and_variance(
    check_moments: Callable[..., None], noisy_levels: Callable[..., np.ndarray]
) -> None:
    check_moments(noisy_levels(GaussianNoise(sigma=13, gain=5), 127.5), 127.5 + 5, 169)


@pytest.mark.parametrize("level", [0, 60, 255])
@pytest.mark.parametrize("percent", [0.5, 30, 100])
def test_salt_and_pepper_mean_and_variance(
    level: int, percent: float, check_moments: Callable[..., None], noisy_levels: Callable[..., np.ndarray]
) -> None:
    share = percent / 100
    values, weights = np.array([level, 0.0, 255.0]), np.array([1 - share, share / 2, share / 2])
    mean = (values * weights).sum()
    variance, fourth = (((values - mean) ** power * weights).sum() for power in (2, 4))
    noisy = noisy_levels(SaltPepperNoise(percent), level)
    check_moments(noisy, mean, variance, excess=fourth / variance**2 - 3)
    assert set(np.unique(noisy.round())) <= {0.0, float(level), 255.0}


def test_detector_and_gamma_follow_their_formulas(scene: np.ndarray) -> None:
    np.testing.assert_allclose(Detector(offset=12, gain=0.8)(scene), scene * 0.8 + 12 / 255, atol=1e-6)
    np.testing.assert_allclose(Gamma(1.7)(scene), scene.astype(np.float64) ** 1.7, atol=1e-6)
    beyond = np.array([[[-0.5, 0.0, 1.5]]], np.float32)
    np.testing.assert_allclose(Gamma(2)(beyond), [[[-0.5, 0.0, 2.25]]], atol=1e-6)
