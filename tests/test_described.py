"""Options, as the docstrings of functions and dataclasses describe them."""

from __future__ import annotations

import pytest

from pssr2_monai.described import Described, described
from pssr2_monai.errors import UsageError


def test_options_of_several_sources_have_types_defaults_and_meanings() -> None:
    options = described("restoration.options:RestoreOptions window precision skip_bad", "evaluation.evaluate:evaluate")
    assert [*options][:3] == ["window", "precision", "skip_bad"]
    assert options["seed"].default == 0
    assert options["skip_bad"].meaning.startswith("leave out files that cannot be read")
    assert (options["precision"].default, options["precision"].kinds) == ("auto", {str})
    assert options["hr"].required
    assert Described.in_package("evaluation.evaluate:evaluate").paragraphs[0].startswith("Compare weights")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("window", "1e2", 100),
        ("overlap", "0.5", 0.5),
        ("skip_bad", "yes", True),
        ("image", "2", 2),
        ("image", "a", "a"),
    ],
)
def test_values_are_read_by_their_kind(name: str, text: str, value: object) -> None:
    assert described("restoration.options:RestoreOptions")[name].read(text) == value


def test_a_value_of_another_kind_is_an_error() -> None:
    with pytest.raises(UsageError, match="--window small: is not a whole number"):
        described("restoration.options:RestoreOptions")["window"].read("small")
