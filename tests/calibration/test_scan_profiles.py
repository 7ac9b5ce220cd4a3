"""Profiles of scans by themselves: flat patches, what filters leave of known noise, and images that differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.scan_profiles import (
    FILTERS,
    details,
    factors_of_images,
    flat_patches,
    spreads,
)
from pssr2_monai.errors import InputError

SHAPE = (6, 256, 256)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Flat areas of many grey levels with edges between."""
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), (0, 25, 25))
    return np.asarray(120 + 30 * np.round(1.5 * smooth / smooth.std()).clip(-3, 3))


def _all(images: np.ndarray) -> np.ndarray:
    return np.ones(images.shape, dtype=bool)


@pytest.mark.parametrize(("intensity", "sigma"), [(0.7, 0.0), (0.0, 13.0), (2.0, 9.0)])
def test_white_noise_has_the_same_spread_behind_all_filters(clean: np.ndarray, intensity: float, sigma: float) -> None:
    rng = np.random.default_rng(1)
    noisy = clean + intensity * (rng.poisson(clean) - clean) + rng.normal(0, sigma, SHAPE)
    flat = flat_patches(noisy, _all(noisy))
    spread = spreads(details(noisy, flat), flat)
    expected = np.sqrt(intensity**2 * flat.bin_brightness() + sigma**2)
    assert spread.shape == (len(FILTERS), len(expected))
    known = np.isfinite(spread).all(axis=0)
    assert known.sum() > 5
    # Where few patches are flat, edges reach into them.
    np.testing.assert_allclose(np.median(spread[:, known] / expected[known], axis=1), 1, atol=0.04)


def test_saturated_patches_and_edges_are_left_out(clean: np.ndarray) -> None:
    noisy, good = clean + np.random.default_rng(3).normal(0, 8, SHAPE), _all(clean)
    noisy[:, :100], good[:, :100] = 255, False
    flat = flat_patches(noisy, good)
    assert flat.row.min() * 8 >= 100
    assert flat.brightness.max() < 250
    steep = np.hypot(*np.gradient(clean, axis=(1, 2)))
    assert flat.of(steep).mean() < 0.5 * steep.mean()


def test_images_with_stronger_noise_are_told_from_others(clean: np.ndarray) -> None:
    truth = np.array([0.5, 1.0, 1.0, 1.0, 2.0, 3.0])
    noisy = clean + 6 * truth[:, None, None] * np.random.default_rng(2).normal(size=SHAPE)
    flat = flat_patches(noisy, _all(noisy))
    behind = details(noisy, flat)
    factors = factors_of_images(behind, flat, np.arange(6), np.ones((len(FILTERS), len(flat.cuts) + 1)))
    np.testing.assert_allclose(factors, truth, rtol=0.06)


@pytest.mark.parametrize(
    ("images", "good", "match"),
    [(np.zeros((1, 16, 200)), True, "too small"), (np.zeros((4, 128, 128)), False, "are not saturated")],
)
def test_images_without_patches_are_refused(images: np.ndarray, good: bool, match: str) -> None:
    with pytest.raises(InputError, match=match):
        flat_patches(images, np.full(images.shape, good))
