"""What every exported file has: a function from images to images, and a record."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["RECORD", "Run", "text"]

RECORD = "record.json"
"""The name of the record inside a file: an extra file of torch's formats, a property of ONNX's metadata."""

Run = Callable[[Tensor], Tensor]


def text(found: str | bytes) -> str:
    """What torch gives for an extra file, which it was given as a string."""
    return found.decode() if isinstance(found, bytes) else found
