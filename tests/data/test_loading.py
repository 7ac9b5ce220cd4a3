"""Draws that follow from seed, epoch and sample alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import tifffile
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd
from PIL import Image

from pssr2_monai.crappify import GaussianNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.crappify.transforms import Crappifyd
from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.loading import LoadTiled, TileDataset


def _dataset(folder: Path, seed: int = 0) -> TileDataset:
    transform = Compose(
        [
            LoadTiled("label", random_position=True),
            RandFlipd("label", prob=0.5, spatial_axis=0),
            Crappifyd("label", Crappify(4, [GaussianNoise((5, 30))])),
        ]
    )
    return TileDataset(tile_lists(folder, TileSettings(tile=32, val_fraction=0)).training, transform, seed=seed)


def _images(dataset: TileDataset, epoch: int, workers: int) -> torch.Tensor:
    dataset.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers)
    return torch.cat([batch["image"].as_tensor() for batch in loader])


def test_draws_do_not_depend_on_workers_and_change_with_epoch_and_seed(hr_folder: Path) -> None:
    dataset = _dataset(hr_folder)
    alone = _images(dataset, epoch=1, workers=0)
    for workers in (1, 3):
        torch.testing.assert_close(_images(dataset, epoch=1, workers=workers), alone, rtol=0, atol=0)
    later = _images(dataset, epoch=2, workers=1)
    other = _images(_dataset(hr_folder, seed=1), epoch=1, workers=0)
    changed = [(alone[i] != later[i]).any() and (alone[i] != other[i]).any() for i in range(len(alone))]
    assert all(changed)


def test_noise_differs_between_samples(tmp_path: Path) -> None:
    for number in range(4):
        Image.fromarray(np.full((32, 32), 128, np.uint8)).save(tmp_path / f"{number}.png")
    images = _images(_dataset(tmp_path), epoch=1, workers=0)
    assert len({float(image.std()) for image in images}) == 4


def test_workers_that_outlive_an_epoch_see_the_next(hr_folder: Path) -> None:
    dataset = _dataset(hr_folder)
    loader = DataLoader(dataset, batch_size=4, num_workers=1, persistent_workers=True)
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        found = torch.cat([batch["image"].as_tensor() for batch in loader])
        torch.testing.assert_close(found, _images(dataset, epoch, workers=0), rtol=0, atol=0)


def _orientations(image: np.ndarray) -> list[np.ndarray]:
    """Quarter turns of an image ``(..., Y, X)`` and of its mirror image."""
    return [np.rot90(mirrored, k, axes=(-2, -1)) for mirrored in (image, image[..., ::-1]) for k in range(4)]


def test_tiles_turn_over_equally_often_and_pairs_together(tmp_path: Path) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    for name, pixels in (("hr.tif", hr), ("lr.tif", hr[::4, ::4]), ("wide.tif", hr[:, ::4])):
        tifffile.imwrite(tmp_path / name, pixels)
    item = {"name": "a", "label": str(tmp_path / "hr.tif"), "frame": 0, "window": [0, 0, 32, 32]}
    item["intensity"] = {"label": [0, 255], "image": [0, 255]}
    plane = hr[None].astype(np.float32) / 255
    for keys, scale, image, kinds in (
        (("label",), 4, "lr.tif", 8),
        (("image", "label"), 4, "lr.tif", 8),
        (("image", "label"), [1, 1, 4], "wide.tif", 4),
    ):
        load = LoadTiled(keys, scale=scale, random_orientation=True).set_random_state(seed=0)
        seen: Counter[int] = Counter()
        for _ in range(800):
            tile = load({**item, "image": str(tmp_path / image)})
            number = next(i for i, turned in enumerate(_orientations(plane)) if np.array_equal(turned, tile["label"]))
            seen[number] += 1
            if "image" in keys:
                coarse = plane[..., :: 4 if kinds == 8 else 1, ::4]
                np.testing.assert_array_equal(tile["image"].numpy(), _orientations(coarse)[number])
        # Five standard errors of a count: sqrt(n p (1 - p)).
        expected = 800 / kinds
        assert len(seen) == kinds
        assert all(abs(count - expected) < 5 * np.sqrt(expected * (1 - 1 / kinds)) for count in seen.values())
