"""Crappified images to compare with scans of other fields, and the direct estimates that they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.fit import OTHER_SEED
from pssr2_monai.calibration.grey_windows import Levels, Windows, evenly
from pssr2_monai.calibration.guesses import first_guess_of_scans, kernel_correlation
from pssr2_monai.calibration.model_choice import Deviation
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.scan_profiles import (
    PATCH_SIDE,
    FlatPatches,
    details,
    factors_of_images,
    flat_patches,
    spreads,
    usual_bins,
)
from pssr2_monai.errors import InputError
from pssr2_monai.images.noise_estimates import patches

LEAST_SPREAD = 0.05  # grey levels that a spread is divided by, at least
SMOOTHING_PX = 8.0  # sigma that leaves of a scan its brightness, and next to nothing of its noise
TRIAL_PIXELS = 2**20  # of the good images, at most
ROUNDS = 3  # of direct estimates of noise and contrast, each of which the other one needs
LEAST_NOISE_SHARE = 0.05  # of the variance behind a filter that is taken for noise, where structure leaves less
LEAST_STRUCTURE_SHARE = 0.1  # of the variance of a scan's patch means that is taken for structure
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Contrasts:
    """What brings good images to the contrast of each scan, grey levels; ``(scans,)`` each."""

    gains: FloatArray
    offsets: FloatArray


@dataclass(frozen=True)
class ScanTrials:
    """Crappified images to compare with scans of other fields."""

    clean: FloatArray  # images on the contrast of the scans
    factors: FloatArray  # how strong the noise of each is
    levels: Levels  # of the scans that they imitate
    flat: FlatPatches  # of them
    real: FloatArray  # (FILTERS, bins) spread behind the filters in the scans
    real_brightness: FloatArray  # (bins,) of the scans there
    structure: FloatArray  # likewise in the clean images
    weights: FloatArray  # (FILTERS, bins) of the spreads: more where there is more noise than structure
    black: float
    seed: int

    def noisy(self, model: NoiseModel, values: Mapping[str, float]) -> FloatArray:
        """Return the crappified images, rounded and clipped as the files of the scans are."""
        nothing = np.zeros(len(self.clean), np.float32)
        noisy = model.crappified(values, self.clean, nothing, self.seed, self.black, self.factors)
        return self.levels.rounded(noisy)

    def spread(self, model: NoiseModel, values: Mapping[str, float]) -> FloatArray:
        return spreads(details(self.noisy(model, values), self.flat), self.flat)

    def distance(self, model: NoiseModel, values: Mapping[str, float]) -> float:
        return self.relative_error(self.spread(model, values))

    def relative_error(self, spread: FloatArray) -> float:
        """The root of the weighed mean square of the relative differences of a spread from that of the scans."""
        return math.sqrt(self._mean_square(spread, self.real))

    def with_equal_weights(self) -> ScanTrials:
        return replace(self, weights=np.ones_like(self.real))

    def deviation(self, model: NoiseModel, values: Mapping[str, float]) -> Deviation:
        """Compare the noise with that of the scans, and with as much noise of the same model."""
        spread = self.spread(model, values)
        other = replace(self, seed=self.seed + OTHER_SEED).spread(model, values)
        relative, weights = self._relative(spread, self.real)
        over_brightness = np.average(relative, axis=0, weights=weights)
        over_filters = np.average(relative, axis=1, weights=weights) - np.average(relative, weights=weights)
        by_brightness = np.average(over_brightness**2, weights=weights.sum(axis=0))
        worst = "spread" if by_brightness > np.average(over_filters**2, weights=weights.sum(axis=1)) else "correlations"
        distance, sampling = (math.sqrt(self._mean_square(spread, others)) for others in (self.real, other))
        return Deviation(distance, sampling, worst)

    def _relative(self, spread: FloatArray, real: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Relative differences of spreads where both are known, and their weights."""
        relative = spread / np.maximum(real, LEAST_SPREAD)
        known = np.isfinite(relative).all(axis=0)
        return relative[:, known] - 1, self.weights[:, known]

    def _mean_square(self, spread: FloatArray, real: FloatArray) -> float:
        relative, weights = self._relative(spread, real)
        return float(np.average(relative**2, weights=weights))


@dataclass(frozen=True)
class Measured:
    """Scans, where they are flat, and how they vary there."""

    scans: Windows
    flat: FlatPatches
    behind: FloatArray  # (FILTERS, patches, pixels) behind each filter
    real: FloatArray  # (FILTERS, bins) spread of that
    factors: FloatArray  # (scans,) how strong the noise of each scan is next to the middle one

    @classmethod
    def of(cls, scans: Windows, good: FloatArray | None) -> Measured:
        """Measure scans in as many bins of brightness as the good images have patches for, too."""
        flat = flat_patches(scans.pixels, scans.good, most_bins=usual_bins(scans.pixels if good is None else good))
        behind = details(scans.pixels, flat)
        real = spreads(behind, flat)
        return cls(scans, flat, behind, real, factors_of_images(behind, flat, scans.image, np.ones_like(real)))

    def factors_by(self, weights: FloatArray) -> FloatArray:
        """The factors by weights of the spreads, ``(FILTERS, bins)``."""
        return factors_of_images(self.behind, self.flat, self.scans.image, weights)


@dataclass(frozen=True)
class Estimate:
    """Direct estimates of a model's parameters, and the trials and contrasts that they come from."""

    trials: ScanTrials
    values: dict[str, float]
    contrasts: Contrasts | None  # None without good images


