"""From folders of images to MONAI datalists of tiles, split by place."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.data.pairs import Sheet, check_pairs, group_of, sheets_of
from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors, frames_of, is_volume, lr_hr_frames, sample_centres
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.windows import (
    Window,
    fit_image_intensity,
    grid,
    plane_size,
    read_window,
    regions_by_place,
    sample_pixels,
)

FILES_FOR_SPLIT_BY_FILE = 4
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TileSettings:
    """How sheets become tiles.

    Attributes:
        tile: side of a tile in HR pixels.
        overlap: HR pixels that neighbouring tiles share.
        scale: HR size over LR size; tiles divide by it. Three numbers, for Z, Y and X, make volumes of runs of frames.
        n_frames: HR frames of a sample, or ``[LR, HR]``.
        stack: order of T and Z.
        axes: axes of files that do not state their own, such as ZYX.
        slide: samples of several frames move on by one frame rather than by their length. Volumes that do not slide lie
            anywhere in their run where tiles lie at random positions.
        split: which images are for validation: ``file`` (the last files by name), ``place`` (a part of each sheet), a
            regular expression whose group names the field (the last fields), or ``auto`` (by file from four files on,
            else by place).
        val_fraction: share of files, fields or area for validation, at least a file, field or tile; 0 for none.
        guard: HR pixels left out between training and validation in a split by place.
        intensity: how pixel values become [0, 1]; one scale for each file.
        min_std: leave out tiles whose standard deviation, in grey levels of 0..255, is not above this: flat padding.
            Looking costs a reading of every tile; None leaves nothing out.
        val_tiles: at most so many validation tiles, spread evenly over all there are; None for all.
        pair_pattern: regular expression whose group is what the names of partners have in common.
        skip_bad: leave out files that cannot be used, saying so, instead of stopping.
    """

    tile: int = 128
    overlap: int = 0
    scale: int | Sequence[int] = 4
    n_frames: int | Sequence[int] = 1
    stack: str = "TZ"
    axes: str | None = None
    slide: bool = True
    split: str = "auto"
    val_fraction: float = 0.2
    guard: int = 0
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    min_std: float | None = None
    val_tiles: int | None = None
    pair_pattern: str | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.tile < 1 or self.tile % self.multiple:
            raise InputError(f"tile: {self.tile} does not divide by the scale {self.scale}; take a multiple of it")
        lr_hr_frames(self.n_frames, self.scale)
        if not 0 <= self.val_fraction < 1:
            raise InputError(f"val_fraction: {self.val_fraction} is not in [0, 1); 0.2 holds out a fifth")

    @property
    def multiple(self) -> int:
        """What the side of a tile divides by."""
        return math.lcm(*factors(self.scale)[1:])

    @property
    def label_frames(self) -> int:
        """Frames of the label that a sample is made from: of 2.5D all that the network sees."""
        return lr_hr_frames(self.n_frames, self.scale)[0] * factors(self.scale)[0]


@dataclass(frozen=True)
class TileLists:
    """Datalists for training and validation, and what is known of the images they come from.

    Each item names its sheet's files under ``label`` and, for pairs, ``image`` and ``extra``; its ``window``,
    ``region``, ``frame`` and ``intensity`` (see ``transforms.LoadTiled``); and ``name``, which identifies it.
    """

    training: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    pixel_size: dict[str, float]
    intensity: IntensitySettings


def tile_lists(
    hr_dir: str | Path,
    settings: TileSettings,
    lr_dir: str | Path | None = None,
    extra_dir: str | Path | None = None,
) -> TileLists:
    """Datalists of the images in a folder, or of the pairs in two.

    Args:
        hr_dir: folder of HR images.
        settings: how they are tiled and split.
        lr_dir: folder of their real LR partners; without it a crappifier is to make them.
        extra_dir: folder of third images, of the HR images' size.

    Raises:
        InputError: a folder is missing or empty, a file cannot be read, an image is too small for the tile, partners do
            not match, or the split leaves nothing to train on.

    Example:
        >>> lists = tile_lists("images", TileSettings(tile=128, scale=4))
        >>> lists.training[0]["window"]  # corner and size, in Y and X
        [0, 0, 128, 128]
    """
    if lr_dir is not None and settings.intensity.scope == "dataset":
        raise InputError("intensity: scope 'dataset' is for HR images alone, since pairs have two scales; use 'file'")
    sheets = _usable(sheets_of(hr_dir, lr_dir, extra_dir, settings.pair_pattern), settings)
    held_out = _held_out([sheet.label for sheet in sheets], settings)
    shared = shared_intensities(sheets, settings) if settings.intensity.scope == "dataset" else {}
    training: list[dict[str, Any]] = []
    validation: list[dict[str, Any]] = []
    sizes: list[dict[str, float]] = []
    for sheet in sheets:
        with ExitStack() as opened:
            images = {key: opened.enter_context(open_image(path, settings.axes)) for key, path in sheet.files().items()}
            label = images["label"]
            # Tiles of pairs lie on the grid of the LR pixels, so that both images have the tile's corners.
            step = settings.multiple if sheet.image is not None else 1
            regions = _regions(label, settings, held_out, step)
            scales = shared or {
                key: fit_image_intensity(image, settings.intensity, settings.stack) for key, image in images.items()
            }
            for region, items in zip(regions, (training, validation), strict=True):
                if region is not None:
                    items.extend(_items(label, sheet, region, step, scales, settings))
            sizes.append(dict(label.pixel_size))
    if not training:
        raise InputError(f"{hr_dir}: no tile is left to train on; hold out less (val_fraction) or add images")
    intensity = IntensitySettings("fixed", shared["label"].low, shared["label"].high) if shared else settings.intensity
    if settings.val_tiles and len(validation) > settings.val_tiles:
        places = np.linspace(0, len(validation) - 1, settings.val_tiles).round().astype(int)
        validation = [validation[place] for place in places]
    return TileLists(training, validation, sizes[0] if all(size == sizes[0] for size in sizes) else {}, intensity)


def _usable(sheets: Sequence[Sheet], settings: TileSettings) -> list[Sheet]:
    """The sheets that can be tiled; the first that cannot stops the job unless bad ones are to be skipped."""
    usable = []
    for sheet in sheets:
        try:
            with open_image(sheet.label, settings.axes) as label:
                _check_size(label, sheet, settings)
                fit_image_intensity(label, settings.intensity, settings.stack)
            if len(sheet.files()) > 1:
                check_pairs([sheet], settings.scale, settings.axes, settings.stack)
        except InputError as error:
            if not settings.skip_bad:
                raise
            logger.warning("left out: %s", error)
        else:
            usable.append(sheet)
    if not usable:
        raise InputError(f"{sheets[0].label.parent}: none of its {len(sheets)} images can be used")
    return usable


def shared_intensities(sheets: Sequence[Sheet], settings: TileSettings) -> dict[str, Intensity]:
    """One scale for the files of each key, from samples of all of them."""
    samples: dict[str, list[np.ndarray]] = {}
    for sheet in sheets:
        for key, path in sheet.files().items():
            with open_image(path, settings.axes) as image:
                pixels = np.concatenate([window.ravel() for window in sample_pixels(image, settings.stack)])
            # Of many files a part of each will do; the step is odd, so that it does not follow the rows.
            samples.setdefault(key, []).append(pixels[:: 1 + 2 * (len(sheets) // 8)])
    scales = {}
    for key, pixels_of in samples.items():
        if len({pixels.dtype for pixels in pixels_of}) > 1:
            raise InputError(
                f"{sheets[0].label.parent}: files of different types cannot share one intensity scale; "
                "convert them, or set intensity#scope to 'file'"
            )
        scales[key] = settings.intensity.fit(np.concatenate(pixels_of), pixels_of[0].dtype, f"{key} images")
    return scales


def _check_size(image: LazyImage, sheet: Sheet, settings: TileSettings) -> None:
    height, width = plane_size(image)
    if sheet.image is not None and min(height, width) < settings.tile:
        # Mirrored at two resolutions, the padding of the two images would not match.
        raise InputError(
            f"{image.path.name}: {height} x {width} pixels are less than a tile of {settings.tile}; for pairs "
            f"set tile to {min(height, width) // settings.multiple * settings.multiple} or less"
        )
    if 2 * min(height, width) < settings.tile:
        largest = 2 * min(height, width) // settings.multiple * settings.multiple
        raise InputError(
            f"{image.path.name}: {height} x {width} pixels are less than half a tile of {settings.tile}; "
            f"give larger images, or set tile to {largest} or less"
        )
    frames_of(image.axes, image.shape, settings.stack).check_n_frames(settings.label_frames, image.path.name)


def _held_out(paths: Sequence[Path], settings: TileSettings) -> set[Path] | None:
    """Files that are wholly for validation; None in a split by place."""
    split = settings.split
    if split == "auto":
        split = "file" if len(paths) >= FILES_FOR_SPLIT_BY_FILE else "place"
    if split == "place":
        return None
    if settings.val_fraction == 0:
        return set()
    fields = {path: path.name if split == "file" else group_of(path, split, "split") for path in paths}
    names = list(dict.fromkeys(fields.values()))
    count = max(1, round(len(names) * settings.val_fraction))
    if count >= len(names):
        raise InputError(f"split: {len(names)} files or fields cannot be divided; add images, or use split 'place'")
    last = set(names[-count:])
    return {path for path, name in fields.items() if name in last}


def _regions(
    image: LazyImage, settings: TileSettings, held_out: set[Path] | None, step: int
) -> tuple[Window | None, Window | None]:
    """Parts of a sheet for training and for validation, with corners that are multiples of ``step``."""
    height, width = plane_size(image)
    if held_out is None:
        # At least a tile, so that small sheets can be divided, too.
        least = (settings.tile + step - 1) / max(height, width)
        fraction = settings.val_fraction and max(settings.val_fraction, least)
        try:
            training, validation = regions_by_place((height, width), settings.tile, fraction, settings.guard)
        except InputError as error:
            raise InputError(f"{image.path.name}: {error}") from None
        return training, validation and _aligned(validation, step)
    whole = Window(0, 0, height, width)
    return (None, whole) if image.path in held_out else (whole, None)


def _aligned(region: Window, step: int) -> Window:
    """The part of a region that begins at multiples of ``step``."""
    y, x = (-(-start // step) * step for start in (region.y, region.x))
    return Window(y, x, region.height - (y - region.y), region.width - (x - region.x))


def _items(
    label: LazyImage, sheet: Sheet, region: Window, step: int, scales: dict[str, Intensity], settings: TileSettings
) -> list[dict[str, Any]]:
    """The tiles of one region of one sheet."""
    frames = frames_of(label.axes, label.shape, settings.stack)
    shape = (region.height // step, region.width // step)
    windows = [
        Window(window.y * step + region.y, window.x * step + region.x, settings.tile, settings.tile)
        for window in grid(shape, settings.tile // step, settings.overlap // step)
    ]
    frame_step = factors(settings.scale)[0] if sheet.image is not None else 1
    wandering = is_volume(settings.scale) and not settings.slide
    return [
        {
            "name": f"{sheet.label.name} frame {frame} y {window.y} x {window.x}",
            **{key: str(path) for key, path in sheet.files().items()},
            "frame": frame,
            **({"run": [frame - frame % frames.run, frames.run]} if wandering else {}),
            "window": list(astuple(window)),
            "region": list(astuple(_around(window, region, step) if settings.min_std is not None else region)),
            "intensity": {key: [scale.low, scale.high] for key, scale in scales.items()},
        }
        for frame in sample_centres(frames, settings.label_frames, settings.slide, step=frame_step)
        for window in windows
        if settings.min_std is None or _deviation(label, frame, window, scales["label"], settings) > settings.min_std
    ]


def _around(window: Window, region: Window, step: int) -> Window:
    """Where a tile with content may wander: a quarter of its side each way, within the region."""
    reach = window.height // 4 // step * step
    top, left = max(region.y, window.y - reach), max(region.x, window.x - reach)
    bottom = min(region.y + region.height, window.y + window.height + reach)
    right = min(region.x + region.width, window.x + window.width + reach)
    return Window(top, left, bottom - top, right - left)


def _deviation(label: LazyImage, frame: int, window: Window, scale: Intensity, settings: TileSettings) -> float:
    """Standard deviation of a tile in grey levels of 0..255."""
    return float(scale.apply(read_window(label, [frame], window, settings.stack)).std() * 255)
