"""Saved files name classes by registered names and never by module paths, so that they outlive moves of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pssr2_monai
from pssr2_monai import registered_names
from pssr2_monai.bundle import bundle_dir, configs_dir
from pssr2_monai.calibration.fitted_preset import Calibration, noises_of_preset, preset_of
from pssr2_monai.calibration.noise_model import STRONG, NoiseModel
from pssr2_monai.crappify import NOISES
from pssr2_monai.networks.weights import load_weights, read_checkpoint
from pssr2_monai.registered_names import MONAI_NETWORKS, names
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.restore_file import network_settings

MODULE_PATH = re.compile(r"pssr2_monai\.[a-z_]")


@pytest.mark.parametrize("kind", registered_names.ROOMS)
def test_the_package_resolves_every_registered_name(kind: registered_names.Kind) -> None:
    for name in set(names(kind)) - set(MONAI_NETWORKS):
        assert getattr(pssr2_monai, name) is registered_names.find(kind, name)


def test_records_of_trainings_hold_no_module_path(tiny_weights: Path) -> None:
    text = read_checkpoint(tiny_weights)["record"]["json"]
    assert not MODULE_PATH.search(text)
    fields = json.loads(text)
    assert fields["network"]["_target_"] == "ResUNet"
    assert fields["crappifier"]["_target_"] == "Crappify"
    assert [noise["_target_"] for noise in fields["crappifier"]["noises"]] == ["PoissonNoise"]


def test_journals_of_restoring_hold_no_module_path(tiny_weights: Path) -> None:
    network, record = load_weights(tiny_weights)
    assert not MODULE_PATH.search(json.dumps(network_settings(network, record, SeamlessInferer(window=64))))


def test_presets_of_calibrations_hold_no_module_path() -> None:
    fitted = [name for name, noise in NOISES.items() if noise.fitting]
    model = NoiseModel(tuple(fitted))
    values = {unknown.key: 0.5 for unknown in model.unknowns}
    entries = noises_of_preset(model, values, values, 2.0, dict.fromkeys(STRONG, (0.5, 2.0)), 0.1)
    text = json.dumps(preset_of(Calibration((), {}, {}, entries), 4, "bilinear", "percentile"))
    assert text.count("pssr2_monai.") == len(fitted) + 1  # the detector takes the black level off
    assert not MODULE_PATH.search(text)


@pytest.mark.parametrize("file", sorted(configs_dir().glob("*.json")), ids=lambda file: file.stem)
def test_shipped_presets_hold_no_module_path(file: Path) -> None:
    assert not MODULE_PATH.search(file.read_text(encoding="utf-8"))


def test_the_bundle_names_what_a_record_or_a_preset_takes_over_by_short_names() -> None:
    config = json.loads((bundle_dir() / "configs" / "train.json").read_text(encoding="utf-8"))
    for section in ("network_def", "crappifier", "loss"):
        assert not MODULE_PATH.search(json.dumps(config[section]))
