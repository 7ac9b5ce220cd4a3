"""Direct estimates: the correlation of filtered noise, widths from it, and parameters near those that were put in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from pssr2_monai.calibration.guesses import (
    first_guess,
    kernel_correlation,
    passed_powers,
    widths_of,
    widths_of_differences,
)
from pssr2_monai.calibration.noise_model import NoiseModel, search_space
from pssr2_monai.calibration.noise_profiles import LAGS, sort_pixels, summarise
from pssr2_monai.calibration.scan_profiles import FILTERS


@pytest.mark.parametrize("width", [0.3, 0.6, 1.0, 2.5])
def test_the_correlation_is_that_of_filtered_noise(width: float) -> None:
    spot = np.zeros(81)
    spot[40] = 1
    kernel = gaussian_filter1d(spot, width)
    whole = np.correlate(kernel, kernel, mode="full")[80:]
    np.testing.assert_allclose(kernel_correlation(width, range(6)), whole[:6] / whole[0], atol=1e-3)
    if width >= 1:
        np.testing.assert_allclose(kernel_correlation(width, [1]), np.exp(-1 / 4 / width**2), atol=0.01)


@pytest.mark.parametrize(("along", "across"), [(0.0, 0.0), (1.0, 0.5), (0.6, 3.0)])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_widths_follow_from_correlations(along: float, across: float, share: float) -> None:
    if along == 0 and share < 1:
        pytest.skip("white noise of either kind looks alike")
    correlations = [
        share * float(kernel_correlation(along, [right])[0] * kernel_correlation(across, [down])[0])
        for down, right in LAGS
    ]
    found = widths_of(np.array(correlations), with_white=share < 1)
    assert found == pytest.approx((along, across, share), rel=0.02, abs=0.01)


@pytest.mark.parametrize(("along", "across", "share"), [(1.0, 0.5, 1.0), (0.6, 3.0, 1.0), (1.5, 0.8, 0.7)])
def test_widths_follow_from_differences(along: float, across: float, share: float) -> None:
    powers = passed_powers(along, across, share)[:, None] * [50, 80]
    found = widths_of_differences(powers, np.ones(powers.shape), with_white=share < 1)
    assert found == pytest.approx((along, across, share), rel=0.05)


def test_filters_pass_correlated_noise_as_counted() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1, 1024, 1024))
    for axis, width in ((1, 0.8), (2, 1.5)):
        noise = gaussian_filter1d(noise, width, axis, mode="wrap")
    noise /= noise.std()
    for (down, right), expected in zip(FILTERS, passed_powers(1.5, 0.8), strict=True):
        behind = np.roll(noise, down, 1) - 2 * noise + np.roll(noise, -down, 1)
        behind = (np.roll(behind, right, 2) - 2 * behind + np.roll(behind, -right, 2)) / 6
        assert behind.var() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "truth",
    [
        {"poisson": 0.7},
        {"gaussian": 13.0},
        {"poisson": 0.7, "line": 4.0},
        {"poisson": 0.7, "salt_pepper": 1.0},
        {"correlated": 6.0, "correlated intensity": 0.8, "correlated along": 1.0, "correlated across": 0.6},
        {"poisson": 0.7, "correlated": 9.0, "correlated along": 1.5, "correlated across": 0.8},
        {
            "line": 4.0,
            "correlated": 9.0,
            "correlated intensity": 0.6,
            "correlated along": 1.0,
            "correlated across": 0.5,
        },
    ],
)
def test_the_first_guess_comes_near(truth: dict[str, float]) -> None:
    clean = np.tile(np.linspace(40, 180, 256, dtype=np.float32), (6, 256, 1))
    model = NoiseModel(tuple(dict.fromkeys(key.split()[0] for key in truth)))
    noise = model.crappified(truth, clean, np.zeros(6), seed=3) - clean
    scene = sort_pixels(clean, np.ones(clean.shape, dtype=bool))
    guess, black = first_guess(model, scene, summarise(scene, noise), 0.0)
    assert black == 0
    assert guess == pytest.approx(truth, rel=0.15)
    space = search_space(model, guess, float(scene.brightness.mean()))
    assert all(space.highest[name] > truth[name] for name in truth)
