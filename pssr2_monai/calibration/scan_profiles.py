"""Noise profiles of scans by themselves: what is left of flat patches behind filters that pass no slope.

All values are grey levels of an 8-bit image (0 to 255); images come as one stack ``(images, Y, X)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError
from pssr2_monai.images.noise_estimates import NORMAL_MEDIAN, patches

PATCH_SIDE = 8  # side of a patch, pixels
FLAT_SHARE = 0.3  # share of the patches of each brightness that are taken for flat
BRIGHTNESS_BINS = 16  # at most
USUAL_PATCHES = 20  # flat patches for which a bin is made
MIN_PATCHES = 10  # flat patches of a bin that counts, at least
LEAST_PATCHES = 160  # whole patches, flat or not
STEPS = (1, 2, 4)
FILTERS = tuple((down, right) for down in STEPS for right in STEPS)
"""Steps along Y and X of second differences along both axes: no slope passes, and no straight edge along an axis."""
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FlatPatches:
    """Patches of a stack of images where little is to be seen, ``(patches,)`` each."""

    image: npt.NDArray[np.intp]
    row: npt.NDArray[np.intp]  # in patches
    column: npt.NDArray[np.intp]
    brightness: FloatArray  # the mean of each
    bins: npt.NDArray[np.intp]  # bin of brightness
    cuts: FloatArray  # brightness between one bin and the next

    def of(self, planes: FloatArray) -> FloatArray:
        """The pixels of the patches in a stack, ``(patches, pixels)``."""
        return np.asarray(patches(planes, PATCH_SIDE)[self.image, self.row, self.column])

    def counts(self) -> npt.NDArray[np.intp]:
        return np.bincount(self.bins, minlength=len(self.cuts) + 1)

    def bin_brightness(self) -> FloatArray:
        weights = np.bincount(self.bins, weights=self.brightness, minlength=len(self.cuts) + 1)
        return np.asarray(weights / np.maximum(self.counts(), 1))


def usual_bins(images: FloatArray) -> int:
    """Return the number of brightness bins for which images ``(images, Y, X)`` have enough flat patches."""
    inside = len(images) * max(images.shape[1] // PATCH_SIDE - 2, 0) * max(images.shape[2] // PATCH_SIDE - 2, 0)
    return max(1, min(BRIGHTNESS_BINS, int(FLAT_SHARE * inside / USUAL_PATCHES)))


def flat_patches(
    images: FloatArray, good: BoolArray, cuts: FloatArray | None = None, most_bins: int = BRIGHTNESS_BINS
) -> FlatPatches:
    """Find the flattest patches of each brightness; those of an edge, and with pixels that are not good, are left out.

    ``cuts`` between the bins of brightness are those of other images; by default there are ``most_bins`` at most.

    Whether a patch is flat is decided by its neighbours' means, on which the noise inside has next to no influence
    (the idea of Foi et al. 2008, IEEE Trans. Image Process. 17:1737, in plain terms).
    """
    if min(images.shape[1:]) < 3 * PATCH_SIDE:
        raise InputError(
            f"LR images of {images.shape[1]} x {images.shape[2]} pixels are too small; {3 * PATCH_SIDE} a side is the "
            "least"
        )
    means = patches(images, PATCH_SIDE).mean(axis=-1)
    whole = np.asarray(patches(good, PATCH_SIDE).all(axis=-1))
    whole[:, [0, -1]] = whole[:, :, [0, -1]] = False
    if cuts is None and whole.sum() < LEAST_PATCHES:
        raise InputError(
            f"only {whole.sum()} patches of 8 x 8 LR pixels are not saturated; give larger images, or others"
        )
    steepness = np.hypot(*np.gradient(means, axis=(1, 2)))[whole]
    index, brightness = np.nonzero(whole), means[whole]
    if cuts is None:
        bins = min(most_bins, int(FLAT_SHARE * len(brightness) / USUAL_PATCHES))
        cuts = np.unique(np.quantile(brightness, np.linspace(0, 1, bins + 1)[1:-1]))
    bin_of = np.searchsorted(cuts, brightness, side="right")
    flat = np.zeros(len(brightness), dtype=bool)
    for number in range(len(cuts) + 1):
        inside = bin_of == number
        if inside.any():
            flat |= inside & (steepness <= np.quantile(steepness[inside], FLAT_SHARE))
    image, row, column = (part[flat] for part in index)
    return FlatPatches(image, row, column, brightness[flat], bin_of[flat], cuts)


def details(images: FloatArray, flat: FlatPatches, filters: Sequence[tuple[int, int]] = FILTERS) -> FloatArray:
    """Return the absolute values behind each filter in the patches, ``(filters, patches, pixels)``.

    White noise passes each filter with its own power.
    """
    behind = np.empty((len(filters), len(flat.image), PATCH_SIDE**2), np.float32)
    along_y = {step: _second_difference(images, step, 1) for step, _ in filters}
    for number, (down, right) in enumerate(filters):
        behind[number] = np.abs(flat.of(_second_difference(along_y[down], right, 2)))
    return behind / 6


def spreads(behind: FloatArray, flat: FlatPatches) -> FloatArray:
    """Return the standard deviation behind each filter for each brightness, ``(filters, bins)``, from medians.

    It is NaN where there are too few patches.
    """
    spread = np.full((len(behind), len(flat.cuts) + 1), np.nan)
    for number in np.flatnonzero(flat.counts() >= MIN_PATCHES):
        inside = behind[:, flat.bins == number].reshape(len(behind), -1)
        spread[:, number] = np.median(inside, axis=1) / NORMAL_MEDIAN
    return spread


def factors_of_images(
    behind: FloatArray, flat: FlatPatches, image: npt.NDArray[np.intp], weights: FloatArray
) -> FloatArray:
    """Return how strong the noise of each image is next to the middle one, at the same brightness.

    ``image`` is the number of the image of each window, ``weights`` are those of the spreads, ``(FILTERS, bins)``.
    """
    number, weights = image[flat.image], weights[:, flat.bins]
    factors = np.ones(int(image.max()) + 1)
    for _ in range(3):  # what the images have in common, and what each has of its own, in turn
        common = spreads(behind / factors[number].astype(np.float32)[None, :, None], flat)[:, flat.bins]
        ratio = np.median(behind, axis=2) / NORMAL_MEDIAN / np.maximum(common, 1e-6)
        of_patch = np.average(ratio, axis=0, weights=weights)
        medians = [
            np.nanmedian(of_patch[number == one]) if (number == one).any() else 1.0 for one in range(len(factors))
        ]
        factors = np.nan_to_num(np.array(medians), nan=1.0).clip(0.05, 20.0)
        factors = factors / np.exp(np.median(np.log(factors)))
    return factors


def _second_difference(images: FloatArray, step: int, axis: int) -> FloatArray:
    """Second difference along an axis, of the same shape; 0 where it would reach beyond the ends."""
    length = images.shape[axis]
    ends = [slice(None)] * images.ndim

    def part(start: int, stop: int) -> tuple[slice, ...]:
        return (*ends[:axis], slice(start, stop), *ends[axis + 1 :])

    difference = np.zeros_like(images)
    inside = difference[part(step, length - step)]
    np.multiply(images[part(step, length - step)], -2, out=inside)
    inside += images[part(0, length - 2 * step)]
    inside += images[part(2 * step, length)]
    return difference
