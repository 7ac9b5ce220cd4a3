"""The preset of a calibration: contrast and black level, and how wide the ranges are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pssr2_monai.calibration.fitted_preset import (
    Calibration,
    contrast_of_preset,
    noise_entry,
    noises_of_preset,
    preset_of,
)
from pssr2_monai.calibration.noise_model import NoiseModel

VALUES = {"poisson": 0.7, "gaussian": 10.0, "line": 4.0}
ERRORS = dict.fromkeys(VALUES, 0.0)


def _noises(text: str, black: float = 0.0) -> list[dict[str, object]]:
    noises = noises_of_preset(NoiseModel.parse(text), VALUES, ERRORS, black, 0.0, None)
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


@pytest.mark.parametrize(
    ("error", "share", "expected"),
    [
        (0.0, 0.2, [8, 12]),
        (1.5, 0.2, [7.5, 12.5]),
        (9.0, 0.3, [10 - 3 * 2**0.5, 10 + 3 * 2**0.5]),
        (9.0, 0.5, [5, 15]),
    ],
)
def test_ranges_hold_a_share_and_the_standard_error(error: float, share: float, expected: list[float]) -> None:
    assert noise_entry("gaussian", 10.0, error, share)["sigma"] == pytest.approx(expected, rel=1e-3)


def test_ranges_stay_within_what_a_noise_may_be() -> None:
    assert noise_entry("salt_pepper", 90.0, 0.0, 0.5)["percent"] == [45.0, 100.0]
    assert noise_entry("gaussian", 0.0, 3.0, 0.2)["sigma"] == 0.0


def test_a_preset_sets_only_what_is_known() -> None:
    calibration = Calibration((), {}, {}, [])
    assert preset_of(calibration, None, None, None) == {"crappifier#noises": []}
    fitted = replace(calibration, contrast={"contrast": [0.9, 1.1], "brightness": [0.0, 0.0]})
    assert list(preset_of(fitted, 2, "area", "percentile")) == [
        "scale",
        "contrast",
        "brightness",
        "intensity#mode",
        "crappifier#downsample",
        "crappifier#noises",
    ]
