"""What functions and dataclasses say of their parameters in their docstrings: options of the command and the plugin."""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

from pssr2_monai.errors import UsageError

PACKAGE = Path(__file__).resolve().parent
KINDS = {"bool": bool, "int": int, "float": float, "list": list, "Sequence": list, "str": str, "Path": str}
"""How values are read, by the names in an annotation; a parameter with none of them is not an option."""
METAVARS = {int: "N", float: "X", list: "LIST"}
YES, NO = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True)
class Option:
    """An argument of a verb."""

    name: str
    kinds: frozenset[type]  # that its value may have
    required: bool
    default: Any
    meaning: str

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def usage(self) -> str:
        if bool in self.kinds:
            return f"[{self.flag}]"
        metavar = next((METAVARS[kind] for kind in METAVARS if kind in self.kinds), self.name.upper())
        metavar += "|NAME" if {int, str} <= self.kinds else ""
        shown = metavar if self.default in (None, "") or " " in str(self.default) else self.default
        return f"{self.flag} {shown}" if self.required else f"[{self.flag} {shown}]"

    def read(self, text: str) -> Any:
        """Return the value that is written so; a text that is none of the right kind is a UsageError."""
        readers = [(reader, description) for kind, reader, description in READERS if kind in self.kinds]
        for reader, _ in readers:
            with suppress(ValueError):
                return reader(text)
        expected = " or ".join(description for _, description in readers)
        raise UsageError(f"--{self.name} {text}: is not {expected}")

    @property
    def line(self) -> str:
        obvious = self.default is None or self.default is False or self.default == "" or "default" in self.meaning
        return self.meaning if obvious else f"{self.meaning} (default: {self.default})"


class Described:
    """A function or dataclass, and what its docstring says of its parameters; ``names`` are options, or else all."""

    def __init__(self, definition: Any, module: Sequence[ast.stmt], names: Sequence[str] = ()) -> None:
        self.definition, self.module, self.names = definition, module, names
        text = f"{ast.get_docstring(definition) or ''}\n"
        self.paragraphs = [
            _plain(part) for part in re.split(r"^\w+:\n", text, flags=re.M)[0].split("\n\n") if part.strip()
        ]
        sections = re.findall(r"^(?:Args|Attributes):\n((?: .*\n|\n)*)", text, re.M)
        entries = re.findall(r"^ {4}\**(\w+): (.*\n(?: {5}.*\n)*)", "".join(sections), re.M)
        self.meanings = {name: _entry(meaning) for name, meaning in entries}

    @classmethod
    def in_package(cls, source: str) -> Described:
        place, *names = source.split()
        module, _, name = place.partition(":")
        statements = _statements(module)
        definition = next(statement for statement in statements if getattr(statement, "name", None) == name)
        return cls(definition, statements, names)

    def options(self) -> Iterator[Option]:
        for name, annotation, default in self._parameters():
            kinds = {KINDS[kind] for kind in _type_names(annotation) if kind in KINDS}
            if kinds and (not self.names or name in self.names):
                kinds -= {list} if str in kinds else set()  # such text is split by the function
                value = None if default is None else _value(default, self.module)
                yield Option(name, frozenset(kinds), default is None, value, self.meanings.get(name, ""))

    def variadic(self) -> dict[str, str]:
        """Return the meanings of ``*name`` and ``**name``."""
        arguments = getattr(self.definition, "args", None)
        variadic = {"*": arguments.vararg, "**": arguments.kwarg} if arguments else {}
        return {f"{stars}{arg.arg}": self.meanings.get(arg.arg, "") for stars, arg in variadic.items() if arg}

    def _parameters(self) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
        if isinstance(self.definition, ast.ClassDef):
            fields = (field for field in self.definition.body if isinstance(field, ast.AnnAssign))
            yield from ((ast.unparse(field.target), field.annotation, field.value) for field in fields)
            return
        arguments = self.definition.args
        required = [None] * (len(arguments.args) - len(arguments.defaults))
        defaults = [*required, *arguments.defaults, *arguments.kw_defaults]
        for argument, default in zip([*arguments.args, *arguments.kwonlyargs], defaults, strict=True):
            yield argument.arg, argument.annotation, default


def _statements(module: str) -> list[ast.stmt]:
    return ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")).body


def _type_names(annotation: ast.expr) -> set[str]:
    """The types of a union, or the one type; ``list`` for ``list[int]``."""
    if isinstance(annotation, ast.BinOp):
        return _type_names(annotation.left) | _type_names(annotation.right)
    return {ast.unparse(annotation.value if isinstance(annotation, ast.Subscript) else annotation)}


def _value(default: ast.expr, module: Sequence[ast.stmt]) -> Any:
    """The value of a default: a literal, or a constant of the module or one that it imports."""
    if not isinstance(default, ast.Name):
        return ast.literal_eval(default)
    for statement in module:
        if isinstance(statement, ast.Assign) and default.id in map(ast.unparse, statement.targets):
            return ast.literal_eval(statement.value)
        if isinstance(statement, ast.ImportFrom) and default.id in [alias.name for alias in statement.names]:
            return _value(default, _statements(str(statement.module).partition(".")[2]))
    raise LookupError(f"{default.id}: is not a constant")


def _plain(text: str) -> str:
    # One line, without marks of code and references to it.
    return " ".join(re.sub(r" \(see\s[^)]*`\)", "", text).replace("`", "").split())


def _entry(text: str) -> str:
    # Begun in lower case, a single sentence without its full stop.
    line = _plain(text)
    line = line if ". " in line or line.endswith("...") else line.removesuffix(".")
    return line[0].lower() + line[1:] if re.match(r"[A-Z][a-z]+\b", line) else line


def text_value(text: str) -> str:
    # "~" at the start of each of several paths separated by commas is not expanded by every shell.
    return ",".join(os.path.expanduser(part) for part in text.split(","))


def _switch(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise ValueError
    return text.lower() in YES


def _whole(text: str) -> int:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    number = float(text)  # 1e3
    if not number.is_integer():
        raise ValueError
    return int(number)


def _number(text: str) -> float:
    number = float(text)
    if math.isnan(number):
        raise ValueError
    return number


def _list(text: str) -> list[Any]:
    value = DefaultParseValue(text)
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return list(value)


READERS: tuple[tuple[type, Callable[[str], Any], str], ...] = (  # of each type, with its name in messages
    (bool, _switch, "true or false"),
    (int, _whole, "a whole number"),
    (float, _number, "a number"),
    (list, _list, "a list such as [1,4,4]"),
    (str, text_value, "text"),
)


def described(*sources: str) -> dict[str, Option]:
    """Return the options of functions and dataclasses, ``module:name`` in the package; see ``Described.in_package``."""
    return {option.name: option for source in sources for option in Described.in_package(source).options()}
