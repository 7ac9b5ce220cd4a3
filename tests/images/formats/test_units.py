"""Lengths against conversions written out here."""

from __future__ import annotations

import math

import pytest

from pssr2_monai.images.formats.units import from_print_resolution, micrometres


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("m", 1e6),
        ("mm", 1e3),
        ("millimeter", 1e3),
        ("µm", 1.0),
        ("\u03bcm", 1.0),
        ("\\u00B5m", 1.0),
        ("\\u00C5", 1e-4),
        (" microns ", 1.0),
        ("micrometre", 1.0),
        ("nm", 1e-3),
        ("Nanometers", 1e-3),
        ("Å", 1e-4),
        ("angstrom", 1e-4),
        ("inch", 25400.0),
    ],
)
def test_units(unit: str, factor: float) -> None:
    assert micrometres(2.5, unit) == pytest.approx(2.5 * factor)
    assert micrometres("2.5", unit) == pytest.approx(2.5 * factor)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "", "many", None])
def test_no_length(value: object) -> None:
    assert micrometres(value, "um") is None


@pytest.mark.parametrize("unit", ["pixel", "pixels", "reference frame", "", "sec", None])
def test_no_unit_of_length(unit: str | None) -> None:
    assert micrometres(1.0, unit) is None


@pytest.mark.parametrize("dots", [0.0, 1.0, 72.0, 96.0, 300.0, 600.0, 1200.0, 2400.0])
def test_dots_on_paper_are_no_pixel_size(dots: float) -> None:
    assert from_print_resolution(dots, "inch") is None


def test_fine_resolutions_are_a_pixel_size() -> None:
    assert from_print_resolution(1e6, "cm") == pytest.approx(0.01)
    assert from_print_resolution(254000, "inch") == pytest.approx(0.1)
