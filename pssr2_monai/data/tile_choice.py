"""Which files are held out, and which tiles of a sheet are used: those in its mask, and those with content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pssr2_monai.data.pairs import group_of
from pssr2_monai.data.tiles import SheetTiles
from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.files import stem_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.masks import Mask, MaskLabels
from pssr2_monai.images.padding import without_data
from pssr2_monai.images.windows import read_window
from pssr2_monai.progress import counted

if TYPE_CHECKING:
    from pssr2_monai.data.datalists import TileSettings

MIN_FILES_TO_SPLIT_BY_FILE = 4  # with fewer, split "auto" divides each of them by place


def in_mask(
    tiles: SheetTiles, path: str | Path, labels: MaskLabels, share: float, stack: str = "TZ"
) -> npt.NDArray[np.intp]:
    """Return the numbers of the tiles of whose pixels, in their central frame, at least a share is in the mask."""
    kept = []
    with open_image(path) as image:
        mask = Mask(image, labels, stack)
        for number, place in _places(tiles, Path(path).name):
            frame, window = tiles.place(place)
            if mask.read([frame], window).mean() >= share:
                kept.append(number)
    return np.asarray(kept, dtype=np.intp)


def with_content(
    tiles: SheetTiles, label: LazyImage, scales: Sequence[Intensity], least: float | None, stack: str = "TZ"
) -> npt.NDArray[np.intp]:
    """Return the numbers of the tiles most of whose pixels hold data and vary by more than ``least`` of 255."""
    kept = []
    order = frames_of(label.axes, label.shape, stack)
    for number, place in _places(tiles, label.path.name):
        frame, window = tiles.place(place)
        scale = scales[order.channel(frame)]
        pixels = read_window(label, [frame], window, stack)
        missing = without_data(pixels, scale.padding)
        data = scale.apply(pixels if missing is None else pixels[~missing])
        if data.size >= pixels.size / 2 and (least is None or data.std() * 255 > least):
            kept.append(number)
    return np.asarray(kept, dtype=np.intp)


def _places(tiles: SheetTiles, name: str) -> Iterator[tuple[int, int]]:
    """The number of each tile that was kept so far in the whole grid, and among those kept."""
    numbers = range(len(tiles)) if tiles.kept is None else tiles.kept.tolist()
    return counted([(number, place) for place, number in enumerate(numbers)], f"tiles read of {name}")


def validation_files(paths: Sequence[Path], settings: TileSettings) -> set[Path] | None:
    """Return the files that are wholly for validation, copies of one another together; None in a split by place."""
    split = settings.split
    if split == "auto":
        split = "file" if len(paths) >= MIN_FILES_TO_SPLIT_BY_FILE else "place"
    if split == "place":
        return None
    if settings.val_fraction == 0:
        return set()
    if split == "file" and settings.supervision == "noise2noise" and settings.pair_pattern is not None:
        split = settings.pair_pattern  # scans of one field are on one side
    fields = {path: stem_of(path) if split == "file" else group_of(path, split, "split") for path in paths}
    order = {name: number for number, name in enumerate(dict.fromkeys(fields.values()))}
    training = len(order) - max(1, round(len(order) * settings.val_fraction))
    if training < 1:
        raise InputError(f"split: {len(order)} files or fields cannot be divided; add images, or use split 'place'")
    return {path for path, name in fields.items() if order[name] >= training}
