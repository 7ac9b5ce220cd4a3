"""Windows of real LR and HR images, read in bounded memory, brought to one contrast, and checked to show one field."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from tqdm import tqdm

from pssr2_monai.calibration.contrast import Contrast, blocks_of, fit_contrasts
from pssr2_monai.calibration.windows import (
    PLACES,
    Levels,
    evenly,
    grey_windows,
    levels_of,
    places,
    warn_of_saturation,
    window_size,
)
from pssr2_monai.crappify import Downsample
from pssr2_monai.errors import InputError
from pssr2_monai.intensity import IntensitySettings
from pssr2_monai.io.image import open_image
from pssr2_monai.io.sheets import fit_image_intensity, plane_size
from pssr2_monai.pairs import Sheet, check_pairs
from pssr2_monai.registration.alignment import MIN_SCORE, SMALLEST, align
from pssr2_monai.tiles import Window

__all__ = ["Pairs", "find_scale", "read_pairs"]

LEAST_CORRELATION = 0.4
"""Of the block means of LR and HR, below which they are taken for different fields."""

LEAST_SHIFT = 0.05
"""LR pixels between LR and HR below which nothing is moved."""

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Windows of LR images and of their downsampled HR partners; grey levels, ``(windows, Y, X)``.

    Attributes:
        clean: the HR windows times the gain of their images, without the offset.
        lr: the real LR windows.
        good: pixels that no saturated HR pixel took part in.
        offsets: ``(windows,)`` to add to ``clean``.
        levels: of the LR file of each window.
        image: ``(windows,)`` number of the image of each.
        names: file names of the LR images.
        contrasts: of each image.
        saturated: share of saturated pixels, LR and HR.
    """

    clean: FloatArray
    lr: FloatArray
    good: BoolArray
    offsets: FloatArray
    levels: Levels
    image: npt.NDArray[np.intp]
    names: list[str]
    contrasts: list[Contrast]
    saturated: tuple[float, float]

    @property
    def expected(self) -> FloatArray:
        """What the LR images would be without noise."""
        return self.clean + self.offsets.astype(self.clean.dtype)[:, None, None]


def find_scale(sheets: Sequence[Sheet], axes: str | None = None) -> int:
    """HR size over LR size, from the first pair.

    Raises:
        InputError: no whole number, or not the same along Y and X.
    """
    sheet = sheets[0]
    with open_image(sheet.label, axes=axes) as hr, open_image(_lr_of(sheet), axes=axes) as lr:
        (hr_y, hr_x), (lr_y, lr_x) = plane_size(hr), plane_size(lr)
    if hr_y % lr_y or hr_x % lr_x or hr_y // lr_y != hr_x // lr_x:
        raise InputError(
            f"{_lr_of(sheet).name}: {lr_y} x {lr_x} pixels do not go whole into the {hr_y} x {hr_x} of "
            f"{sheet.label.name}, along both sides alike; crop them, or register them first (pssr2 register)"
        )
    return hr_y // lr_y


