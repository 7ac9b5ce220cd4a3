"""Gain and offset between LR and HR images, against those that the pairs were made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.scales import blocks_of, blocks_of_pair, fit_contrasts
from pssr2_monai.images.image import open_image


def _scene(seed: int, side: int = 256) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 8)
    return (smooth - smooth.min()) / np.ptp(smooth)


def _write_pairs(folder: Path, gain: float, offset: float, dtype: type, count: int = 3) -> None:
    for name in ("HR", "LR"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        hr = (2000 + 30000 * _scene(number)).astype(np.uint16)
        coarse = hr.reshape(128, 2, 128, 2).mean(axis=(1, 3)) * gain + offset
        noise = np.random.default_rng(100 + number).normal(0, 0.1 * np.ptp(coarse), coarse.shape)
        tifffile.imwrite(folder / "HR" / f"{number}.tif", hr)
        lr = np.rint(coarse + noise).clip(0, np.iinfo(dtype).max).astype(dtype)
        tifffile.imwrite(folder / "LR" / f"{number}.tif", lr)


@pytest.mark.parametrize(
    ("gain", "offset", "dtype"), [(1.0, 0.0, np.uint16), (0.3, 3000.0, np.uint16), (1 / 200, 30.0, np.uint8)]
)
def test_the_contrast_of_a_pair_is_what_it_was_made_with(
    tmp_path: Path, gain: float, offset: float, dtype: type
) -> None:
    _write_pairs(tmp_path, gain, offset, dtype)
    blocks = []
    for number in range(3):
        names = (tmp_path / name / f"{number}.tif" for name in ("LR", "HR"))
        with open_image(next(names)) as lr, open_image(next(names)) as hr:
            blocks.append(blocks_of_pair(lr, hr, 2, "TZ", 0, (np.inf, np.inf)))
    for contrast in fit_contrasts(blocks, (0, np.iinfo(dtype).max)):
        assert contrast.gain == pytest.approx(gain, rel=0.03)
        assert contrast.offset == pytest.approx(offset, abs=0.03 * 30000 * gain)
    lists = tile_lists(tmp_path / "HR", TileSettings(tile=64, scale=2), tmp_path / "LR")
    assert lists.contrast["gain"] == pytest.approx(gain, rel=0.03)
    scales = lists.training[0]["intensity"]
    (low, high, *_), (hr_low, hr_high, *_) = scales["image"][0], scales["label"][0]
    assert (high - low) / (hr_high - hr_low) == pytest.approx(gain, rel=0.03)
    assert low - gain * hr_low == pytest.approx(offset, abs=0.03 * 30000 * gain)


@pytest.mark.parametrize(("gain", "width"), [(1.0, 0.0), (0.7, 0.0), (1.0, 0.7)])
def test_noise_of_both_images_does_not_flatten_the_contrast(gain: float, width: float) -> None:
    rng = np.random.default_rng(1)

    def noise() -> np.ndarray:
        white = rng.normal(size=(256, 256))
        correlated = gaussian_filter(white, (0, width))
        return np.asarray(60 * correlated / correlated.std())

    blocks = []
    for number in range(4):
        scene = gaussian_filter(np.random.default_rng(number).normal(size=(256, 256)), 4)
        clean = 100 + 15 * scene / scene.std()
        first, second = clean + noise(), gain * (clean + noise()) + 3
        blocks.append(blocks_of(first[None], second[None], np.ones((1, 256, 256), dtype=bool)))
    contrasts = fit_contrasts(blocks, (-np.inf, np.inf))
    # The noise of a block's mean is half as strong as its signal: a least-squares line would have 0.8 of the gain.
    x, y = (np.concatenate([getattr(block, key).mean(axis=1) for block in blocks]) for key in ("hr", "lr"))
    assert np.polyfit(x, y, 1)[0] < 0.85 * gain
    assert np.median([contrast.gain for contrast in contrasts]) == pytest.approx(gain, rel=0.05)


def test_a_pair_without_structure_takes_the_gain_of_the_others(tmp_path: Path) -> None:
    _write_pairs(tmp_path, 0.5, 100.0, np.uint16)
    rng = np.random.default_rng(9)
    tifffile.imwrite(tmp_path / "HR" / "9.tif", rng.normal(2000, 20, (256, 256)).astype(np.uint16))
    tifffile.imwrite(tmp_path / "LR" / "9.tif", rng.normal(1100, 300, (128, 128)).astype(np.uint16))
    lists = tile_lists(tmp_path / "HR", TileSettings(tile=64, scale=2, val_fraction=0), tmp_path / "LR")
    scales = next(item["intensity"] for item in lists.training if "9.tif" in item["label"])
    (low, high, *_), (hr_low, hr_high, *_) = scales["image"][0], scales["label"][0]
    assert (high - low) / (hr_high - hr_low) == pytest.approx(0.5, rel=0.03)
    assert low - 0.5 * hr_low == pytest.approx(100, abs=30)


def test_images_of_other_fields_are_scaled_by_themselves_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, side, seed in (("HR", 256, 1), ("LR", 128, 2)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", (1000 + 9000 * _scene(seed, side)).astype(np.uint16))
    lists = tile_lists(tmp_path / "HR", TileSettings(tile=64, scale=2), tmp_path / "LR")
    assert "a.tif: does not show what a.tif shows" in caplog.text
    assert lists.contrast == {}
