"""The search: finds a minimum that is known, says how sure it is, stops early, and repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pssr2_monai.calibration.fit import search

TARGET = np.array([0.62, 0.35])
SHAPE = np.array([[9.0, 3.0], [3.0, 4.0]])
FLOOR = 0.001


def _distance(point: Sequence[float]) -> float:
    away = np.asarray(point) - TARGET[: len(point)]
    shape = SHAPE[: len(point), : len(point)]
    return float(np.sqrt(away @ shape @ away + FLOOR))


@pytest.mark.parametrize("start", [[0.6, 0.4], [0.2, 0.8]])
def test_the_least_distance_is_found_in_two_dimensions(start: list[float]) -> None:
    found = search(_distance, start, calls=40)
    np.testing.assert_allclose(found.best, TARGET, atol=0.01)
    assert len(found.points) == len(found.distances) <= 40
    # Least squares: S / (n - p) times the inverse of half the matrix of second derivatives.
    np.testing.assert_allclose(found.covariance, FLOOR / 14 * np.linalg.inv(SHAPE), rtol=0.3)


def test_one_dimension_takes_few_trials() -> None:
    found = search(_distance, [0.5], calls=40)
    assert found.converged
    assert len(found.points) < 25
    assert found.best[0] == pytest.approx(TARGET[0], abs=0.005)


def test_the_trials_are_not_exceeded_and_a_search_that_has_not_settled_says_so() -> None:
    count = []

    def jagged(point: Sequence[float]) -> float:
        count.append(1)
        return 1 + 0.5 * float(np.sin(40 * point[0]) * np.cos(55 * point[1])) + _distance(point)

    found = search(jagged, [0.5, 0.5], calls=16)
    assert len(count) == len(found.points) == 16
    assert not found.converged


def test_a_minimum_at_the_end_of_the_space_is_found_there() -> None:
    found = search(lambda point: float(np.hypot(point[0] + 0.2, 0.01)), [0.4], calls=30)
    assert found.best[0] == pytest.approx(0, abs=0.02)
    assert np.isfinite(found.covariance).all()


def test_the_same_seed_makes_the_same_search() -> None:
    first, second = (search(_distance, [0.3, 0.7], calls=20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.best, second.best)


def test_a_flat_distance_is_no_error() -> None:
    found = search(lambda point: 1.0, [0.5, 0.5], calls=20)
    assert np.isfinite(found.best).all()
    assert np.isfinite(found.covariance).all()
