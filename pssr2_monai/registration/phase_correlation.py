"""Where two images of one pixel size lie upon one another, found over shifts, turns and sizes by their phases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import affine_transform
from scipy.signal.windows import tukey

__all__ = ["FARTHEST_SHIFT", "search", "windowed"]

DEGREES = np.arange(-4.0, 4.1)
RATIOS = np.arange(0.96, 1.041, 0.01)
FARTHEST_SHIFT = 0.25
"""Of the image's side. Farther off, the little that overlaps is alike by chance."""

PASSED = (0.02, 0.15)
"""Cycles a pixel, between which the phases are correlated: neither shading nor what is mostly noise."""

FloatArray = npt.NDArray[Any]


def search(lr: FloatArray, hr: FloatArray, model: str) -> FloatArray:
    """The map between two images of one pixel size at the highest peak of their phase correlation.

    The peak's absolute value is taken, so that inverted contrast is found, too. scikit-image's function takes its peak
    anywhere and does not tell its height; here it lies within ``FARTHEST_SHIFT``, and turns and sizes compete by it.
    """
    shape = tuple(max(sides) for sides in zip(lr.shape, hr.shape, strict=True))
    near = _near(shape, lr.shape, hr.shape)
    lr, lr_corner = _placed(lr, shape)
    hr, hr_corner = _placed(hr, shape)
    frequency = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
    low, high = PASSED
    passed = np.exp(-0.5 * (frequency / high) ** 2) * -np.expm1(-0.5 * (frequency / low) ** 2)
    lr_phases = _phases(lr) * passed
    centre = (np.array(shape) - 1) / 2
    best, found = -1.0, np.eye(2, 3)
    for degrees in [0.0] if model == "shift" else DEGREES:
        for ratio in RATIOS if model in ("similarity", "affine") else [1.0]:
            angle = math.radians(degrees)
            linear = ratio * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            turned = affine_transform(hr, linear, centre - linear @ centre, order=1)
            surface = np.abs(fft.irfft2(lr_phases * _phases(turned).conj(), shape)) * near
            peak = np.unravel_index(int(surface.argmax()), shape)
            if surface[peak] > best:
                best = float(surface[peak])
                moved = [at if at <= side // 2 else at - side for at, side in zip(peak, shape, strict=True)]
                start = linear @ (lr_corner - moved - centre) + centre - hr_corner
                found = np.column_stack([linear, start])
    return found


def _placed(image: FloatArray, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """The image, faded out, in the middle of zeros, and where its corner lies there."""
    corner = np.array([(whole - own) // 2 for whole, own in zip(shape, image.shape, strict=True)])
    placed = np.zeros(shape, np.float32)
    rows, columns = (slice(first, first + side) for first, side in zip(corner, image.shape, strict=True))
    placed[rows, columns] = windowed(image)
    return placed, corner


def _near(shape: tuple[int, ...], lr_size: tuple[int, ...], hr_size: tuple[int, ...]) -> FloatArray:
    """Where in a correlation surface shifts are near enough: 1 there, else 0."""
    along = []
    for whole, own, other in zip(shape, lr_size, hr_size, strict=True):
        farthest = FARTHEST_SHIFT * min(own, other) + abs(own - other) / 2
        along.append(np.abs(fft.fftfreq(whole, 1 / whole)) <= farthest)
    return np.outer(*along)


def windowed(image: FloatArray, fading: float = 1.0) -> FloatArray:
    """The image about its mean, fading to 0 at its borders over a share of its side, both ends together."""
    weights = np.outer(*(tukey(side + 2, fading)[1:-1] for side in image.shape))
    return (image - (image * weights).sum() / weights.sum()) * weights


def _phases(image: FloatArray) -> npt.NDArray[np.complexfloating[Any, Any]]:
    spectrum = fft.rfft2(image)
    return spectrum / np.maximum(np.abs(spectrum), np.finfo(np.float32).tiny)
