"""The bundle's folder, its presets, and the ids of its training config."""

from __future__ import annotations

from pathlib import Path

from pssr2_monai.bundle import NOT_SET, bundle_dir, configs_dir, preset_names, text_ids, training_ids


def test_the_folders_are_those_of_the_repository(project_root: Path) -> None:
    assert bundle_dir() == project_root / "bundle"
    assert configs_dir() == project_root / "configs"


def test_presets_are_named_by_their_files() -> None:
    assert {"2.5d", "denoise", "em", "resunet_small", "volume"} <= set(preset_names())
    assert preset_names() == sorted(path.stem for path in configs_dir().iterdir())


def test_ids_of_the_training_config_have_their_defaults() -> None:
    ids = training_ids()
    assert (ids["scale"], ids["tile"], ids["patience"]) == (4, 128, None)
    assert not NOT_SET & ids.keys()


def test_ids_whose_values_are_text_are_ids() -> None:
    assert text_ids() <= training_ids().keys() | {"dataset_dir", "calibration"}
    assert {"precision", "split", "stack", "pair_pattern"} <= text_ids()
    assert not {"tile", "device", "minutes"} & text_ids()
