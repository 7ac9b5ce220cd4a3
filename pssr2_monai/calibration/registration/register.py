"""Registering folders of real LR and HR images: aligned, cropped pairs, and a table of what was done."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pssr2_monai.calibration.registration.alignment import MIN_SCORE, Alignment, align, check_fields
from pssr2_monai.calibration.registration.matching import MODELS
from pssr2_monai.data.pairs import Sheet, sheets_of
from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.windows import Window, plane_size, read_window, write_window
from pssr2_monai.images.writer import WRITTEN, create_writer, written_atomically

TABLE = "registration.csv"
FRAMES = 5
"""How many frames of a stack are looked at."""
DISAGREEMENT = 1.0
"""LR pixels from which on frames that lie differently are worth a warning."""
NEAR_WHOLE = 0.1
"""How far the ratio of two sizes may be from a whole number to be taken for it: fields need not match to the pixel."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """What was done with one pair.

    Attributes:
        name: of the HR file.
        kept: whether the pair was written.
        alignment: of the whole file.
        frames: how many of its frames were looked at.
        disagreement: by how many LR pixels a frame that was looked at lies off the alignment, at most.
    """

    name: str
    kept: bool
    alignment: Alignment
    frames: int
    disagreement: float

    def row(self) -> dict[str, str | int]:
        """The line of the table: lengths in LR pixels, angles in degrees."""
        found = self.alignment
        down, right = found.shift
        window = found.window
        numbers = {"score": found.score, "correlation": found.correlation, "shift_y": down, "shift_x": right}
        numbers |= {"rotation": found.rotation, "ratio": found.ratio, "disagreement": self.disagreement}
        matrix = {f"matrix_{row}{column}": found.matrix[row, column] for row in range(2) for column in range(3)}
        return {
            "name": self.name,
            "kept": "yes" if self.kept else "no",
            **{key: f"{number:.4f}" for key, number in numbers.items()},
            "lr_y": window.y,
            "lr_x": window.x,
            "lr_height": window.height,
            "lr_width": window.width,
            "scale": found.scale,
            "frames": self.frames,
            **{key: f"{number:.7f}" for key, number in matrix.items()},
        }


def register(
    hr: str | Path,
    lr: str | Path,
    out: str | Path,
    *,
    scale: int | None = None,
    model: str = "similarity",
    min_score: float = MIN_SCORE,
    pair_pattern: str | None = None,
    axes: str | None = None,
) -> list[Registered]:
    """Align real LR and HR images of the same fields, and write what they share.

    OUT/LR holds the LR images, cropped but otherwise untouched; OUT/HR the HR images, interpolated onto their grid and
    ``scale`` times as large; OUT/registration.csv what was found for every pair, those left out among them. The preset
    ``paired`` trains on OUT as it is. Partners are written under the HR image's name; dtype, axes and pixel size are
    kept. A stack has one alignment, the median of those of up to five frames.

    Args:
        hr: folder of high-resolution images.
        lr: folder of low-resolution images of the same fields and names.
        out: folder to write, new or empty; it appears when all pairs are done.
        scale: HR pixels for each LR pixel; by default from the pixel sizes where both files state them, else from the
            sizes of the images.
        model: ``shift``, ``rigid`` (and rotation), ``similarity`` (and size) or ``affine`` (and shear).
        min_score: pairs with a lower score are left out, as they do not seem to show the same field.
        pair_pattern: regular expression whose group is what the names of partners have in common.
        axes: axes of files that do not state their own, such as ZYX.

    Returns:
        What was done with each pair.

    Raises:
        InputError: before any work, an option that cannot be, images without partners or of sizes that fit no whole
            scale, an ``out`` that holds something; after it, where no pair reached the score (the table is written).

    Example:
        >>> done = register("pairs/HR", "pairs/LR", "registered", scale=4)
        >>> [each.kept for each in done]
        [True, True, True, True, True]
    """
    if model not in MODELS:
        raise InputError(f"model: {model!r} is unknown; use {', '.join(MODELS)}")
    if not min_score >= 0:
        raise InputError(f"min_score: {min_score!r} is below 0; 0 keeps every pair, {MIN_SCORE:g} is the default")
    sheets = sheets_of(hr, lr, pattern=pair_pattern)
    scale = _check(sheets, scale, axes)
    out = Path(out)
    _check_free(out)
    with written_atomically(out) as part:
        for kind in ("HR", "LR"):
            (part / kind).mkdir(parents=True)
        found = [
            _register_pair(sheet, part, scale, model, min_score, axes)
            for sheet in tqdm(sheets, desc="registering", unit="pair", disable=None)
        ]
        with (part / TABLE).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(found[0].row()))
            writer.writeheader()
            writer.writerows(each.row() for each in found)
    if not any(each.kept for each in found):
        best = max(found, key=lambda each: each.alignment.score)
        raise InputError(
            f"{out}: no pair reached the score {min_score:g} (the best, {best.name}, has {best.alignment.score:.1f}); "
            f"do HR and LR images of one name show the same field? {TABLE} tells what was found"
        )
    return found


def summary(found: Sequence[Registered]) -> str:
    """What was done, to print: a line a pair, then those left out by name."""
    wide = max(len(each.name) for each in found)
    lines = [f"{'':{wide}}   score  shift Y  shift X (LR px)  rotation (deg)    ratio"]
    for each in found:
        (down, right), its = each.alignment.shift, each.alignment
        numbers = f"{its.score:7.1f} {down:8.2f} {right:8.2f} {its.rotation:24.3f} {its.ratio:8.4f}"
        lines.append(f"{each.name:{wide}} {numbers}{'' if each.kept else '  left out'}")
    odd = [each.name for each in found if not each.kept]
    lines.append(f"{len(found) - len(odd)} of {len(found)} pairs written")
    if odd:
        lines.append(f"left out, for their score is too low: {', '.join(odd)}")
    return "\n".join(lines)


def _check_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        found = "is a file" if out.is_file() else "holds files already"
        raise InputError(f"{out}: {found}; give a new or an empty folder")


def _check(sheets: Sequence[Sheet], scale: int | None, axes: str | None) -> int:
    """The scale of all pairs, every file having been looked at.

    Raises:
        InputError: see ``register``.
    """
    first: tuple[int, str] | None = None
    for sheet in sheets:
        name = sheet.label.name
        with open_image(sheet.label, axes) as hr, open_image(_lr_of(sheet), axes) as lr:
            own = _scale_of(lr, hr) if scale is None else scale
            try:
                check_fields(plane_size(lr), plane_size(hr), own)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
            counts = [frames_of(image.axes, image.shape).count for image in (lr, hr)]
        if counts[0] != counts[1]:
            raise InputError(f"{name}: the LR image has {counts[0]} frames, the HR image {counts[1]}; give as many")
        first = first or (own, name)
        if own != first[0]:
            raise InputError(f"{name}: its scale is {own}, that of {first[1]} {first[0]}; register them apart")
    assert first is not None  # a folder without images is refused before
    return first[0]


def _scale_of(lr: LazyImage, hr: LazyImage) -> int:
    """HR pixels a LR pixel, from the pixel sizes where both are known, else from the sizes of the images.

    Raises:
        InputError: it is no whole number, or not the same along Y and X.
    """
    known = all(axis in image.pixel_size for image in (lr, hr) for axis in "YX")
    if known:
        ratios = [lr.pixel_size[axis] / hr.pixel_size[axis] for axis in "YX"]
    else:
        ratios = [large / small for large, small in zip(plane_size(hr), plane_size(lr), strict=True)]
    whole = max(1, round(ratios[0]))
    if any(abs(ratio / whole - 1) > NEAR_WHOLE for ratio in ratios):
        what = "pixel sizes" if known else "sizes"
        raise InputError(
            f"{hr.path.name}: the {what} of the HR and LR image are as {ratios[0]:.2f} to 1 along Y and "
            f"{ratios[1]:.2f} to 1 along X, which is no whole scale; resample one of them, or set scale"
        )
    return whole


def _register_pair(
    sheet: Sheet, folder: Path, scale: int, model: str, min_score: float, axes: str | None
) -> Registered:
    """Aligns one pair and, where its score is high enough, writes it."""
    with open_image(sheet.label, axes) as hr, open_image(_lr_of(sheet), axes) as lr:
        count = frames_of(lr.axes, lr.shape).count
        looked = sorted(set(np.linspace(0, count - 1, FRAMES).round().astype(int).tolist()))
        found, disagreement = _one_of([align(_plane(lr, i), _plane(hr, i), scale, model) for i in looked], min_score)
        name = sheet.label.name
        kept = found.score >= min_score and found.window.height > 0 and found.window.width > 0
        if kept:
            stem = sheet.label.stem.removesuffix(".ome")
            write_shared(lr, folder / "LR" / (stem + written_suffix(lr)), found, is_hr=False)
            write_shared(hr, folder / "HR" / (stem + written_suffix(hr)), found, is_hr=True)
        else:
            logger.warning("%s: left out, its score is %.1f", name, found.score)
        if kept and disagreement > DISAGREEMENT:
            logger.warning(
                "%s: frames lie differently, by up to %.1f LR pixels; one alignment does not fit them all "
                "(register them as files of their own)",
                name,
                disagreement,
            )
    return Registered(name, kept, found, len(looked), disagreement)


def _one_of(aligned: Sequence[Alignment], min_score: float) -> tuple[Alignment, float]:
    """The alignment of a stack from those of some frames, and by how much the farthest of them lies off it."""
    with_structure = [each for each in aligned if each.score > 0] or aligned
    trusted = [each for each in with_structure if each.score >= min_score] or with_structure
    matrix = np.median([each.matrix for each in trusted], axis=0)
    middle = replace(
        trusted[0],
        matrix=matrix,
        score=float(np.median([each.score for each in with_structure])),
        correlation=float(np.median([each.correlation for each in trusted])),
    )
    height, width = middle.lr_size
    corners = np.array([[y, x, 1] for y in (0, height - 1) for x in (0, width - 1)])
    off = [np.linalg.norm(corners @ (each.matrix - matrix).T, axis=1).max() for each in trusted]
    return middle, float(max(off))


def _plane(image: LazyImage, frame: int) -> npt.NDArray[Any]:
    height, width = plane_size(image)
    return read_window(image, [frame], Window(0, 0, height, width))[0]


def _lr_of(sheet: Sheet) -> Path:
    assert sheet.image is not None  # sheets_of was given both folders
    return sheet.image


BAND_PIXELS = 2**22
"""About how many HR pixels are held at a time."""


def write_shared(image: LazyImage, path: Path, found: Alignment, is_hr: bool) -> None:
    """Writes what one image of a pair has in common with the other, of every frame.

    Args:
        image: the LR image, whose pixels are copied, or the HR image, whose are interpolated.
        path: the file to write; axes, dtype, pixel size and channel names are kept.
        found: how the two lie; they share at least one LR pixel.
        is_hr: which of the two it is.
    """
    order, shared = frames_of(image.axes, image.shape), found.window
    scale = found.scale if is_hr else 1
    sides = {"Y": shared.height * scale, "X": shared.width * scale}
    with create_writer(
        path,
        shape=[sides.get(axis, size) for axis, size in zip(image.axes, image.shape, strict=True)],
        dtype=image.dtype,
        axes=image.axes,
        pixel_size=image.pixel_size,
        channel_names=image.channel_names,
    ) as writer:
        for frame in range(order.count):
            for band in _bands(shared, BAND_PIXELS // found.scale**2):
                if is_hr:
                    source = found.source(band)
                    pixels = read_window(image, [frame], source)[0]
                    plane = _cast(found.resampled(pixels, band, source), image.dtype)
                else:
                    plane = read_window(image, [frame], band)[0]
                place = Window((band.y - shared.y) * scale, 0, band.height * scale, band.width * scale)
                write_window(writer, order, frame, place, plane)


def _bands(window: Window, pixels: int) -> Iterator[Window]:
    """The window in bands of whole rows, of about so many pixels each."""
    rows = max(1, pixels // window.width)
    for top in range(0, window.height, rows):
        yield Window(window.y + top, window.x, min(rows, window.height - top), window.width)


def _cast(plane: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Rounded and cut off at the ends of the dtype, which the spline exceeds at sharp edges."""
    if dtype.kind == "f":
        return plane.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(plane.astype(np.float64)), limits.min, limits.max).astype(dtype)


def written_suffix(image: LazyImage) -> str:
    """That of the image's file where it can be written, else that of TIFF."""
    suffix = image.path.suffix.lower()
    deep_colour = suffix == ".png" and image.axes != "YX" and image.dtype.itemsize > 1
    if suffix not in WRITTEN or deep_colour:
        return ".tif"
    return image.path.name.removeprefix(image.path.stem.removesuffix(".ome"))
