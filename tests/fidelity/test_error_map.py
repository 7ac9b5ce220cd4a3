"""Resolution-scaled errors of a known blur, gain and offset, and against nanopyx."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.fidelity.error_map import ErrorSums, fit_scaling, rse, rsp, scaled_errors


@pytest.mark.parametrize(
    ("shape", "expected", "of_map"),
    [
        ((96, 128), (15.9163999, 0.9156042337), (55.207664, 12.782184, 2.3122559, 25.995255)),
        ((128, 128), (15.3498163, 0.9259732962), (55.593483, 12.312494, 1.2174377, 27.259628)),
    ],
)
def test_errors_are_those_of_nanopyx(
    wavy_pair: Callable[[int, int], tuple[np.ndarray, np.ndarray]],
    shape: tuple[int, int],
    expected: tuple[float, float],
    of_map: tuple[float, ...],
) -> None:
    """``calculate_error_map(255 * image, 255 * target)`` of nanopyx 2.1.5, stored: map, RSE and RSP."""
    scan, restored = (255 * planes[None] for planes in wavy_pair(*shape))
    errors, sums, _ = scaled_errors(restored, scan)
    assert (sums.rse, sums.rsp) == pytest.approx(expected, rel=2e-3)
    found = errors.max(), errors.mean(), errors[0, 40, 50], errors[0, 70, 20]
    assert found == pytest.approx(of_map, rel=0.02, abs=0.1)
    assert rse(restored / 255, scan / 255) == pytest.approx(sums.rse, rel=1e-4)
    assert rsp(restored, scan) == pytest.approx(sums.rsp)


@pytest.mark.parametrize("sigma", [0.0, 0.8, 2.5])
def test_blur_gain_and_offset_are_found(sigma: float) -> None:
    rng = np.random.default_rng(0)
    restored = gaussian_filter(rng.normal(size=(2, 90, 70)), (0, 1, 1))
    scan = 0.4 * gaussian_filter(restored, (0, sigma, sigma)) + 3
    scaling = fit_scaling(list(restored), list(scan))
    assert scaling.sigma == pytest.approx(sigma, abs=0.03)
    assert (scaling.gain, scaling.offset) == pytest.approx((0.4, 3), abs=0.005)
    assert scaling.apply(restored) == pytest.approx(scan, abs=0.01)


def test_what_is_painted_in_stands_out_on_the_map() -> None:
    rng = np.random.default_rng(0)
    hr = gaussian_filter(rng.normal(size=(1, 128, 160)), (0, 4, 4))
    scan = hr.reshape(1, 32, 4, 40, 4).mean((2, 4))  # on 4 x 4 pixels
    assert rse(hr, scan) == pytest.approx(0, abs=1e-3)
    hr[0, 40:60, 80:100] += 3 * hr.std()
    errors, sums, _ = scaled_errors(hr, scan)
    assert np.unravel_index(errors.argmax(), errors.shape)[1:] in {(y, x) for y in range(9, 16) for x in range(19, 26)}
    assert sums.rsp < 0.95


def test_constant_images_have_no_correlation() -> None:
    flat, noise = np.full((1, 16, 16), 0.3), np.random.default_rng(0).normal(size=(1, 16, 16))
    assert math.isnan(rsp(noise, flat))
    assert math.isnan(rsp(flat, noise))
    assert rse(flat, noise) == pytest.approx(255 * noise.std())
    assert math.isnan(ErrorSums().rse)
    scaling = fit_scaling([flat[0]], [noise[0]])
    assert (scaling.sigma, scaling.gain, scaling.offset) == pytest.approx((0, 0, noise.mean()))
