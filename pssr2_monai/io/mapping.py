"""Raw pixels within a file, mapped into memory for one read at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_mapped"]


def read_mapped(
    path: Path, stored: np.dtype[Any], offset: int, shape: Sequence[int], region: tuple[slice, ...]
) -> np.ndarray:
    """A region of an array that lies uncompressed in a file: a new array, in the file's byte order.

    Only the pages of the file that hold the region's rows are touched. The map ends with the call: pages of a map that
    lives on would count as memory of the process.

    Args:
        path: the file.
        stored: the dtype with the file's byte order.
        offset: bytes before the array.
        shape: of the array, its last axis contiguous.
        region: one slice an axis, inside the array.
    """
    return np.array(np.memmap(path, stored, "r", offset, tuple(shape))[region])
