"""The zip for the model zoo is the same each time, tells the truth of its weights, and passes the zoo's checks."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from pssr2_monai.errors import InputError
from pssr2_monai.networks.weights import load_weights, save_plain

NAME = "point_scanning_super_resolution"


@pytest.fixture(scope="module")
def zoo(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script that builds the zip."""
    return load_script("build_zoo_zip")


@pytest.fixture
def schema(shared_data: Path) -> Path:
    """MONAI's schema of metadata."""
    path = shared_data.parent / "monai" / "meta_schema_20240725.json"
    if not path.is_file():
        pytest.skip("MONAI's schema of metadata is not in ../shared/monai")
    return path


def content(zipped: Path, name: str) -> bytes:
    with zipfile.ZipFile(zipped) as archive:
        return archive.read(f"{NAME}/{name}")


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize("shipped", [False, True], ids=["trained", "shipped"])
def test_the_zip_passes_the_zoos_checks(
    shipped: bool, zoo: ModuleType, schema: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    weights = zoo.BUNDLE / zoo.WEIGHTS if shipped else tiny_weights
    if not weights.is_file():
        pytest.skip("bundle/models/model.pt is not here")
    zipped = zoo.build(tmp_path, weights)
    done = zoo.check(zipped, schema)
    assert [line.split(":")[0].split(",")[0] for line in done] == ["verify_metadata", "train", "verify_net_in_out"]


def test_the_zip_is_the_same_each_time_and_holds_what_was_trained(
    zoo: ModuleType, tiny_weights: Path, tmp_path: Path
) -> None:
    one, other = zoo.build(tmp_path / "one", tiny_weights), zoo.build(tmp_path / "other", tiny_weights)
    assert one.read_bytes() == other.read_bytes()
    config = json.loads(content(one, "configs/train.json"))
    assert config["network_def"]["channels"] == [8, 16]
    assert config["network_def"]["scale"] == "@scale"
    assert (
        config["crappifier"]["noises"]
        == json.loads((zoo.BUNDLE / "configs/train.json").read_text())["crappifier"]["noises"]
    )
    with zipfile.ZipFile(one) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.namelist()}
        archive.extractall(tmp_path)
    assert {"LICENSE", "large_files.yml", "docs/data_license.txt", "models/model.pt", "models/model.json"} <= names
    assert not [name for name in names if name.startswith("models/") and "model." not in name]
    network, record = load_weights(tmp_path / NAME / "models" / "model.pt")
    original, recorded = load_weights(tiny_weights)
    assert record == recorded
    torch.testing.assert_close(network.state_dict(), original.state_dict(), rtol=0, atol=0)


@pytest.mark.shared_data
@pytest.mark.slow
def test_a_zip_without_weights_is_checked_as_far_as_it_goes(zoo: ModuleType, schema: Path, tmp_path: Path) -> None:
    zipped = zoo.build(tmp_path, None)
    assert len(zoo.check(zipped, schema)) == 2
    with pytest.raises(KeyError):
        content(zipped, "models/model.pt")


def test_weights_elsewhere_are_listed_with_their_hash(zoo: ModuleType, tiny_weights: Path, tmp_path: Path) -> None:
    zipped = zoo.build(tmp_path, tiny_weights, "https://example.org/model.pt")
    (entry,) = yaml.safe_load(content(zipped, "large_files.yml"))["large_files"]
    assert entry == {
        "path": "models/model.pt",
        "url": "https://example.org/model.pt",
        "hash_type": "sha256",
        "hash_val": hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest(),
    }
    with pytest.raises(KeyError):
        content(zipped, "models/model.pt")


def test_metadata_of_other_weights_is_refused(zoo: ModuleType, tiny_weights: Path, tmp_path: Path) -> None:
    saved = torch.load(tiny_weights, weights_only=True)
    for key, value, match in (
        ("scale", 2, "is not the weights' 2 times"),
        ("n_frames", [5, 1], r"frames of the weights are \(5, 1\)"),
    ):
        fields = json.loads(saved["record"]["json"]) | {key: value}
        other = tmp_path / "other.pt"
        torch.save(saved | {"record": saved["record"] | {"json": json.dumps(fields)}}, other)
        with pytest.raises(InputError, match=match):
            zoo.build(tmp_path / "out", other)
        assert not list((tmp_path / "out").iterdir())


def test_plain_weights_need_their_record(tiny_weights: Path, tmp_path: Path) -> None:
    save_plain(tiny_weights, tmp_path / "model.pt")
    assert load_weights(tmp_path / "model.pt")[1].scale == 4
    for other in ('{"notes": "of the training"}', "[1, 2", None):  # of the same name, but no record
        (tmp_path / "model.json").unlink()
        if other is not None:
            (tmp_path / "model.json").write_text(other)
        with pytest.raises(InputError, match=r"model\.pt"):
            load_weights(tmp_path / "model.pt")
