"""What the figures of a fidelity check say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pssr2_monai.fidelity.figures import Figures

__all__ = ["FidelityVerdict", "judge"]

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
