"""The error that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator


class InputError(ValueError):
    """A file, key or option that cannot be used; one line says which, what was found, and what to do.

    The command line prints it without a traceback; in Python it is an ordinary ``ValueError``.
    """


class UsageError(InputError):
    """An option that there is not, that is missing, or whose value is of the wrong type; the command ends with 2."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, then what caused it, and so on to the innermost: MONAI wraps what a config raises in its own errors."""
    cause: BaseException | None = error
    told: set[int] = set()
    while cause is not None and id(cause) not in told:  # an error may be raised from itself
        told.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def nearest(name: str, known: Iterable[str]) -> str:
    """The words ``; did you mean ...?`` for the known name that is most like this one, or nothing."""
    found = difflib.get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
