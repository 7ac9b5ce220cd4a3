"""What a verb reports: text for people, the same as data for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a verb tells.

    Attributes:
        text: for people.
        data: for programs, what ``--json`` prints: dictionaries, lists, dataclasses, paths, numbers and strings.
    """

    text: str
    data: Any


def as_json(data: Any) -> str:
    """Data as JSON: dataclasses as objects, paths as strings, null for numbers that JSON does not have."""
    return json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(data: Any) -> Any:
    if is_dataclass(data) and not isinstance(data, type):
        return _plain(asdict(data))
    if isinstance(data, Mapping):
        return {str(key): _plain(each) for key, each in data.items()}
    if isinstance(data, Sequence) and not isinstance(data, str):
        return [_plain(each) for each in data]
    if isinstance(data, float):  # numpy's float64, too
        return float(data) if math.isfinite(data) else None
    return data if data is None or isinstance(data, (bool, int, str)) else _other(data)


def _other(data: Any) -> Any:
    """A path as text; a number or an array of numpy as Python's own."""
    if isinstance(data, Path):
        return str(data)
    return _plain(data.tolist()) if hasattr(data, "tolist") else str(data)
