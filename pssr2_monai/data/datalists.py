"""From folders of images to MONAI datalists of tiles, split by place."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.data.pairs import Sheet, find_misfits, refuse_mask, refuse_misfits, sheets_of
from pssr2_monai.data.scales import Blocks, Scales, blocks_of_pair, scale_of_samples, shared_sample, to_lr_levels
from pssr2_monai.data.tile_choice import MIN_FILES_TO_SPLIT_BY_FILE, in_mask, validation_files, with_content
from pssr2_monai.data.tiles import SheetTiles, Tiles
from pssr2_monai.errors import InputError, nearest
from pssr2_monai.images.axes import Frames, factors, frames_of, is_volume, lr_hr_frames, sample_centres
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.masks import MaskLabels, misfit
from pssr2_monai.images.windows import (
    Window,
    fit_image_intensity,
    plane_size,
    regions_by_place,
)
from pssr2_monai.progress import counted

DEFAULT_TILE = 128
SUPERVISIONS = ("clean", "noise2noise", "blind_spot")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TileSettings:
    """How sheets become tiles.

    Attributes:
        tile: side of a tile in HR pixels, a multiple of the scale; 128 becomes the next smaller multiple.
        overlap: HR pixels that neighbouring tiles share.
        scale: HR size over LR size; tiles divide by it. Three numbers, for Z, Y and X, make volumes of runs of frames.
        n_frames: HR frames of a sample, or ``[LR, HR]``.
        stack: order of T and Z; C for joint channels, which make the frames of a sample: a network takes all of them.
        axes: axes of files that do not state their own, such as ZYX.
        image: number (from 1) or name of the image to read of files that hold several; by default the largest that is
            no thumbnail, label or overview.
        slide: samples of several frames move on by one frame rather than by their length. Volumes that do not slide lie
            anywhere in their run where tiles lie at random positions.
        split: which images are for validation: ``file`` (the last files by name), ``place`` (a part of each sheet), a
            regular expression whose group names the field (the last fields), or ``auto`` (by file from four files on,
            else by place).
        val_fraction: share of files, fields or area for validation, at least a file, field or tile; 0 for none.
        guard: HR pixels left out between training and validation in a split by place.
        intensity: how pixel values become [0, 1]; one scale for each channel of a file. It is that of the LR image:
            for HR images alone, that of an image downsampled from it; for pairs, HR is brought to the grey levels of
            LR by the gain and offset between the two, unless the mode is "fixed".
        min_std: leave out tiles whose standard deviation, in grey levels of 0..255, is not above this. All tiles are
            read for it; None leaves out only tiles of which padding is more than half.
        val_tiles: greatest number of validation tiles, which are spread evenly over the images; None for all.
        pair_pattern: regular expression whose group is the part of the name that partners share.
        supervision: what the network learns from: ``clean``, HR images; or, at scale 1, noisy scans alone:
            ``noise2noise``, two of each field, or ``blind_spot``, one.
        skip_bad: leave out files that cannot be used, with a warning, instead of stopping.
        masks: folder of masks of the HR images, with their names and sizes, and one frame or as many.
        include: labels of the masks that are used, separated by commas; by default all but 0.
        exclude: labels that are not used, while all others are.
        mask_share: share of the pixels of a tile that must be in its mask; only those in it count in the loss.
    """

    tile: int = DEFAULT_TILE
    overlap: int = 0
    scale: int | Sequence[int] = 4
    n_frames: int | Sequence[int] = 1
    stack: str = "TZ"
    axes: str | None = None
    image: int | str | None = None
    slide: bool = True
    split: str = "auto"
    val_fraction: float = 0.2
    guard: int = 0
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    min_std: float | None = None
    val_tiles: int | None = None
    pair_pattern: str | None = None
    supervision: str = "clean"
    skip_bad: bool = False
    masks: str | Path | None = None
    include: int | str | Sequence[int] | None = None
    exclude: int | str | Sequence[int] | None = None
    mask_share: float = 0.25

    def __post_init__(self) -> None:
        smaller = max(1, self.tile // self.multiple) * self.multiple
        if self.tile == DEFAULT_TILE != smaller:
            logger.info("tile: %d pixels, since %d does not divide by the scale %s", smaller, self.tile, self.scale)
            object.__setattr__(self, "tile", smaller)
        if self.tile < 1 or self.tile % self.multiple:
            raise InputError(
                f"tile: {self.tile} does not divide by the scale {self.scale}; take a multiple of {self.multiple}, "
                f"such as {smaller}"
            )
        lr_hr_frames(self.n_frames, self.scale)
        if self.supervision not in SUPERVISIONS:
            close = nearest(self.supervision, SUPERVISIONS)
            raise InputError(f"supervision: {self.supervision!r} is unknown{close} ({', '.join(SUPERVISIONS)})")
        if self.supervision != "clean" and set(factors(self.scale)) != {1}:
            raise InputError(f"scale: {self.scale}, but {self.supervision} learns to denoise alone; set scale to 1")
        if not 0 <= self.val_fraction < 1:
            raise InputError(f"val_fraction: {self.val_fraction} is not in [0, 1); 0.2 holds out a fifth")
        if not 0 < self.mask_share <= 1:
            raise InputError(f"mask_share: {self.mask_share} is not in (0, 1]; 0.25 asks for a quarter of a tile")
        self.mask_labels.check(self.masks)

    @property
    def mask_labels(self) -> MaskLabels:
        return MaskLabels.of(self.include, self.exclude)

    @property
    def multiple(self) -> int:  # of HR pixels, for the side of a tile
        return math.lcm(*factors(self.scale)[1:])

    @property
    def label_frames(self) -> int:
        """Frames of the label that a sample is made from: for 2.5D all that the network sees."""
        return lr_hr_frames(self.n_frames, self.scale)[0] * factors(self.scale)[0]


@dataclass(frozen=True)
class TileLists:
    """Datalists for training and validation, with the pixel size and the intensity of their images.

    Their items are computed when they are asked for. Each names its sheet's files under ``label`` and, for pairs,
    ``image`` and ``extra``; its ``window``, ``region``, ``frame``, ``intensity`` and ``limits`` (see
    ``loading.LoadTiled``); and ``name``, which identifies it. ``contrast`` has, for pairs, the median gain and offset
    from HR to LR, in grey levels of the files.
    """

    training: Tiles
    validation: Tiles
    pixel_size: dict[str, float]
    intensity: IntensitySettings
    images: str = ""  # identifies them by their names and sizes
    contrast: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _OpenedSheet:
    """What a sheet's files told when they were open; only ``min_std`` needs to open one again."""

    sheet: Sheet
    plane: tuple[int, int]  # height and width of the label in pixels
    frames: Frames
    pixel_size: dict[str, float]
    scales: Scales
    lr_dtype: np.dtype[Any]
    samples: list[np.ndarray]  # windows of the label, where one scale is fitted to all files
    blocks: dict[str, list[Blocks]]  # for pairs: of each key but ``image``, for each channel


