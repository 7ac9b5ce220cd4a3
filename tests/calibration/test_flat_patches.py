"""Noise of single images: what was put in comes out, rougher than with pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.flat_patches import noise_of_flat_patches
from pssr2_monai.errors import InputError

SHAPE = (6, 256, 256)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Cells, so to say: flat areas of many greys with edges between."""
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), (0, 25, 25))
    return 120 + 30 * np.round(1.5 * smooth / smooth.std()).clip(-3, 3)


def _all(images: np.ndarray) -> np.ndarray:
    return np.ones(images.shape, dtype=bool)


@pytest.mark.parametrize(("intensity", "sigma"), [(0.7, 0.0), (0.0, 13.0), (0.7, 9.0), (2.0, 0.0)])
def test_poisson_and_gaussian_noise_are_found(clean: np.ndarray, intensity: float, sigma: float) -> None:
    rng = np.random.default_rng(1)
    noisy = clean + intensity * (rng.poisson(clean) - clean) + rng.normal(0, sigma, SHAPE)
    found = noise_of_flat_patches(np.round(noisy), _all(noisy))
    strength = np.hypot(found.values["poisson"] * np.sqrt(120), found.values["gaussian"])
    assert strength == pytest.approx(np.hypot(intensity * np.sqrt(120), sigma), rel=0.05)
    assert found.values["poisson"] == pytest.approx(intensity, abs=0.25)
    assert len(found.brightness) == len(found.spread)


def test_a_model_of_one_noise_gives_that_one(clean: np.ndarray) -> None:
    noisy = clean + np.random.default_rng(2).normal(0, 8, SHAPE)
    found = noise_of_flat_patches(noisy, _all(noisy), ("gaussian",))
    assert list(found.values) == ["gaussian"]
    assert found.values["gaussian"] == pytest.approx(8, rel=0.05)
    assert 0 < found.errors["gaussian"] < 0.5


def test_saturated_patches_are_left_out(clean: np.ndarray) -> None:
    noisy = clean + np.random.default_rng(3).normal(0, 8, SHAPE)
    good = _all(noisy)
    noisy[:, :100], good[:, :100] = 255, False
    assert noise_of_flat_patches(noisy, good, ("gaussian",)).values["gaussian"] == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize(
    ("images", "good", "match"),
    [
        (np.zeros((1, 16, 200)), True, "too small"),
        (np.full((4, 128, 128), 9.0), True, "constant"),
        (np.zeros((4, 128, 128)), False, "are not saturated"),
    ],
)
def test_images_without_noise_to_measure_are_refused(images: np.ndarray, good: bool, match: str) -> None:
    with pytest.raises(InputError, match=match):
        noise_of_flat_patches(images, np.full(images.shape, good))
