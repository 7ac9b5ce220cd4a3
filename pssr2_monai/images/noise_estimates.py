"""Estimates of noise from images: its standard deviation, and the line of its variance over brightness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

NORMAL_MEDIAN = 0.6745  # of the absolute value of a normal deviate
MAX_BLACK_SHARE = 0.5  # of the brightness of the darkest pixels, which the black level may reach
MIN_BLACK_ERRORS = 3.0  # standard errors by which the variance at zero brightness must be negative for a black level
_ROUNDS = 3  # of a least-squares fit whose weights follow from its result
FloatArray = npt.NDArray[np.floating[Any]]


def patches(images: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Return all square patches that images ``(..., Y, X)`` hold whole: ``(..., rows, columns, pixels)``."""
    rows, columns = (length // side for length in images.shape[-2:])
    whole = images[..., : rows * side, : columns * side].reshape(*images.shape[:-2], rows, side, columns, side)
    return whole.swapaxes(-3, -2).reshape(*images.shape[:-2], rows, columns, side * side)


def second_difference(images: FloatArray) -> FloatArray:
    """Return the second difference along Y and X: ``(..., Y - 2, X - 2)`` of ``(..., Y, X)``.

    No slope of brightness passes it, and white noise does with its own power (Immerkaer 1996, Comput. Vis. Image
    Underst. 64:300).
    """
    along_y = images[..., :-2, :] - 2 * images[..., 1:-1, :] + images[..., 2:, :]
    return np.asarray((along_y[..., :-2] - 2 * along_y[..., 1:-1] + along_y[..., 2:]) / 6)


def noise_level(plane: np.ndarray) -> float:
    """Return the standard deviation of the noise of a plane ``(Y, X)`` in its grey levels; nan below 3 pixels a side.

    From the mean absolute ``second_difference``. Fine structure counts as noise, so it is an upper estimate.
    """
    if min(plane.shape) < 3:
        return float("nan")
    return float(np.sqrt(np.pi / 2) * np.nanmean(np.abs(second_difference(plane.astype(np.float32)))))


def variance_line(
    brightness: FloatArray,
    variance: FloatArray,
    names: Sequence[str] = ("poisson", "gaussian"),
    weights: FloatArray | None = None,
) -> dict[str, float]:
    """Fit Poisson intensity and Gaussian sigma of ``variance = intensity**2 * brightness + sigma**2``, one a sample.

    By least squares relative to the variance that the line itself gives, which is proportional to its standard error.
    Neither is negative. Only noises out of ``names`` are fitted. ``weights`` of the samples are all 1 by default.
    """
    columns = {"poisson": np.maximum(brightness, 0), "gaussian": np.ones_like(brightness)}
    chosen = [name for name in names if name in columns]
    if not chosen:
        return {}
    matrix = np.stack([columns[name] for name in chosen], axis=1)
    least, sure = _least_variance(variance), _roots(weights, variance)
    weight = sure / least
    for _ in range(_ROUNDS):
        powers, _ = scipy.optimize.nnls(matrix * weight[:, None], variance * weight)
        weight = sure / np.maximum(matrix @ powers, least)
    return {name: math.sqrt(power) for name, power in zip(chosen, powers, strict=True)}


def black_level(brightness: FloatArray, variance: FloatArray, weights: FloatArray | None = None) -> float:
    """Return the brightness (grey levels) at which Poisson noise vanishes, where the line of the variance shows one.

    Detectors with a black level add it to images without any signal, and HR images hold it, too: their brightness is
    more than their signal. It is 0 where the line reaches zero brightness within three of its standard errors, and
    never more than half of the least brightness, so that no signal is cut off or left without noise.
    """
    if len(brightness) < 4:
        return 0.0
    least, sure = _least_variance(variance), _roots(weights, variance)
    columns = np.stack([brightness, np.ones_like(brightness)], axis=1)
    weight = sure / np.maximum(variance, least)
    for _ in range(_ROUNDS):
        (slope, ground), *_ = np.linalg.lstsq(columns * weight[:, None], variance * weight, rcond=None)
        line = columns @ (slope, ground)
        residuals, used = (variance - line) * weight, weight
        weight = sure / np.maximum(line, least)
    covariance = np.linalg.inv((columns * used[:, None]).T @ (columns * used[:, None]))
    error = math.sqrt(float(residuals @ residuals) / (len(residuals) - 2) * covariance[1, 1])
    if slope <= 0 or ground > -MIN_BLACK_ERRORS * error:
        return 0.0
    return max(0.0, min(float(-ground / slope), MAX_BLACK_SHARE * float(brightness.min())))


def _roots(weights: FloatArray | None, samples: FloatArray) -> FloatArray:
    return np.ones(len(samples)) if weights is None else np.sqrt(weights)


def _least_variance(variance: FloatArray) -> float:
    """The variance that weights are kept from exceeding the inverse of: a hundredth of the mean."""
    return max(float(variance.mean()), 1e-6) / 100
