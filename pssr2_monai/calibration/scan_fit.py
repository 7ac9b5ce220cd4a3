"""Fitting a noise model to scans without partners: good images of other fields are crappified until they look alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.fit import OTHER_SEED, SearchResult, search, standard_errors
from pssr2_monai.calibration.grey_windows import Levels, Windows, evenly
from pssr2_monai.calibration.guesses import first_guess_of_scans, kernel_correlation
from pssr2_monai.calibration.model_choice import Deviation, simplest
from pssr2_monai.calibration.noise_model import NoiseModel, SearchSpace, search_space
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
        """The root of the mean square of the relative differences of the spreads, by the weights of the filters."""
        return math.sqrt(self._mean_square(self.spread(model, values), self.real))

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
class ScanFit:
    model: NoiseModel
    values: dict[str, float]
    errors: dict[str, float]
    guess: dict[str, float]
    contrasts: Contrasts | None  # None without good images
    factors: FloatArray  # (scans,) how strong the noise of each scan is next to the middle one
    trials: ScanTrials
    crappified: FloatArray
    fitted: FloatArray  # spread behind the filters, of the fitted noise
    before: float  # distance of noise from the scans' that is not there at all
    after: float
    deviation: Deviation
    search: SearchResult
    space: SearchSpace


def fit_scans(
    scans: Windows,
    good: FloatArray | None,
    models: Sequence[NoiseModel],
    calls: int,
    seed: int = 0,
    progress: str | None = None,
) -> ScanFit:
    """Find the parameters for which good images ``(windows, Y, X)`` of LR pixels have the noise of scans.

    Compared are spreads behind filters in flat patches, by brightness, so that fine texture that both have in common
    cancels; without good images, texture counts as noise. Of several models it is the simplest that explains the noise,
    judged by their direct estimates.
    """
    flat = flat_patches(scans.pixels, scans.good, most_bins=usual_bins(scans.pixels if good is None else good))
    behind = details(scans.pixels, flat)
    real = spreads(behind, flat)
    if not np.nan_to_num(real).any():
        raise InputError("the LR images are constant, or without any noise; there is nothing to measure")
    factors = factors_of_images(behind, flat, scans.image, np.ones_like(real))
    prepared = [_prepared(scans, good, model, factors, flat, real, seed) for model in models]
    deviations = (trials.deviation(model, guess) for model, (trials, guess, _) in zip(models, prepared, strict=True))
    number = simplest(deviations) if len(models) > 1 else 0
    trials, guess, contrasts = prepared[number]
    weighed = factors_of_images(behind, flat, scans.image, trials.weights)
    return _fit_model(models[number], trials, guess, contrasts, weighed, calls, progress)


Prepared = tuple[ScanTrials, dict[str, float], Contrasts | None]


def _prepared(
    scans: Windows,
    good: FloatArray | None,
    model: NoiseModel,
    factors: FloatArray,
    flat: FlatPatches,
    real: FloatArray,
    seed: int,
) -> Prepared:
    """The trials of a model, its direct estimates, and the contrasts: each follows from the others, in turn.

    Begun with all for structure and with all for noise; what comes nearer is taken.
    """

    def estimated(values: dict[str, float], black: float) -> Prepared:
        contrasts = None
        for _ in range(ROUNDS):
            if good is None:
                clean, image = _smoothed(scans), scans.image
            else:
                contrasts = contrasts_of(scans, good, model, values, black)
                clean, image = _on_contrast_of_scans(good, scans, contrasts)
            trials = _trials(scans, clean, image, factors, flat, real, black, seed)
            trials = _with_structure(trials, model, values)
            values, black = first_guess_of_scans(model, *_powers(flat, trials))
        return replace(trials, black=black), values, contrasts

    def distance(prepared: Prepared) -> float:
        trials, values, _ = prepared
        return replace(trials, weights=np.ones_like(real)).distance(model, values)

    known = np.isfinite(real).all(axis=0)
    powers = np.maximum(real[:, known] ** 2, 1e-9)
    noise_alone = first_guess_of_scans(model, flat.bin_brightness()[known], powers, np.ones_like(powers))
    starts = [(dict.fromkeys(noise_alone[0], 0.0), 0.0), noise_alone]
    return min((estimated(*start) for start in (starts if good is not None else starts[1:])), key=distance)


def _fit_model(
    model: NoiseModel,
    trials: ScanTrials,
    guess: dict[str, float],
    contrasts: Contrasts | None,
    factors: FloatArray,
    calls: int,
    progress: str | None,
) -> ScanFit:
    space = search_space(model, guess, float(np.mean(trials.flat.bin_brightness())) - trials.black)
    result = search(
        lambda point: trials.distance(model, space.values(point)), space.point(guess), calls, trials.seed, progress
    )
    values = space.values(result.best.tolist())
    crappified, deviation = trials.noisy(model, values), trials.deviation(model, values)
    return ScanFit(
        model=model,
        values=values,
        errors=standard_errors(space, result),
        guess=guess,
        contrasts=contrasts,
        factors=factors,
        trials=trials,
        crappified=crappified,
        fitted=spreads(details(crappified, trials.flat), trials.flat),
        before=math.sqrt(trials._mean_square(trials.structure, trials.real)),
        after=deviation.distance,
        deviation=deviation,
        search=result,
        space=space,
    )


def _powers(flat: FlatPatches, trials: ScanTrials) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Brightness of the bins with enough patches, variance of the noise in them behind each filter, and weights."""
    known = np.isfinite(trials.real + trials.structure).all(axis=0)
    powers = trials.real[:, known] ** 2
    powers = np.maximum(powers - trials.structure[:, known] ** 2, LEAST_NOISE_SHARE * powers)
    return flat.bin_brightness()[known], np.maximum(powers, 1e-9), trials.weights[:, known]


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
    good: FloatArray, scans: Windows, contrasts: Contrasts
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Good images on the contrast of one scan after another, and the scan of each; no more than a trial needs."""
    few = evenly(len(good), max(1, TRIAL_PIXELS // good[0].size))
    chosen = good[few] if len(few) >= len(scans.names) else good[np.resize(few, len(scans.names))]
    image = np.arange(len(chosen)) % len(scans.names)
    gains, offsets = (
        values[image].astype(np.float32)[:, None, None] for values in (contrasts.gains, contrasts.offsets)
    )
    return chosen * gains + offsets, image


def _trials(
    scans: Windows,
    clean: FloatArray,
    image: npt.NDArray[np.intp],
    factors: FloatArray,
    flat: FlatPatches,
    real: FloatArray,
    black: float,
    seed: int,
) -> ScanTrials:
    first_window = np.searchsorted(scans.image, image)
    return ScanTrials(
        clean,
        factors[image],
        scans.levels.of(first_window),
        flat,
        real,
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
    weights = np.maximum(np.nan_to_num(share), 0.05) ** 2 * flat.counts()
    return replace(trials, flat=flat, structure=structure, weights=weights)
