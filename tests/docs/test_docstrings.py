"""Every example in a docstring of the package runs unchanged, in the folder that ``world`` fills."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import pssr2_monai
from pssr2_monai import machine, registered_names

PACKAGE = Path(pssr2_monai.__file__).parent
WITH_EXAMPLES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    # OpenVINO loads its own kernels, so its tests run in a process of their own.
    if ">>> " in path.read_text(encoding="utf-8") and path.name != "openvino_network.py"
)


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_run(path: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 1)  # no workers next to this large process
    registered = {kind: dict(known) for kind, known in registered_names._registered.items()}
    monkeypatch.setattr(
        registered_names, "_registered", registered
    )  # what an example registers is forgotten afterwards
    words = path.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(words).removesuffix(".__init__"))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    output: list[str] = []
    for example in doctest.DocTestFinder().find(module):
        runner.run(example, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)
    assert runner.tries > 0


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_example_is_skipped(path: Path) -> None:
    assert "+SKIP" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in pssr2_monai.__all__ if name != "InputError"])
def test_every_public_name_has_an_example(name: str) -> None:
    tests = doctest.DocTestFinder(recurse=False).find(getattr(pssr2_monai, name), name)
    assert [test for test in tests if test.examples]
