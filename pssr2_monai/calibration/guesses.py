"""Direct estimates of a noise model's parameters, where a search begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.noise_profiles import LAGS, NoiseProfile, Scene, bin_weights
from pssr2_monai.calibration.scan_profiles import FILTERS, STEPS
from pssr2_monai.crappify.scan_noises import variance_kept_by_blur
from pssr2_monai.images.noise_estimates import black_level, variance_line

MAX_WIDTH_PX = 10.0
LEAST_WIDTH_PX = 0.25  # below which the next pixel is out of a Gaussian's reach
SURE_SHARE = 0.2  # of the greatest weight of a brightness, below which it says too little of the noise
_STARTS = (0.4, 0.8, 2.0)  # widths that a fit of widths begins with, in turn
FloatArray = npt.NDArray[np.floating]


def kernel_correlation(width: float, distances: Sequence[int]) -> FloatArray:
    """Return the correlation of white noise behind a Gaussian of ``width`` pixels with itself, at distances in pixels.

    It is that of the sampled kernel: ``exp(-(distance / width)**2 / 4)``, but for narrow ones.
    """
    reach = int(4 * width + 0.5)
    kernel = np.exp(-((np.arange(-reach, reach + 1) / max(width, 1e-3)) ** 2) / 2)
    whole = np.correlate(kernel, kernel, mode="full")[2 * reach :]
    whole = np.append(whole, np.zeros(max(0, max(distances) + 1 - len(whole))))
    return np.asarray(whole[list(distances)] / whole[0])


def widths_of(correlations: FloatArray, with_white: bool) -> tuple[float, float, float]:
    """Return the widths along X and along Y, and the share of correlated noise, of correlations at ``LAGS``.

    The share is 1 unless white noise may have been added (``with_white``).
    """
    right, down = ([lag[axis] for lag in LAGS if lag[axis]] for axis in (1, 0))

    def residuals(along: float, across: float, share: float) -> FloatArray:
        expected = [kernel_correlation(along, right), kernel_correlation(across, down)]
        return np.asarray(share * np.concatenate(expected) - correlations)

    return _fitted_widths(residuals, with_white)


def widths_of_differences(powers: FloatArray, weights: FloatArray, with_white: bool) -> tuple[float, float, float]:
    """Return what ``widths_of`` does, of the noise's variances behind ``FILTERS`` for each brightness.

    Variances and their weights are ``(FILTERS, bins)``.
    """
    root = np.sqrt(weights / weights.sum())

    def residuals(along: float, across: float, share: float) -> FloatArray:
        logs = np.log(powers / passed_powers(along, across, share)[:, None])
        return np.asarray(root * (logs - np.average(logs, axis=0, weights=weights))).ravel()

    return _fitted_widths(residuals, with_white)


def passed_powers(along: float, across: float, share: float = 1.0) -> FloatArray:
    """Return the share of its variance with which noise passes each of ``FILTERS``, ``share`` of it correlated."""
    passed = []
    for width in (across, along):
        near, far = kernel_correlation(width, STEPS), kernel_correlation(width, [2 * step for step in STEPS])
        passed.append((6 - 8 * near + 2 * far) / 6)
    return np.asarray(share * np.outer(*passed).ravel().clip(1e-6) + 1 - share)


def _fitted_widths(
    residuals: Callable[[float, float, float], FloatArray], with_white: bool
) -> tuple[float, float, float]:
    bounds = [0.0, 0.0, 0.0], [MAX_WIDTH_PX, MAX_WIDTH_PX, 1.0]

    def all_residuals(place: FloatArray) -> FloatArray:
        along, across, share = place.tolist()
        return residuals(along, across, share if with_white else 1.0)

    # Steps in the width that the sampled kernel shows.
    fits = [
        least_squares(all_residuals, [width, width, 0.7], bounds=bounds, diff_step=0.02, x_scale=[width, width, 1.0])
        for width in _STARTS
    ]
    along, across, share = min(fits, key=lambda fit: float(fit.cost)).x.tolist()
    along, across = (width if width >= LEAST_WIDTH_PX else 0.0 for width in (along, across))
    return along, across, share if with_white else 1.0


def strengths_of(
    model: NoiseModel,
    brightness: FloatArray,
    variance: FloatArray,
    share: float = 1.0,
    black: float | None = None,
    weights: FloatArray | None = None,
) -> tuple[dict[str, float], float]:
    """Return the strengths of noises of every pixel by the line of their variance over brightness, and the black level.

    ``share`` of the variance is that of correlated noise. A ``black`` level that is given is kept. ``weights`` of the
    brightnesses are all 1 by default.
    """
    shot, steady = model.strengths
    if black is None:
        black = black_level(brightness, variance, weights) if shot is not None else 0.0
    wanted = [name for name, key in (("poisson", shot), ("gaussian", steady)) if key is not None]
    line = variance_line(brightness - black, variance, wanted, weights)
    values = {key: line[name] for name, key in (("poisson", shot), ("gaussian", steady)) if key is not None}
    if steady == "gaussian" and "correlated" in model.names:
        growing = values[shot] ** 2 * float(np.mean(brightness - black)) if shot == "correlated intensity" else 0.0
        constant = values["gaussian"] ** 2
        correlated = min(max(share * float(np.mean(variance)) - growing, 0.0), constant)
        values |= {"correlated": math.sqrt(correlated), "gaussian": math.sqrt(constant - correlated)}
    return values, black


def first_guess(
    model: NoiseModel, scene: Scene, profile: NoiseProfile, offset: float
) -> tuple[dict[str, float], float]:
    """Return parameters from the moments of a profile, where the search begins, and the black level of the images."""
    values, variance = dict[str, float](), profile.bin_spread**2
    along_x, along_y = profile.neighbours.mean(axis=1).tolist()
    if "salt_pepper" in model.names:
        values["salt_pepper"] = 100 * float(profile.tails.mean())
        # Lost pixels count with the reach of their bin.
        variance = np.maximum(variance - profile.tails * profile.reach**2, 0.1 * variance)
    if "line" in model.names:
        # What a row has in common correlates along X, and not along Y.
        values["line"] = profile.spread * math.sqrt(max(along_x - along_y, 0.0))
        if "correlated" in model.names:
            values["line"] = float(profile.rows.mean())
        variance = np.maximum(variance - values["line"] ** 2, 0.1 * variance)
    if "jitter" in model.names:
        values["jitter"] = float(profile.shifts.mean())
    if "blur" in model.names[1:]:  # of other noise, and not only the beam's
        # White noise behind a Gaussian blur correlates by exp(-1 / (4 sigma**2)) with its neighbour.
        values["blur"] = math.sqrt(-1 / (4 * math.log(min(max((along_x + along_y) / 2, 0.05), 0.95))))
        variance = variance / variance_kept_by_blur(values["blur"])
    elif "blur" in model.names:
        values["blur"] = math.sqrt(max(2 * float(profile.sharpness.mean()), 0.1))
    share = 1.0
    if "correlated" in model.names:
        widths, share = _widths_without_lines(model, profile, values)
        values |= widths
    weights = bin_weights(profile.counts)
    strengths, black = strengths_of(model, scene.brightness - offset, variance, share, weights=weights)
    return _complete(model, values | strengths), black


def first_guess_of_scans(
    model: NoiseModel, brightness: FloatArray, powers: FloatArray, weights: FloatArray
) -> tuple[dict[str, float], float]:
    """Return parameters and black level of the noise's variances behind ``FILTERS``, ``(FILTERS, bins)``."""
    widths, sure, variance, share = variance_of_powers(model, powers, weights)
    strengths, black = strengths_of(model, brightness[sure], variance[sure], share)
    return _complete(model, widths | strengths), black