def tile_lists(
    hr_dir: str | Path,
    settings: TileSettings,
    lr_dir: str | Path | None = None,
    extra_dir: str | Path | None = None,
) -> TileLists:
    """Make datalists of the images in a folder, or of the pairs in two; ``extra_dir`` has third images.

    With one folder for both, its images are scans of which two show one field, by ``pair_pattern``, or stacks of them.

    Example:
        >>> lists = tile_lists("images", TileSettings(tile=128, scale=4))
        >>> lists.training[0]["window"]  # corner and size, in Y and X
        [0, 0, 128, 128]
    """
    if settings.supervision == "blind_spot" and lr_dir is not None:
        raise InputError("lr_dir: blind_spot takes one scan of a field; leave it out, or use noise2noise for pairs")
    if extra_dir is not None and settings.masks is not None:
        raise InputError("masks: cannot be used with extra_dir, whose images they would not hide; leave one out")
    if lr_dir is not None and settings.intensity.scope == "dataset":
        raise InputError("intensity: scope 'dataset' is for HR images alone, since pairs have two scales; use 'file'")
    sheets = _usable_sheets(sheets_of(hr_dir, lr_dir, extra_dir, settings.pair_pattern, settings.masks), settings)
    held_out = validation_files([opened.sheet.label for opened in sheets], settings)
    intensity, contrast = settings.intensity, dict[str, float]()
    if intensity.scope == "dataset":
        shared = scale_of_samples([o.samples for o in sheets], intensity, factors(settings.scale)[1:], Path(hr_dir))
        sheets = [replace(opened, scales=dict.fromkeys(opened.sheet.files(), (shared,))) for opened in sheets]
        intensity = IntensitySettings("fixed", shared.low, shared.high)
    elif sheets[0].blocks and intensity.mode != "fixed":
        scales, contrast = to_lr_levels(
            [opened.scales for opened in sheets],
            [opened.blocks for opened in sheets],
            [opened.lr_dtype for opened in sheets],
            [{key: path.name for key, path in opened.sheet.files().items()} for opened in sheets],
        )
        sheets = [replace(opened, scales=new, blocks={}) for opened, new in zip(sheets, scales, strict=True)]
    training: list[SheetTiles] = []
    validation: list[SheetTiles] = []
    for opened in sheets:
        # Tiles of pairs lie on the grid of the LR pixels, so that both images have the tile's corners.
        step = settings.multiple if opened.sheet.image is not None else 1
        regions = _regions(opened, settings, held_out, step)
        in_regions = [None if region is None else _tiles(opened, region, step, settings) for region in regions]
        _check_masked(opened.sheet, in_regions, settings)
        for tiles, part in zip(in_regions, (training, validation), strict=True):
            if tiles is not None:
                part.append(tiles)
    lists = Tiles(training), Tiles(validation, settings.val_tiles)
    if not lists[0]:
        raise InputError(f"{hr_dir}: {_no_training_tile(settings)}")
    if not lists[1] and settings.val_fraction > 0:
        logger.warning("%s", _no_validation(sheets, bool(validation), settings))
    sizes = [opened.pixel_size for opened in sheets]
    pixel_size = sizes[0] if all(size == sizes[0] for size in sizes) else {}
    return TileLists(*lists, pixel_size, intensity, _identity(sheets), contrast)


