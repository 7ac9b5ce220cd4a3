"""Windows of LR images: grey levels, saturation, the values that a file can hold, and the noise of flat patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.grey_windows import (
    Levels,
    evenly,
    grey_windows,
    noise_of_flat_patches,
    places,
    read_unpaired,
    sampling,
)
from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.windows import Window


def _saved(folder: Path, pixels: np.ndarray, name: str = "image.tif") -> Path:
    tifffile.imwrite(folder / name, pixels)
    return folder / name


def test_images_are_rounded_and_cut_off_as_their_files_are() -> None:
    eight = Levels(*(np.array([value]) for value in (0.0, 1.0, 0.0, 255.0)))
    np.testing.assert_allclose(eight.rounded(np.array([[[-3.0, 1.4, 1.6, 300.0]]])), [[[0, 1, 2, 255]]])
    coarse = Levels(*(np.array([value]) for value in (-10.0, 4.0, -10.0, 90.0)))
    np.testing.assert_allclose(coarse.rounded(np.array([[[-20.0, -9.0, 3.0, 95.0]]])), [[[-10, -10, 2, 90]]])
    real = Levels(*(np.array([value]) for value in (0.0, 0.0, -np.inf, np.inf)))
    np.testing.assert_allclose(real.rounded(np.array([[[-20.3, 400.7]]])), [[[-20.3, 400.7]]], rtol=1e-6)


def test_levels_follow_the_intensity_range(tmp_path: Path) -> None:
    twelve = np.random.default_rng(0).integers(100, 4000, (32, 32)).astype(np.uint16)
    twelve[:4] = 4095
    with open_image(_saved(tmp_path, twelve)) as image:
        intensity = Intensity(95.0, 2645.0)  # ten file levels a grey level
        grey, saturated = grey_windows(image, [intensity], [(0, Window(0, 0, 32, 32))])
        np.testing.assert_allclose(grey[0], (twelve - 95.0) / 10, atol=1e-3)
        np.testing.assert_array_equal(saturated[0], twelve == 4095)
        levels = Levels.of_windows(image, [intensity], [0], grey, saturated)
    rows = (levels.zero, levels.step, levels.bottom, levels.top)
    np.testing.assert_allclose(np.ravel(rows), [-9.5, 0.1, -9.5, 400.0], atol=1e-3)


def test_a_few_brightest_pixels_are_not_saturated(tmp_path: Path) -> None:
    pixels = np.arange(64 * 64).reshape(64, 64).astype(np.uint16)
    with open_image(_saved(tmp_path, pixels)) as image:
        _, saturated = grey_windows(image, [Intensity(0.0, 4096.0)], [(0, Window(0, 0, 64, 64))])
    # The least value is the least that a file can hold; the greatest is one pixel of 4096.
    assert saturated.sum() == 1
    assert saturated[0, 0, 0]


def test_places_are_spread_over_frames_and_plane(tmp_path: Path) -> None:
    stack = np.zeros((5, 100, 120), np.uint8)
    with open_image(_saved(tmp_path, stack), axes="ZYX") as image:
        found = places(image, (40, 40), 16)
    assert {frame for frame, _ in found} == set(range(5))
    assert {(window.y, window.x) for _, window in found} >= {(0, 0), (60, 80)}
    assert all(window.y + 40 <= 100 and window.x + 40 <= 120 for _, window in found)


def test_the_smallest_image_sets_the_size_of_the_windows(tmp_path: Path) -> None:
    paths = [_saved(tmp_path, np.zeros((h, w), np.uint8), f"{h}.tif") for h, w in ((300, 90), (70, 400))]
    assert sampling(paths, 70 * 90 * 10, None) == ((70, 90), [0, 1], 5)


@pytest.mark.parametrize(("many", "few", "expected"), [(3, 10, [0, 1, 2]), (10, 3, [0, 4, 9]), (1, 1, [0])])
def test_few_of_many_are_spread_evenly(many: int, few: int, expected: list[int]) -> None:
    assert evenly(many, few) == expected


def test_only_so_many_pixels_are_read(tmp_path: Path) -> None:
    paths = [_saved(tmp_path, np.full((64, 64), number, np.uint8), f"{number}.tif") for number in range(20)]
    images, good = read_unpaired(paths, 4 * 64 * 64, IntensitySettings())
    assert images.shape == good.shape == (4, 64, 64)
    np.testing.assert_allclose(images[:, 0, 0], [0, 6, 13, 19], atol=1e-4)


SHAPE = (6, 256, 256)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Flat areas of many grey levels with edges between."""
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), (0, 25, 25))
    return 120 + 30 * np.round(1.5 * smooth / smooth.std()).clip(-3, 3)


def _all(images: np.ndarray) -> np.ndarray:
    return np.ones(images.shape, dtype=bool)


@pytest.mark.parametrize(("intensity", "sigma"), [(0.7, 0.0), (0.0, 13.0), (0.7, 9.0), (2.0, 0.0)])
def test_poisson_and_gaussian_noise_are_found(clean: np.ndarray, intensity: float, sigma: float) -> None:
    rng = np.random.default_rng(1)
    noisy = clean + intensity * (rng.poisson(clean) - clean) + rng.normal(0, sigma, SHAPE)
    noise = noise_of_flat_patches(np.round(noisy), _all(noisy))
    strength = np.hypot(noise.values["poisson"] * np.sqrt(120), noise.values["gaussian"])
    assert strength == pytest.approx(np.hypot(intensity * np.sqrt(120), sigma), rel=0.05)
    assert noise.values["poisson"] == pytest.approx(intensity, abs=0.25)
    assert len(noise.brightness) == len(noise.spread)


def test_a_model_of_one_noise_gives_that_one(clean: np.ndarray) -> None:
    noisy = clean + np.random.default_rng(2).normal(0, 8, SHAPE)
    noise = noise_of_flat_patches(noisy, _all(noisy), ("gaussian",))
    assert list(noise.values) == ["gaussian"]
    assert noise.values["gaussian"] == pytest.approx(8, rel=0.05)
    assert 0 < noise.errors["gaussian"] < 0.5


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
