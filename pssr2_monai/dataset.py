"""From a folder of images to MONAI datalists of tiles, and the dataset that draws from them reproducibly."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Randomizable

from pssr2_monai.axes import frames_of, lr_hr_frames, sample_centres
from pssr2_monai.errors import InputError
from pssr2_monai.intensity import Intensity, IntensitySettings
from pssr2_monai.io.image import LazyImage, list_images, open_image
from pssr2_monai.io.sheets import fit_image_intensity, plane_size
from pssr2_monai.tiles import Window, grid, regions_by_place

__all__ = ["TileDataset", "TileLists", "TileSettings", "pair_by_name", "tile_lists"]

FILES_FOR_SPLIT_BY_FILE = 4


@dataclass(frozen=True)
class TileSettings:
    """How sheets become tiles.

    Attributes:
        tile: side of a tile in HR pixels.
        overlap: HR pixels that neighbouring tiles share.
        scale: HR size over LR size; tiles divide by it.
        n_frames: frames of a sample, or ``[LR, HR]``.
        stack: order of T and Z.
        axes: axes of files that do not tell theirs.
        slide: samples of several frames move on by one frame rather than by their length.
        split: which images are for validation: ``file`` (the last files by name), ``place`` (a part of each sheet),
            a regular expression whose group names the field (the last fields), or ``auto`` (by file from four files on,
            else by place).
        val_fraction: share of files, fields or area for validation; 0 for none.
        guard: HR pixels left out between training and validation in a split by place.
        intensity: how pixel values become [0, 1]; one scale for each file.
    """

    tile: int = 128
    overlap: int = 0
    scale: int = 4
    n_frames: int | Sequence[int] = 1
    stack: str = "TZ"
    axes: str | None = None
    slide: bool = True
    split: str = "auto"
    val_fraction: float = 0.2
    guard: int = 0
    intensity: IntensitySettings = field(default_factory=IntensitySettings)

    def __post_init__(self) -> None:
        if self.tile % self.scale:
            raise InputError(f"tile: {self.tile} does not divide by the scale {self.scale}; take a multiple of it")
        if not 0 <= self.val_fraction < 1:
            raise InputError(f"val_fraction: {self.val_fraction} is not in [0, 1); 0.2 holds out a fifth")


@dataclass(frozen=True)
class TileLists:
    """Datalists for training and validation, and what is known of the images they come from.

    Each item names the tile's sheet under ``label``, its ``window``, ``region``, ``frame`` and ``intensity`` (see
    ``transforms.LoadTiled``), and ``name``, which identifies it.
    """

    training: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    pixel_size: dict[str, float]
    files: int


def tile_lists(dataset_dir: str | Path, settings: TileSettings) -> TileLists:
    """Datalists of the images in a folder.

    Args:
        dataset_dir: folder of HR images.
        settings: how they are tiled and split.

    Raises:
        InputError: the folder is missing or empty, a file cannot be read, an image is too small for the tile, or
            the split leaves nothing to train on.

    Example:
        >>> lists = tile_lists("images", TileSettings(tile=128, scale=4))  # doctest: +SKIP
        >>> lists.training[0]["window"]  # doctest: +SKIP
        [0, 0, 128, 128]
    """
    paths = list_images(Path(dataset_dir))
    held_out = _held_out(paths, settings)
    training: list[dict[str, Any]] = []
    validation: list[dict[str, Any]] = []
    sizes: list[dict[str, float]] = []
    for path in paths:
        with open_image(path, axes=settings.axes) as image:
            regions = _regions(image, path, settings, held_out)
            intensity = fit_image_intensity(image, settings.intensity, settings.stack)
            for region, items in zip(regions, (training, validation), strict=True):
                if region is not None:
                    items.extend(_items(image, path, region, intensity, settings))
            sizes.append(dict(image.pixel_size))
    if not training:
        raise InputError(f"{dataset_dir}: no image is left to train on; hold out less (val_fraction) or add images")
    return TileLists(training, validation, sizes[0] if all(size == sizes[0] for size in sizes) else {}, len(paths))


def pair_by_name(hr: Sequence[Path], lr: Sequence[Path]) -> dict[Path, Path]:
    """The LR partner of each HR image: the one of the same name but for the suffix.

    Raises:
        InputError: some image has no partner, or two have the same name.
    """
    by_stem: list[dict[str, Path]] = []
    for paths in (hr, lr):
        stems: dict[str, Path] = {}
        for path in paths:
            if stems.setdefault(path.stem, path) != path:
                raise InputError(f"{path}: has the same name as {stems[path.stem].name}; pairs are matched by name")
        by_stem.append(stems)
    hr_stems, lr_stems = by_stem
    odd = sorted([*(hr_stems.keys() - lr_stems.keys()), *(lr_stems.keys() - hr_stems.keys())])
    if odd:
        more = f" (and {len(odd) - 5} more)" if len(odd) > 5 else ""
        raise InputError(f"{', '.join(odd[:5])}{more}: have no partner; HR and LR images are matched by name")
    return {path: lr_stems[stem] for stem, path in hr_stems.items()}


class TileDataset(Dataset):
    """A MONAI dataset whose random draws follow from the seed, the epoch and the sample's identity alone.

    The same images come whatever the number of workers and the order in which they are asked for.

    Args:
        data: datalist whose items have a ``name`` of their own.
        transform: what makes a sample of an item; its random transforms are seeded for each sample.
        seed: seed of all draws.

    Example:
        >>> dataset = TileDataset(lists.training, transform=transform, seed=0)  # doctest: +SKIP
        >>> dataset.set_epoch(2)  # doctest: +SKIP
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable[..., Any], seed: int = 0) -> None:
        super().__init__(data, transform)
        self.seed = seed
        # In shared memory, so that workers which outlive an epoch see the next one.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Makes the draws those of this epoch; leave it alone for a validation set, whose noise is to stay as it is."""
        self._epoch[0] = epoch

    def _transform(self, index: int) -> Any:
        identity = zlib.crc32(self.data[index]["name"].encode())
        seed = np.random.SeedSequence([self.seed, int(self._epoch[0]), identity]).generate_state(1)[0]
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed=int(seed))
        return super()._transform(index)


