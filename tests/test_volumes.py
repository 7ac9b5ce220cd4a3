"""Volumes: runs of frames through tiles, crappifying, training, restoring and scoring, with a factor for each axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.loading import LoadTiled
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.evaluate import evaluate
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import AsVolume
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.train import train

TINY = {
    "tile": 32,
    "batch_size": 2,
    "num_workers": 0,
    "precision": "float32",
    "n_frames": 8,
    "network_def#network#channels": [4, 8],
}


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """uint8 (Z, Y, X) whose values encode their position."""
    z, y, x = np.mgrid[:24, :80, :72]
    return (40 + 4 * z + 2 * (y % 16) + (x % 8) * 4).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(volume: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume")
    write_image(path / "volume.tif", volume, axes="ZYX", pixel_size={"Z": 0.01, "Y": 0.01, "X": 0.01})
    return path


@pytest.mark.parametrize("scale", [[4, 1, 1], [2, 4, 2], [1, 2, 2]])
def test_each_mode_downsamples_as_its_formula_says(scale: list[int], volume: np.ndarray) -> None:
    hr = volume.astype(np.float32) / 255
    shape = [part for size, factor in zip(hr.shape, scale, strict=True) for part in (size // factor, factor)]
    np.testing.assert_allclose(Downsample(scale, "area")(hr), hr.reshape(shape).mean(axis=(1, 3, 5)), atol=1e-6)
    places = tuple(slice(factor // 2, None, factor) for factor in scale)
    np.testing.assert_array_equal(Downsample(scale, "nearest")(hr), hr[places])
    # PIL shrinks each plane, and each cut along Z; the order does not matter.
    planes = [_shrunk(plane, scale[1], scale[2]) for plane in hr]
    cuts = [_shrunk(cut, scale[0], 1) for cut in np.moveaxis(np.stack(planes), 1, 0)]
    np.testing.assert_allclose(Downsample(scale)(hr), np.moveaxis(np.stack(cuts), 0, 1), atol=1e-6)


def _shrunk(image: np.ndarray, along_y: int, along_x: int) -> np.ndarray:
    size = (image.shape[1] // along_x, image.shape[0] // along_y)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def test_a_volume_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match=r"6 x 8 x 8 pixels does not divide by the scale \[4, 1, 1\]"):
        Downsample([4, 1, 1])(np.zeros((1, 6, 8, 8), np.float32))
    with pytest.raises(InputError, match="'linear' is unknown; use bilinear, area, nearest"):
        Crappify(4, downsample="linear")


def test_tiles_are_runs_of_frames_at_random_positions_along_them(folder: Path, volume: np.ndarray) -> None:
    settings = TileSettings(tile=16, scale=[4, 1, 1], n_frames=8, slide=False, val_fraction=0)
    items = tile_lists(folder, settings).training
    assert {item["frame"] for item in items} == {4, 12, 20}
    assert all(item["run"] == [0, 24] for item in items)
    load = LoadTiled("label", n_frames=2, scale=[4, 1, 1], random_position=True).set_random_state(0)
    tiles = [load(items[0])["label"] for _ in range(100)]
    firsts = {round(float(tile.min() * 255) - 40) // 4 for tile in tiles}
    assert firsts == set(range(17)), "some place along Z is never drawn, or drawn beyond the end"
    assert all(tile.shape == (8, 16, 16) for tile in tiles)
    assert all(np.ptp(np.diff(tile.numpy(), axis=0)) < 1e-6 for tile in tiles), "frames are not neighbours"
    fixed = LoadTiled("label", n_frames=2, scale=[4, 1, 1])(items[0])["label"]
    np.testing.assert_array_equal(fixed.numpy() * 255, volume[:8, :16, :16])


def test_pairs_of_volumes_have_their_corners_in_common(folder: Path, volume: np.ndarray, tmp_path: Path) -> None:
    lr = volume[::4, ::2, ::2]  # the first voxel of each, so that corners can be compared
    write_image(tmp_path / "volume.tif", lr, axes="ZYX", pixel_size={})
    grey = IntensitySettings("fixed", 0, 255)  # of both: the first voxels have another contrast than the means
    settings = TileSettings(tile=16, scale=[4, 2, 2], n_frames=8, slide=False, val_fraction=0, intensity=grey)
    item = tile_lists(folder, settings, tmp_path).training[-1]
    load = LoadTiled(["image", "label"], n_frames=2, scale=[4, 2, 2], random_position=True).set_random_state(0)
    for _ in range(30):
        tile = load(item)
        assert tile["image"].shape == (2, 8, 8)
        torch.testing.assert_close(tile["image"], tile["label"][::4, ::2, ::2])


def test_pairs_with_other_frames_are_refused(folder: Path, volume: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "volume.tif", volume[::2], axes="ZYX", pixel_size={})
    with pytest.raises(InputError, match="with 12 and 24 frames"):
        tile_lists(folder, TileSettings(tile=16, scale=[4, 1, 1], n_frames=8), tmp_path)


@pytest.mark.parametrize(("preset", "scale"), [("isotropic", [4, 1, 1]), ("volume", [1, 4, 4])])
def test_a_preset_trains_restores_and_scores_volumes(
    preset: str, scale: list[int], folder: Path, volume: np.ndarray, tmp_path: Path
) -> None:
    weights = train(folder, tmp_path / "run", preset=preset, epochs=1, val_fraction=0.3, **TINY)
    network, record = load_weights(weights)
    assert isinstance(network, AsVolume)
    assert (record.scale, record.n_frames) == (scale, (8 // scale[0], 8))
    write_image(tmp_path / "lr.tif", volume, axes="ZYX", pixel_size={"Z": 0.04, "Y": 0.01, "X": 0.01})
    restore(tmp_path / "lr.tif", tmp_path / "sr.tif", weights)
    with open_image(tmp_path / "sr.tif") as restored:
        assert restored.axes == "ZYX"
        assert restored.shape == tuple(np.multiply(volume.shape, scale))
        expected = {"Z": 0.04 / scale[0], "Y": 0.01 / scale[1], "X": 0.01 / scale[2]}
        assert restored.pixel_size == pytest.approx(expected)
    result = evaluate(folder, weights, tmp_path / "scores", seed=1)
    assert result["settings"]["scale"] == scale
    assert set(result["mean"]) == {"bilinear", "bicubic", "filter", "model"}


def test_a_new_network_starts_as_interpolation(folder: Path, volume: np.ndarray, tmp_path: Path) -> None:
    weights = train(folder, tmp_path / "run", preset="isotropic", epochs=1, val_fraction=0.3, lr=0.0, **TINY)
    hr = volume.astype(np.float32) / 255
    repeated = Downsample([4, 1, 1], "nearest")(hr).repeat(4, axis=0)
    result = evaluate(folder, weights, tmp_path / "scores")
    # Repeating slices is worse than what is linear between them.
    assert result["mean"]["model"]["psnr"] > peak_signal_noise_ratio(hr, repeated, data_range=1) + 1


def test_one_frame_is_not_a_volume(folder: Path, volume: np.ndarray, tmp_path: Path) -> None:
    weights = train(folder, tmp_path / "run", preset="isotropic", epochs=1, val_fraction=0.3, **TINY)
    write_image(tmp_path / "plane.tif", volume[0], axes="YX", pixel_size={})
    with pytest.raises(InputError, match=r"plane.tif: axes 'YX' hold 1 frame, but the weights take 2; give a stack"):
        restore(tmp_path / "plane.tif", tmp_path / "out.tif", weights)
