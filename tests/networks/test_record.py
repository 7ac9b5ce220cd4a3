"""What travels with weights, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from pssr2_monai.crappify import GaussianNoise, PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.data.samples import generate_images
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.evaluation.measures import psnr
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record, instantiate
from pssr2_monai.networks.weights import load_weights

CONFIG = {
    "scale": 2,
    "n_frames": [3, 1],
    "network_def": {
        "_target_": "pssr2_monai.networks.ResUNet",
        "in_channels": "$@n_frames[0]",
        "out_channels": 1,
        "channels": [8, 16],
        "scale": "@scale",
        "depth": 1,
    },
    "crappifier": {
        "_target_": "pssr2_monai.crappify.crappify.Crappify",
        "scale": "@scale",
        "noises": "@noises",
    },
    "noises": [{"_target_": "pssr2_monai.crappify.PoissonNoise", "intensity": [0.5, 1.0]}],
    "intensity": {"_target_": "pssr2_monai.images.intensity.IntensitySettings", "mode": "percentile"},
    "imports": ["$from pssr2_monai.networks.record import record_of_config"],
    "record": "$record_of_config(@scale, @n_frames, 'TZ', @intensity, {'Y': 0.008, 'X': 0.008})",
}


@pytest.fixture
def record() -> Record:
    return ConfigParser(CONFIG).get_parsed_content("record")


def test_record_of_config_resolves_references_and_keeps_components_as_data(record: Record) -> None:
    assert record.network == {
        "_target_": "pssr2_monai.networks.ResUNet",
        "in_channels": 3,
        "out_channels": 1,
        "channels": [8, 16],
        "scale": 2,
        "depth": 1,
    }
    assert record.crappifier["noises"] == [
        {"_target_": "pssr2_monai.crappify.PoissonNoise", "intensity": [0.5, 1.0]},
    ]
    assert (record.scale, record.n_frames, record.stack) == (2, (3, 1), "TZ")
    assert record.intensity == IntensitySettings(mode="percentile")


def test_record_survives_its_file(record: Record, tmp_path: Path) -> None:
    network = ResUNet(3, 1, (8, 16), scale=2, depth=1)
    torch.save({"model": network.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    loaded, again = load_weights(tmp_path / "model.pt")
    assert again == record
    assert not loaded.training
    image = torch.rand(1, 3, 9, 13)
    torch.testing.assert_close(loaded(image), network.eval()(image))
    crappify = instantiate(again.crappifier)
    assert isinstance(crappify, Crappify)
    assert isinstance(crappify.noises[0], PoissonNoise)


def test_a_network_of_another_package_is_recorded_too(tmp_path: Path) -> None:
    arguments = {"_target_": "monai.networks.nets.BasicUNet", "spatial_dims": 2, "features": [8, 8, 8, 8, 8, 8]}
    arguments |= {"in_channels": 1, "out_channels": 1}
    record = ConfigParser(CONFIG | {"network_def": arguments}).get_parsed_content("record")
    network = instantiate(record.network)
    torch.save({"model": network.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    assert type(load_weights(tmp_path / "model.pt")[0]).__name__ == "BasicUNet"


class _Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"model": {}}, "holds no weights with a record"),
        ({"model": _Harmful()}, "read safely"),
        ("text", "read safely"),
        (None, "no such file"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(content, match: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    if content == "text":
        path.write_text("no weights")
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=match):
        load_weights(path)
    assert not (tmp_path / "harmed").exists()


def test_weights_of_another_network_are_refused(record: Record, tmp_path: Path) -> None:
    other = ResUNet(3, 1, (8, 32), scale=2, depth=1)
    torch.save({"model": other.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="do not fit the ResUNet"):
        load_weights(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.Popen", "no.such.Network", "pssr2_monai.restoration.restore.restore"]
)
def test_a_record_calls_nothing_but_networks_and_transforms(target: str, record: Record, tmp_path: Path) -> None:
    state = record.state_dict()
    fields = json.loads(state["json"]) | {"network": {"_target_": target, "command": "true"}}
    torch.save({"model": {}, "record": state | {"json": json.dumps(fields)}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="not the dotted name of a network or transform"):
        load_weights(tmp_path / "model.pt")


def test_a_later_record_is_refused(record: Record, tmp_path: Path) -> None:
    torch.save({"model": {}, "record": record.state_dict() | {"version": 99}}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="later release"):
        load_weights(tmp_path / "model.pt")


@pytest.mark.parametrize(("name", "scale"), [("em", 4), ("em_denoise", 1)])
def test_the_weights_that_come_along_restore_better_than_interpolation(name: str, scale: int) -> None:
    network, record = load_weights(name)
    assert (record.scale, network.scale) == (scale, [scale, scale])
    hr = generate_images(1, side=256)[0].astype(np.float32) / 255
    degrade = Crappify(scale, [PoissonNoise(1.0), GaussianNoise(8.0)]).set_random_state(seed=0)
    lr = degrade(hr[None])
    with torch.no_grad():
        restored = network(torch.from_numpy(lr)[None])[0].numpy()
    plain = upscale(lr, scale, "bicubic")
    assert psnr(restored, hr[None], 1.0) > psnr(plain, hr[None], 1.0) + 1


def test_a_name_that_is_neither_a_file_nor_comes_along_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="emm: there is no such file of weights; did you mean 'em'"):
        load_weights("emm")
    with pytest.raises(InputError, match="run/x.pt: there is no such file .* of a training, or em or em_denoise"):
        load_weights("run/x.pt")
