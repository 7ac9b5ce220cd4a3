"""The ids that the bundle's page lists are those of the training config, with their defaults where these are plain."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pssr2_monai.training.config import check_overrides, config_files

ROOT = Path(__file__).resolve().parents[2]


def test_listed_ids_exist_with_their_defaults() -> None:
    text = (ROOT / "bundle" / "docs" / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## Ids")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", section, re.MULTILINE)
    config = json.loads((ROOT / "bundle" / "configs" / "train.json").read_text(encoding="utf-8"))
    listed, compared = [], 0
    for ids, defaults in rows:
        names, values = re.findall(r"`([^`]+)`", ids), defaults.split(", ")
        listed += names
        for name, value in zip(names, values, strict=False):
            if len(names) == len(values) and re.fullmatch(r"[\d.]+|true|false|none", value):
                assert config[name] == json.loads(value.replace("none", "null")), name
                compared += 1
    check_overrides(config_files("train"), dict.fromkeys(listed))
    assert compared > 20
