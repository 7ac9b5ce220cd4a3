"""Crappifying on the device: the same images whatever the workers, others in every epoch; and a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.data import DataLoader
from monai.engines import default_prepare_batch

from pssr2_monai.crappify import GaussianNoise
from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.loading import CrappifyBatch, LoadTiled, TileDataset
from pssr2_monai.errors import InputError
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.train import train


def _batches(folder: Path, epoch: int = 1, workers: int = 0, noises: tuple = (GaussianNoise((5, 30)),)) -> list:  # type: ignore[type-arg]
    tiles = tile_lists(folder, TileSettings(tile=32, val_fraction=0)).training
    dataset = TileDataset(tiles, LoadTiled("label"), seed=3)
    dataset.set_epoch(epoch)
    prepare = CrappifyBatch(Crappify(4, noises), ["label"], 1, dataset)
    return [prepare(batch, torch.device("cpu")) for batch in DataLoader(dataset, batch_size=4, num_workers=workers)]


def test_inputs_are_the_crappified_targets(hr_folder: Path) -> None:
    for image, label in _batches(hr_folder, noises=()):
        torch.testing.assert_close(image, Downsample(4)(label))


def test_draws_do_not_depend_on_workers_and_change_with_epoch_batch_and_image(hr_folder: Path) -> None:
    alone = [image for image, _ in _batches(hr_folder)]
    for image, other in zip(alone, [image for image, _ in _batches(hr_folder, workers=2)], strict=True):
        torch.testing.assert_close(image, other, rtol=0, atol=0)
    assert all((image != other).any() for image, (other, _) in zip(alone, _batches(hr_folder, epoch=2), strict=True))
    noise = [image - Downsample(4)(label) for image, label in _batches(hr_folder)]
    spreads = {round(float(each.std()), 6) for batch in noise for each in batch}
    assert len(spreads) == sum(len(batch) for batch in noise)  # an intensity of its own for every image


def test_central_frames_of_the_targets_are_kept() -> None:
    dataset = TileDataset([], None, seed=0)  # type: ignore[arg-type]
    label = torch.rand(2, 5, 8, 8)
    prepare = CrappifyBatch(Crappify(2), ["label"], 1, dataset, default_prepare_batch)
    image, target = prepare({"label": label, "name": ["a", "b"]}, "cpu")
    assert image.shape == (2, 5, 4, 4)
    torch.testing.assert_close(target, label[:, 2:3])


def test_lr_images_that_are_given_are_not_overwritten() -> None:
    dataset = TileDataset([], None, seed=0)  # type: ignore[arg-type]
    prepare = CrappifyBatch(Crappify(2), ["label"], 1, dataset)
    with pytest.raises(InputError, match="crappify_on_device: the LR images are given"):
        prepare({"label": torch.rand(1, 1, 8, 8), "image": torch.rand(1, 1, 4, 4), "name": ["a"]}, "cpu")


def test_a_training_that_crappifies_on_the_device(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    weights = train(hr_folder, tmp_path / "run", epochs=1, crappify_on_device=True, **tiny_options)  # type: ignore[arg-type]
    network, _ = load_weights(weights)
    assert any(float(parameter.detach().abs().max()) > 0 for parameter in network.reconstruction.conv.parameters())