def _check_masked(sheet: Sheet, in_regions: Sequence[SheetTiles | None], settings: TileSettings) -> None:
    if sheet.mask is not None and not any(len(tiles) for tiles in in_regions if tiles is not None):
        raise InputError(
            f"{sheet.mask}: no tile of {settings.tile} pixels has a share of {settings.mask_share:g} in this mask; "
            "check the mask, include and exclude, or set a smaller tile or mask_share"
        )


def _identity(sheets: Sequence[_OpenedSheet]) -> str:
    """Identify images wherever they lie: by names, bytes, pixels and frames."""
    files = [(path.name, path.stat().st_size) for opened in sheets for path in opened.sheet.files().values()]
    return f"{zlib.crc32(repr([files, [(opened.plane, opened.frames) for opened in sheets]]).encode()):08x}"


def _no_training_tile(settings: TileSettings) -> str:
    if settings.min_std is not None or settings.masks is not None:
        return f"no tile to train on {_condition(settings)}; set a smaller one"
    return "no tile is left to train on; hold out less (val_fraction) or add images"


def _condition(settings: TileSettings) -> str:
    if settings.min_std is not None:
        return f"is above min_std {settings.min_std:g}"
    return "holds data" if settings.masks is None else f"has the mask_share {settings.mask_share:g} in its mask"


def _no_validation(sheets: Sequence[_OpenedSheet], held_back: bool, settings: TileSettings) -> str:
    """Say why a training has no validation, and what would give it one."""
    consequence = "the training has no validation, and model.pt will hold its last weights"
    if held_back:
        smaller = "" if settings.min_std is None and settings.masks is None else "a smaller one, or "
        return f"no tile of those held out {_condition(settings)}: {consequence}; set {smaller}another split"
    longest = max(max(opened.plane) for opened in sheets)
    return (
        f"no image, of {longest} pixels at most, has room for a tile of {settings.tile} to train on and one to "
        f"validate: {consequence}; for one, set {_to_divide(longest, settings)}, or give "
        f"{MIN_FILES_TO_SPLIT_BY_FILE} images"
    )


def _to_divide(longest: int, settings: TileSettings) -> str:
    """What to set so that a sheet of this length can be divided by place, of a pair, too."""
    largest = (longest - settings.guard - settings.multiple + 1) // 2 // settings.multiple * settings.multiple
    return f"tile to {largest} or less" if largest > 0 else "guard to less"


def _usable_sheets(sheets: Sequence[Sheet], settings: TileSettings) -> list[_OpenedSheet]:
    """Open each sheet once; the first that cannot be tiled stops the job unless bad ones are skipped."""
    usable = []
    for sheet in counted(sheets, "images read"):
        try:
            usable.append(_open_sheet(sheet, settings, len(sheets)))
        except InputError as error:
            if not settings.skip_bad:
                raise
            logger.warning("left out: %s", error)
    if not usable:
        raise InputError(f"{sheets[0].label.parent}: none of its {len(sheets)} images can be used")
    return usable