def _held_out(paths: Sequence[Path], settings: TileSettings) -> set[Path] | None:
    """Files that are wholly for validation; None in a split by place."""
    split = settings.split
    if split == "auto":
        split = "file" if len(paths) >= FILES_FOR_SPLIT_BY_FILE else "place"
    if split == "place":
        return None
    if settings.val_fraction == 0:
        return set()
    fields = {path: path.name if split == "file" else _field(path, split) for path in paths}
    names = list(dict.fromkeys(fields.values()))
    count = max(1, round(len(names) * settings.val_fraction))
    if count >= len(names):
        raise InputError(f"split: {len(names)} files or fields cannot be divided; add images, or use split 'place'")
    last = set(names[-count:])
    return {path for path, name in fields.items() if name in last}


def _field(path: Path, pattern: str) -> str:
    """What the pattern's first group finds in the file's name."""
    try:
        found = re.search(pattern, path.name)
    except re.error as error:
        raise InputError(f"split: {pattern!r} is neither auto, file, place nor a regular expression: {error}") from None
    if found is None or not found.groups():
        raise InputError(f"{path.name}: the split pattern {pattern!r} finds no group in this name")
    return found.group(1)


def _regions(
    image: LazyImage, path: Path, settings: TileSettings, held_out: set[Path] | None
) -> tuple[Window | None, Window | None]:
    """Parts of a sheet for training and for validation."""
    height, width = plane_size(image)
    if 2 * min(height, width) < settings.tile:
        raise InputError(
            f"{path.name}: {height} x {width} pixels are less than half a tile of {settings.tile}; "
            f"give larger images, or set tile to {2 * min(height, width) // settings.scale * settings.scale} or less"
        )
    if held_out is None:
        try:
            return regions_by_place((height, width), settings.tile, settings.val_fraction, settings.guard)
        except InputError as error:
            raise InputError(f"{path.name}: {error}") from None
    whole = Window(0, 0, height, width)
    return (None, whole) if path in held_out else (whole, None)


def _items(
    image: LazyImage, path: Path, region: Window, intensity: Intensity, settings: TileSettings
) -> list[dict[str, Any]]:
    """The tiles of one region of one sheet."""
    n_frames, _ = lr_hr_frames(settings.n_frames)
    frames = frames_of(image.axes, image.shape, settings.stack)
    frames.check_n_frames(n_frames, path.name)
    windows = grid((region.height, region.width), settings.tile, settings.overlap)
    return [
        {
            "name": f"{path.name} frame {frame} y {window.y + region.y} x {window.x + region.x}",
            "label": str(path),
            "frame": frame,
            "window": [window.y + region.y, window.x + region.x, window.height, window.width],
            "region": [region.y, region.x, region.height, region.width],
            "intensity": {"label": [intensity.low, intensity.high]},
        }
        for frame in sample_centres(frames, n_frames, settings.slide)
        for window in windows
    ]
