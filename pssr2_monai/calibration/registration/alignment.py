"""Aligning an LR and an HR image of one field that differ in contrast and noise, to a fraction of a pixel.

Places are ``(y, x)`` in LR pixels, counted from the centre of the first one. HR pixel ``i`` lies at
``(i + 0.5) / scale - 0.5`` of them, so that the map between the images of a perfect pair is the identity.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.linalg import polar
from scipy.ndimage import affine_transform, gaussian_filter

from pssr2_monai.calibration.registration.matching import MAX_SHIFT_SHARE, MODELS, refine, search, windowed
from pssr2_monai.errors import InputError
from pssr2_monai.images.windows import Window

MIN_SCORE = 7.0
"""Scores of images that do not belong together stay below this, as a rule; see ``scripts/benchmark_register.py``."""
MIN_SIDE_PX = 24  # LR pixels that an image must have along each side
SEARCH_SIDE_PX = 160  # side down to which images are binned for the search over rotations and sizes
FINE_PIXELS = 2**18  # LR pixels to which images are binned for the refinement; more cost time and change nothing
MAX_REFINEMENT_PX = 4.0  # the search comes within two pixels, so that a refinement that goes farther has failed
SMOOTHING_PX = 0.5  # sigma in LR pixels for the refinement; more costs accuracy even where noise is strong
SCORED_BAND_PX = (2.0, 6.0)  # sigmas in LR pixels: structure of sizes between them decides the score
FADING = 0.5  # share of the image's side over which its borders fade out for the score
SPLINE_REACH_PX = 16  # HR pixels to which a pixel influences a cubic spline, as 0.27 to their power
FloatArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Alignment:
    """The place of an LR image in the HR image of the same field."""

    matrix: FloatArray  # (2, 3), from a place (y, x, 1) in the LR image to that in the HR image, as defined above
    lr_size: tuple[int, int]  # height and width
    hr_size: tuple[int, int]
    scale: int  # HR pixels for each LR pixel
    score: float  # by how many standard deviations the likeness stands out from that at other places; see MIN_SCORE
    correlation: float  # of structures of middle size in the aligned images; negative where the contrast is inverted

    @property
    def shift(self) -> tuple[float, float]:
        """How far down and to the right the centre of the LR image lies in the HR image, in LR pixels."""
        centre = (np.array(self.lr_size) - 1) / 2
        down, right = self.matrix[:, :2] @ centre + self.matrix[:, 2] - centre
        return float(down), float(right)

    @property
    def rotation(self) -> float:
        """By how many degrees the HR image is turned anticlockwise against the LR image."""
        turn, _ = polar(self.matrix[:, :2])
        return math.degrees(math.atan2(turn[1, 0], turn[0, 0]))

    @property
    def ratio(self) -> float:
        """How much larger things are in the HR image than the scale alone makes them."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    @cached_property
    def window(self) -> Window:
        """The LR pixels all of whose HR pixels have their centre in the HR image: a rectangle, perhaps an empty one."""
        return _shared(self.matrix, self.lr_size, self.hr_size, self.scale)

    def source(self, window: Window) -> Window:
        """Return the HR pixels that ``resampled`` needs for a window of LR pixels; some may lie outside the image."""
        ends = (window.y, window.y + window.height), (window.x, window.x + window.width)
        corners = np.array([[y - 0.5, x - 0.5, 1] for y in ends[0] for x in ends[1]])
        places = (corners @ self.matrix.T + 0.5) * self.scale
        top, left = (np.floor(places.min(0)) - SPLINE_REACH_PX).astype(int).tolist()
        bottom, right = (np.ceil(places.max(0)) + SPLINE_REACH_PX).astype(int).tolist()
        return Window(top, left, bottom - top, right - left)

    def resampled(self, hr: npt.NDArray[Any], window: Window, source: Window | None = None) -> FloatArray:
        """Interpolate HR over a window of LR pixels, in float32; what is not finite makes the pixels around it so.

        LR pixels stay as they are: interpolation would smooth their noise, which calibration measures and networks are
        to learn. The cubic spline on their grid may exceed the HR image's grey levels.

        ``hr`` is the image ``(Y, X)``, or the part of it in ``source``: see the method of this name.
        """
        linear = self.matrix[:, :2]
        corner = np.array([window.y, window.x]) + 0.5 / self.scale - 0.5
        start = self.scale * (linear @ corner + self.matrix[:, 2] + 0.5) - 0.5
        start -= (source.y, source.x) if source else (0, 0)
        size = (window.height * self.scale, window.width * self.scale)
        pixels = np.asarray(hr, dtype=np.float32)
        unknown = ~np.isfinite(pixels)
        if unknown.any():
            pixels = np.where(unknown, 0, pixels)
        resampled = affine_transform(pixels, linear, start, output_shape=size, order=3, mode="mirror")
        if unknown.any():
            touched = affine_transform(
                unknown.astype(np.float32), linear, start, output_shape=size, order=1, mode="mirror"
            )
            resampled[touched > 0] = np.nan
        return resampled


