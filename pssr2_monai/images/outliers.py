"""Hot and dead pixels, which are mended before a network spreads them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

USUAL_SHARE = 97.5  # percent of pixels whose distance from their neighbours is taken for noise and structure
OUTLYING = 4.0  # times that distance: some eleven standard deviations of white noise, which no image reaches by chance
SPREAD_SHARE = 0.08  # of its own height, by which a point source raises its neighbours; a hot pixel does not
STUCK_SHARE = 0.4  # of the threshold, beyond which pixels at an end of the range lie if they are stuck there
STUCK_THRESHOLD = 0.1  # of the threshold, beyond which such pixels are mended
NEAR_END = 0.1  # of the threshold, within which of such an end fewer pixels lie than at it
MIN_STUCK_PIXELS = 3  # from which on the least or the greatest value of an image may be such an end
ROUNDS = 3
_NEXT = ((-1, 0), (1, 0), (0, -1), (0, 1))
_RING = ((-2, 0), (2, 0), (0, -2), (0, 2), (-2, -2), (-2, 2), (2, -2), (2, 2))  # pixels at distance 2

Planes = npt.NDArray[Any]


def outlier_threshold(windows: Sequence[Planes]) -> float:
    """The distance from its neighbours, in grey levels, beyond which a pixel of an image is an outlier.

    Infinite where the distances of ordinary pixels are 0, as in images that hold nothing but a few counts.

    Args:
        windows: samples ``(Y, X)`` of the image.
    """
    distances = [np.abs(window - _neighbours(window)).ravel() for window in map(_as_floats, windows)]
    finite = np.concatenate([part[np.isfinite(part)] for part in distances]) if distances else np.empty(0)
    usual = float(np.percentile(finite, USUAL_SHARE)) if finite.size else 0.0
    return OUTLYING * usual if usual > 0 else float("inf")


def mended(planes: Planes, threshold: float) -> Planes:
    """Planes ``(..., Y, X)`` with isolated outliers replaced by the middle of their good neighbours; of the same dtype.

    An outlier lies further than ``threshold`` from the middle of its four neighbours, while these are as dark as what
    lies around them: the image of a point that a microscope resolved at all spreads to them. Pixels that are stuck at
    an end of the range are recognised by their number, also in lines. The input is returned where it has no outlier,
    and is never changed.
    """
    if not np.isfinite(threshold) or min(planes.shape[-2:]) < 3:
        return planes
    # A pixel between two outliers is seen when these are mended.
    for _ in range(ROUNDS):
        before, planes = planes, _mended(planes, threshold)
        if planes is before:
            break
    return planes


def _mended(planes: Planes, threshold: float) -> Planes:
    values = _as_floats(planes)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = _neighbours(values)
        distances = np.abs(values - middle)
        if distances.max(initial=0) <= threshold * STUCK_SHARE:
            return planes
        stuck = _stuck(planes, distances, threshold)
        places = np.nonzero(distances > np.where(stuck, threshold * STUCK_THRESHOLD, threshold))
        if not len(places[0]):
            return planes
        *frames, rows, columns = places
        height, width = planes.shape[-2:]
        ring = [
            values[(*frames, _inside(rows + down, height), _inside(columns + right, width))] for down, right in _RING
        ]
        around = np.median(ring, axis=0)
        spread = (middle[places] - around) / (values[places] - around)
        outlying = (np.abs(spread) < SPREAD_SHARE) | np.broadcast_to(stuck, planes.shape)[places]
    if not outlying.any():
        return planes
    where = tuple(axis[outlying] for axis in places)
    good = values.copy() if values is planes else values
    good[where] = np.nan
    *frames, rows, columns = where
    around = [good[(*frames, _inside(rows + down, height), _inside(columns + right, width))] for down, right in _NEXT]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of pixels within a cluster, which has to shrink first
        mends = np.nanmedian(around, axis=0)
    mends = np.where(np.isnan(mends), planes[where], mends)
    result = planes.copy()
    result[where] = mends if planes.dtype.kind == "f" else np.rint(mends)
    return result


def _stuck(planes: Planes, distances: Planes, threshold: float) -> Planes | np.bool_:
    """Which pixels of integers are stuck at an end of the range: more have its value than values near it, and most of
    them differ from their neighbours by far more than noise that is cut off there.
    """
    if planes.dtype.kind not in "iu":
        return np.False_
    stuck = []
    for end, sign in ((planes.min(), 1), (planes.max(), -1)):
        at_end = planes == end
        count = int(at_end.sum())
        if count < MIN_STUCK_PIXELS or np.median(distances[at_end]) <= threshold * STUCK_SHARE:
            continue
        near = sign * (planes.astype(np.float64) - float(end)) <= max(1, threshold * NEAR_END)
        if count > int(near.sum()) - count:
            stuck.append(at_end)
    return np.asarray(np.logical_or.reduce(stuck)) if stuck else np.False_


def _as_floats(planes: Planes) -> Planes:
    return planes if planes.dtype.kind == "f" else planes.astype(np.float32 if planes.itemsize <= 2 else np.float64)


def _neighbours(planes: Planes) -> Planes:
    """The mean of the middle two of each pixel's four neighbours, mirrored at the edges."""
    margins = [(0, 0)] * (planes.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(planes, margins, mode="reflect" if min(planes.shape[-2:]) > 1 else "edge")
    up, down = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    lower = np.maximum(np.minimum(up, down), np.minimum(left, right))
    upper = np.minimum(np.maximum(up, down), np.maximum(left, right))
    return np.asarray(lower + (upper - lower) / 2)


def _inside(index: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.intp]:
    """Indices mirrored into an axis that they leave by up to 2."""
    index = np.abs(index)
    return np.where(index >= size, 2 * (size - 1) - index, index)
