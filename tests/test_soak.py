"""The script that disturbs runs notices what is lost, wrong or left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def soak(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("soak")


def test_outputs_are_compared_by_all_their_bytes_and_what_is_left(soak: ModuleType, tmp_path: Path) -> None:
    work = soak.Soak.__new__(soak.Soak)
    work.scratch = tmp_path
    case = soak.Case("restore", lambda out: [], "out")
    (tmp_path / "out" / "inner").mkdir(parents=True)
    first, second = tmp_path / "out" / "a.tif", tmp_path / "out" / "inner" / "b.tif"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    expected = soak.content(tmp_path / "out")
    assert expected == {"a.tif": b"first", str(Path("inner", "b.tif")): b"second"}
    result = soak.Result("kill", "restore")
    work.compare(result, case, expected)
    assert (result.rounds, result.wrong, result.left) == (1, 0, 0)
    second.write_bytes(b"secons")
    work.compare(result, case, expected)
    second.unlink()
    (tmp_path / "c.tif.journal").write_text("{}")
    work.compare(result, case, expected)
    assert (result.rounds, result.wrong, result.left) == (3, 2, 1)
    assert result.notes[-2:] == [f"differs: ['{Path('inner', 'b.tif')}']", "left: ['c.tif.journal']"]
    assert soak.line(result).startswith("| kill | restore | 0 | 3 | 0 | 2 | 1 | 0.0 s | 0 MB |\n    differs")


def test_weights_are_compared_by_their_tensors_and_score(soak: ModuleType, tmp_path: Path) -> None:
    def content(**changed: Any) -> dict[str, Any]:
        saved = {"model": {"w": torch.ones(2)}, "best_score": 1.0, "best_epoch": 2, "other": 3} | changed
        torch.save(saved, tmp_path / "last.pt")
        return dict(soak.content(tmp_path))

    assert content() == content(other=4)
    assert content() != content(best_score=2.0)
    assert content() != content(model={"w": torch.tensor([1.0, 1.5])})
