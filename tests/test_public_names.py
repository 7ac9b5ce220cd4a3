"""What `from pssr2_monai import ...` gives."""

from __future__ import annotations

import inspect

import pytest

import pssr2_monai


@pytest.mark.parametrize("name", pssr2_monai.__all__)
def test_every_public_name_can_be_had_and_tells_what_it_is(name: str) -> None:
    found = getattr(pssr2_monai, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pssr2_monai.nothing  # noqa: B018
