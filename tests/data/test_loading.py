"""Loading tiles: draws that follow from seed, epoch and sample alone, and batches crappified on the device."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd
from PIL import Image

from pssr2_monai.crappify import GaussianNoise
from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.crappify.transforms import Crappifyd
from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.loading import CentralFramesd, LoadTiled, PrepareTiles, TileDataset
from pssr2_monai.errors import InputError
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.train import train


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
        images = torch.cat([batch["image"].as_tensor() for batch in loader])
        torch.testing.assert_close(images, _images(dataset, epoch, workers=0), rtol=0, atol=0)


def test_central_frames_are_kept() -> None:
    hr = np.random.default_rng(0).random((5, 32, 24), dtype=np.float32)
    np.testing.assert_array_equal(CentralFramesd("label", 1)({"label": hr})["label"], hr[2:3])
    np.testing.assert_array_equal(CentralFramesd("label", 3)({"label": hr})["label"], hr[1:4])


def _batches(folder: Path, epoch: int = 1, workers: int = 0, noises: tuple = (GaussianNoise((5, 30)),)) -> list:  # type: ignore[type-arg]
    tiles = tile_lists(folder, TileSettings(tile=32, val_fraction=0)).training
    dataset = TileDataset(tiles, LoadTiled("label"), seed=3)
    dataset.set_epoch(epoch)
    prepare = PrepareTiles(dataset, crappifier=Crappify(4, noises))
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
    spreads = {round(float(image.std()), 6) for batch in noise for image in batch}
    assert len(spreads) == sum(len(batch) for batch in noise)  # an intensity of its own for every image


def test_the_strength_of_each_images_noise_is_drawn_from_its_range(hr_folder: Path) -> None:
    noise = [image - Downsample(4)(label) for image, label in _batches(hr_folder)]
    sigmas = np.array([float(image.std()) * 255 for batch in noise for image in batch])
    assert len(sigmas) == 60
    # Of a uniform sigma from 5 to 30; each is measured on 64 pixels, to 9 %.
    assert (sigmas.min(), sigmas.max()) == (pytest.approx(5, abs=2.5), pytest.approx(30, abs=7))
    assert sigmas.mean() == pytest.approx(17.5, abs=2.5)


def test_central_frames_of_the_targets_are_kept() -> None:
    dataset = TileDataset([], None, seed=0)  # type: ignore[arg-type]
    label = torch.rand(2, 5, 8, 8)
    prepare = PrepareTiles(dataset, n_frames=1, crappifier=Crappify(2))
    image, target = prepare({"label": label, "name": ["a", "b"]}, "cpu")
    assert image.shape == (2, 5, 4, 4)
    torch.testing.assert_close(target, label[:, 2:3])


def test_lr_images_that_are_given_are_not_overwritten() -> None:
    dataset = TileDataset([], None, seed=0)  # type: ignore[arg-type]
    prepare = PrepareTiles(dataset, crappifier=Crappify(2))
    with pytest.raises(InputError, match="crappify_on_device: the LR images are given"):
        prepare({"label": torch.rand(1, 1, 8, 8), "image": torch.rand(1, 1, 4, 4), "name": ["a"]}, "cpu")


def test_batches_with_their_inputs_are_moved_as_they_are() -> None:
    dataset = TileDataset([], None, seed=0)  # type: ignore[arg-type]
    batch = {key: torch.rand(2, 1, 4, 4) for key in ("image", "label", "extra")}
    image, label = PrepareTiles(dataset)(batch, "cpu", dtype=torch.float64)
    torch.testing.assert_close(image, batch["image"].double(), rtol=0, atol=0)
    torch.testing.assert_close(label, batch["label"].double(), rtol=0, atol=0)


def test_a_third_image_is_among_the_targets() -> None:
    dataset = TileDataset([], None, seed=0)  # type: ignore[arg-type]
    batch = {key: torch.rand(2, 1, 4, 4) for key in ("image", "label", "extra")}
    image, targets = PrepareTiles(dataset, ["label", "extra"])(batch, "cpu")
    assert torch.equal(image, batch["image"])
    assert targets.keys() == {"label", "extra"}
    assert torch.equal(targets["extra"], batch["extra"])
    assert torch.equal(targets["label"], batch["label"])


def test_a_training_that_crappifies_on_the_device(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    """Without noise there is nothing that differs from crappifying in the loader."""
    options = {**tiny_options, "crappifier#noises": [], "epochs": 1}
    device, loader = (
        load_weights(train(hr_folder, tmp_path / str(where), crappify_on_device=where, **options))[0]  # type: ignore[arg-type]
        for where in (True, False)
    )
    for name, weights in loader.state_dict().items():
        torch.testing.assert_close(device.state_dict()[name], weights, rtol=1e-4, atol=1e-5)


def test_tiles_are_resized_as_far_as_their_region_allows(tmp_path: Path) -> None:
    """A resized ramp rises by the inverse of the factor a pixel, whatever the position."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    tifffile.imwrite(tmp_path / "ramp.tif", ramp)
    item = {"name": "a", "label": str(tmp_path / "ramp.tif"), "frame": 0, "intensity": {"label": [[0, 255]]}}
    load = LoadTiled(("label",), zoom=[0.5, 2], random_position=True).set_random_state(seed=0)
    for region, greatest in (([0, 0, 256, 256], 2.0), ([32, 64, 96, 80], 1.25), ([0, 0, 64, 64], 1.0)):
        steps = []
        for _ in range(60):
            tile = load(item | {"window": [*region[:2], 64, 64], "region": region})
            assert tile["label"].shape == (1, 64, 64)
            levels = tile["label"].numpy() * 255
            steps.append(float(np.diff(levels[0, 32, 8:56]).mean()))
            _, window = load.place
            assert region[1] <= window.x <= window.x + window.width <= region[1] + region[3]
            assert levels[0, 32, 32] == pytest.approx(window.x + window.width * 32.5 / 64 - 0.5, abs=0.1)
        assert 0.49 < min(steps) < 0.6
        assert 0.93 * greatest < max(steps) <= greatest + 1e-3


