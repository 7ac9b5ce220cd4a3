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

from pssr2_monai.calibration.grey_windows import Levels, grey_windows, places, sampling, warn_of_saturation
from pssr2_monai.calibration.noise_model import AUTO
from pssr2_monai.calibration.registration.alignment import MIN_SCORE, MIN_SIDE_PX, align
from pssr2_monai.crappify.crappify import DOWNSAMPLINGS, Downsample
from pssr2_monai.data.pairs import Sheet, check_pairs
from pssr2_monai.data.scales import MIN_CORRELATION, Contrast, blocks_of, fit_contrasts
from pssr2_monai.errors import InputError, nearest
from pssr2_monai.images.axes import is_volume
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, scaled_window

MIN_STRUCTURE_LEVELS = 1.0  # structure of an HR image in grey levels, below which its correlation means nothing
MIN_SHIFT_PX = 0.05  # LR pixels between LR and HR, below which nothing is moved
MIN_GOOD_SHARE = 0.01  # share of the pixels that must not be saturated
REGISTERS = ("shift", "none")
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating]
_Part = tuple[FloatArray, FloatArray, BoolArray, Levels, tuple[float, float]]


@dataclass(frozen=True)
class Reading:
    """How ``calibrate`` reads images."""

    scale: int | None
    downsample: str  # or AUTO
    register: str
    intensity: IntensitySettings
    pair_pattern: str | None
    axes: str | None
    image: int | str | None

    def validate(self) -> None:
        """Raise an InputError for an option that cannot be."""
        mode = DOWNSAMPLINGS[0] if self.downsample == AUTO else self.downsample
        Downsample(1 if self.scale is None else self.scale, mode)
        if is_volume(self.scale or 1):
            raise InputError(
                f"scale: {self.scale!r} is a volume's, but calibration takes plane by plane; give one number"
            )
        if self.register not in REGISTERS:
            near = nearest(self.register, REGISTERS)
            raise InputError(f"register: {self.register!r} is unknown{near}; use {' or '.join(REGISTERS)}")


@dataclass(frozen=True)
class Pairs:
    """Windows of LR images and of their downsampled HR partners; grey levels, ``(windows, Y, X)``."""

    clean: FloatArray  # the HR windows times the gain of their images, without the offset
    lr: FloatArray  # the real LR windows
    good: BoolArray  # pixels that no saturated HR pixel took part in
    offsets: FloatArray  # (windows,) to add to ``clean``
    levels: Levels  # of the LR file of each window
    image: npt.NDArray[np.intp]  # (windows,) number of the image of each
    names: list[str]  # file names of the LR images
    contrasts: list[Contrast]  # of each image
    saturated: tuple[float, float]  # share of saturated pixels, LR and HR

    @property
    def expected(self) -> FloatArray:
        return self.clean + self.offsets.astype(self.clean.dtype)[:, None, None]


def find_scale(sheets: Sequence[Sheet], axes: str | None = None, image: int | str | None = None) -> int:
    """Return HR size over LR size, from the first pair."""
    sheet = sheets[0]
    with open_image(sheet.label, axes, image) as hr, open_image(lr_path(sheet), axes, image) as lr:
        (hr_y, hr_x), (lr_y, lr_x) = plane_size(hr), plane_size(lr)
    if hr_y % lr_y or hr_x % lr_x or hr_y // lr_y != hr_x // lr_x:
        raise InputError(
            f"{lr_path(sheet).name}: {lr_y} x {lr_x} pixels, of which the {hr_y} x {hr_x} of {sheet.label.name} are "
            "not a whole multiple, the same along both sides; crop them, or register them first (pssr2 register)"
        )
    return hr_y // lr_y


def read_pairs(sheets: Sequence[Sheet], scale: int, pixels: int, reading: Reading, quiet: bool = False) -> Pairs:
    """Read windows of pairs, ``pixels`` LR pixels at most, spread over the files, their frames and planes.

    ``quiet`` shows no bar and warns of nothing.
    """
    check_pairs(sheets, scale, reading.axes, image=reading.image)
    side, numbers, count = sampling([lr_path(sheet) for sheet in sheets], pixels, reading.axes, reading.image)
    chosen, shrink, parts = [sheets[number] for number in numbers], Downsample(scale, reading.downsample), []
    for sheet in tqdm(chosen, desc="reading", unit="pair", disable=True if quiet else None):
        hr, lr, saturated, levels, shares = _read_pair(sheet, scale, side, count, reading)
        inside = np.ones(side, dtype=bool)
        if reading.register == "shift" and min(side) >= MIN_SIDE_PX:
            hr, saturated, inside = _move(lr, hr, saturated, scale)
        bad = np.asarray(saturated.reshape(len(saturated), side[0], scale, side[1], scale).any(axis=(2, 4)))
        if scale > 1:
            # Downsampling reaches a pixel further on every side, which at the ends of a window it cannot.
            if bad.any():
                bad = np.stack([binary_dilation(plane, np.ones((3, 3))) for plane in bad])
            bad[:, [0, -1]] = bad[:, :, [0, -1]] = True
            hr = np.asarray(shrink(hr))
        parts.append((hr, lr, ~bad & inside, levels, shares))
    pairs = _to_one_contrast(chosen, parts)
    if not quiet:
        for kind, share in zip(("LR", "HR"), pairs.saturated, strict=True):
            warn_of_saturation(kind, share)
    return pairs


