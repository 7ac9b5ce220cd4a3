"""Areas of an image without data: padding of one value around it or within, as alignment and masks leave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # whose parts are loaded when they are used

from pssr2_monai.images.levels import black_and_white, noise_of
from pssr2_monai.images.noise_estimates import patches

SOLID_SIDE_PX = 4  # of the least square of one value that counts as an area without data
MIN_SHARE = 0.02  # of the pixels that lie in such areas
MAX_SCATTERED_SHARE = 0.01  # of the other pixels that have the value, too: a black level has it everywhere
MIN_STEP = 0.05  # from the value to the pixels around, as a share of the image's range: data fade into a black level
MIN_STEP_NOISE = 3.0  # the same, in standard deviations of the noise

Planes = npt.NDArray[Any]


def padding_value(windows: Sequence[Planes]) -> float | None:
    """The value of the areas of an image that hold no data, if there are any, from samples ``(Y, X)`` of it."""
    flat = [window for window in windows if window.ndim == 2 and min(window.shape) >= SOLID_SIDE_PX]
    if not flat or np.mean([_constant_share(window) for window in flat]) < MIN_SHARE / 2:
        return None
    levels = black_and_white(windows)
    if levels is None:
        return None
    least_step = max(MIN_STEP * (levels[1] - levels[0]), MIN_STEP_NOISE * noise_of(windows))
    inner = [window[_solid_corners(window)] for window in flat]
    candidates, counts = np.unique(np.concatenate(inner), return_counts=True)
    for value in candidates[np.argsort(-counts)][:2]:
        areas = [solid(window, value) for window in flat]
        covered = sum(int(area.sum()) for area in areas)
        rims = [scipy.ndimage.maximum_filter(area, 3) & ~area for area in areas]
        rim = np.concatenate([window[edge] for window, edge in zip(flat, rims, strict=True)])
        others = np.concatenate([window[~area] for window, area in zip(flat, areas, strict=True)])
        if (
            covered >= MIN_SHARE * sum(area.size for area in areas)
            and len(rim)
            and np.mean(others == value) <= MAX_SCATTERED_SHARE
            and abs(np.median(rim) - float(value)) >= least_step
        ):
            return float(value)
    return None


def solid(planes: Planes, value: float) -> npt.NDArray[np.bool_]:
    """Which pixels of ``(..., Y, X)`` lie in areas of a value, of squares of 4 pixels a side at least."""
    size = (1,) * (planes.ndim - 2) + (SOLID_SIDE_PX,) * 2
    equal = planes == value
    if not equal.any():
        return np.asarray(equal)
    # Beyond the edges everything counts as equal: what lies there is not known.
    eroded = scipy.ndimage.minimum_filter(equal, size, mode="constant", cval=True)
    shift = (0,) * (planes.ndim - 2) + (-1,) * 2  # an even size is not centred
    return np.asarray(scipy.ndimage.maximum_filter(eroded, size, mode="constant", cval=False, origin=shift) & equal)


def without_data(planes: Planes, padding: float | None) -> npt.NDArray[np.bool_] | None:
    """Which pixels of ``(..., Y, X)`` are not finite or padding; None where all are data."""
    missing = None if planes.dtype.kind != "f" else ~np.isfinite(planes)
    if padding is not None:
        areas = solid(planes, padding)
        missing = areas if missing is None else missing | areas
    return missing if missing is not None and missing.any() else None


def filled(planes: Planes, missing: npt.NDArray[np.bool_] | None) -> Planes:
    """Planes ``(..., Y, X)`` with the nearest pixel with data in place of those without; 0 where a plane has none."""
    if missing is None:
        return planes
    result = planes.copy()
    for index in np.ndindex(planes.shape[:-2]):
        if missing[index].all():
            result[index] = np.where(np.isfinite(planes[index]), planes[index], 0)
        elif missing[index].any():
            nearest = scipy.ndimage.distance_transform_edt(missing[index], return_distances=False, return_indices=True)
            result[index] = planes[index][tuple(nearest)]
    return result


def _constant_share(window: Planes) -> float:
    """The share of squares of a grid that have one value: a quick look."""
    squares = patches(window, SOLID_SIDE_PX)
    return float(np.mean(squares.min(axis=-1) == squares.max(axis=-1)))


def _solid_corners(window: Planes) -> npt.NDArray[np.bool_]:
    """The pixels whose square of 4 pixels a side has one value."""
    return np.asarray(
        scipy.ndimage.minimum_filter(window, SOLID_SIDE_PX) == scipy.ndimage.maximum_filter(window, SOLID_SIDE_PX)
    )
