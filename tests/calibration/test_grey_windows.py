"""Windows of images: grey levels, saturation, and the values that a file can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.calibration.grey_windows import (
    Levels,
    evenly,
    grey_windows,
    places,
    read_unpaired,
    sampling,
)
from pssr2_monai.crappify.crappify import Downsample
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
    windows = read_unpaired(paths, 4 * 64 * 64, IntensitySettings())
    assert windows.pixels.shape == windows.good.shape == (4, 64, 64)
    np.testing.assert_allclose(windows.pixels[:, 0, 0], [0, 6, 13, 19], atol=1e-4)
    assert windows.image.tolist() == [0, 1, 2, 3]


def test_good_images_are_read_at_the_size_of_lr_pixels(tmp_path: Path) -> None:
    y, x = np.mgrid[:130, :97]
    path = _saved(tmp_path, (y // 4 + x // 4).astype(np.uint8))
    windows = read_unpaired([path], 32 * 24, IntensitySettings(), shrink=Downsample(4, "area"))
    assert windows.pixels.shape == windows.good.shape == (1, 32, 24)
    assert windows.names == ["image.tif"]
    np.testing.assert_allclose(windows.pixels[0], np.add.outer(np.arange(32), np.arange(24)), atol=1e-3)
