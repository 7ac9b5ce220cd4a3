"""Noises of the beam and the scan against their formulas and scipy, to five standard errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from pssr2_monai.crappify import Blur, CorrelatedNoise, Drift, GaussianNoise, LineJitter, LineNoise
from pssr2_monai.crappify.scan_noises import variance_kept_by_blur


def test_line_noise_mean_and_variance_of_rows(
    check_moments: Callable[..., None], noisy_levels: Callable[..., np.ndarray]
) -> None:
    noisy = noisy_levels(LineNoise(sigma=7), 120, (40, 500, 6))
    np.testing.assert_allclose(noisy, noisy[..., :1] + np.zeros(6), atol=1e-4)
    rows = noisy[..., 0]
    check_moments(rows, 120, 49)
    neighbours = ((rows[:, 1:] - 120) * (rows[:, :-1] - 120)).mean()
    assert abs(neighbours) < 5 * 49 / np.sqrt(rows.size)


def test_line_jitter_displaces_rows(check_moments: Callable[..., None]) -> None:
    """On a ramp of two grey levels a pixel a displacement of d px shows as 2 d levels, along the whole row."""
    ramp = np.broadcast_to(np.arange(100, dtype=np.float32) * 2 / 255, (20, 500, 100))
    moved = np.asarray(LineJitter(sigma=1.5).set_random_state(1)(ramp.copy()), np.float64) * 255
    displaced = (moved - ramp * 255.0)[..., 20:80] / 2
    np.testing.assert_allclose(displaced, displaced[..., :1] + np.zeros(60), atol=1e-3)
    check_moments(displaced[..., 0], 0, 1.5**2)


def test_line_jitter_interpolates_between_pixels() -> None:
    x = np.arange(64)
    wave = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * x / 16 + 1), (1, 50, 64)).astype(np.float32)
    moved = LineJitter(sigma=0.6).set_random_state(2)(wave)
    ramp = np.broadcast_to(x / 100, (1, 50, 64)).astype(np.float32)
    shift = (LineJitter(sigma=0.6).set_random_state(2)(ramp) * 100 - x)[..., 32:33]
    expected = 0.5 + 0.4 * np.cos(2 * np.pi * (x + shift) / 16 + 1)
    np.testing.assert_allclose(moved[..., 8:56], expected[..., 8:56], atol=0.004)  # linear would be 0.0077 off


def test_line_jitter_mirrors_beyond_the_ends() -> None:
    edge = np.random.default_rng(0).random((1, 1, 9), dtype=np.float32)
    padded = np.pad(edge, ((0, 0), (0, 0), (9, 9)), mode="reflect")
    for seed in range(20):
        found = LineJitter(sigma=3.0).set_random_state(seed)(edge)
        inside = LineJitter(sigma=3.0).set_random_state(seed)(padded)[..., 9:-9]
        np.testing.assert_allclose(found, inside, atol=1e-5)


def test_drift_mean_variance_and_correlation(
    check_moments: Callable[..., None], noisy_levels: Callable[..., np.ndarray]
) -> None:
    """At a place, over many images, the drift is Gaussian but for the waves' number: excess kurtosis 3 / 2 / waves."""
    count, length = 20_000, 6.0
    field = noisy_levels(Drift(sigma=9, length=length), 100, (count, 1, 13, 49)) - 100
    corner = field[:, 0, 0, 0]
    for place in (corner, field[:, 0, 12, 48]):
        check_moments(place, 0, 81, excess=3 / 2 / 8)
    for y, x in ((6, 0), (12, 0), (0, 48), (6, 48)):
        expected = np.exp(-((y / length) ** 2) / 2 - (x / (8 * length)) ** 2 / 2)
        found = (corner * field[:, 0, y, x]).mean() / 81
        assert abs(found - expected) < 5 * np.sqrt((1 + expected**2 + 0.4) / count)
    steps = np.abs(np.diff(field, axis=-2)).mean() / np.abs(np.diff(field, axis=-1)).mean()
    assert 6 < steps < 10


