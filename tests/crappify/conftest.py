"""Flat and structured images, and a check of moments, that the tests of the noises share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from pssr2_monai.crappify import Noise

SIDE = 400


@pytest.fixture
def scene() -> np.ndarray:
    """An image of two frames with structure, ``(2, 60, 48)``."""
    rough = np.random.default_rng(0).normal(size=(2, 60, 48))
    return (0.5 + 0.8 * ndimage.gaussian_filter(rough, (0, 1.5, 1.5))).clip(0, 1).astype(np.float32)


def _flat(level: float, shape: tuple[int, ...] = (1, SIDE, SIDE)) -> np.ndarray:
    return np.full(shape, level / 255, np.float32)


def _noisy_levels(noise: Noise, level: float, shape: tuple[int, ...] = (1, SIDE, SIDE)) -> np.ndarray:
    return np.asarray(noise.set_random_state(1)(_flat(level, shape)), np.float64) * 255


def _check_moments(noisy: np.ndarray, mean: float, variance: float, excess: float = 0.0) -> None:
    assert abs(noisy.mean() - mean) < 5 * np.sqrt(variance / noisy.size)
    about_mean = ((noisy - mean) ** 2).mean()
    assert abs(about_mean - variance) < 5 * variance * np.sqrt((excess + 2) / noisy.size) + 1e-4


@pytest.fixture
def flat() -> Callable[..., np.ndarray]:
    """``flat(grey_level, shape)``, an image of one brightness."""
    return _flat


@pytest.fixture
def noisy_levels() -> Callable[..., np.ndarray]:
    """``noisy_levels(noise, grey_level, shape)``, the grey levels of a flat image with the noise, in float64."""
    return _noisy_levels


@pytest.fixture
def check_moments() -> Callable[..., None]:
    """``check_moments(values, mean, variance, excess_kurtosis)`` to five standard errors.

    Of the mean, sqrt(v / n); of the variance, v sqrt((excess kurtosis + 2) / n).
    """
    return _check_moments
