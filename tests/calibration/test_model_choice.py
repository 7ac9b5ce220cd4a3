"""The choice between noise models, and when a fit is called poor."""

from __future__ import annotations

import math

import pytest

from pssr2_monai.calibration.model_choice import Deviation, note_of_poor_fit, simplest


def test_what_sampling_makes_of_the_distance_does_not_count() -> None:
    terms = {"spread": 0.04, "distribution": 0.0, "mean": 0.0, "correlations": 0.21, "rows": 9.0}
    chance = {"spread": 0.01, "distribution": 0.0, "mean": 0.0, "correlations": 0.08, "rows": 0.0}
    deviation = Deviation.of_terms(terms, chance)
    assert deviation.distance == pytest.approx(0.5)
    assert deviation.sampling == pytest.approx(0.3)
    assert deviation.beyond_sampling == pytest.approx(0.4)
    assert deviation.worst == "correlations"
    assert deviation.poor
    assert "pixels correlate in another way" in note_of_poor_fit(deviation, "the pairs")
    assert not Deviation(0.3, 0.3).poor
    assert Deviation(0.2, 0.3).beyond_sampling == 0


@pytest.mark.parametrize(
    ("beyond", "expected"),
    [
        ([0.04, 0.01, 0.0], 0),  # the first that explains the noise
        ([0.4, 0.04, 0.01], 1),
        ([0.4, 0.38, 0.36], 0),  # others are hardly better
        ([0.9, 0.5, 0.3], 2),
    ],
)
def test_the_simplest_model_that_explains_the_noise_is_chosen(beyond: list[float], expected: int) -> None:
    assert simplest(Deviation(math.hypot(value, 0.02), 0.02) for value in beyond) == expected
