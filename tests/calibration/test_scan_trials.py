"""Trials of scans: contrasts and estimates follow from each other; a trial is nearest to noise of its kind."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.grey_windows import Levels, Windows
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.scan_trials import Measured, contrasts_of, estimated, powers_of

SIDE, COUNT = 192, 4
MODEL = NoiseModel.parse("gaussian")


def _scenes(first: int) -> np.ndarray:
    rough = np.random.default_rng(first).normal(size=(COUNT, SIDE, SIDE))
    smooth = sum(gaussian_filter(rough, (0, sigma, sigma), mode="wrap") * sigma for sigma in (2, 6))
    return np.asarray(smooth / smooth.std())


def _scans(gain: float, offset: float, sigma: float) -> Windows:
    noisy = offset + gain * _scenes(0) + np.random.default_rng(3).normal(0, sigma, (COUNT, SIDE, SIDE))
    levels = Levels(*(np.full(COUNT, value) for value in (0.0, 1.0, 0.0, 255.0)))
    pixels = noisy.round().clip(0, 255).astype(np.float32)
    names = [f"{number}.tif" for number in range(COUNT)]
    return Windows(pixels, np.ones(noisy.shape, bool), levels, np.arange(COUNT), names)


def test_contrasts_leave_noise_out() -> None:
    good = (100 + 25 * _scenes(7)).astype(np.float32)
    contrasts = contrasts_of(_scans(15, 90, 40), good, MODEL, {"gaussian": 40.0}, 0.0)
    np.testing.assert_allclose(contrasts.gains, 15 / 25, rtol=0.1)
    np.testing.assert_allclose(contrasts.offsets + 100 * contrasts.gains, 90, atol=2)


def test_estimates_find_noise_and_contrast_from_either_start() -> None:
    good, measured = (100 + 25 * _scenes(7)).astype(np.float32), Measured.of(_scans(15, 90, 8), None)
    for start in (0.0, 20.0):
        estimate = estimated(measured, good, MODEL, {"gaussian": start}, 0.0, seed=0)
        assert estimate.values["gaussian"] == pytest.approx(8, rel=0.05)
        assert estimate.contrasts is not None
        np.testing.assert_allclose(estimate.contrasts.gains, 15 / 25, rtol=0.1)
        trials = estimate.trials
        least = trials.distance(MODEL, {"gaussian": 8.0})
        assert least < min(trials.distance(MODEL, {"gaussian": sigma}) for sigma in (5.0, 12.0)) / 3
        assert np.sqrt(powers_of(trials)[1]).mean() == pytest.approx(8, rel=0.05)
