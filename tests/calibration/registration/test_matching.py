"""Phase correlation and mutual information, against maps that are known, and against formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from pssr2_monai.calibration.registration.matching import MODELS, refine, search, windowed

SIZE = (96, 120)


def _scene(seed: int = 0, size: tuple[int, int] = (160, 180)) -> np.ndarray:
    """Structure of several sizes around 0, smooth enough for splines."""
    rough = np.random.default_rng(seed).normal(size=size)
    return np.asarray(sum(sigma * gaussian_filter(rough, sigma) for sigma in (2, 4, 8)), np.float32)


def _pair(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image whose place (y, x) shows what lies at ``matrix @ (y, x, 1)`` in another."""
    scene, corner = _scene(), np.array([32.0, 30.0])
    moving = scene[32 : 32 + SIZE[0], 30 : 30 + SIZE[1]]
    linear = matrix[:, :2]
    fixed = affine_transform(scene, linear, matrix[:, 2] + corner, output_shape=SIZE, order=3)
    return fixed, moving


def _similarity(degrees: float, ratio: float, shift: tuple[float, float]) -> np.ndarray:
    """Rotation and size about the centre, then a shift."""
    angle, centre = np.radians(degrees), (np.array(SIZE) - 1) / 2
    linear = ratio * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, centre - linear @ centre + shift])


def _distance(matrix: np.ndarray, truth: np.ndarray) -> float:
    """Greatest distance between two maps at the corners of the image."""
    corners = np.array([[y, x, 1] for y in (0, SIZE[0] - 1) for x in (0, SIZE[1] - 1)])
    return float(np.linalg.norm(corners @ (matrix - truth).T, axis=1).max())


@pytest.mark.parametrize("shift", [(0, 0), (5, -9), (-12, 7), (18, 20)])
@pytest.mark.parametrize("sign", [1, -1])
def test_whole_shifts_are_found_exactly_also_with_inverted_contrast(shift: tuple[int, int], sign: int) -> None:
    truth = _similarity(0, 1, shift)
    fixed, moving = _pair(truth)
    np.testing.assert_allclose(search(fixed, sign * moving, "shift"), truth, atol=1e-6)


def test_the_peak_is_that_of_the_phase_correlation_in_numpy() -> None:
    """Kuglin and Hines 1975: the inverse transform of the cross power spectrum's phase peaks at the displacement."""
    first = _scene(3, (64, 64))
    second = np.roll(first, (-6, 4), axis=(0, 1))
    cross = np.fft.fft2(first) * np.fft.fft2(second).conj()
    peak = np.unravel_index(np.fft.ifft2(cross / np.abs(cross)).real.argmax(), cross.shape)
    assert peak == (6, 60)
    np.testing.assert_allclose(search(first, second, "shift")[:, 2], [-6, 4], atol=1e-6)


def test_shifts_beyond_a_quarter_of_the_side_are_not_taken() -> None:
    noise = np.random.default_rng(1).normal(size=(2, *SIZE)).astype(np.float32)
    for seed in range(5):
        shifts = search(np.roll(noise[0], seed, 0), noise[1], "shift")[:, 2]
        assert (np.abs(shifts) <= np.array(SIZE) / 4).all()


@pytest.mark.parametrize(("degrees", "ratio"), [(3.0, 1.0), (-2.0, 1.02), (0.0, 0.97)])
def test_rotation_and_size_are_found_to_a_step_of_the_search(degrees: float, ratio: float) -> None:
    truth = _similarity(degrees, ratio, (4, -6))
    fixed, moving = _pair(truth)
    assert _distance(search(fixed, moving, "similarity"), truth) < 2
    # Without rotation and size the corners stay off.
    assert _distance(search(fixed, moving, "shift"), truth) > 1.2


def test_a_larger_image_is_searched_about_its_own_corner() -> None:
    scene = _scene()
    found = search(scene[20:100, 30:120], scene[15:110, 22:130], "shift")
    np.testing.assert_allclose(found[:, 2], [5, 8], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "truth"),
    [
        ("shift", _similarity(0, 1, (0.37, -1.21))),
        ("rigid", _similarity(1.3, 1, (0.6, -0.8))),
        ("similarity", _similarity(-0.9, 1.013, (0.6, -0.8))),
        ("affine", np.array([[1.01, 0.012, -0.8], [-0.004, 0.99, 0.5]])),
    ],
)
def test_refinement_finds_fractions_of_a_pixel_in_another_contrast(model: str, truth: np.ndarray) -> None:
    fixed, moving = _pair(truth)
    curved = np.exp(-moving / moving.std() / 2)  # darker where the other is brighter, and not along a line
    start = _similarity(0, 1, tuple(truth @ [47.5, 59.5, 1] - [47.5, 59.5]))
    start[:, 2] = np.round(start[:, 2])
    refined = refine(fixed, curved.astype(np.float32), 1, start, model)
    assert _distance(refined, truth) < 0.1
    np.testing.assert_array_equal(refined, refine(fixed, curved.astype(np.float32), 1, start, model))


def test_refinement_counts_in_pixels_of_the_coarse_image() -> None:
    """HR pixel i lies at (i + 0.5) / scale - 0.5, so that images of one field need no shift."""
    fine = _scene(5, (192, 240))
    coarse = fine.reshape(96, 2, 120, 2).mean((1, 3))
    refined = refine(coarse, fine, 2, np.eye(2, 3), "shift")
    np.testing.assert_allclose(refined, np.eye(2, 3), atol=0.02)
    moved = refine(coarse[4:, 6:], fine, 2, np.array([[1.0, 0, 3], [0, 1, 7]]), "shift")
    np.testing.assert_allclose(moved[:, 2], [4, 6], atol=0.02)


def test_images_without_structure_are_an_error_of_itk() -> None:
    with pytest.raises(RuntimeError):
        refine(np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32), 1, np.eye(2, 3), "shift")
    assert MODELS == ("shift", "rigid", "similarity", "affine")


def test_windows_fade_to_zero_about_the_weighted_mean() -> None:
    image = _scene(2, (40, 50)) + 7
    faded = windowed(image)
    assert abs(faded.sum()) < 1e-3 * np.abs(faded).sum()
    assert np.abs(faded[0]).max() < 0.02 * np.abs(faded).max()
    half = windowed(image, fading=0.5)
    inner = half[12:28, 15:35] - (image[12:28, 15:35] - image[20, 25])
    np.testing.assert_allclose(inner, inner[0, 0], atol=1e-4)  # nothing but the mean is taken off inside
