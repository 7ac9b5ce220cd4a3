"""The downsampling of pairs is found by what it leaves of the LR images, under noise, and is not guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.downsampling import find_downsampling
from pssr2_monai.calibration.real_pairs import Reading
from pssr2_monai.data.pairs import sheets_of
from pssr2_monai.images.intensity import IntensitySettings

SIDE, COUNT = 128, 3
READING = Reading(None, "auto", "none", IntensitySettings(), None, None, None)


def _shrunk(hr: np.ndarray, scale: int, mode: str) -> np.ndarray:
    if mode == "bilinear":
        return np.asarray(Image.fromarray(hr.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    if mode == "area":
        return np.asarray(hr.reshape(SIDE, scale, SIDE, scale).mean(axis=(1, 3)))
    return hr[scale // 2 :: scale, scale // 2 :: scale]


def _found(folder: Path, scale: int, mode: str, structure_px: float, noise: float) -> str:
    for name in ("HR", "LR"):
        (folder / name).mkdir()
    for number in range(COUNT):
        rng = np.random.default_rng(number)
        rough = rng.normal(size=(SIDE * scale, SIDE * scale))
        smooth = sum(part / part.std() for part in (gaussian_filter(rough, px) for px in (structure_px, 15 * scale)))
        hr = np.round(128 + 30 * np.asarray(smooth)).clip(0, 255)
        lr = _shrunk(hr, scale, mode) + rng.normal(0, noise, (SIDE, SIDE))
        for name, image in (("HR", hr), ("LR", lr)):
            Image.fromarray(image.round().clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")
    return find_downsampling(sheets_of(folder / "HR", folder / "LR"), scale, READING)


@pytest.mark.parametrize("mode", ["bilinear", "area", "nearest"])
@pytest.mark.parametrize("scale", [2, 4])
def test_fine_structure_tells_the_downsampling_under_noise(mode: str, scale: int, tmp_path: Path) -> None:
    assert _found(tmp_path, scale, mode, 0.75 * scale, noise=20.0) == mode


def test_where_nothing_tells_it_is_the_default(tmp_path: Path) -> None:
    assert _found(tmp_path, 2, "area", 15.0, noise=20.0) == "bilinear"
    assert find_downsampling([], 1, READING) == "bilinear"
