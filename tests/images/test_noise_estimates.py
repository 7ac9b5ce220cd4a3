"""Estimates of noise against known noise, and against the formulas that they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pssr2_monai.images.noise_estimates import black_level, noise_level, second_difference, variance_line


def test_the_second_difference_keeps_the_power_of_noise_and_passes_no_slope() -> None:
    noise = np.random.default_rng(5).normal(0, 3, (400, 400))
    assert second_difference(noise).std() == pytest.approx(3, rel=0.02)
    y, x = np.mgrid[:20, :30]
    np.testing.assert_allclose(second_difference(5.0 * y + 2.0 * x), 0, atol=1e-9)


def test_the_second_difference_is_the_kernel_of_immerkaer_1996_over_its_norm() -> None:
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    images = np.random.default_rng(1).normal(size=(2, 30, 25))
    expected = np.stack([ndimage.convolve(image, kernel / 6.0)[1:-1, 1:-1] for image in images])
    np.testing.assert_allclose(second_difference(images), expected, atol=1e-12)
    assert (kernel**2).sum() == 6**2


@pytest.mark.parametrize("sigma", [3.0, 12.0])
def test_noise_level_is_that_of_the_noise(sigma: float) -> None:
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 20) * 2000
    assert noise_level(smooth + rng.normal(scale=sigma, size=smooth.shape)) == pytest.approx(sigma, rel=0.02)


def test_noise_level_of_integers_unknown_pixels_and_tiny_planes() -> None:
    noise = np.random.default_rng(2).normal(100, 8, (300, 300))
    assert noise_level(noise.round().astype(np.uint8)) == pytest.approx(8, rel=0.02)
    noise[10, 10] = np.nan
    assert noise_level(noise) == pytest.approx(8, rel=0.02)
    assert np.isnan(noise_level(np.zeros((2, 50))))


def test_the_line_through_the_variance_is_that_of_poisson_and_gaussian_noise() -> None:
    brightness = np.linspace(10, 200, 16)
    assert variance_line(brightness, 0.49 * brightness + 36) == pytest.approx({"poisson": 0.7, "gaussian": 6.0})
    assert variance_line(brightness, 0.49 * brightness, ["poisson"]) == pytest.approx({"poisson": 0.7})
    # A line that would cut the axis below zero: neither variance is negative.
    assert variance_line(brightness, np.maximum(brightness - 20, 1))["gaussian"] == 0
    assert variance_line(brightness, brightness, ["line"]) == {}


def test_the_line_is_that_of_counts_drawn_by_numpy() -> None:
    rng, brightness = np.random.default_rng(3), np.linspace(20, 200, 10)
    samples = 0.8 * rng.poisson(brightness, size=(200_000, 10)) + rng.normal(0, 5, size=(200_000, 10))
    line = variance_line(brightness, samples.var(axis=0))
    assert line == pytest.approx({"poisson": 0.8, "gaussian": 5.0}, rel=0.03)


def test_a_black_level_is_reported_where_the_variance_shows_one() -> None:
    rng, brightness = np.random.default_rng(0), np.linspace(40, 200, 16)
    scatter = 1 + 0.02 * rng.normal(size=16)
    assert black_level(brightness, 0.5 * (brightness - 15) * scatter) == pytest.approx(15, abs=3)
    # At most half of the least brightness.
    assert black_level(brightness, 0.5 * (brightness - 35) * scatter) == 20
    assert black_level(brightness, 0.5 * brightness * scatter) == 0
    assert black_level(brightness, (0.5 * brightness + 40) * scatter) == 0
    assert black_level(brightness[:3], brightness[:3] - 15) == 0, "three points are too few for a standard error"
