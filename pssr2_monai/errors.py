"""The error that a user can mend."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["InputError", "UsageError", "causes"]


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
