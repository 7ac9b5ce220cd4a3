"""A training for given scans: what it is fitted to, what it refuses before any work, and that it resumes with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pssr2_monai.data.datalists import TileSettings
from pssr2_monai.errors import InputError
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.scans import FITTED, check_scans
from pssr2_monai.training.train import plan_training, train


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Good images, and scans of other fields with Gaussian noise of 14 grey levels, at scale 2."""
    root = tmp_path_factory.mktemp("fields")
    for number in range(12):
        rough = np.random.default_rng(number).normal(size=(256, 256))
        smooth = sum(gaussian_filter(rough, sigma) * sigma for sigma in (3, 8, 20))
        image = 120 + 90 * smooth / np.abs(smooth).max()
        folder = root / ("good" if number % 2 else "scans")
        folder.mkdir(exist_ok=True)
        if not number % 2:
            image = image.reshape(128, 2, 128, 2).mean(axis=(1, 3))
            image = image + np.random.default_rng(number).normal(0, 14, image.shape)
        tifffile.imwrite(folder / f"{number}.tif", image.round().clip(0, 255).astype(np.uint8))
    return root / "good", root / "scans"


def test_the_noise_of_the_scans_is_trained_with_and_kept_when_resumed(
    folders: tuple[Path, Path], tiny_options: dict[str, object], tmp_path: Path
) -> None:
    good, scans = folders
    run, options = tmp_path / "run", tiny_options | {"scale": 2}
    weights = train(good, run, scans=scans, epochs=1, **options)  # type: ignore[arg-type]
    preset = json.loads((run / FITTED).read_text(encoding="utf-8"))
    assert {"scans.report.json", "scans.png"} <= {path.name for path in run.iterdir()}
    noises = preset["crappifier#noises"]
    by_name = {noise["_target_"].rpartition(".")[2]: noise for noise in noises}
    sigma = max(by_name["GaussianNoise"]["sigma"]["together"])
    assert 13 < sigma < 18
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["crappifier"]["noises"] == noises
    assert config["contrast"] == preset["contrast"]
    assert config["crappifier"]["clip"] == preset["crappifier#clip"]
    assert preset["crappifier#clip"].keys() == {"below", "above"}  # where the scans' 8 bits end
    assert config["calibration"] == str(run / "scans.png")
    assert [noise["_target_"] for noise in load_weights(weights)[1].crappifier["noises"]] == list(by_name)
    before = (run / FITTED).stat().st_mtime_ns
    train(good, run, resume=True, epochs=2)
    assert (run / FITTED).stat().st_mtime_ns == before
    assert json.loads((run / "config.json").read_text(encoding="utf-8"))["crappifier"]["noises"] == noises
    (run / FITTED).unlink()
    with pytest.raises(InputError, match="scans.json: is missing"):
        train(good, run, resume=True, epochs=3)


def test_what_scans_cannot_be_is_said_before_any_work(folders: tuple[Path, Path], tmp_path: Path) -> None:
    good, scans = folders
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InputError, match=wrong.name):
            plan_training(good, tmp_path / "run", scans=wrong)
    with pytest.raises(InputError, match="lr_dir"):
        train(good, tmp_path / "run", scans=scans, scale=2, lr_dir=str(scans))
    with pytest.raises(InputError, match="of volumes"):
        train(good, tmp_path / "run", scans=scans, scale=[2, 1, 1], preset="volume")
    assert not (tmp_path / "run").exists()


def test_files_that_contradict_each_other_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    good, _ = folders
    (tmp_path / "scans").mkdir()
    path, pixels = tmp_path / "scans" / "scan.ome.tif", np.zeros((64, 64), np.uint16)
    tifffile.imwrite(path, pixels, metadata={"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1})
    assert check_scans(tmp_path / "scans", TileSettings(scale=2), {"X": 0.05, "Y": 0.05}) == [path]
    with pytest.raises(InputError, match="are 2 times as wide as those of the HR images, but the scale is 4"):
        check_scans(tmp_path / "scans", TileSettings(scale=4), {"X": 0.05, "Y": 0.05})
    fixed = TileSettings(scale=2, intensity=IntensitySettings("fixed", 0, 255))
    with pytest.raises(InputError, match=r"scan.ome.tif holds uint16, 1.tif uint8"):
        check_scans(tmp_path / "scans", fixed, {}, good)
