"""Charts: what is drawn lands where its numbers say."""

from __future__ import annotations

import numpy as np
import pytest

from pssr2_monai.images.charts import BLUE, ORANGE, Chart, _ticks


def _near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=2) < 60


def test_a_level_line_is_drawn_at_its_height() -> None:
    chart = Chart("title", "x", "y", size=(300, 200), x_range=(0.0, 10.0), y_range=(0.0, 4.0))
    chart.line([0, 10], [1, 1], BLUE, 3)
    rows, columns = np.nonzero(_near(np.asarray(chart.image()), BLUE))
    # The plot reaches from row 34 (4) to row 150 (0), and from column 64 to column 284.
    assert abs(rows.mean() - (150 - 116 / 4)) < 2
    assert abs(columns.min() - 64) < 3
    assert abs(columns.max() - 284) < 3


def test_nothing_is_drawn_beyond_the_axes() -> None:
    chart = Chart("title", "x", "y", size=(300, 200), x_range=(0.0, 1.0), y_range=(0.0, 1.0))
    chart.line([0, 1], [0.5, 9], ORANGE, 3)
    rows, _ = np.nonzero(_near(np.asarray(chart.image()), ORANGE))
    assert rows.min() >= 33


def test_dots_areas_and_ranges_of_their_own() -> None:
    chart = Chart("title", "x", "y", size=(300, 200))
    chart.area([0, 1, 2], [1, 3, 1], name="area")
    chart.dots([1], [2], BLUE, name="dot")
    picture = np.asarray(chart.image())
    assert picture.shape == (200, 300, 3)
    assert _near(picture, BLUE).any()


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0.0, 10.0, 5, [0, 2, 4, 6, 8, 10]),
        (-0.3, 0.31, 4, [-0.2, 0, 0.2]),
        (37.0, 121.0, 5, [40, 60, 80, 100, 120]),
    ],
)
def test_ticks_are_round(low: float, high: float, count: int, expected: list[float]) -> None:
    assert _ticks(low, high, count) == pytest.approx(expected)
