"""The chain of an error's causes."""

from __future__ import annotations

import pytest

from pssr2_monai.errors import InputError, causes


def _raise_chained() -> None:
    try:
        try:
            raise InputError("inner")
        except InputError as error:
            raise KeyError("middle") from error
    except KeyError:
        raise RuntimeError("outer")  # noqa: B904


def _raise_from_itself() -> None:
    try:
        raise RuntimeError("again")
    except RuntimeError as error:
        raise error from error


def test_causes_are_told_from_the_outermost_to_the_innermost() -> None:
    with pytest.raises(RuntimeError) as raised:
        _raise_chained()
    assert [type(each) for each in causes(raised.value)] == [RuntimeError, KeyError, InputError]


def test_an_error_raised_from_itself_ends_the_chain() -> None:
    with pytest.raises(RuntimeError) as raised:
        _raise_from_itself()
    assert list(causes(raised.value)) == [raised.value]