def variance_of_powers(
    model: NoiseModel, powers: FloatArray, weights: FloatArray
) -> tuple[dict[str, float], npt.NDArray[np.bool_], FloatArray, float]:
    """Return the widths of correlated noise, which bins say enough, the variance in each, and the correlated share."""
    values, share = dict[str, float](), 1.0
    passed: FloatArray = np.ones(len(FILTERS))
    if "correlated" in model.names:
        with_white = bool({"poisson", "gaussian"} & set(model.names))
        along, across, share = widths_of_differences(powers, weights, with_white)
        values = {"correlated along": along, "correlated across": across}
        passed = passed_powers(along, across, share)
    variance = np.average(powers / passed[:, None], axis=0, weights=weights)
    sure = weights.sum(axis=0) >= SURE_SHARE * weights.sum(axis=0).max()
    return values, sure, variance, share


def _widths_without_lines(
    model: NoiseModel, profile: NoiseProfile, values: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    correlations, power = profile.correlations.mean(axis=1), profile.spread**2
    lines = min(values.get("line", 0.0) ** 2 / power, 0.9) if power else 0.0
    in_row = np.array([down == 0 for down, _ in LAGS])
    correlations = (correlations - lines * in_row) / (1 - lines)
    along, across, share = widths_of(correlations, bool({"poisson", "gaussian"} & set(model.names)))
    return {"correlated along": along, "correlated across": across}, share


def _complete(model: NoiseModel, values: Mapping[str, float]) -> dict[str, float]:
    return {unknown.key: values.get(unknown.key, unknown.search_to / 2) for unknown in model.unknowns}
