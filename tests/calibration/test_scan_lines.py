"""Scans whose noise has lines of its own over brightness: each is found, and alike ones are not told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.grey_windows import Levels, Windows
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.scan_lines import OwnStrengths, own_strengths
from pssr2_monai.calibration.scan_trials import Measured

SIDE, COUNT = 192, 6
MODEL = NoiseModel.parse("poisson+gaussian")


def _scenes(first: int) -> np.ndarray:
    """Structure of three sizes, grey levels 15 to 205, most of them dark or bright."""
    scenes = []
    for seed in range(first, first + COUNT):
        rough = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
        smooth = sum(gaussian_filter(rough, sigma) * sigma for sigma in (2, 6, 20))
        scenes.append(110 + 95 * np.tanh(1.5 * smooth / smooth.std()))
    return np.stack(scenes)


def _own(spread: np.ndarray, common: dict[str, float]) -> OwnStrengths | None:
    """Fit scans with normal noise of a spread ``(scans, Y, X)``."""
    noisy = _scenes(0) + spread * np.random.default_rng(9).normal(size=spread.shape)
    levels = Levels(*(np.full(COUNT, value) for value in (0.0, 1.0, -1000.0, 1000.0)))
    names = [f"{number}.tif" for number in range(COUNT)]
    windows = Windows(noisy.astype(np.float32), np.ones(noisy.shape, bool), levels, np.arange(COUNT), names)
    good = _scenes(50).astype(np.float32)
    return own_strengths(Measured.of(windows, good), good, MODEL, common, 0.0, seed=0)


def test_scans_of_several_photon_counts_have_strengths_of_their_own() -> None:
    intensities, sigmas = np.array([0.4, 0.4, 1.0, 1.0, 2.5, 2.5]), np.array([14.0, 14.0, 0.0, 0.0, 0.0, 0.0])
    scenes = _scenes(0)
    spread = np.sqrt(intensities[:, None, None] ** 2 * scenes + sigmas[:, None, None] ** 2)
    own = _own(spread, {"poisson": 1.0, "gaussian": 8.0})
    assert own is not None
    assert own.black < 5
    found = sorted(own.strengths, key=lambda values: -values["gaussian"])
    assert [values["gaussian"] for values in found[:2]] == pytest.approx([14, 14], rel=0.1)
    strong = sorted(values["poisson"] for values in found[2:])
    assert strong == pytest.approx([1, 1, 2.5, 2.5], rel=0.1)
    assert own.misfit < 0.1


@pytest.mark.parametrize("factors", [(1, 1, 1, 1, 1, 1), (0.4, 0.7, 1, 1, 1.5, 2.5)])
def test_scans_that_a_factor_tells_apart_have_no_lines_of_their_own(factors: tuple[float, ...]) -> None:
    spread = np.array(factors)[:, None, None] * np.sqrt(0.5**2 * _scenes(0) + 6**2)
    assert _own(spread, {"poisson": 0.5, "gaussian": 6.0}) is None