@pytest.mark.parametrize(("along", "across"), [(0.0, 0.0), (0.7, 0.0), (0.5, 1.5), (3.0, 0.3)])
def test_correlated_noise_has_the_variance_and_the_correlation_of_its_kernel(along: float, across: float) -> None:
    """White noise through a filter correlates like the filter with itself; up to the edges, and growing with light."""
    count, side = 3000, 9
    levels = np.full((count, 1, side, side), 100 / 255, dtype=np.float32)
    noise = CorrelatedNoise(sigma=6, intensity=0.8, along=along, across=across).set_random_state(3)
    field = np.asarray(noise(levels), dtype=np.float64)[:, 0] * 255 - 100
    variance = 36 + 0.64 * 100
    assert abs(field.mean()) < 0.1 * np.sqrt(variance)
    for y, x in ((0, 0), (4, 4), (8, 3)):
        assert abs(field[:, y, x].var() / variance - 1) < 5 * np.sqrt(2 / count)
    point = np.zeros(65)
    point[32] = 1
    for sigma, neighbour in ((along, field[:, 4, 5]), (across, field[:, 5, 4])):
        kernel = ndimage.gaussian_filter1d(point, max(sigma, 1e-3))
        expected = (kernel[1:] * kernel[:-1]).sum() / (kernel**2).sum()
        correlation = (field[:, 4, 4] * neighbour).mean() / variance
        assert abs(correlation - expected) < 5 * np.sqrt((1 + expected**2) / count)


def test_correlated_noise_of_each_image_has_its_own_width() -> None:
    noise = CorrelatedNoise(sigma=10, along=[0, 2], across=0).set_random_state(1)
    field = np.asarray(noise(np.full((6, 1, 256, 256), 0.5, dtype=np.float32)), dtype=np.float64)[:, 0] - 0.5
    correlations = (field[:, :, 1:] * field[:, :, :-1]).mean((1, 2)) / field.var((1, 2))
    widths = noise.drawn["along"]
    wide = widths > 0.6
    assert 0 < wide.sum() < 6
    np.testing.assert_allclose(correlations[wide], np.exp(-1 / (4 * widths[wide] ** 2)), atol=0.03)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.7])
def test_blur_equals_scipy(scene: np.ndarray, sigma: float) -> None:
    expected = ndimage.gaussian_filter(scene.astype(np.float64), (0, sigma, sigma), mode="reflect", truncate=4.0)
    np.testing.assert_allclose(Blur(sigma)(scene), expected, atol=2e-6)


def test_blur_reaches_beyond_a_small_image() -> None:
    small = np.random.default_rng(0).random((1, 5, 3), dtype=np.float32)
    expected = ndimage.gaussian_filter(small.astype(np.float64), (0, 4, 4), mode="reflect")
    np.testing.assert_allclose(Blur(4)(small), expected, atol=2e-6)


def test_blur_of_white_noise(flat: Callable[..., np.ndarray]) -> None:
    """The mean stays; the variance falls by the sum of the squared weights."""
    weights = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    left = ((weights / weights.sum()) ** 2).sum() ** 2
    white = GaussianNoise(20).set_random_state(0)(flat(128))
    blurred = np.asarray(Blur(2)(white), np.float64)[0, 20:-20, 20:-20] * 255
    assert abs(blurred.mean() - 128) < 5 * 20 / np.sqrt(blurred.size)
    # Neighbours are alike, so that about one in (4 pi sigma^2) / 2 pixels counts for the variance.
    assert abs(blurred.var() / (400 * left) - 1) < 5 * np.sqrt(2 * 2 * np.pi * 4 / blurred.size)


@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.0, 3.0])
def test_the_variance_that_a_blur_leaves_is_that_of_a_filtered_point(sigma: float) -> None:
    """White noise through a filter keeps the sum of its squared weights."""
    point = np.zeros((81, 81))
    point[40, 40] = 1
    weights = ndimage.gaussian_filter(point, sigma, truncate=12)
    assert variance_kept_by_blur(sigma) == pytest.approx((weights**2).sum(), rel=1e-6)
