"""The house: what may import what, and where files and verbs live."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "pssr2_monai"
MAX_FILE_LINES, MIN_FILE_LINES, MAX_FUNCTION_LINES = 400, 60, 60
FLOORS = (
    ("cli",),
    ("napari",),
    ("evaluation",),
    ("training",),
    ("export", "fidelity", "calibration"),
    ("restoration", "data"),
    ("networks", "crappify"),
    ("images",),
    ("registered_names", "described"),
    ("bundle", "errors", "lazy_monai", "machine", "progress", "randomness"),
)
"""Rooms from the highest floor to the lowest, the stones; each may import from lower floors and itself."""

VERBS = {
    "train": "training",
    "restore": "restoration",
    "calibrate": "calibration",
    "register": "calibration.registration",
    "evaluate": "evaluation",
    "export": "export",
}
"""The room of each verb: the verb is a function in the file of its name there."""

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


@pytest.fixture(scope="module")
def package(project_root: Path) -> Path:
    return project_root / PACKAGE


def _files(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def _room(package: Path, path: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[str]:
    """The rooms that a file imports, whether at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            yield from (name.name for name in node.names if name.name in FLOOR)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith(f"{PACKAGE}."))


def imported_rooms(package: Path) -> dict[str, set[str]]:
    """For each room, the other rooms that its files import."""
    rooms: dict[str, set[str]] = {room: set() for room in FLOOR}
    for path in _files(package):
        room = _room(package, path)
        if room != "__init__":
            rooms[room] |= set(_imports(path)) - {room}
    return rooms


def test_the_package_has_the_rooms_and_stones_of_the_plan_and_no_others(package: Path) -> None:
    assert {_room(package, path) for path in _files(package)} - {"__init__"} == set(FLOOR)


def test_rooms_import_from_lower_floors_alone(package: Path) -> None:
    upward = [
        f"{room} imports {other}"
        for room, others in imported_rooms(package).items()
        for other in others
        if FLOOR[other] <= FLOOR[room]
    ]
    assert upward == []


def test_no_file_name_occurs_twice(package: Path) -> None:
    names = Counter(path.name for path in _files(package) if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(("verb", "room"), VERBS.items())
def test_a_verb_lives_in_the_file_of_its_name(package: Path, verb: str, room: str) -> None:
    tree = ast.parse((package / room.replace(".", "/") / f"{verb}.py").read_text(encoding="utf-8"))
    assert verb in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_every_module_has_its_test_file(package: Path, project_root: Path) -> None:
    modules = [path.relative_to(package) for path in _files(package) if path.name != "__init__.py"]
    tests = project_root / "tests"
    assert [str(path) for path in modules if not (tests / path.parent / f"test_{path.name}").is_file()] == []


def test_a_file_holds_one_idea(package: Path) -> None:
    """Stones and ``__init__.py`` may be small; for anything else a small file is part of its neighbour."""
    lines = {path.relative_to(package): len(path.read_text(encoding="utf-8").splitlines()) for path in _files(package)}
    rooms = {path: count for path, count in lines.items() if len(path.parts) > 1 and path.name != "__init__.py"}
    assert {str(path): count for path, count in lines.items() if count > MAX_FILE_LINES} == {}
    assert {str(path): count for path, count in rooms.items() if count < MIN_FILE_LINES} == {}


def test_a_function_fits_a_screen(package: Path) -> None:
    long = {
        f"{path.relative_to(package)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in _files(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    }
    assert long == {}
