"""The page on `pssr` 2.4.0 names all its classes, functions and options, and the names of this package exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from pydoc import locate

import pytest

from pssr2_monai.training.config import check_overrides, config_files

HERE = Path(__file__).parent
NAMES: dict[str, list[str]] = json.loads((HERE / "pssr-2.4.0.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page() -> str:
    return (HERE.parents[1] / "docs" / "pssr2.md").read_text(encoding="utf-8")


def _section_of(owner: str, page: str) -> str:
    """Return the section of the page whose tables name a class or function."""
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    return next((part for part in sections if re.search(rf"^\|[^|]*`{owner}`", part, re.MULTILINE)), "")


@pytest.mark.parametrize("owner", NAMES)
def test_page_names_all_of(owner: str, page: str) -> None:
    section = {"pssr": "| `pssr` | here", "napari": "`TrainWidget`"}.get(owner)
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    text = next(part for part in parts if section in part) if section else _section_of(owner, page)
    assert text, f"{owner} is in no table"
    left = "\n".join(line.rpartition(" | ")[0] or line for line in text.splitlines())
    missing = [
        option for option in NAMES[owner] if not re.search(rf"`[^`]*(?<![\w-]){re.escape(option)}\b[^`]*`", left)
    ]
    assert not missing, f"{owner}: {missing}"


def test_names_here_exist(page: str) -> None:
    dotted = set(re.findall(r"`(pssr2_monai\.[\w.]+)", page))
    assert len(dotted) > 10
    assert not [name for name in dotted if locate(name) is None]


def test_settings_here_exist(page: str) -> None:
    """The ids that come first in the right column of the tables on data sets and training."""
    sections = [
        part for part in re.split(r"^## ", page, flags=re.MULTILINE) if part.startswith(("Data sets", "Training"))
    ]
    ids = {name for part in sections for name in re.findall(r"\| `([a-z_]+)`[^|]*\|$", part, re.MULTILINE)}
    assert len(ids) > 15
    check_overrides(config_files("train"), dict.fromkeys(ids))


def test_names_are_those_of_the_installed_original() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    installed = list((cache / "pssr2_monai" / "pssr==2.4.0").glob("lib/python3*/site-packages/pssr/data.py"))
    if not installed:
        pytest.skip("pssr 2.4.0 is not installed where the benchmarks put it")
    script = HERE.parents[1] / "scripts" / "pssr_names.py"
    listed = subprocess.run([sys.executable, script, installed[0].parent], check=True, capture_output=True, text=True)
    assert json.loads(listed.stdout) == NAMES
