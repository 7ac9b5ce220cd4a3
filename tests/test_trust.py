"""What the package never does with files of strangers; the suite of what they can do is ``pytest -m trust``."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

RUNS_TEXT = {"eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
UNPICKLES = {"pickle.load", "pickle.loads", "joblib.load", "yaml.load", "marshal.loads", "shelve.open"}
NETWORK = ("urllib", "requests", "http", "socket", "ftplib", "aiohttp", "httpx")


def _trees(project_root: Path) -> list[tuple[Path, ast.AST]]:
    files = sorted((project_root / "pssr2_monai").rglob("*.py"))
    return [(file, ast.parse(file.read_text(encoding="utf-8"))) for file in files]


@pytest.mark.trust
def test_nothing_runs_text_starts_a_shell_or_unpickles(project_root: Path) -> None:
    found = []
    for file, tree in _trees(project_root):
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name, options = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
            if name in RUNS_TEXT | UNPICKLES or options.get("shell", "False") != "False":
                found.append(f"{file.name}: {ast.unparse(call)}")
            if name == "torch.load" and options.get("weights_only") != "True":
                found.append(f"{file.name}: {ast.unparse(call)}")
            if name in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False":
                found.append(f"{file.name}: {ast.unparse(call)}")
    assert found == []


@pytest.mark.trust
def test_nothing_but_the_samples_uses_the_network(project_root: Path) -> None:
    users = set()
    for file, tree in _trees(project_root):
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in NETWORK for name in names) or "download_url" in ast.dump(node)[:200]:
                users.add(file.name)
    assert users <= {"samples.py"}
