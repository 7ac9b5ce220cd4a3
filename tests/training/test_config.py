"""Configs, presets and the check of overrides."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pssr2_monai.bundle import bundle_dir
from pssr2_monai.errors import InputError, UsageError
from pssr2_monai.training.config import MOVED_IDS, check_overrides, config_files


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


@pytest.mark.parametrize("clip", [False, {"below": 0.1, "above": [0.5, 4]}])
def test_where_noise_is_clipped_is_an_option_whatever_a_preset_has(clip: object) -> None:
    check_overrides(config_files("train", "fluorescence"), {"crappifier#clip": clip})


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


MOVED = {
    "train#preprocessing#transforms#0#cache_mb": "preprocessing#load#cache_mb",
    "validate#preprocessing#transforms#0#_target_": "preprocessing#load#_target_",
    "validate#preprocessing#transforms#1#crappifier": "preprocessing#crappify#crappifier",
    "train::preprocessing::transforms::2::n_frames": "preprocessing#central_frames#n_frames",
    "train#preprocessing#transforms#3#track_meta": "preprocessing#to_tensors#track_meta",
    "train#prepare_loaded": "train#prepare_batch",
    "early_stop#_disabled_": "patience",
    "early_stop#trainer": "patience",
    "early_stop#score_function": "early_stop#key_metric",
    **{f"training#{number}": f"train#handlers#4#handlers#{number}" for number in range(6)},
    **{f"training#{number}": "training" for number in range(6, 10)},
    "validate#additional_metrics#val_nrmse#metric_fn": "validate#additional_metrics#val_nrmse",
    "validate#additional_metrics#val_nrmse#metric_fn#metric": "validate#additional_metrics#val_nrmse",
    "validate#additional_metrics#val_nrmse#metric_fn#normalise": "measure#normalise",
    "validate#additional_metrics#val_ms_ssim#output_transform": "metric_handler#output_transform",
    "evaluator#axes": "options#axes",
    "evaluator#overwrite": "options#overwrite",
    "evaluator#skip_bad": "options#skip_bad",
}


def _config_with(key: str) -> list[str]:
    """The configs of the bundle that hold an id."""
    if key.startswith("options"):
        return config_files("inference")
    evaluated = key.startswith(("measure", "metric_handler", "validate#additional_metrics"))
    return config_files("train") + (config_files("evaluate") if evaluated else [])


@pytest.mark.parametrize("old", MOVED)
def test_moved_ids_are_refused_with_the_new_one(old: str, tmp_path: Path) -> None:
    new = MOVED[old]
    with pytest.raises(UsageError, match=rf"^--{old}: is now {new}; set that$"):
        check_overrides(_config_with(new), {old: "$None"})
    check_overrides(_config_with(new), {new: "$None"})
    preset = tmp_path / "old.json"
    preset.write_text(json.dumps({old: None}))
    with pytest.raises(InputError, match=rf"old\.json: {old}: is now {new}"):
        config_files("train", str(preset))


def test_each_moved_id_has_a_test() -> None:
    written = [key.replace("::", "#") for key in MOVED]
    assert [pattern for pattern in MOVED_IDS if not any(re.fullmatch(pattern, key) for key in written)] == []


@pytest.mark.parametrize(
    "key", ["train#preprocessing#transforms#0#random_position", "validate#additional_metrics#val_psnr#output_transform"]
)
def test_ids_next_to_moved_ones_are_taken(key: str) -> None:
    check_overrides(config_files("train"), {key: "$None"})
