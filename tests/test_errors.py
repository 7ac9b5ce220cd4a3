"""The causes of an error, its message in one line, and names that were meant."""

from __future__ import annotations

import pytest

from pssr2_monai.errors import InputError, causes, nearest, one_line


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


def test_causes_run_from_the_outermost_to_the_innermost() -> None:
    with pytest.raises(RuntimeError) as raised:
        _raise_chained()
    assert [type(error) for error in causes(raised.value)] == [RuntimeError, KeyError, InputError]


def test_an_error_raised_from_itself_ends_the_chain() -> None:
    with pytest.raises(RuntimeError) as raised:
        _raise_from_itself()
    assert list(causes(raised.value)) == [raised.value]


def test_the_most_similar_name_is_suggested_or_none() -> None:
    assert nearest("denoize", ["sharpen", "denoise", "em"]) == "; did you mean 'denoise'?"
    assert nearest("xyz", ["sharpen", "denoise"]) == ""


def test_a_message_becomes_one_line_of_bounded_length() -> None:
    assert one_line(ValueError("first line\n\tsecond   line ")) == "first line second line"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("a" * 20), limit=20) == "a" * 20
    assert one_line(ValueError("a" * 21), limit=20) == "a" * 17 + "..."
