"""Weights and presets of every release load, and weights give the same images (docs/compatibility.md).

The files in ``releases`` were written by the releases themselves, with ``scripts/save_release.py``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from pssr2_monai.crappify import Crappify
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.config import config_files

RELEASES = sorted((Path(__file__).parent / "releases").glob("*.zip"))
FILES = [
    pytest.param(release, name, id=f"{release.stem}-{name}")
    for release in RELEASES
    for name in sorted(zipfile.ZipFile(release).namelist())
]
WEIGHTS, PRESETS = ([file for file in FILES if file.values[1].endswith(suffix)] for suffix in (".pt", ".json"))
TOLERANCE = 2e-3  # the expected outputs are of half precision, and other processors add in another order


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """The folder of the files of each release."""
    folders = {}
    for release in RELEASES:
        folders[release] = tmp_path_factory.mktemp(release.stem)
        with zipfile.ZipFile(release) as archive:
            archive.extractall(folders[release])
    return folders


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("save_release")


def test_the_first_release_is_here() -> None:
    assert "0.1.0" in {release.name.removesuffix(".zip") for release in RELEASES}
    assert len(WEIGHTS) >= 6
    assert sum(release.stat().st_size for release in RELEASES) < 100_000 * len(RELEASES)


@pytest.mark.parametrize(("release", "name"), WEIGHTS)
def test_weights_give_the_images_that_they_gave(
    release: Path, name: str, folders: dict[Path, Path], script: ModuleType
) -> None:
    network, record = load_weights(folders[release] / name)
    expected = np.load(folders[release] / "outputs.npz")[name.removesuffix(".pt")]
    with torch.inference_mode():
        output = network(script.network_input(record.n_frames[0])).numpy()
    assert output.shape[-1] == 12 * record.scale
    np.testing.assert_allclose(output, expected.astype(np.float32), atol=TOLERANCE)
    assert np.ptp(expected) > 10 * TOLERANCE, "an output that could not differ"
    crappifier = record.build_crappifier()
    assert isinstance(crappifier, Crappify)
    assert crappifier(torch.full((1, 48, 48), 0.5)).shape[-1] == 48 // record.scale


@pytest.mark.parametrize(("release", "name"), PRESETS)
def test_presets_are_accepted_and_build_what_they_describe(
    release: Path, name: str, folders: dict[Path, Path], tmp_path: Path
) -> None:
    preset = tmp_path / f"mine_{name}"  # a copy of the user's, under a name that is not shipped
    preset.write_bytes((folders[release] / name).read_bytes())
    parser = ConfigParser()
    parser.read_config(config_files("train", str(preset)))
    parser["dataset_dir"] = str(tmp_path)
    assert isinstance(parser.get_parsed_content("crappifier"), Crappify)
    with torch.device("meta"):
        network = parser.get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) > 1000


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.stem)
def test_weights_restore_a_file(release: Path, folders: dict[Path, Path], script: ModuleType, tmp_path: Path) -> None:
    write_image(tmp_path / "scan.tif", script.image(3), axes="YX", pixel_size={})
    (restored,) = restore(tmp_path / "scan.tif", tmp_path / "restored.tif", folders[release] / "denoise.pt")
    assert restored.stat().st_size > 128 * 128


@pytest.mark.slow
def test_the_script_saves_what_these_tests_read(script: ModuleType, project_root: Path, tmp_path: Path) -> None:
    script.save(tmp_path, project_root / "configs")
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"{name}.pt" for name in script.NETWORKS} | {"outputs.npz", "calibrated.json"} <= names
    assert {path.name for path in (project_root / "configs").glob("*.json")} <= names
