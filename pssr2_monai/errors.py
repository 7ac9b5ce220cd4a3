"""The error that a user can mend."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """A file, key or option that cannot be used; one line says which, what was found, and what to do.

    The command line prints it without a traceback; in Python it is an ordinary ``ValueError``.
    """