def read_pairs(
    sheets: Sequence[Sheet],
    scale: int,
    *,
    pixels: int,
    downsample: str = "bilinear",
    intensity: IntensitySettings | None = None,
    register: str = "shift",
    axes: str | None = None,
    stack: str = "TZ",
    progress: bool = False,
) -> Pairs:
    """Reads windows of pairs, spread over the files, their frames and planes.

    Args:
        sheets: the pairs.
        scale: HR size over LR size.
        pixels: how many LR pixels to read, at most.
        downsample: how the HR images are shrunk; see ``crappify.Downsample``.
        intensity: how grey levels are found.
        register: ``shift`` moves each HR image to where its LR image lies; ``none`` takes the pairs as they are.
        axes: axes of files that do not tell theirs.
        stack: order of T and Z.
        progress: whether to show a progress bar.

    Raises:
        InputError: sizes that do not fit; an LR and an HR image that do not show one field, or whose contrast is
            inverted; images without structure; or nothing but saturated pixels.
    """
    check_pairs(sheets, scale, axes, stack)
    side = window_size([_lr_of(sheet) for sheet in sheets], axes)
    chosen = [sheets[number] for number in evenly(len(sheets), max(1, pixels // (side[0] * side[1])))]
    each = max(1, min(PLACES, pixels // (side[0] * side[1] * len(chosen))))
    settings = intensity or IntensitySettings()
    source = _Source(scale, side, each, settings, register, axes, stack)
    bar = tqdm(chosen, desc="reading", unit="pair", disable=None if progress else True)
    parts = [_read_pair(sheet, source, Downsample(scale, downsample)) for sheet in bar]
    hr, lr, good, levels = (np.concatenate([getattr(part, name) for part in parts]) for name in _Part.ARRAYS)
    image = np.repeat(np.arange(len(parts)), [len(part.hr) for part in parts])
    blocks = [blocks_of(part.hr, part.lr, part.good) for part in parts]
    contrasts = fit_contrasts(blocks, (float(levels[:, 2].min()), float(levels[:, 3].max())))
    names = [_lr_of(sheet).name for sheet in chosen]
    for sheet, contrast in zip(chosen, contrasts, strict=True):
        _check_field(sheet, contrast)
    lr_share, hr_share = (float(np.mean([part.saturated[k] for part in parts])) for k in (0, 1))
    warn_of_saturation("LR", lr_share)
    warn_of_saturation("HR", hr_share)
    if good.mean() < 0.01:
        raise InputError(f"{chosen[0].label.parent}: the HR images are saturated almost everywhere; give others")
    if not any(contrast.structure > 0 for contrast in contrasts):
        raise InputError(
            f"{chosen[0].label.parent}: the HR images are constant; noise is fitted to images of something"
        )
    gains = np.array([contrast.gain for contrast in contrasts], dtype=np.float32)
    offsets = np.array([contrast.offset for contrast in contrasts])
    clean = hr * gains[image][:, None, None]
    return Pairs(clean, lr, good, offsets[image], Levels(*levels.T), image, names, contrasts, (lr_share, hr_share))


@dataclass(frozen=True)
class _Source:
    """How windows are read; see ``read_pairs``."""

    scale: int
    side: tuple[int, int]
    count: int
    intensity: IntensitySettings
    register: str
    axes: str | None
    stack: str


@dataclass(frozen=True)
class _Part:
    """The windows of one pair."""

    ARRAYS = ("hr", "lr", "good", "levels")
    hr: FloatArray
    lr: FloatArray
    good: BoolArray
    levels: FloatArray
    saturated: tuple[float, float]


def _read_pair(sheet: Sheet, source: _Source, downsample: Downsample) -> _Part:
    scale, side, stack = source.scale, source.side, source.stack
    with ExitStack() as opened:
        hr, lr = (opened.enter_context(open_image(path, axes=source.axes)) for path in (sheet.label, _lr_of(sheet)))
        windows = places(lr, side, source.count, stack)
        large = [(frame, Window(w.y * scale, w.x * scale, w.height * scale, w.width * scale)) for frame, w in windows]
        lr_range, hr_range = (fit_image_intensity(image, source.intensity, stack) for image in (lr, hr))
        lr_grey, lr_cut = grey_windows(lr, lr_range, windows, stack)
        hr_grey, hr_cut = grey_windows(hr, hr_range, large, stack)
        levels = np.tile(levels_of(lr, lr_range, lr_grey, lr_cut), (len(lr_grey), 1))
    share = float(lr_cut.mean()), float(hr_cut.mean())
    inside = np.ones(side, dtype=bool)
    if source.register == "shift" and min(side) >= SMALLEST:
        hr_grey, hr_cut, inside = _moved(lr_grey, hr_grey, hr_cut, scale)
    cut = np.asarray(hr_cut.reshape(len(hr_cut), side[0], scale, side[1], scale).any(axis=(2, 4)))
    if scale > 1:
        # Downsampling looks a pixel further on every side, and at the ends of a window not as far as it should.
        if cut.any():
            cut = np.stack([binary_dilation(plane, np.ones((3, 3))) for plane in cut])
        cut[:, [0, -1]] = cut[:, :, [0, -1]] = True
        hr_grey = np.asarray(downsample(hr_grey))
    return _Part(hr_grey, lr_grey, ~cut & inside, levels, share)


def _moved(lr: FloatArray, hr: FloatArray, cut: BoolArray, scale: int) -> tuple[FloatArray, BoolArray, BoolArray]:
    """HR windows where the LR windows lie, their saturated pixels, and the LR pixels ``(Y, X)`` that have partners.

    The shift is that of the window with most structure; where none is found, or next to none, all stays in place.
    """
    most = int(np.argmax([window.std() for window in hr]))
    found = align(lr[most], hr[most], scale, model="shift")
    whole = np.ones(lr.shape[1:], dtype=bool)
    if found.score < MIN_SCORE or max(map(abs, found.shift)) < LEAST_SHIFT:
        return hr, cut, whole
    place = Window(0, 0, *lr.shape[1:])
    moved = np.stack([found.resampled(window, place) for window in hr])
    moved_cut = np.stack([found.resampled(window, place) > 0.05 for window in cut]) if cut.any() else cut
    inside = np.zeros_like(whole)
    inside[found.window.slices()] = True
    return moved, moved_cut, inside


def _check_field(sheet: Sheet, contrast: Contrast) -> None:
    """Refuses a pair whose brightness does not go together."""
    if contrast.structure < 1.0:
        return  # Less than a grey level of structure: nothing to tell by.
    if contrast.correlation < -LEAST_CORRELATION:
        raise InputError(
            f"{_lr_of(sheet).name}: is bright where {sheet.label.name} is dark (correlation "
            f"{contrast.correlation:.2f}); invert one of them"
        )
    if contrast.correlation < LEAST_CORRELATION:
        raise InputError(
            f"{_lr_of(sheet).name}: does not show the field of {sheet.label.name} (correlation "
            f"{contrast.correlation:.2f}); pair the right files, or register them first (pssr2 register)"
        )


def _lr_of(sheet: Sheet) -> Path:
    assert sheet.image is not None
    return sheet.image