def align(lr: npt.NDArray[Any], hr: npt.NDArray[Any], scale: int, model: str = "similarity") -> Alignment:
    """Find the place of an LR image ``(Y, X)`` in the HR image of the same field, a little larger or smaller perhaps.

    Phase correlation, over rotations of up to 4 degrees and sizes of up to 4 % more or less where the model has them,
    gives the start; Mattes' mutual information refines it. Contrast may differ and be inverted. Pixels that are not
    finite count as the image's mean.

    Example:
        >>> image = np.random.default_rng(0).normal(size=(64, 80))
        >>> align(image, image, scale=1, model="shift").window
        Window(y=0, x=0, height=64, width=80)
    """
    if model not in MODELS:
        raise InputError(f"model: {model!r} is unknown; use {', '.join(MODELS)}")
    if lr.ndim != 2 or hr.ndim != 2:
        raise InputError(f"images of {lr.ndim} and {hr.ndim} dimensions cannot be aligned; give planes (Y, X)")
    lr_size, hr_size = (int(lr.shape[0]), int(lr.shape[1])), (int(hr.shape[0]), int(hr.shape[1]))
    check_fields(lr_size, hr_size, scale)
    lr, hr = _finite(lr), _finite(hr)
    matrix = np.eye(2, 3)
    if not lr.std() or not hr.std():
        return Alignment(matrix, lr_size, hr_size, scale, 0.0, 0.0)
    coarse = math.ceil(max(lr_size) / SEARCH_SIDE_PX)
    fine = min(coarse, math.ceil(math.sqrt(lr.size / FINE_PIXELS)))
    small = _binned(lr, coarse), _binned(hr, coarse)
    matrix = _rescaled(search(small[0], _binned(small[1], scale), model), coarse)
    for factor in sorted({coarse, fine}, reverse=True):
        refined = start = _rescaled(matrix, 1 / factor)
        lr_smooth = gaussian_filter(_binned(lr, factor), SMOOTHING_PX)
        hr_smooth = gaussian_filter(_binned(hr, factor), SMOOTHING_PX * scale)
        with suppress(RuntimeError):  # too little structure for ITK: the score will show it
            refined = refine(lr_smooth, hr_smooth, scale, start, model)
        if farthest_corner(refined - start, lr_smooth.shape) > MAX_REFINEMENT_PX:
            refined = start
        matrix = _rescaled(refined, factor)
    score, correlation = _likeness(lr_smooth, hr_smooth, scale, refined)
    return Alignment(matrix, lr_size, hr_size, scale, score, correlation)


def farthest_corner(matrix: FloatArray, size: tuple[int, ...]) -> float:
    """Return how far a matrix ``(2, 3)``, the difference of two maps, moves a corner of an image, at most."""
    corners = np.array([[y, x, 1] for y in (0, size[0] - 1) for x in (0, size[1] - 1)])
    return float(np.linalg.norm(corners @ matrix.T, axis=1).max())


