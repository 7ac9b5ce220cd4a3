"""Intervals and tests against the t distribution, tables and what must hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from pssr2_monai.evaluation.verdict import difference, mean_interval


def test_the_interval_of_many_normal_values_is_that_of_student() -> None:
    values = np.random.default_rng(0).normal(3, 2, 200)
    low, high = mean_interval(values)
    reach = t.ppf(0.975, 199) * values.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * reach)
    assert mean_interval(values) == (low, high)
    assert mean_interval(values, seed=1) != (low, high)


def test_few_or_equal_values() -> None:
    assert mean_interval([1.0]) is None
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert mean_interval([1.0, np.inf, np.nan]) is None
    low, high = mean_interval([1.0, 1.0, 1.0, 2.0])
    assert 1 <= low < high <= 2


def test_p_of_signed_ranks_is_that_of_the_table() -> None:
    # All of n differences positive: 2 / 2^n, two-sided (Wilcoxon 1945).
    for count in (5, 6, 8):
        found = difference(np.arange(1, count + 1) * 0.1 + 1, [1.0] * count)
        assert found.p == pytest.approx(2 / 2**count)
        assert found.mean == pytest.approx(0.05 * (count + 1))
        assert found.interval[0] > 0
        assert found.images == count


def test_what_is_not_finite_is_left_out() -> None:
    found = difference([1.0, np.inf, 2.0, np.nan, np.inf], [0.5, 1.0, 1.0, 2.0, np.inf])
    assert (found.images, found.mean) == (2, 0.75)
    assert difference([np.inf], [1.0]).images == 0
    equal = difference([1.0, 2.0], [1.0, 2.0])
    assert (equal.p, equal.interval) == (1.0, (0.0, 0.0))
