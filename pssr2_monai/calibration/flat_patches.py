"""Noise of single images, from patches where nothing is to be seen: for LR images without HR partners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pssr2_monai.calibration.noise_model import black_level
from pssr2_monai.crappify.noise_estimates import NORMAL_MEDIAN, second_difference, variance_line
from pssr2_monai.errors import InputError

PATCH = 8
"""Side of a patch, pixels."""
FLATTEST = 0.3
"""Share of the patches of each brightness that are taken for flat."""
BINS = 16
FEWEST = 10
"""Flat patches in a bin, at least."""
PARTS = 10
"""The standard error comes from leaving out one of so many parts of the patches at a time (jackknife)."""
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class FlatNoise:
    """What flat patches tell.

    Attributes:
        values: Poisson intensity and Gaussian sigma, as far as asked for.
        errors: their standard errors.
        black: grey level of the images without signal, which Poisson noise leaves out.
        brightness: mean of each brightness bin.
        spread: standard deviation of the noise there.
    """

    values: dict[str, float]
    errors: dict[str, float]
    black: float
    brightness: FloatArray
    spread: FloatArray


def noise_of_flat_patches(
    images: FloatArray, good: npt.NDArray[np.bool_], names: Sequence[str] = ("poisson", "gaussian")
) -> FlatNoise:
    """Poisson and Gaussian noise of images by themselves: a line through the variance of flat patches by brightness.

    The idea is that of Foi et al. 2008 (IEEE Trans. Image Process. 17:1737), in plain terms: patches are flat by their
    neighbours' means, on which the noise inside has next to no influence; the noise is the median absolute value of a
    second difference. Fine texture counts as noise; noise that neighbouring pixels share does not.

    Args:
        images: ``(images, Y, X)`` grey levels.
        good: pixels that are not saturated.
        names: which of ``poisson`` and ``gaussian`` to find.

    Raises:
        InputError: images that are too small, constant, or saturated nearly everywhere.
    """
    if min(images.shape[1:]) < 3 * PATCH:
        raise InputError(
            f"LR images of {images.shape[1]} x {images.shape[2]} pixels are too small; 24 a side is the least"
        )
    means, steepness, details = [], [], []
    for image, use in zip(images, good, strict=True):
        mean = _patches(image).mean(axis=2)
        whole = np.asarray(_patches(use).all(axis=2))
        whole[[0, -1]] = whole[:, [0, -1]] = False
        means.append(mean[whole])
        steepness.append(np.hypot(*np.gradient(mean))[whole])
        details.append(np.abs(_patches(np.pad(second_difference(image), 1))[whole]))
    mean, detail = np.concatenate(means), np.concatenate(details)
    if len(mean) < BINS * FEWEST:
        raise InputError(
            f"only {len(mean)} patches of 8 x 8 LR pixels are not saturated; give larger images, or others"
        )
    bins, flat = _flat_of(mean, np.concatenate(steepness))
    brightness, spread = _curve(mean, detail, bins, flat)
    if not spread.any():
        raise InputError("the LR images are constant, or without any noise; there is nothing to measure")
    black = black_level(brightness, spread**2) if "poisson" in names else 0.0
    values = variance_line(brightness - black, spread**2, names)
    part = np.arange(len(mean)) * PARTS // len(mean)
    without = []
    for number in range(PARTS):
        curve = _curve(mean, detail, bins, flat & (part != number))
        without.append(variance_line(curve[0] - black, curve[1] ** 2, names))
    scale = (PARTS - 1) / np.sqrt(PARTS)
    errors = {name: float(np.std([each[name] for each in without]) * scale) for name in values}
    return FlatNoise(values, errors, black, brightness, spread)


def _flat_of(mean: FloatArray, steepness: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The brightness bin of each patch, and whether it is among the flattest there."""
    cuts = np.unique(np.quantile(mean, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(cuts, mean, side="right")
    flat = np.zeros(len(mean), dtype=bool)
    for number in range(len(cuts) + 1):
        inside = bins == number
        if inside.any():
            flat |= inside & (steepness <= np.quantile(steepness[inside], FLATTEST))
    return bins, flat


def _curve(
    mean: FloatArray, detail: FloatArray, bins: npt.NDArray[np.intp], flat: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Brightness and spread of the noise of each bin that has flat patches enough."""
    counts = np.bincount(bins[flat])
    kept = [number for number in range(len(counts)) if counts[number] >= FEWEST]
    chosen = [flat & (bins == number) for number in kept]
    brightness = np.array([mean[use].mean() for use in chosen])
    return brightness, np.array([np.median(detail[use]) / NORMAL_MEDIAN for use in chosen])


def _patches(image: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``(rows, columns, pixels)`` of the patches that an image holds whole."""
    rows, columns = (side // PATCH for side in image.shape)
    whole = image[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH)
    return whole.swapaxes(1, 2).reshape(rows, columns, PATCH * PATCH)
