"""Commands that need an extra name the pip command that installs it; and the checks of a wheel before a release."""

from __future__ import annotations

import re
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pssr2_monai.cli.main import main
from pssr2_monai.cli.verbs import COMMANDS

PACKAGES = {
    "czi": ["pylibCZIrw"],
    "mrc": ["mrcfile"],
    "nd2": ["nd2"],
    "lif": ["liffile"],
    "openvino": ["openvino", "nncf"],
    "dask": ["distributed"],
    "export": ["onnx", "onnxscript", "onnxruntime"],
    "bioimageio": ["bioimageio.core"],
    "napari": ["napari"],
}
"""The packages that each extra provides."""


@pytest.fixture(scope="module")
def wheel(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The script that checks a wheel before a release."""
    return load_script("check_wheel")


@pytest.mark.parametrize("extra", PACKAGES)
def test_a_missing_extra_is_named_with_its_pip_command(
    extra: str,
    wheel: ModuleType,
    hr_folder: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word.format(scans=hr_folder, weights=tiny_weights) for word in wheel.EXTRAS[extra]]
    if words[0] not in COMMANDS:
        pytest.skip(f"there is no command {words[0]}")
    monkeypatch.chdir(tmp_path)
    scans = ("scan.czi", "scan.mrc", "scan.nd2", "scan.lif")
    for name in scans:
        Path(name).write_bytes(b"not an image, but no reader gets to it")
    for package in PACKAGES[extra]:
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails, as if it were not installed
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert wheel.wrong_answer(extra, int(str(exit_.value.code)), capsys.readouterr().err) == []
    assert {path.name for path in tmp_path.iterdir()} <= set(scans)


def test_every_extra_for_users_is_tried(wheel: ModuleType, project_root: Path) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    # MONAI itself reports a missing mlflow, in its experiment tracking.
    for_users = set(project["optional-dependencies"]) - {"dev", "docs", "mlflow"}
    assert for_users == set(wheel.EXTRAS) == set(PACKAGES)


@pytest.mark.parametrize(
    ("status", "message", "right"),
    [
        (1, "pssr2: needs it; pip install 'pssr2-monai[czi]'\n", True),
        (1, 'a warning\npssr2: needs it; pip install "pssr2-monai[czi]"', True),
        (0, "pssr2: needs it; pip install 'pssr2-monai[czi]'", False),
        (1, "pssr2: needs it; pip install 'pssr2-monai[mrc]'", False),
        (1, "ModuleNotFoundError: no pylibCZIrw; pip install 'pssr2-monai[czi]'", False),
        (1, "", False),
    ],
)
def test_an_answer_is_right_if_it_is_one_line_with_the_command(
    status: int, message: str, right: bool, wheel: ModuleType
) -> None:
    assert (wheel.wrong_answer("czi", status, message) == []) is right


def test_what_a_wheel_lacks_or_should_not_contain_is_reported(
    wheel: ModuleType, project_root: Path, tmp_path: Path
) -> None:
    left = ["pssr2_monai/bundle/models/last.pt", "pssr2_monai/bundle/eval/train.log", "tests/conftest.py"]
    kept = [*wheel.NEEDED[1:], "pssr2_monai/evaluation/measures.py"]
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as archive:
        for name in (*kept, *left):
            archive.writestr(name, "")
    wrong = wheel.wrong_content(tmp_path / "some.whl")
    assert wrong == [f"lacks {wheel.NEEDED[0]}", *(f"contains {name}" for name in sorted(left))]
    # The needed files exist where the build takes them from.
    moved = {"pssr2_monai/bundle/": "bundle/", "pssr2_monai/configs/": "configs/"}
    for name in wheel.NEEDED:
        source = re.sub("|".join(moved), lambda match: moved[match[0]], name)
        assert (project_root / source).is_file(), source
