"""What may import what: the floors of CONTRIBUTING.md and the imports in the package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "pssr2_monai"


def _floors(project_root: Path) -> dict[str, int]:
    """The place of each module and package in the table, from the highest and leftmost on."""
    text = (project_root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [a-z]+ \| (`.*`) \|$", text, flags=re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) == len(set(names))
    return {name: place for place, name in enumerate(names)}


def _imports(path: Path) -> Iterator[str]:
    """The modules and packages of ours that a file imports, whether at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (each.name.split(".")[1] for each in node.names if each.name.startswith(f"{PACKAGE}."))


def test_every_module_imports_from_below_or_from_its_right_alone(project_root: Path) -> None:
    floors, home = _floors(project_root), project_root / PACKAGE
    found = {path.stem for path in home.glob("*.py")} | {path.parent.name for path in home.glob("*/__init__.py")}
    assert set(floors) == found - {"__init__"}
    wrong = [
        f"{path.relative_to(home)} imports {name}"
        for own in floors
        for path in ([home / f"{own}.py"] if (home / f"{own}.py").exists() else (home / own).rglob("*.py"))
        for name in _imports(path)
        if floors.get(name, -1) <= floors[own] and name != own
    ]
    assert wrong == []