def _open_sheet(sheet: Sheet, settings: TileSettings, sheets: int) -> _OpenedSheet:
    stack, scales, samples, blocks = settings.stack, {}, [], {}
    with ExitStack() as opened:
        files = sheet.files().items()
        images = {key: opened.enter_context(open_image(path, settings.axes, settings.image)) for key, path in files}
        label = images["label"]
        lr = images.get("image", label)
        _check_size(label, sheet, settings)
        refuse_misfits(find_misfits(images, settings.scale, stack), settings.scale)
        if sheet.mask is not None:
            refuse_mask(misfit(opened.enter_context(open_image(sheet.mask)), label, stack))
        frames = frames_of(label.axes, label.shape, stack)
        fitted = settings.intensity.scope == "file"
        if not fitted:
            samples = shared_sample(label, stack, sheets)
        for key, image in images.items() if fitted else ():
            shrink = (1, 1) if key == "image" else factors(settings.scale)[1:]
            scales[key] = fit_image_intensity(image, settings.intensity, stack, shrink)
        if sheet.image == sheet.label:
            _check_repeats(frames, settings, sheet.label.name)
            images.pop("image")  # it is the label, on the same scale
            scales["image"] = scales["label"]
        for key in images.keys() - {"image"} if "image" in images else ():
            outliers = [(image.outlier, own.outlier) for image, own in zip(scales["image"], scales[key], strict=True)]
            blocks[key] = [
                blocks_of_pair(lr, images[key], settings.scale, stack, channel, pair)
                for channel, pair in enumerate(outliers)
            ]
        return _OpenedSheet(sheet, plane_size(label), frames, dict(label.pixel_size), scales, lr.dtype, samples, blocks)


def _check_repeats(frames: Frames, settings: TileSettings, name: str) -> None:
    """Check that a file holds repeated scans: frames, of which a sample takes one and the next."""
    if settings.label_frames > 1:
        raise InputError(f"n_frames: {settings.n_frames}, but of a stack of scans a sample takes one; set it to 1")
    if frames.run < 2:
        raise InputError(
            f"{name}: holds 1 frame, but noise2noise needs two scans of each field: a stack of them, two folders (HR "
            "and LR, or lr_dir), or the part of the names that scans of a field share (pair_pattern); one scan will do "
            "for blind_spot"
        )


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


def _regions(
    opened: _OpenedSheet, settings: TileSettings, held_out: set[Path] | None, step: int
) -> tuple[Window | None, Window | None]:
    """Return the parts of a sheet for training and for validation, with corners that are multiples of ``step``.

    A sheet that is too small to be divided is for training, unless the split by place was asked for.
    """
    height, width = opened.plane
    if held_out is None:
        # At least a tile, so that small sheets can be divided, too.
        least, longest = settings.tile + step - 1, max(height, width)
        if settings.val_fraction > 0 and least + settings.guard + settings.tile > longest:
            if settings.split == "auto":
                return Window(0, 0, height, width), None
            raise InputError(
                f"{opened.sheet.label.name}: split by place: {height} x {width} pixels have no room for a tile of "
                f"{settings.tile} to train on and one to validate; set {_to_divide(longest, settings)}, or split 'auto'"
            )
        fraction = settings.val_fraction and max(settings.val_fraction, least / longest)
        try:
            training, validation = regions_by_place((height, width), settings.tile, fraction, settings.guard)
        except InputError as error:
            raise InputError(f"{opened.sheet.label.name}: {error}") from None
        if validation is not None:
            y, x = (-(-start // step) * step for start in (validation.y, validation.x))
            height, width = validation.y + validation.height - y, validation.x + validation.width - x
            validation = Window(y, x, height, width)
        return training, validation
    whole = Window(0, 0, height, width)
    return (None, whole) if opened.sheet.label in held_out else (whole, None)


def _tiles(opened: _OpenedSheet, region: Window, step: int, settings: TileSettings) -> SheetTiles:
    frames, sheet = opened.frames, opened.sheet
    frame_step = factors(settings.scale)[0] if sheet.image is not None else 1
    anywhere_in_run = is_volume(settings.scale) and not settings.slide
    tiles = SheetTiles(
        files={key: str(path) for key, path in sheet.files().items()}
        | ({"mask": str(sheet.mask)} if sheet.mask else {}),
        name=sheet.label.name,
        region=region,
        tile=settings.tile,
        overlap=settings.overlap,
        step=step,
        centres=np.asarray(sample_centres(frames, settings.label_frames, settings.slide, step=frame_step)),
        run=frames.run if anywhere_in_run else None,
        intensity={key: [astuple(scale) for scale in channels] for key, channels in opened.scales.items()},
        mask_labels=astuple(settings.mask_labels) if sheet.mask is not None else None,
        limits=[scale.limits(opened.lr_dtype) for scale in opened.scales.get("image", opened.scales["label"])],
    )
    scales = opened.scales["label"]
    if sheet.mask is not None:
        share = settings.mask_share
        tiles = replace(tiles, kept=in_mask(tiles, sheet.mask, settings.mask_labels, share, settings.stack))
    if settings.min_std is None and all(scale.padding is None for scale in scales):
        return tiles
    with open_image(sheet.label, settings.axes, settings.image) as label:
        return replace(tiles, kept=with_content(tiles, label, scales, settings.min_std, settings.stack))
