"""Noises of single pixels against their formulas, to five standard errors; Poisson numbers against the distribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from pssr2_monai.crappify import Detector, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.crappify.pixel_noises import poisson

COUNT = 400_000


def _draw(rate: float, seed: int = 1) -> np.ndarray:
    return poisson(torch.full((COUNT,), rate), torch.Generator().manual_seed(seed)).numpy()


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.999, 1.0, 7.3, 60.0, 127.5, 128.0, 129.75, 254.9, 255.0, 255.5, 700.25])
def test_counts_follow_the_distribution(rate: float) -> None:
    """Chi-squared over all counts that are expected 20 times or more; and mean and variance to five standard errors."""
    drawn = _draw(rate)
    assert np.array_equal(drawn, drawn.round())
    assert abs(drawn.mean(dtype=np.float64) - rate) < 5 * np.sqrt(rate / COUNT)
    about_mean = ((drawn.astype(np.float64) - rate) ** 2).mean()
    assert abs(about_mean - rate) < 5 * rate * np.sqrt((2 + 1 / rate) / COUNT)
    values = np.arange(int(drawn.max()) + 1)
    found = np.bincount(drawn.astype(int), minlength=len(values))
    expected = stats.poisson.pmf(values, rate) * COUNT
    often = expected > 20
    statistic = ((found - expected)[often] ** 2 / expected[often]).sum()
    assert stats.chi2.sf(statistic, max(1, often.sum() - 1)) > 1e-4


def test_each_rate_gets_its_own_count() -> None:
    rates = torch.rand(3, 2, 50, 40, generator=torch.Generator().manual_seed(0)) * 300
    rates[0, 0, :, 0] = 0
    drawn = poisson(rates, torch.Generator().manual_seed(1))
    assert drawn.shape == rates.shape
    assert drawn.dtype == torch.float32
    assert drawn[0, 0, :, 0].abs().max() == 0
    score = ((drawn - rates) / rates.clamp(min=1).sqrt())[rates >= 1]
    assert abs(float(score.mean())) < 5 / np.sqrt(score.numel())
    assert float(score.var()) == pytest.approx(1, abs=5 * np.sqrt(3 / score.numel()))


def test_few_numbers_follow_the_distribution_too() -> None:
    generators = (torch.Generator().manual_seed(seed) for seed in range(400))
    drawn = np.concatenate([poisson(torch.full((1000,), 33.5), each).numpy() for each in generators])
    assert abs(drawn.mean(dtype=np.float64) - 33.5) < 5 * np.sqrt(33.5 / drawn.size)
    assert abs(drawn.var(dtype=np.float64) / 33.5 - 1) < 5 * np.sqrt((2 + 1 / 33.5) / drawn.size)
    assert poisson(torch.zeros(0), torch.Generator()).shape == (0,)


def test_seeds_replay_and_differ_and_neighbours_are_independent() -> None:
    np.testing.assert_array_equal(_draw(40.5, 3), _draw(40.5, 3))
    first, second = (_draw(40.5, seed) - 40.5 for seed in (3, 4))
    for other in (second, np.roll(first, 1), np.roll(first, COUNT // 2)):
        assert abs((first * other).mean()) < 5 * 40.5 / np.sqrt(COUNT)


def test_rates_may_lie_in_any_order() -> None:
    rates = torch.rand(300, 20) * 100
    across = poisson(rates.T, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(across, poisson(rates.T.contiguous(), torch.Generator().manual_seed(0)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_draws_its_own() -> None:
    rates = torch.full((COUNT,), 40.5, device="cuda")
    drawn = poisson(rates, torch.Generator("cuda").manual_seed(0))
    assert drawn.device == rates.device
    assert abs(float(drawn.mean()) - 40.5) < 5 * np.sqrt(40.5 / COUNT)


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
