"""Tiles that lie in masks, or hold data, and what a training learns of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.loading import ApplyMaskd, LoadTiled
from pssr2_monai.errors import InputError
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.train import train


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder with an image of 96 x 128 in hr and its labels in masks: 3 in the left quarter, 5 below in the rest."""
    hr = np.random.default_rng(0).integers(50, 200, (96, 128), dtype=np.uint8)
    labels = np.zeros((96, 128), np.uint8)
    labels[:, :32], labels[64:, 32:] = 3, 5
    for name, pixels in (("hr", hr), ("masks", labels)):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.tif", pixels, axes="YX", pixel_size={})
    return tmp_path, hr, labels


def _settings(folder: Path, **options: Any) -> TileSettings:
    return TileSettings(tile=32, scale=1, val_fraction=0, masks=folder / "masks", **options)


@pytest.mark.parametrize(
    ("options", "windows"),
    [
        ({}, {(0, 0), (32, 0), (64, 0), (64, 32), (64, 64), (64, 96)}),
        ({"include": "3"}, {(0, 0), (32, 0), (64, 0)}),
        ({"exclude": [0, 3]}, {(64, 32), (64, 64), (64, 96)}),
        ({"include": 3, "min_std": 1000}, set()),
    ],
)
def test_tiles_in_the_mask_are_kept(
    scene: tuple[Path, np.ndarray, np.ndarray], options: dict[str, Any], windows: set[tuple[int, int]]
) -> None:
    folder, hr, labels = scene
    settings = _settings(folder, **options)
    if not windows:
        with pytest.raises(InputError, match="no tile of 32 pixels has a share of 0.25"):
            tile_lists(folder / "hr", settings)
        return
    items = list(tile_lists(folder / "hr", settings).training)
    assert {tuple(item["window"][:2]) for item in items} == windows
    for item in items[::2]:
        tile = ApplyMaskd("label")(LoadTiled(["label", "mask"])(item))
        assert "mask" not in tile
        y, x = item["window"][:2]
        used = settings.mask_labels.used(labels[y : y + 32, x : x + 32])
        assert np.array_equal(np.isfinite(tile["label"][0].numpy()), used)
        expected = torch.from_numpy(hr[y : y + 32, x : x + 32] / np.float32(255))
        torch.testing.assert_close(tile["label"][0][used], expected[used])


def test_masks_turn_and_grow_with_their_tiles(scene: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, *_ = scene
    (item,) = tile_lists(
        folder / "hr", TileSettings(tile=96, scale=1, val_fraction=0, masks=folder / "masks")
    ).training[:1]
    load = LoadTiled(["label", "mask"], random_orientation=True, random_position=True, zoom=(0.8, 1.3))
    for seed in range(4):
        load.set_random_state(seed)
        tile = load(item)
        assert tile["mask"].shape == tile["label"].shape
        assert set(tile["mask"].unique().tolist()) <= {0.0, 1.0}
        assert 0.2 < tile["mask"].mean() < 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": 7}, "no tile of 32 pixels has a share of 0.25 in this mask"),
        ({"mask_share": 0}, r"mask_share: 0 is not in \(0, 1\]"),
        ({"masks": None, "include": 3}, "give their folder with masks"),
    ],
)
def test_masks_that_hold_nothing_are_refused(
    scene: tuple[Path, np.ndarray, np.ndarray], options: dict[str, Any], words: str
) -> None:
    folder, _, _ = scene
    with pytest.raises(InputError, match=words):
        tile_lists(folder / "hr", TileSettings(**{"tile": 32, "scale": 1, "masks": folder / "masks", **options}))


def test_missing_masks_and_those_of_another_size_are_refused(scene: tuple[Path, np.ndarray, np.ndarray]) -> None:
    folder, _, labels = scene
    write_image(folder / "masks" / "a.tif", labels[:90], axes="YX", pixel_size={}, overwrite=True)
    with pytest.raises(InputError, match=r"a\.tif \(90 x 128 for 96 x 128 of a\.tif\): a mask must have the size"):
        tile_lists(folder / "hr", _settings(folder))
    (folder / "masks" / "a.tif").rename(folder / "masks" / "b.tif")
    with pytest.raises(InputError, match="have no partner"):
        tile_lists(folder / "hr", _settings(folder))
    with pytest.raises(InputError, match="masks: cannot be used with extra_dir"):
        tile_lists(folder / "hr", _settings(folder), extra_dir=folder / "hr")


def test_what_is_outside_the_masks_is_not_learnt(
    scene: tuple[Path, np.ndarray, np.ndarray], tiny_options: dict[str, Any]
) -> None:
    folder, hr, labels = scene
    for name, pixels in (("lr", hr), ("changed", np.where(labels > 0, hr, 255 - hr))):
        (folder / name).mkdir()
        write_image(folder / name / "a.tif", pixels, axes="YX", pixel_size={})
    options = tiny_options | {
        "scale": 1,
        "lr_dir": str(folder / "lr"),
        "masks": str(folder / "masks"),
        "include": "3,5",
    }
    options |= {"intensity#mode": "fixed", "intensity#low": 0, "intensity#high": 255, "split": "place", "epochs": 1}
    weights = []
    for name in ("hr", "changed"):
        path = train(folder / name, folder / f"run_{name}", **options)
        weights.append(torch.cat([part.ravel() for part in load_weights(path)[0].state_dict().values()]))
    assert torch.isfinite(weights[0]).all()
    assert torch.equal(*weights)