def estimated(
    measured: Measured,
    good: FloatArray | None,
    model: NoiseModel,
    values: Mapping[str, float],
    black: float,
    seed: int,
    rounds: int = ROUNDS,
    pixels: int = TRIAL_PIXELS,
) -> Estimate:
    """Estimate a model's parameters and the contrasts, each of which follows from the other, in turn."""
    scans, found, contrasts = measured.scans, dict(values), None
    for _ in range(rounds):
        if good is None:
            clean, image = _smoothed(scans), scans.image
        else:
            contrasts = contrasts_of(scans, good, model, found, black)
            clean, image = _on_contrast_of_scans(good, scans, contrasts, pixels)
        trials = _with_structure(_trials(measured, clean, image, black, seed), model, found)
        found, black = first_guess_of_scans(model, *powers_of(trials))
    return Estimate(replace(trials, black=black), found, contrasts)


def powers_of(trials: ScanTrials) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Brightness of the bins with enough patches, variance of the noise in them behind each filter, and weights."""
    known = np.isfinite(trials.real + trials.structure).all(axis=0)
    powers = trials.real[:, known] ** 2
    powers = np.maximum(powers - trials.structure[:, known] ** 2, LEAST_NOISE_SHARE * powers)
    return trials.real_brightness[known], np.maximum(powers, 1e-9), trials.weights[:, known]


def contrasts_of(
    scans: Windows, good: FloatArray, model: NoiseModel, values: Mapping[str, float], black: float
) -> Contrasts:
    """Compare mean and spread of the patches' means of each scan, less that of its noise, with those of good images."""
    means = patches(good, PATCH_SIDE).mean(axis=-1)
    middle, spread = float(means.mean()), math.sqrt(float(np.mean(means.var(axis=(1, 2)))))
    if spread <= 0:
        raise InputError("the good images are constant; give images with structure")
    noise = model.variance(values, np.array([float(scans.pixels.mean()) - black]))
    kept = _kept_by_means(model, values)
    gains, offsets = [], []
    for number in range(len(scans.names)):
        means = patches(scans.pixels[scans.image == number], PATCH_SIDE).mean(axis=-1)
        variance = float(np.mean(means.var(axis=(1, 2))))
        gains.append(math.sqrt(max(variance - kept * float(noise[0]), LEAST_STRUCTURE_SHARE * variance)) / spread)
        offsets.append(float(means.mean()) - gains[-1] * middle)
    return Contrasts(np.array(gains), np.array(offsets))


def _kept_by_means(model: NoiseModel, values: Mapping[str, float]) -> float:
    """The share of the noise's variance that the mean of a patch keeps."""
    white, kept = 1 / PATCH_SIDE**2, 1.0
    if "correlated" not in model.names:
        return white
    distances = np.abs(np.subtract.outer(range(PATCH_SIDE), range(PATCH_SIDE)))
    for key in ("correlated along", "correlated across"):
        kept *= float(kernel_correlation(values[key], range(PATCH_SIDE))[distances].mean())
    return kept


def _smoothed(scans: Windows) -> FloatArray:
    return np.stack([gaussian_filter(image, SMOOTHING_PX) for image in scans.pixels])


def _on_contrast_of_scans(
    good: FloatArray, scans: Windows, contrasts: Contrasts, pixels: int
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Good images on the contrast of one scan after another, and the scan of each; no more than a trial needs."""
    few = evenly(len(good), max(1, pixels // good[0].size))
    chosen = good[few] if len(few) >= len(scans.names) else good[np.resize(few, len(scans.names))]
    image = np.arange(len(chosen)) % len(scans.names)
    gains, offsets = (
        values[image].astype(np.float32)[:, None, None] for values in (contrasts.gains, contrasts.offsets)
    )
    return chosen * gains + offsets, image


def _trials(measured: Measured, clean: FloatArray, image: npt.NDArray[np.intp], black: float, seed: int) -> ScanTrials:
    scans, real = measured.scans, measured.real
    first_window = np.searchsorted(scans.image, image)
    return ScanTrials(
        clean,
        measured.factors[image],
        scans.levels.of(first_window),
        measured.flat,
        real,
        measured.flat.bin_brightness(),
        np.zeros_like(real),
        np.ones_like(real),
        black,
        seed,
    )


def _with_structure(trials: ScanTrials, model: NoiseModel, values: Mapping[str, float]) -> ScanTrials:
    """Find the flat patches as noise lets them be found, what structure they have, and what filters show noise."""
    noisy = trials.noisy(model, values)
    flat = flat_patches(noisy, np.ones(noisy.shape, dtype=bool), trials.flat.cuts)
    structure = spreads(details(trials.clean, flat), flat)
    known = np.isfinite(structure).all(axis=0) & np.isfinite(trials.real).all(axis=0)
    if not known.any():
        raise InputError(
            "the good images have no grey levels in common with the scans; give good images of the same kind"
        )
    share = 1 - np.minimum(structure / np.maximum(trials.real, LEAST_SPREAD), 1) ** 2
    # As sure as both together.
    counts = trials.flat.counts() * flat.counts() / np.maximum(trials.flat.counts() + flat.counts(), 1)
    weights = np.maximum(np.nan_to_num(share), 0.05) ** 2 * counts
    return replace(trials, flat=flat, structure=structure, weights=weights)
