"""Hot and dead pixels are mended, everything a microscope resolves stays."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.images.outliers import mended, outlier_threshold


def _scan(seed: int = 0, dtype: type = np.uint16) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(256, 256)), 6)
    scene = 4000 + 2000 * smooth / smooth.std()
    return (scene + rng.normal(0, 200, scene.shape)).clip(0, 60000).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("share", [0.0005, 0.002, 0.01])
def test_hot_and_dead_pixels_become_like_their_neighbours(share: float, dtype: type) -> None:
    scan = _scan(dtype=dtype)
    rng = np.random.default_rng(1)
    spoilt = scan.copy()
    hot = rng.random(scan.shape) < share
    spoilt[hot] = 65535
    result = mended(spoilt, outlier_threshold([spoilt]))
    assert result.dtype == dtype
    assert np.mean(result[hot] > 30000) < 0.01
    others = result[~hot] != scan[~hot]
    assert others.mean() < 1e-4
    error = np.sqrt(np.mean((result.astype(float) - scan)[hot] ** 2))
    assert error < 600  # the noise of two pixels, and slopes
    np.testing.assert_array_equal(spoilt[hot], 65535)  # the input is as it was


def test_a_scan_without_outliers_is_returned_as_it_is() -> None:
    scan = _scan(3)
    assert mended(scan, outlier_threshold([scan])) is scan


def test_photons_and_points_of_light_stay() -> None:
    counts = np.random.default_rng(5).poisson(0.1, (256, 256)).astype(np.uint16)
    assert (mended(counts, outlier_threshold([counts])) != counts).mean() < 1e-4
    points = np.zeros((256, 256))
    points[8::16, 8::16] = 1
    image = 100 + 50000 * gaussian_filter(points, 0.7) + np.random.default_rng(6).normal(0, 3, points.shape)
    np.testing.assert_array_equal(mended(image, outlier_threshold([image])), image)


@pytest.mark.parametrize("value", [65535, 0])
@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (2, 2), (1, 5), (1, 256), (256, 1)])
def test_clusters_and_lines_of_stuck_pixels(shape: tuple[int, int], value: int) -> None:
    """They become like the pixels beside them: within the noise of two and a slope, as single ones do."""
    scan = _scan(7) + np.uint16(6000)  # so that no pixel of the scene lies at an end
    stuck = np.zeros(scan.shape, bool)
    for y, x in ((30, 0), (100, 0), (171, 0)) if shape[1] > 100 else ((0, 40), (0, 133), (0, 250)):
        stuck[y : y + shape[0], x : x + shape[1]] = True
    spoilt = np.where(stuck, value, scan).astype(scan.dtype)
    result = mended(spoilt, outlier_threshold([spoilt]))
    np.testing.assert_array_equal(result[~stuck], scan[~stuck])
    error = np.sqrt(np.mean((result.astype(float) - scan)[stuck] ** 2))
    assert error < 700


def test_each_plane_of_a_stack_is_mended() -> None:
    stack = np.stack([_scan(seed) for seed in range(3)])
    threshold = outlier_threshold(list(stack))
    stack[1, 10, 0], stack[2, 255, 255] = 65535, 65535  # at edges, too
    result = mended(stack, threshold)
    assert result[1, 10, 0] < 20000
    assert result[2, 255, 255] < 20000
    np.testing.assert_array_equal(result[0], stack[0])