def check_fields(lr_size: tuple[int, int], hr_size: tuple[int, int], scale: int) -> None:
    """Check that images of these sizes can show one field."""
    if not isinstance(scale, (int, np.integer)) or scale < 1:
        raise InputError(f"scale: {scale!r} is not a whole number of at least 1")
    sizes = f"LR {lr_size[0]} x {lr_size[1]} and HR {hr_size[0]} x {hr_size[1]} pixels"
    for lr_side, hr_side in zip(lr_size, hr_size, strict=True):
        if min(lr_side, hr_side // scale) < MIN_SIDE_PX:
            raise InputError(f"{sizes} at scale {scale} are too few; {MIN_SIDE_PX} LR pixels a side can be aligned")
        if not 2 / 3 <= hr_side / (lr_side * scale) <= 3 / 2:
            raise InputError(f"{sizes} do not fit the scale {scale}; set scale, or crop the larger field first")


def _finite(image: npt.NDArray[Any]) -> FloatArray:
    """The image in float32 around 0, where no precision is lost to an offset."""
    pixels = np.array(image, dtype=np.float32)
    known = np.isfinite(pixels)
    pixels -= pixels[known].mean(dtype=np.float64) if known.any() else 0.0
    pixels[~known] = 0.0
    return pixels


def _binned(image: FloatArray, factor: int) -> FloatArray:
    """Means over squares of pixels; what is left over at the lower and right border is dropped."""
    rows, columns = (side // factor for side in image.shape)
    whole = image[: rows * factor, : columns * factor]
    return whole.reshape(rows, factor, columns, factor).mean((1, 3))


def _rescaled(matrix: FloatArray, factor: float) -> FloatArray:
    """A map in pixels as one in pixels that are ``factor`` times as many along a side."""
    moved = matrix[:, 2] * factor - (matrix[:, :2].sum(1) - 1) * (factor - 1) / 2
    return np.column_stack([matrix[:, :2], moved])


def _likeness(lr: FloatArray, hr: FloatArray, scale: int, matrix: FloatArray) -> tuple[float, float]:
    """Score and correlation of two images under a map in pixels of ``lr``.

    With ``r`` the correlation and ``s`` its standard deviation over displacements, ``1 / s**2`` is the number of
    independent places, and ``-log(1 - r**2) / s**2`` how much likelier the images are as a pair, twice its logarithm
    for Gaussian grey levels; the score is its root. It is ``r / s`` for a small ``r``.
    """
    window = _shared(matrix, lr.shape, hr.shape, scale)
    if window.height * window.width < lr.size * (1 - MAX_SHIFT_SHARE) ** 2 / 2:
        return 0.0, 0.0
    onto = affine_transform(
        hr, scale * matrix[:, :2], scale * (matrix[:, 2] + 0.5) - 0.5, output_shape=lr.shape, order=1
    )
    place, (fine, coarse) = window.slices(), SCORED_BAND_PX
    lr_band, hr_band = (
        windowed(gaussian_filter(image[place], fine) - gaussian_filter(image[place], coarse), FADING)
        for image in (lr, onto)
    )
    norm = math.sqrt(float((lr_band**2).sum() * (hr_band**2).sum()))
    if not norm:
        return 0.0, 0.0
    surface = fft.ifft2(fft.fft2(lr_band) * fft.fft2(hr_band).conj()).real / norm
    correlation = float(surface[0, 0])
    far = np.hypot(*np.meshgrid(*(fft.fftfreq(side, 1 / side) for side in surface.shape), indexing="ij")) > 2 * fine
    score = math.sqrt(-math.log(1 - min(correlation**2, 1 - 1e-4))) / float(surface[far].std())
    return score, correlation


def _shared(matrix: FloatArray, lr_size: tuple[int, ...], hr_size: tuple[int, ...], scale: int) -> Window:
    """See ``Alignment.window``: each side moves inwards until its corners lie in the HR image."""
    top, left, bottom, right = 0, 0, lr_size[0] - 1, lr_size[1] - 1
    inner = 0.5 - 0.5 / scale  # from an LR pixel's centre to that of the outermost HR pixel in it
    reach = [side / scale - 0.5 + 1e-6 for side in hr_size]
    moved = True
    while moved and top <= bottom and left <= right:
        moved = False
        edges = (top - inner, bottom + inner), (left - inner, right + inner)
        corners = np.array([[y, x, 1] for y in edges[0] for x in edges[1]]) @ matrix.T
        (low_y, low_x), (high_y, high_x) = corners.min(0), corners.max(0)
        steps = [low_y < -0.5 - 1e-6, low_x < -0.5 - 1e-6, high_y > reach[0], high_x > reach[1]]
        top, left, bottom, right = top + steps[0], left + steps[1], bottom - steps[2], right - steps[3]
        moved = any(steps)
    return Window(int(top), int(left), max(0, int(bottom - top) + 1), max(0, int(right - left) + 1))
