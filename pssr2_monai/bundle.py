"""The bundle's folder, its presets, and the ids of its training config, without importing MONAI."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

# Ids whose values are text, though it may look like a number.
TEXT = {"axes", "calibration", "pair_pattern", "scans", "split", "stack", "start"}
TEXT |= {"dataset_dir", "exclude", "extra_dir", "hr_dir", "include", "lr_dir", "masks"}
# Ids of the training config that the command sets itself.
NOT_SET = {"imports", "bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "resume", "initialize", "training", "run"}
_PACKAGE = Path(__file__).resolve().parent


def bundle_dir() -> Path:
    """Return the bundle's folder: inside the package if installed from a wheel, else next to it in the repository."""
    return _inside_or_next_to_package("bundle")


def configs_dir() -> Path:
    return _inside_or_next_to_package("configs")


def preset_names() -> list[str]:
    return sorted(path.stem for path in configs_dir().glob("*.json"))


def training_ids() -> dict[str, Any]:
    """Return the ids of the training config that are options of a training, with their defaults."""
    text = (bundle_dir() / "configs" / "train.json").read_text(encoding="utf-8")
    return {name: default for name, default in json.loads(text).items() if name not in NOT_SET}


def text_ids() -> set[str]:
    """Return those of them whose values are text."""
    text = {name for name, default in training_ids().items() if isinstance(default, str) and default[:1] not in "$@%"}
    return text | TEXT


def described_training_ids() -> list[tuple[list[str], str, str]]:
    """Return the rows of the bundle's table of ids that are options of a training: names, defaults and meaning."""
    text = (bundle_dir() / "docs" / "README.md").read_text(encoding="utf-8")
    rows = [row.replace("`", "").split(" | ") for row in re.findall(r"^\| (`.+) \|$", text, re.MULTILINE)]
    described = [(row[0].split(", "), *row[1:]) for row in rows if len(row) == 3]
    return [(names, default, meaning) for names, default, meaning in described if set(names) <= training_ids().keys()]


def _inside_or_next_to_package(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
