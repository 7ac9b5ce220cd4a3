"""The figures of a fidelity check, and the sums over blocks from which they come."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from pssr2_monai.fidelity.consistency import Expectation, white_spreads

__all__ = ["Figures", "Structure", "Sums"]

LISTED = 200
"""Structures that are listed, at most."""

BIN, BINS = 0.05, 400
"""Width and number of the bins of the z-scores' histogram."""

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Structure:
    """A place where the SR shows what the LR does not hold, or lacks what it holds.

    Attributes:
        frame: of the SR, numbered in the order of the record's ``stack``.
        y: place in SR pixels.
        x: place in SR pixels.
        side: rough extent in SR pixels.
        score: in standard deviations of what is usual around it; positive where the SR is too bright.
    """

    frame: int
    y: float
    x: float
    side: float
    score: float


@dataclass(frozen=True)
class Figures:
    """The figures of a fidelity check.

    Attributes:
        pixels: of the LR.
        beyond_3: share of them whose z-score is beyond 3.
        spread: standard deviation of the z-scores: 1 where what is left is the noise, less where the SR follows it.
        kurtosis: excess kurtosis of the z-scores; 0 of a normal variable.
        distance: Kolmogorov's distance of their distribution from the normal one of their mean and spread.
        along_x: correlation of a z-score with the next along X.
        along_y: the same along Y.
        sizes: smoothed z-scores over what the noise alone makes them, for each of ``consistency.SIGMAS``.
        gain: factor between LR and the crappified SR.
        brighter: grey levels of 255 by which the LR is brighter than that on average.
        strength: noise that the z-scores assume, as a factor of the middle of the training's.
        measured_strength: noise of the LR as measured, None where it could not be.
        strengths: weakest and strongest noise of the training; None where its record names none.
        pixel_size: ratio of the LR's pixel size to that of the training; None where one is unknown.
        limit: score that a structure must exceed to be listed.
        structures: the highest of them.
        structures_in_all: how many there are.
    """

    pixels: int
    beyond_3: float
    spread: float
    kurtosis: float
    distance: float
    along_x: float
    along_y: float
    sizes: tuple[float, ...]
    gain: float
    brighter: float
    strength: float
    measured_strength: float | None
    strengths: tuple[float, float] | None
    pixel_size: float | None
    limit: float
    structures: tuple[Structure, ...]
    structures_in_all: int


@dataclass
class Sums:
    """Sums over the blocks of a map, from which the figures come.

    Attributes:
        count: pixels.
        beyond: of them, those beyond 3.
        powers: sums of the first four powers of the z-scores.
        neighbours: sum and number of products of neighbours along X and along Y.
        histogram: of the z-scores.
        structures: the highest, as a heap.
        in_all: how many structures there are.
    """

    count: int = 0
    beyond: int = 0
    powers: FloatArray = field(default_factory=lambda: np.zeros(4))
    neighbours: FloatArray = field(default_factory=lambda: np.zeros(4))
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    structures: list[tuple[float, int, Structure]] = field(default_factory=list)
    in_all: int = 0

    def add(self, z: FloatArray) -> None:
        """Counts the z-scores of a block ``(Y, X)``."""
        values = z.astype(np.float64)
        self.count += z.size
        self.beyond += int((np.abs(values) > 3).sum())
        self.powers += [float((values**power).sum()) for power in (1, 2, 3, 4)]
        along_x, along_y = values[:, :-1] * values[:, 1:], values[:-1] * values[1:]
        self.neighbours += [along_x.sum(), along_x.size, along_y.sum(), along_y.size]
        places = np.clip(np.floor(values / BIN).astype(np.int64) + BINS // 2, 0, BINS - 1)
        self.histogram += np.bincount(places.ravel(), minlength=BINS)

    def add_structures(self, structures: Iterable[Structure]) -> None:
        """Keeps the highest."""
        for each in structures:
            self.in_all += 1
            entry = (abs(each.score), self.in_all, each)
            (heapq.heappush if len(self.structures) < LISTED else heapq.heappushpop)(self.structures, entry)

    def figures(
        self,
        expected: Expectation,
        spreads: Sequence[float],
        strengths: tuple[float, float] | None,
        pixel_size: float | None,
        limit: float,
    ) -> Figures:
        """All the figures; see ``Figures`` and ``consistency`` for what is given."""
        mean, second, third, fourth = self.powers / self.count
        variance = max(second - mean**2, 1e-12)
        central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
        spread = math.sqrt(variance)
        edges = (np.arange(1, BINS) - BINS // 2) * BIN
        reached = np.cumsum(self.histogram)[:-1] / self.count
        x, count_x, y, count_y = self.neighbours
        return Figures(
            pixels=self.count,
            beyond_3=self.beyond / self.count,
            spread=spread,
            kurtosis=float(central / variance**2 - 3),
            distance=float(np.abs(reached - ndtr((edges - mean) / spread)).max()),
            along_x=float((x / max(count_x, 1) - mean**2) / variance),
            along_y=float((y / max(count_y, 1) - mean**2) / variance),
            sizes=tuple(own / white for own, white in zip(spreads, white_spreads(), strict=True)),
            gain=expected.gain,
            brighter=expected.brighter,
            strength=expected.strength,
            measured_strength=expected.measured,
            strengths=strengths,
            pixel_size=pixel_size,
            limit=limit,
            structures=tuple(each for *_, each in sorted(self.structures, key=lambda entry: entry[:2], reverse=True)),
            structures_in_all=self.in_all,
        )
