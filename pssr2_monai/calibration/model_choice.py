"""How well a noise model explains real noise, and which of several does so with the fewest parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pssr2_monai.calibration.noise_profiles import COMMON_TERMS

JUDGED = COMMON_TERMS | {"correlations"}  # terms of the distance by which every model is judged
EXPLAINED = 0.05
"""Distance beyond that of sampling up to which a model counts as explaining the noise: an error of a twentieth of its
strength, or of 0.05 in the correlation of neighbouring pixels."""
POOR = 0.2  # likewise, from which on the fit is called poor
WORTHWHILE = 0.8  # share of a simpler model's distance that a further parameter must leave at most
MEANINGS = {
    "spread": "its strength goes with brightness in another way",
    "distribution": "it is not distributed as the model's",
    "mean": "its mean changes with brightness, as after another contrast curve",
    "correlations": "pixels correlate in another way",
}


@dataclass(frozen=True)
class Deviation:
    """The distance of a model's noise from the real noise, and what sampling alone makes of it."""

    distance: float
    sampling: float  # the distance between two samples of the model's noise
    worst: str = ""  # the term with most of what sampling does not explain

    @classmethod
    def of_terms(cls, terms: Mapping[str, float], chance: Mapping[str, float]) -> Deviation:
        """Return the deviation of ``profile_terms`` of model and real noise, and of two samples of the model's."""
        distance, sampling = (math.sqrt(sum(part[name] for name in JUDGED)) for part in (terms, chance))
        return cls(distance, sampling, max(sorted(JUDGED), key=lambda name: terms[name] - chance[name]))

    @property
    def beyond_sampling(self) -> float:
        return math.sqrt(max(self.distance**2 - self.sampling**2, 0.0))

    @property
    def poor(self) -> bool:
        return self.beyond_sampling > POOR


def simplest(deviations: Iterable[Deviation]) -> int:
    """Return the number of the first model that explains the noise; else that of the one with the least distance.

    A later model, which has more parameters, must be clearly better.
    """
    chosen, least = 0, math.inf
    for number, deviation in enumerate(deviations):
        if deviation.beyond_sampling <= EXPLAINED:
            return number
        if deviation.beyond_sampling < WORTHWHILE * least:
            chosen, least = number, deviation.beyond_sampling
    return chosen


def note_of_poor_fit(deviation: Deviation, what: str) -> str:
    return (
        f"the fit is poor: the noise of {what} differs from the model's by {deviation.beyond_sampling:.2f} beyond what "
        f"sampling explains ({deviation.sampling:.2f}); most of all, {MEANINGS.get(deviation.worst, deviation.worst)}"
    )
