"""Interpolation: what a restored image has to be better than."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pssr2_monai.axes import factors
from pssr2_monai.errors import InputError

__all__ = ["INTERPOLATIONS", "upscale"]

INTERPOLATIONS = ("bilinear", "bicubic")


def upscale(
    planes: npt.NDArray[np.float32], scale: int | Sequence[int], mode: str, sampled: str = "bilinear"
) -> npt.NDArray[np.float32]:
    """Interpolated planes, as ``PIL.Image.resize`` would enlarge them; of volumes along Z, too.

    Args:
        planes: ``(frames, Y, X)``.
        scale: one number for Y and X, or one for each of the frames, Y and X.
        mode: ``bilinear`` or ``bicubic`` (Keys 1981, a = -0.5).
        sampled: how the planes were downsampled: ``nearest`` pixels lie where the one was that was kept, others in the
            middle of those that they are made from.

    Returns:
        Float32, each axis its factor times as long.

    Raises:
        InputError: an unknown mode, or a scale of no whole numbers.
    """
    if mode not in INTERPOLATIONS:
        raise InputError(f"interpolation: {mode!r} is unknown; use {' or '.join(INTERPOLATIONS)}")
    for axis, factor in enumerate(factors(scale)):
        if factor > 1:
            centre = factor // 2 if sampled == "nearest" else (factor - 1) / 2
            places = (np.arange(planes.shape[axis] * factor) - centre) / factor
            planes = _at(planes, axis, places, mode)
    return planes


def _at(planes: npt.NDArray[np.float32], axis: int, places: np.ndarray, mode: str) -> npt.NDArray[np.float32]:
    """The planes at fractional places along an axis; samples beyond its ends are left out of the mean."""
    reach = 1 if mode == "bilinear" else 2
    first = np.floor(places).astype(int) - reach + 1
    length = planes.shape[axis]
    shape = [-1 if each == axis else 1 for each in range(planes.ndim)]
    sums, weights = np.float32(0), np.zeros(len(places))
    for tap in range(2 * reach):
        index = first + tap
        weight = np.where((index >= 0) & (index < length), _kernel(np.abs(places - index), mode), 0)
        weights += weight
        sums = sums + weight.astype(np.float32).reshape(shape) * planes.take(index.clip(0, length - 1), axis)
    enlarged: npt.NDArray[np.float32] = sums / weights.astype(np.float32).reshape(shape)
    return enlarged


def _kernel(distance: np.ndarray, mode: str) -> np.ndarray:
    """The weight of a sample at a distance, in samples."""
    if mode == "bilinear":
        return np.clip(1 - distance, 0, None)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