@pytest.mark.parametrize(("zoom", "keys"), [([0, 1], "label"), ([2, 0.5], "label"), ([1, 2], ("image", "label"))])
def test_resizing_is_refused_where_it_makes_no_sense(zoom: list[float], keys: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="zoom"):
        LoadTiled(keys, zoom=zoom)


def _orientations(image: np.ndarray) -> list[np.ndarray]:
    """Quarter turns of an image ``(..., Y, X)`` and of its mirror image."""
    return [np.rot90(mirrored, k, axes=(-2, -1)) for mirrored in (image, image[..., ::-1]) for k in range(4)]


def test_tiles_turn_over_equally_often_and_pairs_together(tmp_path: Path) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    for name, pixels in (("hr.tif", hr), ("lr.tif", hr[::4, ::4]), ("wide.tif", hr[:, ::4])):
        tifffile.imwrite(tmp_path / name, pixels)
    item = {"name": "a", "label": str(tmp_path / "hr.tif"), "frame": 0, "window": [0, 0, 32, 32]}
    item["intensity"] = {"label": [[0, 255]], "image": [[0, 255]]}
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


def test_two_scans_are_exchanged_and_frames_of_a_stack_are_neighbours(tmp_path: Path) -> None:
    stack = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 16), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", metadata={"axes": "TYX"})
    settings = TileSettings(tile=16, scale=1, supervision="noise2noise", val_fraction=0)
    tiles = tile_lists(tmp_path, settings, tmp_path).training
    load = LoadTiled(("image", "label"), two_scans=True).set_random_state(seed=0)
    seen = Counter()
    for _ in range(60):
        for item in tiles:
            tile = load(item)
            seen[tuple(round(float(tile[key].mean()) * 255) for key in ("image", "label"))] += 1
    assert set(seen) == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)}
    assert min(seen.values()) > 20


def test_orientations_keep_the_scan_axis_where_noise_follows_it(tmp_path: Path) -> None:
    rows = np.tile(np.arange(16, dtype=np.uint8)[:, None] * 9, (1, 16))
    tifffile.imwrite(tmp_path / "a.tif", rows)
    (item,) = tile_lists(tmp_path, TileSettings(tile=16, scale=1, val_fraction=0)).training
    for swap, expected in ((True, {True, False}), (False, {True})):
        load = LoadTiled("label", random_orientation=True, swap_axes=swap).set_random_state(seed=0)
        tiles = [load(item)["label"] for _ in range(30)]
        assert {bool((tile.std(dim=2) == 0).all()) for tile in tiles} == expected
