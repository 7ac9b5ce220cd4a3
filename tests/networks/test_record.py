"""What travels with weights, and what is refused: nothing in a file is looked up, run or fetched."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from pssr2_monai.cli.main import main
from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.errors import InputError
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import RECORD_VERSION, Record, same_training
from pssr2_monai.networks.weights import load_weights

CONFIG = {
    "scale": 2,
    "n_frames": [3, 1],
    "network_def": {
        "_target_": "pssr2_monai.ResUNet",
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
    "noises": [{"_target_": "pssr2_monai.PoissonNoise", "intensity": [0.5, 1.0]}],
    "intensity": {"_target_": "pssr2_monai.images.intensity.IntensitySettings", "mode": "percentile"},
    "imports": ["$from pssr2_monai.training.config import record_of_config"],
    "record": "$record_of_config(@scale, @n_frames, 'TZ', @intensity, {'Y': 0.008, 'X': 0.008})",
}


@pytest.fixture
def record() -> Record:
    return ConfigParser(CONFIG).get_parsed_content("record")


@pytest.fixture
def save(record: Record, tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the weights of the record's network with some of its fields changed."""

    def write(**changed: Any) -> Path:
        state = record.state_dict()
        network = ResUNet(3, 1, (8, 16), scale=2, depth=1)
        content = {"version": state["version"], "json": json.dumps(json.loads(state["json"]) | changed)}
        torch.save({"model": network.state_dict(), "record": content}, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return write


def test_record_of_config_resolves_references_and_names_what_is_registered(record: Record) -> None:
    assert record.network == {
        "_target_": "ResUNet",
        "in_channels": 3,
        "out_channels": 1,
        "channels": [8, 16],
        "scale": 2,
        "depth": 1,
    }
    assert record.crappifier == {
        "_target_": "Crappify",
        "scale": 2,
        "noises": [{"_target_": "PoissonNoise", "intensity": [0.5, 1.0]}],
    }
    assert (record.scale, record.n_frames, record.stack) == (2, (3, 1), "TZ")
    assert record.intensity == IntensitySettings(mode="percentile")
    assert "pssr2_monai." not in record.state_dict()["json"]


def test_record_survives_its_file(record: Record, tmp_path: Path) -> None:
    network = ResUNet(3, 1, (8, 16), scale=2, depth=1)
    torch.save({"model": network.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    loaded, again = load_weights(tmp_path / "model.pt")
    assert again == record
    assert again.state_dict() == record.state_dict()
    assert not loaded.training
    image = torch.rand(1, 3, 9, 13)
    torch.testing.assert_close(loaded(image), network.eval()(image))
    crappify = again.build_crappifier()
    assert isinstance(crappify, Crappify)
    assert isinstance(crappify.noises[0], PoissonNoise)


def test_a_record_of_the_first_release_is_the_same_training(record: Record) -> None:
    old = json.loads(record.state_dict()["json"])
    old["network"]["_target_"] = "pssr2_monai.networks.ResUNet"
    old["crappifier"]["_target_"] = "pssr2_monai.crappify.Crappify"
    old["crappifier"]["noises"][0]["_target_"] = "pssr2_monai.noises.PoissonNoise"
    state = {"version": 1, "json": json.dumps(old)}
    assert Record.from_state(state, "model.pt") == record
    assert same_training(state, record.state_dict())
    old["network"]["depth"] = 2
    assert not same_training({"version": 1, "json": json.dumps(old)}, record.state_dict())


@pytest.mark.parametrize("target", ["BasicUNet", "monai.networks.nets.BasicUNet"])
def test_a_network_of_monai_is_recorded_by_its_name(target: str, tmp_path: Path) -> None:
    arguments = {"_target_": target, "spatial_dims": 2, "features": [8, 8, 8, 8, 8, 8]}
    arguments |= {"in_channels": 1, "out_channels": 1}
    record = ConfigParser(CONFIG | {"network_def": arguments}).get_parsed_content("record")
    assert record.network["_target_"] == "BasicUNet"
    network = record.build_network()
    torch.save({"model": network.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    assert type(load_weights(tmp_path / "model.pt")[0]).__name__ == "BasicUNet"


def test_a_network_of_another_package_is_recorded_by_its_dotted_name_and_not_loaded(tmp_path: Path) -> None:
    record = ConfigParser(CONFIG | {"network_def": {"_target_": "torch.nn.Identity"}}).get_parsed_content("record")
    assert record.network == {"_target_": "torch.nn.Identity"}
    torch.save({"model": {}, "record": record.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: its network 'torch\.nn\.Identity' is not registered"):
        load_weights(tmp_path / "model.pt")


def test_a_later_record_is_refused(save: Callable[..., Path]) -> None:
    path = save()
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {"record": {"version": RECORD_VERSION + 1, "json": "{}"}}, path)
    with pytest.raises(InputError, match="later release"):
        load_weights(path)


LOAD_IMAGE = {"_target_": "monai.transforms.LoadImage", "reader": "os.system", "command": "touch ran"}
HOSTILE: dict[str, dict[str, Any]] = {
    "transform that calls": LOAD_IMAGE,
    "within a compose": {"_target_": "monai.transforms.Compose", "transforms": [LOAD_IMAGE]},
    "within a network": {"_target_": "AsVolume", "network": LOAD_IMAGE},
    "folder with a hubconf": {
        "_target_": "monai.losses.PerceptualLoss",
        "spatial_dims": 2,
        "network_type": "medicalnet_resnet10_23datasets",
        "cache_dir": ".",
    },
    "module that runs": {"_target_": "unittest.__main__.x"},
    "package of the current folder": {"_target_": "planted_package.Network"},
    "address": {"_target_": "monai.networks.nets.HoVerNet", "pretrained_url": "http://localhost/x"},
    "file address": {"_target_": "HoVerNet", "pretrained_url": "file:///etc/passwd"},
    "address for a registered network": {"_target_": "UNet", "pretrained_url": "http://localhost/x"},
    "torch.hub": {"_target_": "torch.hub.load", "repo_or_dir": ".", "model": "x", "source": "local"},
    "eval": {"_target_": "builtins.eval", "expression": "open('ran', 'w')"},
    "expression": {"_target_": "$open('ran', 'w')"},
    "dots": {"_target_": "..ResUNet"},
    "class": {"_target_": "pssr2_monai.networks.ResUNet.__class__"},
    "init": {"_target_": "ResUNet.__init__.__globals__"},
    "subprocess": {"_target_": "subprocess.Popen", "args": ["touch", "ran"]},
    "verb of the package": {"_target_": "pssr2_monai.restoration.restore.restore", "source": "x"},
}


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with things to run in it; whatever runs or fetches something fails the test."""
    sentinel = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    for planted in ("planted_package.py", "hubconf.py", "test_planted.py", "ResUNet.py"):
        (tmp_path / planted).write_text(sentinel)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"was called with {arguments}")

    for holder, name in ((os, "system"), (os, "popen"), (socket, "create_connection"), (socket.socket, "connect")):
        monkeypatch.setattr(holder, name, refuse)
    return tmp_path


def _command(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as status:
        main([str(word) for word in words])
    assert status.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.trust
@pytest.mark.parametrize("network", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_network_is_refused(network: dict[str, Any], save: Callable[..., Path], watched: Path) -> None:
    path = save(network=network)
    with pytest.raises(InputError, match=r"model\.pt: .*(is not registered|may load files or code)"):
        load_weights(path)  # as the plugin does when a file is chosen
    assert not (watched / "ran").exists()


@pytest.mark.trust
@pytest.mark.parametrize("name", ["transform that calls", "folder with a hubconf", "address for a registered network"])
def test_every_command_refuses_a_hostile_network(
    name: str, save: Callable[..., Path], watched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(network=HOSTILE[name])
    write_image(watched / "scan.tif", np.zeros((32, 32), np.uint8), axes="YX", pixel_size={})
    for words in (
        ("restore", "scan.tif", "out.tif", "--weights", path),
        ("restore", "scan.tif", "out.tif", "--weights", path, "--dry-run"),
        ("evaluate", "--hr", ".", "--weights", path, "--out", "evaluation"),
        ("export", path, "exported.ts"),
    ):
        assert "is not registered" in (line := _command(capsys, *words)) or "may load files or code" in line
        assert "model.pt" in line
    assert not (watched / "ran").exists()


@pytest.mark.trust
def test_control_characters_of_a_record_are_not_printed(
    save: Callable[..., Path], watched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(network={"_target_": "ResUNet", "\x1b[2J\ud800": 1})
    assert r"\x1b[2J\ud800" in _command(capsys, "export", path, "exported.ts")


@pytest.mark.trust
@pytest.mark.parametrize("noise", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_noise_is_refused(noise: dict[str, Any], save: Callable[..., Path], watched: Path) -> None:
    for crappifier in (noise, {"_target_": "Crappify", "scale": 2, "noises": [noise]}):
        path = save(crappifier=crappifier)
        _, record = load_weights(path)
        with pytest.raises(InputError, match=r"model\.pt: its (crappifier|noise) .* is not registered"):
            record.build_crappifier()
    assert not (watched / "ran").exists()


@pytest.mark.trust
def test_evaluate_refuses_a_hostile_noise(
    save: Callable[..., Path], watched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(crappifier={"_target_": "Crappify", "scale": 2, "noises": [LOAD_IMAGE]})
    (watched / "images").mkdir()
    write_image(watched / "images" / "a.tif", np.zeros((3, 64, 64), np.uint8), axes="ZYX", pixel_size={})
    line = _command(capsys, "evaluate", "--hr", "images", "--weights", path, "--out", "evaluation")
    assert "is not registered" in line
    assert not (watched / "ran").exists()


def _nested(depth: int) -> str:
    return '{"network": ' + "[" * depth + "]" * depth + "}"


MALFORMED: dict[str, Any] = {
    "not a mapping": [1, 2],
    "no version": {"json": "{}"},
    "no content": {"version": 1},
    "version of text": {"version": "1", "json": "{}"},
    "version of nothing": {"version": None, "json": "{}"},
    "version a switch": {"version": True, "json": "{}"},
    "content a mapping": {"version": 1, "json": {}},
    "no JSON": {"version": 1, "json": "{'network'"},
    "a list": {"version": 1, "json": "[]"},
    "a number": {"version": 1, "json": "3"},
    "no network": {"version": 1, "json": '{"scale": 2}'},
    "no scale": {"version": 1, "json": '{"network": {"_target_": "ResUNet"}}'},
    "deep": {"version": 1, "json": _nested(100_000)},
    "deep, but parsed": {"version": 1, "json": _nested(900)},
    "long number": {"version": 1, "json": '{"network": {"_target_": "ResUNet"}, "scale": ' + "9" * 10_000 + "}"},
}
FIELDS: dict[str, Any] = {
    "network a list": {"network": []},
    "network a word": {"network": "ResUNet"},
    "network without a name": {"network": {"scale": 2}},
    "network huge": {"network": {"_target_": "ResUNet", "channels": [10**12, 10**12]}},
    "network not a number": {"network": {"_target_": "ResUNet", "value_range": [float("nan"), 1]}},
    "network infinite": {"network": {"_target_": "ResUNet", "depth": float("inf")}},
    "another depth": {"network": {"_target_": "ResUNet", "scale": 2, "depth": -1}},
    "scale huge": {"scale": 2**70},
    "frames huge": {"n_frames": [10**30, 1]},
    "intensity huge": {"intensity": {"mode": "fixed", "low": 0, "high": 10**400}},
    "pixel size huge": {"pixel_size": {"X": 10**400}},
    "long list": {"network": {"_target_": "ResUNet", "channels": [1] * 100_000}},
    "larger than its weights": {"network": {"_target_": "ResUNet", "channels": [20_000, 65_536]}},
    "deeper than its weights": {"network": {"_target_": "ResUNet", "channels": [1, 1], "depth": 65_536}},
    "windows without end": {"network": {"_target_": "SwinIR", "window": 4096}},
    "patches without end": {
        "network": {
            "_target_": "UNETR",
            "in_channels": 1,
            "out_channels": 1,
            "img_size": [65_536] * 2,
            "spatial_dims": 2,
        }
    },
    "layers without end": {"network": {"_target_": "SwinIR", "depths": [65_536] * 100, "heads": [1] * 100}},
    "scale of text": {"scale": "4"},
    "scale of nothing": {"scale": None},
    "scale negative": {"scale": -2},
    "scale of two": {"scale": [2, 2]},
    "frames of one": {"n_frames": [1]},
    "frames a number": {"n_frames": 3},
    "frames of text": {"n_frames": ["1", "1"]},
    "frames negative": {"n_frames": [3, -1]},
    "stack": {"stack": "YX"},
    "stack a list": {"stack": ["TZ"]},
    "intensity a list": {"intensity": [1]},
    "intensity unknown": {"intensity": {"gamma": 2}},
    "intensity of text": {"intensity": {"mode": "fixed", "low": "0", "high": 1}},
    "intensity scope": {"intensity": {"scope": ["file"]}},
    "intensity mode": {"intensity": {"mode": ["dtype"]}},
    "crappifier a list": {"crappifier": [1]},
    "pixel size a list": {"pixel_size": [1]},
    "pixel size of text": {"pixel_size": {"X": "0.1"}},
    "pixel size negative": {"pixel_size": {"X": -1}},
    "pixel size infinite": {"pixel_size": {"X": float("inf")}},
    "versions a list": {"versions": []},
    "unknown field": {"colour": "red"},
}


def _is_refused_in_one_line(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_weights(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


@pytest.mark.trust
@pytest.mark.parametrize("state", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_record_is_one_line_that_names_the_file(state: Any, tmp_path: Path) -> None:
    torch.save({"model": {}, "record": state}, tmp_path / "model.pt")
    assert "its record is damaged" in _is_refused_in_one_line(tmp_path / "model.pt")
    with pytest.raises(InputError, match="its record is damaged"):
        same_training(state, Record({}, 2).state_dict())


@pytest.mark.trust
@pytest.mark.parametrize("changed", FIELDS.values(), ids=FIELDS.keys())
def test_a_field_of_the_wrong_type_is_one_line_that_names_the_file(
    changed: dict[str, Any], save: Callable[..., Path]
) -> None:
    _is_refused_in_one_line(save(**changed))


@pytest.mark.trust
@pytest.mark.parametrize(
    "content",
    [{}, [], [torch.zeros(2)], torch.zeros(2), 3, "text", {"model": {}}, {"model": None, "record": None}, {1: 2}],
    ids=str,
)
def test_files_of_other_things_are_one_line(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    _is_refused_in_one_line(tmp_path / "model.pt")


@pytest.mark.trust
@pytest.mark.parametrize("model", [None, [], {"x": 1}, {"encoder.0.conv.0.weight": torch.zeros(1)}, torch.zeros(2)])
def test_weights_that_are_not_a_state_are_one_line(model: Any, save: Callable[..., Path]) -> None:
    path = save()
    torch.save(torch.load(path, weights_only=True) | {"model": model}, path)
    assert "do not fit the ResUNet" in _is_refused_in_one_line(path)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["ResUNet", "AsVolume", "UNet", "Crappify", "Blur", "os.system", "TZ", "dtype"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["_target_", "network", "scale", "depth", "channels", "sigma", "noises", "mode", "X"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
record_fields = st.sampled_from(
    ["network", "scale", "n_frames", "stack", "intensity", "crappifier", "pixel_size", "versions"]
)


@pytest.mark.trust
@given(st.dictionaries(record_fields, json_values, max_size=4), st.booleans())
def test_random_content_is_read_or_refused(changed: dict[str, Any], alone: bool) -> None:
    whole = json.loads(Record({"_target_": "ResUNet", "channels": [4, 4], "depth": 0}, 2).state_dict()["json"])
    state = {"version": 1, "json": json.dumps(changed if alone else whole | changed)}
    try:
        record = Record.from_state(state, "model.pt")
        record.build_network()
        record.build_crappifier()
    except InputError as error:
        message = str(error)
    else:
        message = "model.pt: "
    assert message.startswith("model.pt: ")
    assert "\n" not in message
