"""The figures of a fidelity check, the sums over blocks that they are computed from, and the verdict in words."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from pssr2_monai.fidelity.consistency import Expectation, white_spreads

MAX_LISTED = 200  # structures
BIN_WIDTH, BINS = 0.05, 400  # of the z-scores' histogram
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Structure:
    """A place where the SR shows what the LR does not hold, or lacks what it holds; lengths in SR pixels."""

    frame: int  # of the SR, in the order of the record's ``stack``
    y: float
    x: float
    side: float  # approximate extent
    score: float  # in standard deviations of its surroundings; positive where the SR is too bright


@dataclass(frozen=True)
class Figures:
    """The figures of a fidelity check."""

    pixels: int  # of the LR
    beyond_3: float  # share of them whose z-score is beyond 3
    spread: float  # standard deviation of the z-scores: 1 for the noise, less where the SR reproduces some of it
    kurtosis: float  # excess kurtosis of the z-scores; 0 for a normal variable
    distance: float  # Kolmogorov distance of their distribution from the normal one of their mean and spread
    along_x: float  # correlation of a z-score with the next along X
    along_y: float
    sizes: tuple[float, ...]  # spread of smoothed z-scores over that of noise alone, for each of ``consistency.SIGMAS``
    gain: float  # contrast of the LR relative to the crappified SR
    brighter: float  # grey levels of 255 by which the LR is on average brighter than that
    strength: float  # noise that the z-scores assume, as a factor of the middle of the training's
    measured_strength: float | None  # noise of the LR; None where it could not be measured
    strengths: tuple[float, float] | None  # weakest and strongest noise of the training; None where its record has none
    pixel_size: float | None  # ratio of the LR's pixel size to that of the training; None where one is unknown
    limit: float  # score that a structure must exceed to be listed
    structures: tuple[Structure, ...]  # those with the highest scores
    structures_in_all: int
    squirrel: Mapping[str, float | None] = field(default_factory=dict)
    """``rse`` in grey levels of 255, ``rsp``, and the ``sigma`` (LR pixels), ``gain`` and ``offset`` they were measured
    after; see ``error_map``."""
    resolution: Mapping[str, float | None] = field(default_factory=dict)
    """Finest period of ``lr`` and ``sr`` by decorrelation analysis, each in its own pixels."""


@dataclass
class Sums:
    """Sums over the blocks of a map."""

    count: int = 0  # pixels
    beyond: int = 0  # pixels whose z-score is beyond 3
    powers: FloatArray = field(default_factory=lambda: np.zeros(4))  # sums of the first four powers of z-scores
    neighbours: FloatArray = field(default_factory=lambda: np.zeros(4))  # sum and number of products along X, along Y
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    structures: list[tuple[float, int, Structure]] = field(default_factory=list)  # those listed, as a heap
    in_all: int = 0  # number of all structures

    def add(self, z: FloatArray) -> None:
        """Add z-scores ``(Y, X)``."""
        values = z.astype(np.float64)
        self.count += z.size
        self.beyond += int((np.abs(values) > 3).sum())
        self.powers += [float((values**power).sum()) for power in (1, 2, 3, 4)]
        along_x, along_y = values[:, :-1] * values[:, 1:], values[:-1] * values[1:]
        self.neighbours += [along_x.sum(), along_x.size, along_y.sum(), along_y.size]
        places = np.clip(np.floor(values / BIN_WIDTH).astype(np.int64) + BINS // 2, 0, BINS - 1)
        self.histogram += np.bincount(places.ravel(), minlength=BINS)

    def add_structures(self, structures: Iterable[Structure]) -> None:
        """Count structures, and keep those with the highest scores."""
        for structure in structures:
            self.in_all += 1
            entry = (abs(structure.score), self.in_all, structure)
            (heapq.heappush if len(self.structures) < MAX_LISTED else heapq.heappushpop)(self.structures, entry)

    def figures(
        self,
        expected: Expectation,
        spreads: Sequence[float],
        strengths: tuple[float, float] | None,
        pixel_size: float | None,
        limit: float,
    ) -> Figures:
        mean, second, third, fourth = self.powers / self.count
        variance = max(second - mean**2, 1e-12)
        central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
        spread = math.sqrt(variance)
        edges = (np.arange(1, BINS) - BINS // 2) * BIN_WIDTH
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
            sizes=tuple(spread / white for spread, white in zip(spreads, white_spreads(), strict=True)),
            gain=expected.gain,
            brighter=expected.brighter,
            strength=expected.strength,
            measured_strength=expected.measured,
            strengths=strengths,
            pixel_size=pixel_size,
            limit=limit,
            structures=tuple(
                structure for *_, structure in sorted(self.structures, key=lambda entry: entry[:2], reverse=True)
            ),
            structures_in_all=self.in_all,
        )


MAX_SHARE_BEYOND_3 = 0.02
"""Share of pixels beyond 3 sigma above which the SR as a whole disagrees with the data; noise alone has 0.0027."""
MAX_SPREAD = 1.5
MAX_SIZES = 3.0
"""Spread of smoothed z-scores relative to noise alone, above which the SR has extended detail that the data lack."""
MAX_STRENGTH_RATIO = 1.5  # by which noise may be stronger or weaker than any that was drawn in training
MIN_GAIN, MAX_GAIN = 0.75, 1.33
MAX_OFFSET = 30.0  # grey levels by which the LR's mean brightness may differ from that of the crappified SR
MAX_PIXEL_SIZE_RATIO = 1.25
MAX_KURTOSIS, MAX_DISTANCE = 1.0, 0.05
MIN_CORRELATION, MAX_CORRELATION = -0.4, 0.15
"""Correlation of neighbouring z-scores: negative where the SR reproduces noise over several pixels, positive where
there is structure."""


@dataclass(frozen=True)
class FidelityVerdict:
    """The meaning of the figures."""

    level: str  # ``consistent``, ``not in the data`` or ``unlike the training``
    headline: str  # one sentence
    reasons: tuple[str, ...]  # the figures it rests on, a sentence each


def judge(figures: Figures) -> FidelityVerdict:
    """Interpret the figures; first an input unlike the training, whose z-scores assume a noise that is not its own."""
    unlike, invented = _unlike(figures), _not_in_the_data(figures)
    reasons = (*unlike, *invented, *_noise_words(figures), *_published_words(figures))
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
        if not low / MAX_STRENGTH_RATIO <= measured <= high * MAX_STRENGTH_RATIO:
            words.append(
                f"Noise level: {measured:.2f} of the training's middle; weights trained on {low:.2f} to {high:.2f}."
            )
    if figures.strengths is not None:  # weights of real pairs may change contrast and brightness
        if not MIN_GAIN <= figures.gain <= MAX_GAIN:
            words.append(f"Contrast: the LR has {figures.gain:.2f} of that of the crappified SR.")
        if abs(figures.brighter) > MAX_OFFSET:
            words.append(f"Brightness: the LR differs by {figures.brighter:+.0f} of 255 grey levels from the SR.")
    ratio = figures.pixel_size
    if ratio is not None and not 1 / MAX_PIXEL_SIZE_RATIO <= ratio <= MAX_PIXEL_SIZE_RATIO:
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
    if figures.beyond_3 > MAX_SHARE_BEYOND_3:
        words.append(f"{figures.beyond_3:.1%} of the pixels are beyond 3 sigma; noise alone gives 0.3 %.")
    elif figures.spread > MAX_SPREAD:
        words.append(f"The difference from the LR is {figures.spread:.2f} times as strong as its noise.")
    if max(figures.sizes) > MAX_SIZES:
        words.append(f"Over several pixels it is {max(figures.sizes):.1f} times as strong as noise would be.")
    return words


def _noise_words(figures: Figures) -> list[str]:
    faults = {
        f"has heavy tails (excess kurtosis {figures.kurtosis:.1f})": figures.kurtosis > MAX_KURTOSIS,
        f"is not normal (distance {figures.distance:.2f})": figures.distance > MAX_DISTANCE,
        f"correlates along X ({figures.along_x:+.2f})": not MIN_CORRELATION <= figures.along_x <= MAX_CORRELATION,
        f"correlates along Y ({figures.along_y:+.2f})": not MIN_CORRELATION <= figures.along_y <= MAX_CORRELATION,
    }
    present = " and ".join(fault for fault, is_present in faults.items() if is_present)
    words = [f"The difference from the LR {f'{present}, unlike noise' if present else 'looks like noise'}."]
    words.append(
        f"Its spread is {figures.spread:.2f} of the noise's; {figures.beyond_3:.2%} of the pixels beyond 3 sigma."
    )
    if figures.spread < 0.5:
        words.append("The SR reproduces much of the LR's noise.")
    if figures.strengths is None:
        words.append("The record names no noise: it was measured in this image alone.")
    return words


def _published_words(figures: Figures) -> list[str]:
    """The measures of others, by their names; nothing is judged by them."""
    words = []
    squirrel, periods = figures.squirrel, figures.resolution
    if squirrel.get("rse") is not None and squirrel.get("rsp") is not None:
        words.append(
            f"NanoJ-SQUIRREL: RSE {squirrel['rse']:.2f} of 255, RSP {squirrel['rsp']:.4f}, after a blur of "
            f"{squirrel['sigma']:.1f} px of the LR."
        )
    named = [f"{name.upper()} {period:.1f} px of its own" for name, period in periods.items() if period is not None]
    if named:
        words.append(f"Resolution by decorrelation analysis: {', '.join(named)}.")
    return words
