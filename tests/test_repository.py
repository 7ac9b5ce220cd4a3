"""Files around the package: workflows, containers, the conda recipe and the citation agree with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pssr2_monai import __version__
from pssr2_monai.networks.weights import BUNDLED

CONDA_NAMES = {
    "torch": "pytorch",
    "pytorch-ignite": "ignite",
    "matplotlib": "matplotlib-base",
    **dict.fromkeys(("itk-core", "itk-io", "itk-registration"), "itk"),
}
"""Packages that conda-forge has under another name."""


@pytest.fixture(scope="module")
def project(project_root: Path) -> dict[str, Any]:
    content = tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(content["project"])


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_conda_recipe_requires_what_the_package_requires(project_root: Path, project: dict[str, Any]) -> None:
    recipe = read_yaml(project_root / "recipe" / "recipe.yaml")
    parts = [re.fullmatch(r"([\w-]+)(>=.+)", requirement) for requirement in project["dependencies"]]
    expected = {f"{CONDA_NAMES.get(part[1], part[1])} {part[2]}" for part in parts if part is not None}
    assert len(parts) == len(project["dependencies"]) == len(expected) + 2, "itk is one package of three"
    assert set(recipe["requirements"]["run"]) == expected | {f"python {project['requires-python']}"}
    name, target = recipe["build"]["python"]["entry_points"][0].split(" = ")
    assert {name: target} == project["scripts"]


def test_every_version_is_that_of_the_package(project_root: Path) -> None:
    assert read_yaml(project_root / "recipe" / "recipe.yaml")["context"]["version"] == __version__
    assert str(read_yaml(project_root / "CITATION.cff")["version"]) == __version__


def test_one_release_of_torch_is_installed_everywhere(project_root: Path) -> None:
    files = ("constraints.txt", "Makefile", "README.md", "docs/index.md", "scripts/check_wheel.py")
    texts = [(project_root / file).read_text(encoding="utf-8") for file in (*files, ".github/workflows/checks.yml")]
    assert [set(re.findall(r"\btorch==([\d.]+\d)", text)) for text in texts] == [{"2.13.0"}] * len(texts)


def test_extras_that_are_installed_exist(project_root: Path, project: dict[str, Any]) -> None:
    workflow = (project_root / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8")
    makefile = (project_root / "Makefile").read_text(encoding="utf-8")
    in_workflow, in_makefile = (re.findall(r"\.\[([\w,]+)\]", text) for text in (workflow, makefile))
    assert len(in_workflow) == 1
    assert set(in_workflow) < set(in_makefile)
    in_makefile += re.findall(r"^EXTRAS := (.+)$", makefile, re.M)
    assert {extra for extras in in_makefile for extra in extras.split(",")} <= set(project["optional-dependencies"])
    defaults = [
        re.findall(r"(?i)extras=(?:\$\{3:-)?([\w,]+)\}?$", (project_root / file).read_text(encoding="utf-8"), re.M)
        for file in ("Dockerfile", "containers/pssr2.def", "containers/install.sh")
    ]
    assert defaults == [["czi,mrc,nd2,lif"]] * 3


def test_containers_are_built_from_the_same_files_by_the_same_steps(project_root: Path) -> None:
    ignore = (project_root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    needed = {line[1:] for line in ignore if line.startswith("!") and "/" not in line}
    definition = (project_root / "containers" / "pssr2.def").read_text(encoding="utf-8")
    assert {source for source, target in re.findall(r"^    (\S+) /source/(\S+)$", definition, re.M)} == needed
    assert all((project_root / name).exists() for name in needed)
    models = {line.removeprefix("!bundle/models/") for line in ignore if line.startswith("!bundle/models/")}
    assert models == set(BUNDLED.values())
    for text in (definition, (project_root / "Dockerfile").read_text(encoding="utf-8")):
        assert "sh containers/install.sh /opt/pssr2 " in text
        assert len(re.findall(r"(?i)^from:? python:(?:3\.11|\$\{PYTHON\})-slim", text, re.M)) == 2


def test_actions_are_pinned_to_commits_and_may_read_alone(project_root: Path) -> None:
    workflows = sorted((project_root / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in workflows] == ["checks", "release"]
    for path in workflows:
        content = read_yaml(path)
        assert content["permissions"] == {"contents": "read"}
        for name, job in content["jobs"].items():
            assert job.get("permissions") in (None, {"id-token": "write"}), name
            uses = [step["uses"] for step in job["steps"] if "uses" in step]
            assert [action for action in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []
    publish = read_yaml(workflows[1])["jobs"]["publish"]
    assert (publish["environment"], publish["needs"]) == ("pypi", "build")
    assert "vars.PUBLISH == 'true'" in publish["if"]


def test_forms_ask_for_something(project_root: Path) -> None:
    forms = [path for path in (project_root / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 4
    for form in map(read_yaml, forms):
        assert any(field.get("validations", {}).get("required") for field in form["body"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="containers run on Linux")
def test_the_check_of_containers_passes_here(project_root: Path, tmp_path: Path) -> None:
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(paths), "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(project_root)
    check = project_root / "containers" / "check.sh"
    done = subprocess.run(
        ["sh", str(check)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "restored.tif" in done.stdout
    assert list(tmp_path.iterdir()) == []
