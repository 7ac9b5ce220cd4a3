"""Print the public classes, functions and options of an installed `pssr` as JSON; its source is read, not run.

    python scripts/pssr_names.py PSSR_FOLDER > tests/docs/pssr-2.4.0.json

docs/pssr2.md must name all of them, which tests/docs/test_coming_from_pssr2.py checks. PSSR_FOLDER is the folder
``pssr`` in the site-packages of an environment that has the package.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from pathlib import Path

MODULES = ("crappifiers", "data", "models/resunet", "models/rdresunet", "models/swinir", "predict", "train", "util")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    print(json.dumps(names(parser.parse_args().folder), indent=1))


def names(folder: Path) -> dict[str, list[str]]:
    """Return the options of every public class and function by its name, and those of the command under ``pssr``.

    The fields of the napari widgets are under ``napari``.
    """
    exported = (folder / "models" / "__init__.py").read_text(encoding="utf-8")
    names: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.parse((folder / f"{module}.py").read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not module.startswith("models/") or node.name in exported:
                names[node.name] = _options(node)
    command = (folder / "__main__.py").read_text(encoding="utf-8")
    names["pssr"] = re.findall(r'add_argument\("-[\w-]+", "(--[\w-]+)"', command)
    widgets = (folder / "napari" / "widgets.py").read_text(encoding="utf-8")
    titles = re.findall(r'(?:name=|ObjectEdit\()"([A-Z][\w ]+)"', widgets)
    names["napari"] = [*titles, *re.findall(r"class (\w+Widget)\(PSSRWidget\)", widgets)]
    return names


def _options(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Return the parameters of a function, or of a class's constructor."""
    if isinstance(node, ast.ClassDef):
        makers = [
            item for item in node.body if isinstance(item, ast.FunctionDef) and item.name in ("__init__", "__new__")
        ]
        methods = [item.name for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "crappify"]
        return [name for maker in makers for name in _options(maker)] + methods
    arguments = node.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [item.arg for item in parameters if item is not None and item.arg not in ("self", "cls")]


if __name__ == "__main__":
    main()
