"""The error that a user can correct, and a check that comes before any work: whether outputs can be written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


class InputError(ValueError):
    """A file, key or option that cannot be used; its message names it, what was found and what to do, in one line.

    The command line prints it without a traceback; in Python it is an ordinary ``ValueError``.
    """


class UsageError(InputError):
    """An unknown or missing option, or a value of the wrong type; the exit status of the command is 2."""


def check_folder(folder: Path) -> None:
    """Check that files can be written into a folder, which may have to be created, without leaving anything there."""
    folder = folder.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing}: is a file in the way of what is written; move it, or give another folder")
    try:
        with TemporaryDirectory(prefix=".pssr2", dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{folder}: cannot be written to ({reason}); give another folder") from None


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, down to the innermost: MONAI wraps what a config raises in errors of its own."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:  # an error may be raised from itself
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def nearest(name: str, known: Iterable[str]) -> str:
    """The words ``; did you mean ...?`` with the known name most similar to this one, or an empty string."""
    matches = difflib.get_close_matches(name, [str(candidate) for candidate in known], n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def printable(text: str) -> str:
    """Return text with escapes in the place of control characters, which a file may have put into a message."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def cell(value: Any) -> Any:
    """Return a value for a table as CSV; text that a spreadsheet would take for a formula begins with an apostrophe."""
    formula = isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    return f"'{value}" if formula else value


def one_line(error: BaseException, limit: int = 160) -> str:
    """The message of an error in one line of at most ``limit`` characters, or its type if it has no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
