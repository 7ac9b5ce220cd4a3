"""Figures against scipy's statistics and the arrays themselves; the verdict in words for figures made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, kurtosis

from pssr2_monai.crappify import GaussianNoise
from pssr2_monai.crappify.noise import noise_curve
from pssr2_monai.fidelity.consistency import Expectation, white_spreads
from pssr2_monai.fidelity.figures import MAX_LISTED, Figures, Structure, Sums, judge


def _figures(blocks: list[np.ndarray], structures: list[Structure]) -> Figures:
    sums = Sums()
    for block in blocks:
        sums.add(block)
    sums.add_structures(structures)
    expected = Expectation(noise_curve([GaussianNoise(sigma=5)]), gain=0.9, strength=1.1, measured=1.2, brighter=3.0)
    return sums.figures(expected, [2 * spread for spread in white_spreads()], (0.8, 1.2), 1.5, 5.0)


def test_figures_are_those_of_all_blocks_together() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_t(6, size=(80, 60)) + 0.3
    z[:, 1:] += 0.4 * z[:, :-1]
    figures = _figures([z[:40], z[40:]], [])
    assert figures.pixels == z.size
    assert figures.beyond_3 == pytest.approx((np.abs(z) > 3).mean())
    assert figures.spread == pytest.approx(z.std())
    assert figures.kurtosis == pytest.approx(kurtosis(z.ravel()))
    assert figures.distance == pytest.approx(kstest(z.ravel(), "norm", (z.mean(), z.std())).statistic, abs=0.005)
    pairs_x = (z[:, :-1] * z[:, 1:]).mean() - z.mean() ** 2
    assert figures.along_x == pytest.approx(pairs_x / z.var())
    pairs_y = np.concatenate([z[:39] * z[1:40], z[40:79] * z[41:]]).mean() - z.mean() ** 2
    assert figures.along_y == pytest.approx(pairs_y / z.var())
    np.testing.assert_allclose(figures.sizes, 2)
    assert (figures.gain, figures.strength, figures.measured_strength, figures.brighter) == (0.9, 1.1, 1.2, 3.0)
    assert (figures.strengths, figures.pixel_size, figures.limit) == ((0.8, 1.2), 1.5, 5.0)


def test_the_highest_structures_are_listed_and_all_are_counted() -> None:
    scores = np.random.default_rng(0).permutation(np.concatenate([np.arange(5, 205), -np.arange(5.5, 106)]))
    structures = [Structure(0, number, 0.0, 9.0, float(score)) for number, score in enumerate(scores)]
    figures = _figures([np.zeros((4, 4))], structures)
    assert figures.structures_in_all == len(scores)
    listed = [structure.score for structure in figures.structures]
    assert listed == sorted(scores, key=abs, reverse=True)[:MAX_LISTED]


QUIET = Figures(
    pixels=1000,
    beyond_3=0.001,
    spread=0.8,
    kurtosis=0.1,
    distance=0.01,
    along_x=-0.1,
    along_y=-0.1,
    sizes=(0.6, 0.6, 0.6, 0.6),
    gain=1.0,
    brighter=0.0,
    strength=1.0,
    measured_strength=1.0,
    strengths=(0.8, 1.2),
    pixel_size=None,
    limit=5.0,
    structures=(),
    structures_in_all=0,
)


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({}, "consistent", "looks like noise"),
        ({"along_x": 0.3}, "consistent", "correlates along X (+0.30)"),
        ({"beyond_3": 0.05}, "not in the data", "5.0% of the pixels"),
        ({"sizes": (0.6, 1.0, 2.0, 4.0)}, "not in the data", "4.0 times"),
        ({"structures": (Structure(0, 1, 2, 9, -7),), "structures_in_all": 2}, "not in the data", "2 places beyond"),
        ({"measured_strength": 0.3}, "unlike the training", "Noise level: 0.30"),
        ({"brighter": -40.0}, "unlike the training", "-40 of 255"),
        ({"brighter": -40.0, "strengths": None}, "consistent", "names no noise"),
    ],
)
def test_the_verdict_in_words(change: dict[str, Any], level: str, words: str) -> None:
    verdict = judge(replace(QUIET, **change))
    assert verdict.level == level
    assert words in " ".join(verdict.reasons)
