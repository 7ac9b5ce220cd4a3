"""Areas without data: padding of any value is found and filled, black levels and photon counts are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.padding import filled, padding_value, solid, without_data


def _scan(low: float = 300, seed: int = 0) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(200, 200)), 6)
    scene = low + 5000 * (smooth - smooth.min()) / np.ptp(smooth)
    return (scene + np.random.default_rng(seed + 1).normal(0, 100, scene.shape)).clip(0, 65535).astype(np.uint16)


def _padded(scan: np.ndarray, value: float) -> np.ndarray:
    image = np.full((400, 400), value, scan.dtype)
    image[30:230, 51:251] = scan
    return image


def _fit(image: np.ndarray) -> Intensity:
    return IntensitySettings("percentile").fit(image, image.dtype)


@pytest.mark.parametrize("low", [1000, 9000])
@pytest.mark.parametrize("value", [0, 65535, 4000])
def test_padding_is_found_whatever_its_value(low: float, value: int) -> None:
    scan = _scan(low)
    image = _padded(scan, value)
    scale, clean = _fit(image), _fit(scan)
    assert scale.padding == value
    assert (scale.low, scale.high) == pytest.approx((clean.low, clean.high), abs=0.06 * (clean.high - clean.low))
    missing = without_data(image, scale.padding)
    expected = np.ones(image.shape, bool)
    expected[30:230, 51:251] = False
    assert (missing != expected).mean() < 1e-3
    measured = scale.measured(image)
    np.testing.assert_allclose(measured[30:230, 51:251], scale.apply(scan), atol=1e-6)
    assert measured.min() > -0.5
    assert measured.max() < 1.5


def test_what_is_no_padding_stays() -> None:
    assert _fit(_scan()).padding is None
    counts = np.random.default_rng(2).poisson(0.02, (300, 300)).astype(np.uint16)  # wide areas of 0 between photons
    assert _fit(counts).padding is None
    background = np.zeros((300, 300))
    background[100:160, 80:220] = 900
    faded = gaussian_filter(background, 6).round().astype(np.uint16)  # objects that fade into a black level of 0
    assert _fit(faded).padding is None
    bright = _scan(60000)
    assert _fit(bright).padding is None  # saturated areas, from which the image falls off


def test_a_small_constant_patch_is_no_padding() -> None:
    image = _scan(9000)
    image[:10, :10] = 0
    assert padding_value([image]) is None


def test_areas_are_squares_of_one_value_up_to_the_edges() -> None:
    plane = np.arange(100.0).reshape(10, 10)
    plane[:5, :3], plane[7, 7], plane[6:, 4:8] = -1, -1, -1
    expected = np.zeros((10, 10), bool)
    expected[6:, 4:8], expected[:5, :3] = True, True  # what lies beyond the edge is not known
    np.testing.assert_array_equal(solid(plane, -1), expected)
    np.testing.assert_array_equal(solid(np.stack([plane, plane + 1]), -1)[0], expected)


def test_missing_pixels_take_the_nearest_value() -> None:
    plane = np.array([[[1.0, np.nan, np.nan, 4.0], [1.0, np.inf, 4.0, 4.0]]])
    np.testing.assert_array_equal(filled(plane, without_data(plane, None)), [[[1, 1, 4, 4], [1, 1, 4, 4]]])
    empty = np.full((2, 3, 3), np.nan)
    np.testing.assert_array_equal(filled(empty, without_data(empty, None)), np.zeros((2, 3, 3)))
    whole = np.ones((1, 3, 3), np.float32)
    assert without_data(whole, None) is None
    assert filled(whole, None) is whole
