"""Trainings that start from weights: what they take from the record, what is refused, what is recorded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from pssr2_monai.bundle import bundle_dir
from pssr2_monai.errors import InputError
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.preview import crappify_images
from pssr2_monai.training.start import settings_of
from pssr2_monai.training.train import plan_training, train, training_workflow

POISSON = {"_target_": "PoissonNoise", "intensity": [0.5, 2]}
SMALL = {"tile": 32, "batch_size": 8, "num_workers": 0, "precision": "float32", "device": "cpu"}


def _weights(path: Path, network: dict[str, Any], **fields: Any) -> Path:
    """A file of weights, as a training of this network writes it."""
    record = Record(network, **{"scale": network.get("scale", 4)} | fields)
    torch.save({"model": record.build_network().state_dict(), "record": record.state_dict()}, path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a small 2x network with a crappifier and an intensity mode that no default has."""
    network = {"_target_": "ResUNet", "channels": [8, 16], "depth": 1, "scale": 2}
    crappifier = {"_target_": "Crappify", "scale": 2, "noises": [POISSON], "downsample": "area"}
    intensity = IntensitySettings("percentile")
    return _weights(tmp_path / "good.pt", network, crappifier=crappifier, intensity=intensity)


def test_weights_set_what_their_record_knows(tmp_path: Path, weights: Path) -> None:
    assert settings_of(weights) == {
        "scale": 2,
        "n_frames": 1,
        "network_def": {"_target_": "pssr2_monai.ResUNet", "channels": [8, 16], "depth": 1, "scale": 2},
        "lr": pytest.approx(0.5 * 0.002),
        "start_settings": False,
        "intensity#mode": "percentile",
        "crappifier": {
            "_target_": "pssr2_monai.Crappify",
            "scale": 2,
            "noises": [{**POISSON, "_target_": "pssr2_monai.PoissonNoise"}],
            "downsample": "area",
        },
    }
    volume = {"_target_": "ResUNet", "channels": [8, 16], "depth": 1, "scale": [4, 1, 1], "spatial_dims": 3}
    file = _weights(
        tmp_path / "volume.pt", {"_target_": "AsVolume", "network": volume}, scale=[4, 1, 1], n_frames=(8, 32)
    )
    settings = settings_of(file)
    assert (settings["scale"], settings["n_frames"], "crappifier" in settings) == ([4, 1, 1], [8, 32], False)
    assert settings["network_def"]["network"]["_target_"] == "pssr2_monai.ResUNet"
    rcan = {"_target_": "RCAN", "in_channels": 3, "out_channels": 3, "groups": 1, "blocks": 1, "features": 8}
    rcan["reduction"] = 2
    fixed = IntensitySettings("fixed", 0, 900)
    settings = settings_of(_weights(tmp_path / "rcan.pt", rcan, n_frames=(3, 3), stack="C", intensity=fixed))
    assert settings["lr"] == pytest.approx(0.5 * 0.0002)
    assert (settings["channels"], "intensity#mode" in settings) == ("joint", False)
    basic = {"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1}
    settings = settings_of(_weights(tmp_path / "monai.pt", basic, scale=1))
    assert settings["network_def"]["_target_"] == "BasicUNet"


def test_the_network_starts_with_all_of_the_weights(hr_folder: Path, weights: Path, tmp_path: Path) -> None:
    """The statistics of its norms included; a rate of 0 then changes no parameter."""
    saved = torch.load(weights, weights_only=True)
    saved["model"]["norm.running_mean"].fill_(0.625)
    torch.save(saved, weights)
    workflow = training_workflow(hr_folder, tmp_path / "run", start=weights, **SMALL)
    workflow.initialize()
    for name, tensor in workflow.parser.get_parsed_content("network").state_dict().items():
        torch.testing.assert_close(tensor, saved["model"][name], rtol=0, atol=0)
    trained, record = load_weights(train(hr_folder, tmp_path / "run", start=weights, epochs=1, lr=0.0, **SMALL))
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(parameter, saved["model"][name], rtol=0, atol=0)
    assert (record.scale, record.network["channels"], record.intensity.mode) == (2, [8, 16], "percentile")
    assert record.crappifier["downsample"] == "area"
    name = f"{tmp_path.name}/good.pt"
    assert record.started_from == {"weights": name, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}


def test_weights_are_loaded_once_for_a_training_and_anew_where_they_changed(
    hr_folder: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def load(path: str) -> tuple[torch.nn.Module, Record]:
        loaded.append(path)
        return load_weights(path)

    monkeypatch.setattr("pssr2_monai.training.start.load_weights", load)
    train(hr_folder, tmp_path / "run", start=weights, epochs=1, **SMALL)
    assert loaded == [str(weights)]
    settings_of(weights)
    assert len(loaded) == 2, "they are kept for the time of the training only"
    _weights(weights, {"_target_": "ResUNet", "channels": [8, 16, 16], "depth": 1, "scale": 2})
    assert settings_of(weights)["network_def"]["channels"] == [8, 16, 16]


def test_bundled_weights_are_recorded_by_name(hr_folder: Path, tmp_path: Path) -> None:
    workflow = training_workflow(hr_folder, tmp_path / "run", start="em", **SMALL)
    workflow.initialize()
    record = workflow.parser.get_parsed_content("record")
    assert record.started_from["weights"] == "em"
    assert record.crappifier == load_weights("em")[1].crappifier


def test_presets_and_options_come_before_the_settings_of_weights(
    hr_folder: Path, weights: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "lab.json"
    noises = [{"_target_": "pssr2_monai.GaussianNoise", "sigma": 3}]
    preset.write_text(json.dumps({"start": str(weights), "crappifier#noises": noises, "intensity#mode": None}))
    config = plan_training(hr_folder, tmp_path / "run", preset=str(preset), epochs=1, lr=1e-3, **SMALL).config
    assert config["crappifier"] == {
        "_target_": "pssr2_monai.Crappify",
        "scale": 2,
        "noises": noises,
        "downsample": "area",
    }
    assert (config["lr"], config["intensity"]["mode"], config["network_def"]["channels"]) == (1e-3, None, [8, 16])
    (crappified, *_) = crappify_images(hr_folder, tmp_path / "lr", start=weights)
    assert crappified.is_file()


def test_what_does_not_fit_is_refused_with_all_differences(hr_folder: Path, weights: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"scale": 1}, "good.pt: scale is 2, this training's is 1; leave out"),
        (
            {"n_frames": 3, "network_def#depth": 2},
            r"good.pt: n_frames is \[1, 1\], this training's is \[3, 3\]; network_def#depth is 1, .* is 2; leave out",
        ),
        ({"preset": "rcan_small"}, "network_def is ResUNet, this training's is RCAN; leave out"),
        ({"start_settings": False}, r"scale is 2, .* 4; network_def#channels is \[8, 16\], .*\[32, 64, 128, 256\]"),
        ({"network_def#interpolate": False}, "network_def#interpolate is True, this training's is False"),
        ({"start": "emm"}, "emm: there is no such file of weights; did you mean 'em'"),
    ]
    for options, match in cases:
        with pytest.raises(InputError, match=match):
            train(hr_folder, tmp_path / "run", **{"start": weights, **options})
    assert not (tmp_path / "run").exists()
    # What follows from a default is no difference.
    assert plan_training(hr_folder, tmp_path / "run", start=weights, **{"network_def#norm": "batch"})


@pytest.mark.parametrize(
    ("noise", "match"),
    [
        (POISSON | {"intensity": "$open('ran', 'w')"}, "PoissonNoise"),
        ({"_target_": "os.system", "command": "touch ran"}, "'os.system' is not registered"),
    ],
)
def test_a_record_is_data(
    hr_folder: Path, noise: dict[str, Any], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = {"_target_": "ResUNet", "channels": [8, 16], "depth": 1}
    file = _weights(tmp_path / "odd.pt", network, crappifier={"_target_": "Crappify", "scale": 4, "noises": [noise]})
    with pytest.raises(InputError, match=match):
        train(hr_folder, tmp_path / "run", start=file, trust=True)
    assert not (tmp_path / "ran").exists()


def test_a_resumed_training_does_not_start_again(hr_folder: Path, weights: Path, tmp_path: Path) -> None:
    train(hr_folder, tmp_path / "run", start=weights, epochs=1, **SMALL)
    began = load_weights(tmp_path / "run" / "last.pt")[1].started_from
    weights.unlink()
    train(hr_folder, tmp_path / "run", epochs=2, resume=True)
    assert load_weights(tmp_path / "run" / "last.pt")[1].started_from == began != {}
    with pytest.raises(InputError, match="--start: a resumed training keeps what it was started with"):
        train(hr_folder, tmp_path / "run", epochs=3, resume=True, start="em")


def _bundle_config(hr_folder: Path, out: Path, *presets: str, **options: Any) -> ConfigParser:
    """The training of ``python -m monai.bundle run`` after its initialization."""
    configs = [bundle_dir() / "configs" / "train.json", *(bundle_dir().parent / "configs" / name for name in presets)]
    folders = {"dataset_dir": str(hr_folder), "output_dir": str(out), "ckpt_dir": str(out)}
    options = {**SMALL, **folders, "bundle_root": str(bundle_dir()), **options}
    workflow = ConfigWorkflow([str(path) for path in configs], logging_file=False, workflow_type="train", **options)
    workflow.initialize()
    return workflow.parser


def test_in_the_bundle_weights_set_what_is_left_at_its_default(hr_folder: Path, weights: Path, tmp_path: Path) -> None:
    parser = _bundle_config(hr_folder, tmp_path, start=str(weights), **{"crappifier#downsample": "nearest"})
    assert (parser["scale"], parser["network_def"]["channels"], parser["intensity"]["mode"]) == (
        2,
        [8, 16],
        "percentile",
    )
    assert parser["crappifier"]["downsample"] == "nearest"
    assert parser["crappifier"]["noises"][0]["intensity"] == [0.5, 2]
    assert parser.get_parsed_content("optimizer").param_groups[0]["lr"] == pytest.approx(0.001)
    saved = load_weights(weights)[0].state_dict()
    torch.testing.assert_close(parser.get_parsed_content("network").state_dict(), saved, rtol=0, atol=0)
    with pytest.raises(RuntimeError) as refused:
        _bundle_config(hr_folder, tmp_path, "denoise.json", start=str(weights))
    assert "scale is 2, this training's is 1" in str(refused.value.__cause__)
