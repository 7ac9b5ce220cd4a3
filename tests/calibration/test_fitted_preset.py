"""The preset of a calibration: contrast and black level, and how wide the ranges are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pssr2_monai.calibration.fitted_preset import (
    Calibration,
    clip_of_preset,
    contrast_of_preset,
    noises_of_preset,
    preset_of,
    range_of_preset,
    span_of,
)
from pssr2_monai.calibration.noise_model import STRONG, NoiseModel

VALUES = {"poisson": 0.7, "gaussian": 10.0, "line": 4.0}
ERRORS = dict.fromkeys(VALUES, 0.0)


def _noises(text: str, black: float = 0.0) -> list[dict[str, object]]:
    noises = noises_of_preset(NoiseModel.parse(text), VALUES, ERRORS, black, {}, 0.0)
    return [{key.replace("_target_", "is"): value for key, value in noise.items()} for noise in noises]


def test_noises_stand_in_their_order() -> None:
    assert _noises("line+poisson") == [
        {"is": "pssr2_monai.LineNoise", "sigma": 4.0},
        {"is": "pssr2_monai.PoissonNoise", "intensity": 0.7},
    ]


def test_the_black_level_is_taken_off_and_added_again() -> None:
    assert _noises("poisson", black=20.0) == [
        {"is": "pssr2_monai.Detector", "offset": -20.0},
        {"is": "pssr2_monai.PoissonNoise", "intensity": 0.7},
        {"is": "pssr2_monai.Detector", "offset": 20.0},
    ]
    assert _noises("poisson+gaussian", black=20.0) == [
        {"is": "pssr2_monai.Detector", "offset": -20.0},
        {"is": "pssr2_monai.PoissonNoise", "intensity": 0.7},
        {"is": "pssr2_monai.GaussianNoise", "sigma": 10.0, "gain": 20.0},
    ]


def test_contrasts_are_drawn_from_where_most_images_lie() -> None:
    gains, offsets = [0.7 + 0.01 * k for k in range(11)], [10.0 + k for k in range(11)]
    drawn = contrast_of_preset(gains, offsets)
    assert drawn["contrast"] == pytest.approx([0.9 * 0.71, 1.1 * 0.79], rel=1e-3)
    assert drawn["brightness"] == pytest.approx([11 / 255, 19 / 255], rel=1e-3)


def test_the_range_of_the_detector_is_that_of_the_images() -> None:
    assert clip_of_preset([(math.inf, math.inf)] * 2) is False
    assert clip_of_preset([(0.1, 0.25)] * 2) == {"below": 0.1, "above": 0.25}
    mixed = [(0.1, 0.25), (-0.05, 1.5), (math.inf, math.inf)]  # the last is of real numbers
    assert clip_of_preset(mixed) == {"below": {"together": [0.1, 0, 100]}, "above": {"together": [0.25, 1.5, 100]}}


@pytest.mark.parametrize(
    ("error", "share", "expected"),
    [
        (0.0, 0.2, [8, 12]),
        (1.5, 0.2, [7.5, 12.5]),
        (9.0, 0.3, [10 - 3 * 2**0.5, 10 + 3 * 2**0.5]),
        (0.0, 0.5, [5, 15]),
        (0.0, 1.5, {"log": [4, 25]}),  # two and a half times as weak or as strong
        (0.0, 9.0, {"log": [2, 50]}),
    ],
)
def test_ranges_hold_a_share_and_the_standard_error(error: float, share: float, expected: object) -> None:
    drawn = range_of_preset(10.0, error, span_of(share), (0.0, 255.0))
    if isinstance(expected, dict):
        assert drawn == {"log": pytest.approx(expected["log"], rel=1e-3)}
    else:
        assert drawn == pytest.approx(expected, rel=1e-3)


def test_ranges_stay_within_what_a_noise_may_be() -> None:
    assert range_of_preset(90.0, 0.0, (0.5, 1.5), (0.0, 100.0)) == [45.0, 100.0]
    assert range_of_preset(0.0, 3.0, (0.8, 1.2), (0.0, 100.0)) == 0.0


def test_widths_differ_less_from_image_to_image_than_the_strength() -> None:
    values = {"correlated": 8.0, "correlated intensity": 0.5, "correlated along": 1.0, "correlated across": 2.0}
    model = NoiseModel.parse("correlated")
    noise, *_ = noises_of_preset(model, values, dict.fromkeys(values, 0.0), 0.0, dict.fromkeys(STRONG, (0.5, 3.0)), 0.1)
    assert noise == {
        "_target_": "pssr2_monai.CorrelatedNoise",
        "sigma": {"log": [4.0, 24.0]},
        "intensity": {"log": [0.25, 1.5]},
        "along": [0.9, 1.1],
        "across": [1.8, 2.2],
    }


def test_a_preset_sets_only_what_is_known() -> None:
    calibration = Calibration((), {}, {}, [])
    assert preset_of(calibration, None, None, None) == {"crappifier#clip": True, "crappifier#noises": []}
    fitted = replace(calibration, contrast={"contrast": [0.9, 1.1], "brightness": [0.0, 0.0]})
    assert list(preset_of(fitted, 2, "area", "percentile")) == [
        "scale",
        "contrast",
        "brightness",
        "intensity#mode",
        "crappifier#downsample",
        "crappifier#clip",
        "crappifier#noises",
    ]
