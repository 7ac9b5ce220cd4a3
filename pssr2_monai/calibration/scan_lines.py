"""How the noise of scans differs: by a factor from one common line of variance over brightness, or each by its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pssr2_monai.calibration.grey_windows import Windows
from pssr2_monai.calibration.guesses import strengths_of, variance_of_powers
from pssr2_monai.calibration.model_choice import WORTHWHILE
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.scan_profiles import LEAST_PATCHES, PATCH_SIDE
from pssr2_monai.calibration.scan_trials import Measured, estimated, powers_of
from pssr2_monai.errors import InputError
from pssr2_monai.images.noise_estimates import MAX_BLACK_SHARE

MOST_GROUPS = 8  # of scans whose noise is fitted by itself
GROUP_PIXELS = 2**19  # of good images that are crappified for a group
GROUP_ROUNDS = 2  # of estimates of noise and contrast, which begin with those of all scans
DIFFERING = 0.1  # relative misfit of the common line, above which scans may differ by more than a factor
BLACK_STEPS = 9  # black levels that are tried
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ScanLine:
    """How much some scans vary by noise at each brightness, ``(bins,)`` each."""

    brightness: FloatArray
    variance: FloatArray
    weights: FloatArray
    share: float  # of the variance that is correlated noise's, where there is white noise, too
    scans: npt.NDArray[np.intp]  # their numbers

    def strengths(self, model: NoiseModel, black: float) -> dict[str, float]:
        return strengths_of(model, self.brightness, self.variance, self.share, black)[0]

    def misfit(self, model: NoiseModel, values: Mapping[str, float], black: float, scaled: bool = False) -> float:
        """Root mean square of the relative differences of the spread; ``scaled`` by the best factor."""
        expected = model.variance(values, self.brightness - black)
        ratio = np.sqrt(expected / np.maximum(self.variance, 1e-9))
        if scaled:
            ratio = ratio * np.average(ratio, weights=self.weights) / np.average(ratio**2, weights=self.weights)
        return float(np.sqrt(np.average((ratio - 1) ** 2, weights=self.weights)))


@dataclass(frozen=True)
class OwnStrengths:
    """The strengths of the noises in each group of scans, at one black level."""

    strengths: list[dict[str, float]]
    groups: list[npt.NDArray[np.intp]]  # numbers of the scans of each
    black: float
    misfit: float  # root mean square of the relative differences of the spread that they leave

    def means(self) -> dict[str, float]:
        return {key: float(np.mean([one[key] for one in self.strengths])) for key in self.strengths[0]}

    def standard_errors(self) -> dict[str, float]:
        count = len(self.strengths)
        spreads = {key: float(np.std([one[key] for one in self.strengths], ddof=1)) for key in self.strengths[0]}
        return {key: spread / count**0.5 for key, spread in spreads.items()}


def own_strengths(
    measured: Measured,
    good: FloatArray | None,
    model: NoiseModel,
    values: Mapping[str, float],
    black: float,
    seed: int,
) -> OwnStrengths | None:
    """Return the strengths for each group of scans, where they differ by more than a factor from the common ``values``.

    Groups are of scans with noise of about one strength, at best of one scan each.
    """
    lines = _lines(measured, good, model, values, black, seed)
    if len(lines) < 2:
        return None
    common = _root_mean_square([line.misfit(model, values, black, scaled=True) for line in lines])
    least = min(float(line.brightness.min()) for line in lines)
    highest = max(0.0, MAX_BLACK_SHARE * least) if model.strengths[0] is not None else 0.0
    levels = np.unique(np.linspace(0.0, highest, BLACK_STEPS)).tolist()
    own = min((_at_black_level(model, lines, level) for level in levels), key=lambda one: one.misfit)
    return own if common > DIFFERING and own.misfit < WORTHWHILE * common else None


def _at_black_level(model: NoiseModel, lines: Sequence[ScanLine], black: float) -> OwnStrengths:
    strengths = [line.strengths(model, black) for line in lines]
    misfits = [line.misfit(model, values, black) for line, values in zip(lines, strengths, strict=True)]
    return OwnStrengths(strengths, [line.scans for line in lines], black, _root_mean_square(misfits))


def _root_mean_square(misfits: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(misfits))))


def _lines(
    measured: Measured,
    good: FloatArray | None,
    model: NoiseModel,
    values: Mapping[str, float],
    black: float,
    seed: int,
) -> list[ScanLine]:
    """One line for each group whose scans have enough patches in common with the good images."""
    scans, lines = measured.scans, []
    patches = scans.pixels[0].size * len(scans.pixels) // PATCH_SIDE**2
    count = max(1, min(MOST_GROUPS, len(measured.factors), patches // (2 * LEAST_PATCHES)))
    for group in np.array_split(np.argsort(measured.factors, kind="stable"), count):
        try:
            part = Measured.of(_windows_of(scans, group), good)
            estimate = estimated(part, good, model, values, black, seed, GROUP_ROUNDS, GROUP_PIXELS)
        except InputError:  # too few patches
            continue
        brightness, powers, weights = powers_of(estimate.trials)
        _, sure, variance, share = variance_of_powers(model, powers, weights)
        lines.append(ScanLine(brightness[sure], variance[sure], weights.sum(axis=0)[sure], share, group))
    return lines


def _windows_of(scans: Windows, numbers: npt.NDArray[np.intp]) -> Windows:
    """The windows of some of the scans, whose numbers begin with 0."""
    chosen = np.flatnonzero(np.isin(scans.image, numbers))
    kept, image = np.unique(scans.image[chosen], return_inverse=True)
    names = [scans.names[number] for number in kept]
    return Windows(scans.pixels[chosen], scans.good[chosen], scans.levels.of(chosen), image, names)
