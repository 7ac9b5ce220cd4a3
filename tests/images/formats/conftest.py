"""Pixels that the tests of the formats share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


def _ramp(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.fixture
def ramp() -> Callable[..., np.ndarray]:
    """A function that returns an array of this shape whose elements all differ, as far as the dtype has room."""
    return _ramp
