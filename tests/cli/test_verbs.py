"""`pssr2 napari`: what it is told to open, and what it says where it cannot."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pssr2_monai.cli import verbs
from pssr2_monai.cli.main import main


def test_any_number_of_files_is_taken_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("napari")
    opened: list[Any] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("napari.run", lambda: opened.append("run"))
    monkeypatch.setattr("pssr2_monai.napari.viewer.open_viewer", lambda files: opened.append(files))
    for words in ([], ["1e3", "a,b.tif", "[x].tif"]):
        with pytest.raises(SystemExit) as exit_:
            main(["napari", *words])
        assert exit_.value.code == 0
    assert opened == [(), "run", ("1e3", "a,b.tif", "[x].tif"), "run"]


@pytest.mark.parametrize(
    ("missing", "display", "told"),
    [(True, ":0", "pip install 'pssr2-monai[napari]'"), (False, "", "there is no screen")],
)
def test_what_is_missing_is_told_in_one_line(
    missing: bool, display: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verbs, "find_spec", lambda name: None if missing else object())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SystemExit) as exit_:
        main(["napari", "scan.tif"])
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_nothing_else_imports_napari() -> None:
    code = (
        "import sys, pkgutil, importlib, pssr2_monai\n"
        "for each in pkgutil.walk_packages(pssr2_monai.__path__, 'pssr2_monai.'):\n"
        "    if not each.name.startswith('pssr2_monai.napari') and not each.name.endswith('__main__'):\n"
        "        importlib.import_module(each.name)\n"
        "print(sorted({'napari', 'qtpy', 'magicgui', 'PySide6'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("[]")
