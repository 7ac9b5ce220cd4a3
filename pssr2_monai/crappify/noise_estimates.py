"""Estimates of noise from single images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.optimize import nnls

FloatArray = NDArray[np.floating[Any]]

# Two Laplacians subtracted: blind to planes and slopes of brightness, so that mostly noise is left.
_LAPLACIAN_DIFFERENCE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


def noise_level(plane: np.ndarray) -> float:
    """Standard deviation of the noise of a plane ``(Y, X)`` in its grey levels; nan where a side is below 3 pixels.

    The mean absolute response to a difference of Laplacians (Immerkaer 1996, "Fast noise variance estimation"): fine
    structure counts as noise, so it is an upper estimate.
    """
    if min(plane.shape) < 3:
        return float("nan")
    response = convolve(plane.astype(np.float32), _LAPLACIAN_DIFFERENCE)[1:-1, 1:-1]
    return float(np.sqrt(np.pi / 2) / 6 * np.nanmean(np.abs(response)))


NORMAL_MEDIAN = 0.6745
"""The median of the absolute value of a normal deviate."""


def second_difference(images: FloatArray) -> FloatArray:
    """What no slope of brightness passes, and noise does with its own power: ``(..., Y - 2, X - 2)``.

    The second difference along both axes (Immerkaer 1996, Comput. Vis. Image Underst. 64:300).
    """
    along_y = images[..., :-2, :] - 2 * images[..., 1:-1, :] + images[..., 2:, :]
    return np.asarray((along_y[..., :-2] - 2 * along_y[..., 1:-1] + along_y[..., 2:]) / 6)


REWEIGHTED = 3
"""Rounds of a least-squares fit whose weights follow from what it found."""


def variance_line(
    brightness: FloatArray, variance: FloatArray, names: Sequence[str] = ("poisson", "gaussian")
) -> dict[str, float]:
    """Poisson intensity and Gaussian sigma of ``variance = intensity**2 * brightness + sigma**2``, neither negative.

    By least squares relative to the variance that the line itself gives, whose standard error goes with it.
    """
    columns = {"poisson": np.maximum(brightness, 0), "gaussian": np.ones_like(brightness)}
    chosen = [name for name in names if name in columns]
    if not chosen:
        return {}
    matrix = np.stack([columns[name] for name in chosen], axis=1)
    least = max(float(variance.mean()), 1e-6) / 100
    weight = np.full(len(variance), 1 / least)
    for _ in range(REWEIGHTED):
        found, _ = nnls(matrix * weight[:, None], variance * weight)
        weight = 1 / np.maximum(matrix @ found, least)
    return {name: math.sqrt(value) for name, value in zip(chosen, found, strict=True)}
