"""The figures of a fidelity check, and the sums over blocks from which they come."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from pssr2_monai.fidelity.consistency import Expectation, white_spreads

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


SHARE_LIMIT = 0.02
"""Share of the pixels beyond 3 sigma above which the SR as a whole disagrees with the data; of a normal variable 0.0027
are."""
SPREAD_LIMIT = 1.5
SIZES_LIMIT = 3.0
"""Smoothed z-scores so many times as large as the noise alone makes them: extended detail that the data lack."""
STRENGTH_LIMIT = 1.5
"""Noise so many times stronger or weaker than any that was drawn in training is unlike it."""
GAIN_LIMITS = (0.75, 1.33)
OFFSET_LIMIT = 30.0
"""Grey levels by which the LR's mean brightness may differ from that of the crappified SR."""
PIXEL_SIZE_LIMIT = 1.25
KURTOSIS_LIMIT = 1.0
DISTANCE_LIMIT = 0.05
CORRELATION_LIMITS = (-0.4, 0.15)
"""Neighbours in what is left; below 0 is usual where the SR follows the noise over several pixels, above it tells of
structure."""


@dataclass(frozen=True)
class FidelityVerdict:
    """The answer in words.

    Attributes:
        level: ``consistent``, ``not in the data`` or ``unlike the training``.
        headline: one sentence.
        reasons: the figures it rests on, a sentence each.
    """

    level: str
    headline: str
    reasons: tuple[str, ...]


def judge(figures: Figures) -> FidelityVerdict:
    """Says what the figures mean.

    An input unlike the training comes first, since its z-scores rest on a noise model that is not its own; what is not
    in the data is told with it.
    """
    unlike, invented = _unlike(figures), _not_in_the_data(figures)
    reasons = (*unlike, *invented, *_noise_words(figures))
    if unlike:
        also = " It also disagrees with the data." if invented else ""
        return FidelityVerdict("unlike the training", f"The input is unlike the training images.{also}", reasons)
    if invented:
        return FidelityVerdict("not in the data", "The SR shows detail that is not in the data.", reasons)
    return FidelityVerdict("consistent", "The SR is consistent with the data, within their noise.", reasons)


def _unlike(figures: Figures) -> list[str]:
    words = []
    measured = figures.measured_strength
    if figures.strengths is not None and measured is not None:
        low, high = figures.strengths
        if not low / STRENGTH_LIMIT <= measured <= high * STRENGTH_LIMIT:
            words.append(
                f"Noise level: {measured:.2f} of the training's middle; weights trained on {low:.2f} to {high:.2f}."
            )
    if figures.strengths is not None:  # weights of real pairs may change contrast and brightness
        if not GAIN_LIMITS[0] <= figures.gain <= GAIN_LIMITS[1]:
            words.append(f"Contrast: the LR has {figures.gain:.2f} of what the crappifier would make of the SR.")
        if abs(figures.brighter) > OFFSET_LIMIT:
            words.append(f"Brightness: the LR is {figures.brighter:+.0f} of 255 grey levels off what the SR says.")
    ratio = figures.pixel_size
    if ratio is not None and not 1 / PIXEL_SIZE_LIMIT <= ratio <= PIXEL_SIZE_LIMIT:
        words.append(f"Pixel size: {ratio:.2f} times that of the training.")
    return words


def _not_in_the_data(figures: Figures) -> list[str]:
    words = []
    count = figures.structures_in_all
    if count:
        worst = figures.structures[0]
        words.append(
            f"{count} place{'s' * (count != 1)} beyond a score of {figures.limit:.1f}; the worst at frame "
            f"{worst.frame}, y {worst.y:.0f}, x {worst.x:.0f} of the SR, which is too "
            f"{'bright' if worst.score > 0 else 'dark'} there (score {abs(worst.score):.1f})."
        )
    if figures.beyond_3 > SHARE_LIMIT:
        words.append(f"{figures.beyond_3:.1%} of the pixels are beyond 3 sigma; noise alone gives 0.3 %.")
    elif figures.spread > SPREAD_LIMIT:
        words.append(f"What is left of the LR is {figures.spread:.2f} times as strong as its noise.")
    if max(figures.sizes) > SIZES_LIMIT:
        words.append(f"Over several pixels it is {max(figures.sizes):.1f} times as strong as noise would be.")
    return words


def _noise_words(figures: Figures) -> list[str]:
    """Whether what is left of the LR looks like noise."""
    low, high = CORRELATION_LIMITS
    faults: Mapping[str, bool] = {
        f"has heavy tails (excess kurtosis {figures.kurtosis:.1f})": figures.kurtosis > KURTOSIS_LIMIT,
        f"is not normal (distance {figures.distance:.2f})": figures.distance > DISTANCE_LIMIT,
        f"correlates along X ({figures.along_x:+.2f})": not low <= figures.along_x <= high,
        f"correlates along Y ({figures.along_y:+.2f})": not low <= figures.along_y <= high,
    }
    found: Sequence[str] = [words for words, is_one in faults.items() if is_one]
    told = f"What is left of the LR {' and '.join(found)}, unlike noise." if found else ""
    told = told or "What is left of the LR looks like noise."
    share = f"Its spread is {figures.spread:.2f} of the noise's; {figures.beyond_3:.2%} of the pixels beyond 3 sigma."
    followed = ["The SR follows much of the LR's noise."] if figures.spread < 0.5 else []
    if figures.strengths is None:
        followed.append("The record names no noise: it was measured in this image alone.")
    return [told, share, *followed]
