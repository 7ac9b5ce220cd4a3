"""From folders to tiles, and draws that follow from seed, epoch and sample alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd
from PIL import Image

from pssr2_monai.crappify import Crappify, GaussianNoise
from pssr2_monai.dataset import TileDataset, TileSettings, pair_by_name, tile_lists
from pssr2_monai.errors import InputError
from pssr2_monai.tiles import Window
from pssr2_monai.transforms import Crappifyd, LoadTiled


def _pixels(items: list[dict], name: str, shape: tuple[int, int]) -> np.ndarray:
    covered = np.zeros(shape, bool)
    for item in items:
        if Path(item["label"]).name == name:
            covered[Window(*item["window"]).slices()] = True
    return covered


def test_split_by_file_takes_the_last_files_whole(hr_folder: Path) -> None:
    lists = tile_lists(hr_folder, TileSettings(tile=32, overlap=8, scale=4, val_fraction=0.4))
    assert {Path(item["label"]).name for item in lists.training} == {"cell_0.png", "cell_1.png", "cell_2.png"}
    assert {Path(item["label"]).name for item in lists.validation} == {"cell_3.png", "cell_4.png"}
    assert _pixels(lists.training, "cell_0.png", (96, 112)).all()
    assert _pixels(lists.validation, "cell_4.png", (96, 112)).all()
    assert len({item["name"] for item in lists.training + lists.validation}) == len(lists.training + lists.validation)


def test_split_by_place_keeps_training_and_validation_apart(hr_folder: Path) -> None:
    lists = tile_lists(hr_folder, TileSettings(tile=32, overlap=16, scale=4, split="place", val_fraction=0.3, guard=4))
    training = _pixels(lists.training, "cell_2.png", (96, 112))
    validation = _pixels(lists.validation, "cell_2.png", (96, 112))
    assert not (training & validation).any()
    assert validation.mean() == pytest.approx(0.3, abs=0.02)
    assert (~training & ~validation).any(axis=0).sum() == 4
    for item in lists.training:  # a tile at a random place stays in the training region, too
        region = Window(*item["region"])
        assert not _at(region, (96, 112))[validation].any()


def _at(window: Window, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[window.slices()] = True
    return mask


def test_split_by_field_keeps_a_field_together(tmp_path: Path) -> None:
    for field in range(4):
        for number in range(2):
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / f"f{field:02d}_{number}.png")
    lists = tile_lists(tmp_path, TileSettings(tile=32, split=r"f(\d+)_", val_fraction=0.25))
    assert {Path(item["label"]).name for item in lists.validation} == {"f03_0.png", "f03_1.png"}
    assert len(lists.training) == 6


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"tile": 256}, r"cell_0.png: 96 x 112 pixels are less than half a tile of 256; .* tile to 192 or less"),
        ({"split": "f([0-9"}, "split: .* regular expression"),
        ({"split": "f([0-9])"}, "cell_0.png: the split pattern"),
        ({"val_fraction": 0.95}, "cannot be divided"),
        ({"split": "place", "val_fraction": 0.1, "tile": 64}, "cell_0.png: split by place"),
        ({"n_frames": 5}, "cell_0.png: .* hold 1 frame, but n_frames asks for 5"),
    ],
)
def test_what_cannot_be_tiled_is_named(hr_folder: Path, settings: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        tile_lists(hr_folder, TileSettings(**({"tile": 32} | settings)))


def test_tile_must_divide_by_the_scale() -> None:
    with pytest.raises(InputError, match="130 does not divide by the scale 4"):
        TileSettings(tile=130, scale=4)


def test_pairs_are_matched_by_name() -> None:
    hr, lr = [Path("hr/a.tif"), Path("hr/b.tif")], [Path("lr/b.png"), Path("lr/a.png")]
    assert pair_by_name(hr, lr) == {hr[0]: lr[1], hr[1]: lr[0]}
    with pytest.raises(InputError, match=r"b, c: have no partner"):
        pair_by_name(hr, [Path("lr/a.png"), Path("lr/c.png")])
    with pytest.raises(InputError, match="same name"):
        pair_by_name([Path("a.tif"), Path("a.png")], [Path("lr/a.png")])


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


def test_tiles_hold_the_pixels_of_their_place(hr_folder: Path) -> None:
    lists = tile_lists(hr_folder, TileSettings(tile=32, val_fraction=0))
    load = LoadTiled("label")
    for item in lists.training[::7]:
        expected = np.asarray(Image.open(item["label"]))[Window(*item["window"]).slices()] / 255
        np.testing.assert_allclose(load(item)["label"][0].numpy(), expected, atol=1e-7)


def test_images_smaller_than_a_tile_are_padded_by_reflection(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "small.png")
    (item,) = tile_lists(tmp_path, TileSettings(tile=40, split="file", val_fraction=0)).training
    tile = LoadTiled("label", random_position=True).set_random_state(0)(item)["label"][0].numpy()
    np.testing.assert_allclose(tile, np.pad(image, ((0, 16), (0, 0)), mode="reflect") / 255, atol=1e-7)
