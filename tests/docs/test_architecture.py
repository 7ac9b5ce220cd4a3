"""The map of the code names only rooms, files and functions that exist, and shows the floors that the tests keep."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md", "scripts/README.md")
PLACE = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|json|html|md|toml|txt))(?::([\w.]+))?`|`((?:[\w.-]+/)+)`")
"""`folder/file.py`, `folder/file.py:function`, `file.py:Class.method`, or `folder/`."""


def _named_in(path: Path) -> Iterator[str]:
    """What a module defines at its top, and the methods of its classes as ``Class.method``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef))
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES)
def test_every_place_on_the_page_exists(page: str) -> None:
    wrong, count = [], 0
    for file, name, folder in PLACE.findall((ROOT / page).read_text(encoding="utf-8")):
        candidates = [base / (file or folder) for base in (ROOT, ROOT / "pssr2_monai", (ROOT / page).parent)]
        path = next((candidate for candidate in candidates if candidate.exists()), None)
        if path is None or (name and name not in _named_in(path)):
            wrong.append(f"{file or folder}:{name}")
        count += 1
    assert not wrong
    assert count > 5


def test_floors_and_rooms_on_the_map_are_those_of_the_package() -> None:
    floors = runpy.run_path(str(ROOT / "tests" / "test_floors.py"))["FLOORS"]
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (.+) \|$", text, re.MULTILINE)
    assert tuple(tuple(re.findall(r"`(\w+)`", row)) for row in rows) == floors
    rooms = re.findall(r"^\| `(\w+)` \|", text.split("\n## The rooms")[1].split("\n## ")[0], re.MULTILINE)
    modules = {path.stem for path in (ROOT / "pssr2_monai").glob("*.py")}
    assert rooms == [room for floor in floors for room in floor if room not in modules]
