"""Configs, presets and the check of overrides."""

from __future__ import annotations

from pathlib import Path

import pytest

from pssr2_monai.bundle import bundle_dir
from pssr2_monai.errors import InputError, UsageError
from pssr2_monai.training.config import check_overrides, config_files


def test_presets_stack_in_order(tmp_path: Path) -> None:
    own = tmp_path / "own, with [brackets].json"
    own.write_text('{"scale": 2}')
    files = config_files("train", ["denoise", str(own)])
    assert [Path(file).name for file in files] == ["train.json", "denoise.json", own.name]
    assert files[0] == str(bundle_dir() / "configs" / "train.json")
    assert [Path(file).name for file in config_files("train", "denoise")] == ["train.json", "denoise.json"]


def test_unknown_presets_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'denoise'"):
        config_files("train", "denoize")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json: is not JSON"):
        config_files("train", [str(tmp_path / "broken.json")])


@pytest.mark.parametrize("key", ["epochs", "train#dataloader#batch_size", "train::trainer", "crappifier#noises#0"])
def test_ids_of_the_config_are_taken(key: str) -> None:
    check_overrides(config_files("train"), {key: "$None"})


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("tile", "large", "--tile large: is not a number"),
        ("lr", True, "--lr True: is not a number"),
        ("batch_size", 0, "--batch_size 0: is not a whole number of at least 1"),
        ("tile", 3.5, "--tile 3.5: is not a whole number of at least 1"),
        ("num_workers", -1, "--num_workers -1: is not a whole number of at least 0"),
        ("compile", 1, "--compile 1: is not true or false"),
        ("train#trainer", 1, "--train#trainer 1: is a section of the config; set what is in it, such as --train#trai"),
    ],
)
def test_values_of_another_type_are_refused(key: str, value: object, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        check_overrides(config_files("train"), {key: value})


def test_what_may_stand_for_a_number_is_taken() -> None:
    values = {"tile": 96, "n_frames": [5, 1], "lr": "$1e-3 * 2", "scale": "@tile", "minutes": 0.5, "patience": None}
    check_overrides(config_files("train"), values)


@pytest.mark.parametrize("key", ["network_def#norm", "crappifier#clip", "loss#sigma", "train#dataloader#pin_memory"])
def test_arguments_of_a_component_are_taken(key: str) -> None:
    check_overrides(config_files("train"), {key: 1})


@pytest.mark.parametrize(("preset", "key"), [("resunet_a", "pool"), ("rdresunet_a", "norm"), ("resunet_a", "norm")])
def test_arguments_that_a_network_hands_on_to_its_base_are_taken(preset: str, key: str) -> None:
    check_overrides(config_files("train", preset), {f"network_def#{key}": 1})
    with pytest.raises(InputError, match="there is no 'poll' in network_def"):
        check_overrides(config_files("train", preset), {"network_def#poll": 1})


def test_a_preset_with_an_unknown_id_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own, with comma.json"
    own.write_text('{"crappifier#clip": false, "epoch": 3}')
    with pytest.raises(InputError, match=r"own, with comma\.json: epoch: there is no 'epoch'; did you mean 'epochs'"):
        config_files("train", str(own))


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("epoch", r"--epoch: there is no 'epoch'; did you mean 'epochs'\?"),
        ("train#dataloader#batchsize", r"no 'batchsize' in train#dataloader; did you mean 'batch_size'\?"),
        ("crappifier#noises#7", "no '7' in crappifier#noises"),
        ("zzz", "there is no 'zzz'$"),
    ],
)
def test_other_ids_are_refused_with_the_nearest(key: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        check_overrides(config_files("train"), {key: 1})
