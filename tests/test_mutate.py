"""The script that changes modules: what it changes, and that tests which notice nothing are told."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = '''
"""Documentation."""
SIDE = 3

class Box:
    """More of it."""

    def volume(self, side: int = 2, *, open: bool = False) -> float:
        """Return it."""
        if side < 1 or open:
            raise ValueError(f"side {side - 1} is too small")
        self.note("x", strict=True)
        return side * SIDE
'''


@pytest.fixture(scope="module")
def mutate(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("mutate")


def test_what_is_changed(mutate: ModuleType) -> None:
    mutants = mutate.Mutants(ast.parse(SOURCE)).all
    assert sorted((mutant.function, mutant.what) for mutant in mutants) == [
        ("", "2 -> 3 in 2"),
        ("", "3 -> 4 in SIDE = 3"),
        ("", "False -> True in False"),
        ("Box.volume", "'x' -> 'x~' in self.note('x', strict=True)"),
        ("Box.volume", "-> And in side < 1 or open"),
        ("Box.volume", "1 -> 2 in side - 1"),
        ("Box.volume", "1 -> 2 in side < 1"),
        ("Box.volume", "Lt -> GtE in side < 1"),
        ("Box.volume", "Lt -> LtE in side < 1"),
        ("Box.volume", "Mult -> Div in side * SIDE"),
        ("Box.volume", "Sub -> Add in side - 1"),
        ("Box.volume", "drop self.note('x', strict=True)"),
        ("Box.volume", "not (side < 1 or open)"),
        ("Box.volume", "return None instead of side * SIDE"),
    ]


def test_a_function_does_what_the_changed_tree_says(mutate: ModuleType) -> None:
    source = "class Box:\n    @property\n    def side(self):\n        return 1 + 1\n"
    module = ModuleType("boxes")
    module.__file__ = "boxes.py"
    exec(source, vars(module))
    box = module.Box()
    tree = ast.parse(source)
    change = next(mutant for mutant in mutate.Mutants(tree).all if mutant.what.startswith("Add"))
    change.apply()
    mutate.exchange(module, "Box.side", tree)
    assert box.side == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the script forks, and reads /proc")
def test_mutants_of_a_module_are_caught_or_listed(
    run_python: Callable[..., Any], project_root: Path, tmp_path: Path
) -> None:
    tests = tmp_path / "test_one_line.py"
    tests.write_text(
        "from pssr2_monai.errors import one_line\ndef test_it():\n    assert one_line(ValueError('a\\n b')) == 'a b'\n"
    )
    script, module = project_root / "scripts" / "mutate.py", project_root / "pssr2_monai" / "errors.py"
    run = run_python(script, module, "--tests", tests, "--only", "one_line", cwd=project_root, OMP_NUM_THREADS="1")
    assert run.end() == 0, run.stderr
    *survivors, last = run.stdout.splitlines()[1:]
    count, caught = (int(cell) for cell in last.split("|")[2:4])
    assert 0 < caught < count == caught + len(survivors)
    assert all(line.startswith(f"pssr2_monai{os.sep}errors.py:") and "one_line" in line for line in survivors)
