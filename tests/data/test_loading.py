"""Draws that follow from seed, epoch and sample alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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