def _to_one_contrast(sheets: Sequence[Sheet], parts: Sequence[_Part]) -> Pairs:
    *arrays, shares = zip(*parts, strict=True)
    hr, lr, good = map(np.concatenate, arrays[:3])
    levels = Levels.joined(arrays[3])
    image = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    limits = float(levels.bottom.min()), float(levels.top.max())
    contrasts = fit_contrasts([blocks_of(*part[:3]) for part in parts], limits)
    for sheet, contrast in zip(sheets, contrasts, strict=True):
        _check_field(sheet, contrast)
    lr_share, hr_share = np.mean(shares, axis=0).tolist()
    folder = sheets[0].label.parent
    if good.mean() < MIN_GOOD_SHARE:
        raise InputError(f"{folder}: the HR images are saturated almost everywhere; give others")
    if not any(contrast.structure > 0 for contrast in contrasts):
        raise InputError(f"{folder}: the HR images are constant; give images with structure, to which noise is fitted")
    gains = np.array([contrast.gain for contrast in contrasts], dtype=np.float32)
    offsets = np.array([contrast.offset for contrast in contrasts])
    return Pairs(
        clean=hr * gains[image][:, None, None],
        lr=lr,
        good=good,
        offsets=offsets[image],
        levels=levels,
        image=image,
        names=[lr_path(sheet).name for sheet in sheets],
        contrasts=contrasts,
        saturated=(lr_share, hr_share),
    )


def _read_pair(sheet: Sheet, scale: int, side: tuple[int, int], count: int, reading: Reading) -> _Part:
    """HR and LR windows in grey levels, saturated HR pixels, the LR levels, and the shares of saturated pixels."""
    with ExitStack() as opened:
        files = (sheet.label, lr_path(sheet))
        hr, lr = (opened.enter_context(open_image(path, reading.axes, reading.image)) for path in files)
        windows = places(lr, side, count)
        large = [(frame, scaled_window(window, scale, scale)) for frame, window in windows]
        lr_scales = fit_image_intensity(lr, reading.intensity)
        # As a training scales the HR images.
        hr_scales = fit_image_intensity(hr, reading.intensity, shrink=(scale, scale))
        lr_grey, lr_saturated = grey_windows(lr, lr_scales, windows)
        hr_grey, hr_saturated = grey_windows(hr, hr_scales, large)
        levels = Levels.of_windows(lr, lr_scales, [frame for frame, _ in windows], lr_grey, lr_saturated)
    return hr_grey, lr_grey, hr_saturated, levels, (float(lr_saturated.mean()), float(hr_saturated.mean()))


def _move(lr: FloatArray, hr: FloatArray, saturated: BoolArray, scale: int) -> tuple[FloatArray, BoolArray, BoolArray]:
    """HR windows on the LR windows, their saturated pixels, and which LR pixels ``(Y, X)`` have partners.

    All move by the shift of the window with most structure, if there is a clear one.
    """
    structured = int(np.argmax([window.std() for window in hr]))
    alignment = align(lr[structured], hr[structured], scale, model="shift")
    whole = np.ones(lr.shape[1:], dtype=bool)
    if alignment.score < MIN_SCORE or max(map(abs, alignment.shift)) < MIN_SHIFT_PX:
        return hr, saturated, whole
    place = Window(0, 0, *lr.shape[1:])
    moved = np.stack([alignment.resampled(window, place) for window in hr])
    if saturated.any():
        saturated = np.stack([alignment.resampled(window, place) > 0.05 for window in saturated])
    inside = np.zeros_like(whole)
    inside[alignment.window.slices()] = True
    return moved, saturated, inside


def _check_field(sheet: Sheet, contrast: Contrast) -> None:
    if contrast.structure < MIN_STRUCTURE_LEVELS:
        return
    if contrast.correlation < -MIN_CORRELATION:
        raise InputError(
            f"{lr_path(sheet).name}: is bright where {sheet.label.name} is dark (correlation "
            f"{contrast.correlation:.2f}); invert one of them"
        )
    if contrast.correlation < MIN_CORRELATION:
        raise InputError(
            f"{lr_path(sheet).name}: does not show the field of {sheet.label.name} (correlation "
            f"{contrast.correlation:.2f}); pair the right files, or register them first (pssr2 register)"
        )


def lr_path(sheet: Sheet) -> Path:
    assert sheet.image is not None
    return sheet.image
