"""The notebooks run from their first cell to their last, on tiny images and for seconds; they hold no outputs."""

from __future__ import annotations

import ast
import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch

from pssr2_monai.data import samples

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))

SMALL: dict[str, Any] = {
    "MINUTES": 0.02,
    "SETTINGS": {"tile": 32, "batch_size": 4, "num_workers": 0, "precision": "float32"},
    "SIZE": (5, 48, 48),
}
"""Values in the place of those of the cells tagged ``parameters``, where a notebook has the name."""


def read(name: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return notebook


def run(name: str) -> dict[str, Any]:
    """Run the code cells in the working directory; return the names that they have defined."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    for cell in read(name)["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name} {cell['id']}", "exec"), scope)
        if "parameters" in cell["metadata"].get("tags", ()):
            scope |= {key: value for key, value in SMALL.items() if key in scope}
    return scope


@pytest.fixture
def small_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, no network, and six sample images of 96 pixels a side."""

    def fail(cache: Path) -> None:
        raise OSError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samples, "_real_sections", fail)
    monkeypatch.setattr(samples, "generate_images", partial(samples.generate_images, count=6, side=96))
    monkeypatch.setattr(samples, "COUNT", 3)
    matplotlib.use("agg")


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str) -> None:
    before = torch.get_num_threads()
    run(name)
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_as_jupyter_and_colab_open_it(name: str) -> None:
    notebook = read(name)
    cells = notebook["cells"]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in cells}) == len(cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    assert cells[0]["source"][0].startswith("# ")
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in code) == 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_first_code_installs_the_package_where_it_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(cell for cell in read(name)["cells"] if cell["cell_type"] == "code")
    commands: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, check: commands.append(command[1:]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec("".join(first["source"]), {})
    assert commands == [["-m", "pip", "install", "--quiet", "pssr2-monai"]]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_need_nothing_but_what_the_package_installs(name: str) -> None:
    text = "\n".join("".join(cell["source"]) for cell in read(name)["cells"] if cell["cell_type"] == "code")
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    roots = {str(module).split(".")[0] for module in modules}
    standard = {"logging", "subprocess", "sys", "importlib", "pathlib"}
    assert roots - standard <= {"pssr2_monai", "matplotlib", "numpy", "scipy", "PIL"}
