"""Every code block of README and of the documents runs unchanged, in the folder that ``world`` fills.

The blocks of a page run in order. A block that needs what a test machine lacks (a cluster, a GPU, a browser) has the
comment ``<!-- skip: next "why" -->`` above it; a JSON block with a title is written to the file of that name.
"""

from __future__ import annotations

import doctest
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Example, Region
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from pssr2_monai.cli.arguments import fire_words
from pssr2_monai.cli.main import main, without_imports
from pssr2_monai.cli.verbs import COMMANDS
from pssr2_monai.errors import UsageError
from pssr2_monai.training.config import check_overrides, config_files

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / folder / "README.md" for folder in (".", "bundle/docs", "scripts")]
PAGES = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = ("sh", "python", "json")
FENCE = re.compile(r"^```(\S+)", re.MULTILINE)


class FileParser(CodeBlockParser):
    """JSON blocks with a title, which represent a file."""

    language = "json"

    def __call__(self, document: Document) -> Iterable[Region]:
        for region in self.lexers(document):
            title = re.fullmatch(r'json title="(.+)"', region.lexemes["arguments"])
            if title:
                region.parsed, region.evaluator = (title[1], str(region.lexemes["source"])), self.evaluate
                yield region

    def evaluate(self, example: Example) -> None:
        name, text = example.parsed
        Path(name).write_text(text, encoding="utf-8")


def _run_shell(example: Example) -> None:
    """Run each line; calls of ``pssr2`` and ``python -m`` run in this process, which has loaded torch already."""
    for line in str(example.parsed).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        words, printed = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
        plain = not {">", "|", "&&"} & set(words)
        if words[:1] == ["pssr2"] and plain:
            with ExitStack() as stack:
                if printed is not None:
                    stack.enter_context(redirect_stdout(stack.enter_context(open(printed, "w", encoding="utf-8"))))
                exit_ = stack.enter_context(pytest.raises(SystemExit))
                main(words[1:])
            assert not exit_.value.code, line
        elif words[:2] == ["python", "-m"] and plain and printed is None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", words[2:])
                runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        elif words:
            path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            subprocess.run(["bash", "-c", line], check=True, env=os.environ | {"PATH": path})


PARSERS = [
    SkipParser(),
    FileParser(),
    CodeBlockParser("sh", _run_shell),
    PythonCodeBlockParser(doctest_optionflags=doctest.NORMALIZE_WHITESPACE),
]


def _with_blocks(pages: Iterable[Path]) -> list[Path]:
    return [page for page in pages if set(FENCE.findall(page.read_text(encoding="utf-8"))) & set(LANGUAGES)]


@pytest.mark.parametrize("page", _with_blocks(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page: Path, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.parent.parent.name == "bundle":  # the page says "from this bundle's folder"
        monkeypatch.chdir(world / "bundle")
    document = Document.parse(str(page), *PARSERS)
    run = 0
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue
        run += document.text.startswith("```", example.start)
    if not run:
        pytest.skip("every block of this page needs what this machine lacks")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for words in re.findall(r"`pssr2 ([^`]+)`|^pssr2 ([^>|\n]+)", text, re.MULTILINE):
        parts, _ = without_imports(shlex.split("".join(words), comments=True))
        name, *arguments = (part for part in parts if part not in ("...", "--help", "--json"))
        if name == "COMMAND" or name.startswith("--"):
            continue
        command = COMMANDS[name]
        try:
            checked = fire_words(command, arguments)
        except UsageError as error:
            if "must be given" not in str(error):
                pytest.fail(f"{words}: {error}")
            continue
        if command.ids is not None:
            ids = [word[2:].partition("=")[0] for word in checked]
            check_overrides(config_files("train"), dict.fromkeys(name for name in ids if name not in command.options))
