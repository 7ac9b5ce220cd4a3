"""The preset of a calibration: where gain, offset and black level go, and how wide the ranges are."""

from __future__ import annotations

import pytest

from pssr2_monai.calibration.fitted_preset import noise_entry, noises_of_preset, preset_of
from pssr2_monai.calibration.noise_model import NoiseModel

VALUES = {"poisson": 0.7, "gaussian": 10.0, "line": 4.0}
ERRORS = dict.fromkeys(VALUES, 0.0)


def _noises(text: str, gains: list[float], offsets: list[float], black: float = 0.0) -> list[dict[str, object]]:
    found = noises_of_preset(NoiseModel.parse(text), VALUES, ERRORS, gains, offsets, black, 0.0, None)
    return [{key.replace("_target_", "is"): value for key, value in each.items()} for each in found]


def test_a_plain_gain_is_left_out_and_the_gaussian_noise_adds_the_offset() -> None:
    assert _noises("poisson+gaussian", [1.002], [5.0]) == [
        {"is": "pssr2_monai.PoissonNoise", "intensity": 0.7},
        {"is": "pssr2_monai.GaussianNoise", "sigma": 10.0, "gain": 5.0},
    ]


def test_gain_goes_first_and_the_offset_after_the_poisson_noise() -> None:
    assert _noises("poisson+line", [0.5], [30.0]) == [
        {"is": "pssr2_monai.Detector", "gain": 0.5},
        {"is": "pssr2_monai.PoissonNoise", "intensity": 0.7},
        {"is": "pssr2_monai.Detector", "offset": 30.0},
        {"is": "pssr2_monai.LineNoise", "sigma": 4.0},
    ]


def test_one_detector_does_for_gain_and_offset_where_nothing_is_between() -> None:
    assert _noises("line", [0.5], [30.0]) == [
        {"is": "pssr2_monai.Detector", "offset": 30.0, "gain": 0.5},
        {"is": "pssr2_monai.LineNoise", "sigma": 4.0},
    ]


def test_the_black_level_is_taken_off_and_added_again() -> None:
    assert _noises("poisson", [1.0], [-2.0], black=20.0) == [
        {"is": "pssr2_monai.Detector", "offset": -20.0},
        {"is": "pssr2_monai.PoissonNoise", "intensity": 0.7},
        {"is": "pssr2_monai.Detector", "offset": 18.0},
    ]


def test_a_detector_that_would_do_nothing_is_left_out() -> None:
    assert _noises("poisson", [1.0], [0.0]) == [{"is": "pssr2_monai.PoissonNoise", "intensity": 0.7}]


def test_contrasts_that_differ_are_drawn_from_where_most_images_lie() -> None:
    gains, offsets = [0.7 + 0.01 * k for k in range(11)], [10.0 + k for k in range(11)]
    detector, gaussian = _noises("gaussian", gains, offsets)
    assert detector["gain"] == pytest.approx([0.71, 0.79])
    assert gaussian["gain"] == pytest.approx([11.0, 19.0])


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
    assert preset_of([], None, None, None) == {"crappifier#noises": []}
    assert list(preset_of([], 2, "area", "percentile")) == [
        "scale",
        "intensity#mode",
        "crappifier#downsample",
        "crappifier#noises",
    ]
