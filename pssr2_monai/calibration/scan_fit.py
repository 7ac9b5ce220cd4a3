"""Fitting a noise model to scans without partners: good images of other fields are crappified until they look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pssr2_monai.calibration.fit import SearchResult, search, standard_errors
from pssr2_monai.calibration.grey_windows import Windows
from pssr2_monai.calibration.guesses import first_guess_of_scans
from pssr2_monai.calibration.model_choice import Deviation, simplest
from pssr2_monai.calibration.noise_model import NoiseModel, SearchSpace, search_space
from pssr2_monai.calibration.scan_lines import OwnStrengths, own_strengths
from pssr2_monai.calibration.scan_profiles import details, spreads
from pssr2_monai.calibration.scan_trials import Contrasts, Estimate, Measured, ScanTrials, estimated
from pssr2_monai.errors import InputError

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ScanFit:
    model: NoiseModel
    values: dict[str, float]
    errors: dict[str, float]
    guess: dict[str, float]
    contrasts: Contrasts | None  # None without good images
    factors: FloatArray  # (scans,) how strong the noise of each scan is next to the middle one
    own: OwnStrengths | None  # those of each group of scans, where they differ by more than a factor
    black: float  # the scans' grey level without signal
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
    measured = Measured.of(scans, good)
    if not np.nan_to_num(measured.real).any():
        raise InputError("the LR images are constant, or without any noise; there is nothing to measure")
    estimates = [_estimate(measured, good, model, seed) for model in models]
    deviations = (one.trials.deviation(model, one.values) for model, one in zip(models, estimates, strict=True))
    number = simplest(deviations) if len(models) > 1 else 0
    return _fit_model(measured, good, models[number], estimates[number], calls, progress)


def _estimate(measured: Measured, good: FloatArray | None, model: NoiseModel, seed: int) -> Estimate:
    """Direct estimates, begun with all for structure and with all for noise; what comes nearer is taken."""
    real = measured.real

    def distance(estimate: Estimate) -> float:
        return estimate.trials.with_equal_weights().distance(model, estimate.values)

    known = np.isfinite(real).all(axis=0)
    powers = np.maximum(real[:, known] ** 2, 1e-9)
    noise_alone = first_guess_of_scans(model, measured.flat.bin_brightness()[known], powers, np.ones_like(powers))
    starts = [(dict.fromkeys(noise_alone[0], 0.0), 0.0), noise_alone]
    used = starts if good is not None else starts[1:]
    return min((estimated(measured, good, model, *start, seed) for start in used), key=distance)


def _fit_model(
    measured: Measured,
    good: FloatArray | None,
    model: NoiseModel,
    estimate: Estimate,
    calls: int,
    progress: str | None,
) -> ScanFit:
    trials, guess = estimate.trials, estimate.values
    space = search_space(model, guess, float(np.mean(trials.flat.bin_brightness())) - trials.black)
    result = search(
        lambda point: trials.distance(model, space.values(point)), space.point(guess), calls, trials.seed, progress
    )
    values = space.values(result.best.tolist())
    crappified, deviation = trials.noisy(model, values), trials.deviation(model, values)
    own = own_strengths(measured, good, model, values, trials.black, trials.seed)
    if own is not None:
        deviation = Deviation(own.misfit, min(own.misfit, deviation.sampling), "spread")
    errors = standard_errors(space, result)
    return ScanFit(
        model=model,
        values=values if own is None else values | own.means(),
        errors=errors if own is None else errors | own.standard_errors(),
        guess=guess,
        contrasts=estimate.contrasts,
        factors=measured.factors_by(trials.weights),
        own=own,
        black=trials.black if own is None else own.black,
        trials=trials,
        crappified=crappified,
        fitted=spreads(details(crappified, trials.flat), trials.flat),
        before=trials.relative_error(trials.structure),
        after=deviation.distance,
        deviation=deviation,
        search=result,
        space=space,
    )
