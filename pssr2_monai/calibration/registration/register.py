"""Registering folders of real LR and HR images: aligned, cropped pairs, and a table of what was done."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pssr2_monai.calibration.real_pairs import lr_path
from pssr2_monai.calibration.registration.alignment import MIN_SCORE, Alignment, align, check_fields, farthest_corner
from pssr2_monai.calibration.registration.matching import MODELS
from pssr2_monai.data.pairs import Sheet, sheets_of
from pssr2_monai.errors import InputError, cell, check_folder
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.files import stem_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.windows import Window, plane_size, read_window, write_window
from pssr2_monai.images.writer import WRITTEN, create_writer, written_atomically

TABLE = "registration.csv"
MAX_FRAMES = 5  # frames of a stack that are aligned, at most
NOTED_DISAGREEMENT_PX = 1.0  # LR pixels between the alignments of frames, from which on a warning is logged
MAX_SCALE_ERROR = 0.1  # relative, of the ratio of two sizes to a whole scale: fields need not match to the pixel
GREY_AS_IT_IS = Intensity(0.0, 1.0)
BAND_PIXELS = 2**22  # HR pixels that are held at a time, about
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """The result for one pair."""

    name: str  # of the HR file
    kept: bool  # whether the pair was written
    alignment: Alignment  # of the whole file
    frames: int  # how many were aligned
    disagreement: float  # greatest distance of a frame's alignment from that of the file, LR pixels

    def row(self) -> dict[str, str | int]:
        """Return the row of the table: lengths in LR pixels, angles in degrees."""
        alignment, window = self.alignment, self.alignment.window
        down, right = alignment.shift
        numbers = {"score": alignment.score, "correlation": alignment.correlation, "shift_y": down, "shift_x": right}
        numbers |= {"rotation": alignment.rotation, "ratio": alignment.ratio, "disagreement": self.disagreement}
        matrix = {f"matrix_{row}{column}": alignment.matrix[row, column] for row in range(2) for column in range(3)}
        return {
            "name": cell(self.name),
            "kept": "yes" if self.kept else "no",
            **{key: f"{number:.4f}" for key, number in numbers.items()},
            "lr_y": window.y,
            "lr_x": window.x,
            "lr_height": window.height,
            "lr_width": window.width,
            "scale": alignment.scale,
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
    image: int | str | None = None,
) -> list[Registered]:
    """Align real LR and HR images of the same fields, and write what they share.

    OUT/LR holds the LR images, cropped but otherwise unchanged; OUT/HR the HR images, interpolated onto their grid and
    ``scale`` times as large; OUT/registration.csv the alignment of every pair, those left out among them. The preset
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
        image: number (from 1) or name of the image to read of files that hold several; by default the largest.

    Returns:
        The result for each pair.

    Raises:
        InputError: before any work, for an invalid option, images without partners or of sizes that fit no whole scale,
            an ``out`` that is not empty; after it, where no pair reached the score (the table is written).

    Example:
        >>> results = register("pairs/HR", "pairs/LR", "registered", scale=4)
        >>> [result.kept for result in results]
        [True, True, True, True, True]
    """
    if model not in MODELS:
        raise InputError(f"model: {model!r} is unknown; use {', '.join(MODELS)}")
    if not min_score >= 0:
        raise InputError(f"min_score: {min_score!r} is below 0; 0 keeps every pair, {MIN_SCORE:g} is the default")
    sheets = sheets_of(hr, lr, pattern=pair_pattern)
    scale = _common_scale(sheets, scale, axes, image)
    out = Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        state = "is a file" if out.is_file() else "holds files already"
        raise InputError(f"{out}: {state}; give a new or an empty folder")
    check_folder(out.parent)
    with written_atomically(out) as part:
        results = _register_pairs(sheets, part, scale, model, min_score, axes, image)
    _check_kept(results, out, min_score)
    return results


def _register_pairs(
    sheets: Sequence[Sheet],
    folder: Path,
    scale: int,
    model: str,
    min_score: float,
    axes: str | None,
    image: int | str | None,
) -> list[Registered]:
    for kind in ("HR", "LR"):
        (folder / kind).mkdir(parents=True)
    results = [
        _register_pair(sheet, folder, scale, model, min_score, axes, image)
        for sheet in tqdm(sheets, desc="registering", unit="pair", disable=None)
    ]
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(results[0].row()))
        writer.writeheader()
        writer.writerows(result.row() for result in results)
    return results


def _check_kept(results: Sequence[Registered], out: Path, min_score: float) -> None:
    if not any(result.kept for result in results):
        best = max(results, key=lambda result: result.alignment.score)
        raise InputError(
            f"{out}: no pair reached the score {min_score:g} (the best, {best.name}, has {best.alignment.score:.1f}); "
            f"do HR and LR images of one name show the same field? See {TABLE} for all scores"
        )


def summary(results: Sequence[Registered]) -> str:
    """Return the results as text for a terminal: a line for each pair, then the names of those left out."""
    width = max(len(result.name) for result in results)
    lines = [f"{'':{width}}   score  shift Y  shift X (LR px)  rotation (deg)    ratio"]
    for result in results:
        alignment, (down, right) = result.alignment, result.alignment.shift
        numbers = f"{alignment.score:7.1f} {down:8.2f} {right:8.2f} {alignment.rotation:24.3f} {alignment.ratio:8.4f}"
        lines.append(f"{result.name:{width}} {numbers}{'' if result.kept else '  left out'}")
    left_out = [result.name for result in results if not result.kept]
    lines.append(f"{len(results) - len(left_out)} of {len(results)} pairs written")
    if left_out:
        lines.append(f"left out, for their score is too low: {', '.join(left_out)}")
    return "\n".join(lines)


def _common_scale(sheets: Sequence[Sheet], scale: int | None, axes: str | None, choice: int | str | None) -> int:
    """Validate every file of the pairs; return their scale."""
    first: tuple[int, str] | None = None
    for sheet in sheets:
        name = sheet.label.name
        with open_image(sheet.label, axes, choice) as hr, open_image(lr_path(sheet), axes, choice) as lr:
            pair_scale = _scale_of(lr, hr) if scale is None else scale
            try:
                check_fields(plane_size(lr), plane_size(hr), pair_scale)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
            counts = [frames_of(image.axes, image.shape).count for image in (lr, hr)]
        if counts[0] != counts[1]:
            raise InputError(f"{name}: the LR image has {counts[0]} frames, the HR image {counts[1]}; give as many")
        first = first or (pair_scale, name)
        if pair_scale != first[0]:
            raise InputError(f"{name}: its scale is {pair_scale}, that of {first[1]} {first[0]}; register them apart")
    assert first is not None  # a folder without images is refused before
    return first[0]


def _scale_of(lr: LazyImage, hr: LazyImage) -> int:
    """HR pixels for each LR pixel, from the pixel sizes where both are known, else from the sizes of the images."""
    known = all(axis in image.pixel_size for image in (lr, hr) for axis in "YX")
    if known:
        ratios = [lr.pixel_size[axis] / hr.pixel_size[axis] for axis in "YX"]
    else:
        ratios = [large / small for large, small in zip(plane_size(hr), plane_size(lr), strict=True)]
    whole = max(1, round(ratios[0]))
    if any(abs(ratio / whole - 1) > MAX_SCALE_ERROR for ratio in ratios):
        what = "pixel sizes" if known else "sizes"
        raise InputError(
            f"{hr.path.name}: the {what} of the HR and LR image are as {ratios[0]:.2f} to 1 along Y and "
            f"{ratios[1]:.2f} to 1 along X, which is not a whole scale; resample one of them, or set scale"
        )
    return whole


def _register_pair(
    sheet: Sheet,
    folder: Path,
    scale: int,
    model: str,
    min_score: float,
    axes: str | None,
    choice: int | str | None,
) -> Registered:
    with open_image(sheet.label, axes, choice) as hr, open_image(lr_path(sheet), axes, choice) as lr:
        count = frames_of(lr.axes, lr.shape).count
        frames = sorted(set(np.linspace(0, count - 1, MAX_FRAMES).round().astype(int).tolist()))
        lr_whole, hr_whole = (Window(0, 0, *plane_size(image)) for image in (lr, hr))
        alignments = [
            align(read_window(lr, [frame], lr_whole)[0], read_window(hr, [frame], hr_whole)[0], scale, model)
            for frame in frames
        ]
        alignment, disagreement = _common_alignment(alignments, min_score)
        name, shared = sheet.label.name, alignment.window
        kept = alignment.score >= min_score and shared.height > 0 and shared.width > 0
        if kept:
            stem = stem_of(sheet.label)
            for image, kind in ((lr, "LR"), (hr, "HR")):
                write_shared(image, folder / kind / (stem + _written_suffix(image)), alignment, is_hr=kind == "HR")
        else:
            logger.warning("%s: left out, its score is %.1f", name, alignment.score)
        if kept and disagreement > NOTED_DISAGREEMENT_PX:
            logger.warning(
                f"{name}: frames lie differently, by up to {disagreement:.1f} LR pixels; one alignment does not fit "
                "them all (register them as separate files)"
            )
    return Registered(name, kept, alignment, len(frames), disagreement)


def _common_alignment(alignments: Sequence[Alignment], min_score: float) -> tuple[Alignment, float]:
    """The median alignment of a stack's frames, and the distance of the farthest from it."""
    structured = [alignment for alignment in alignments if alignment.score > 0] or alignments
    trusted = [alignment for alignment in structured if alignment.score >= min_score] or structured
    matrix = np.median([alignment.matrix for alignment in trusted], axis=0)
    median = replace(
        trusted[0],
        matrix=matrix,
        score=float(np.median([alignment.score for alignment in structured])),
        correlation=float(np.median([alignment.correlation for alignment in trusted])),
    )
    return median, max(farthest_corner(alignment.matrix - matrix, median.lr_size) for alignment in trusted)


def write_shared(image: LazyImage, path: Path, alignment: Alignment, is_hr: bool) -> None:
    """Write what an image of a pair shares with the other, frame by frame: LR pixels copied, HR ones interpolated."""
    order, shared = frames_of(image.axes, image.shape), alignment.window
    scale = alignment.scale if is_hr else 1
    sides = {"Y": shared.height * scale, "X": shared.width * scale}
    rows = max(1, BAND_PIXELS // (alignment.scale**2 * shared.width))  # of a band
    with create_writer(
        path,
        shape=[sides.get(axis, size) for axis, size in zip(image.axes, image.shape, strict=True)],
        dtype=image.dtype,
        axes=image.axes,
        pixel_size=image.pixel_size,
        channel_names=image.channel_names,
    ) as writer:
        for frame in range(order.count):
            for top in range(0, shared.height, rows):
                band = Window(shared.y + top, shared.x, min(rows, shared.height - top), shared.width)
                if is_hr:
                    source = alignment.source(band)
                    pixels = read_window(image, [frame], source)[0]
                    # Rounded, and clipped to the range of the dtype, which the spline exceeds at sharp edges.
                    plane = GREY_AS_IT_IS.cast(alignment.resampled(pixels, band, source), image.dtype)
                else:
                    plane = read_window(image, [frame], band)[0]
                place = Window(top * scale, 0, band.height * scale, band.width * scale)
                write_window(writer, order, frame, place, plane)


def _written_suffix(image: LazyImage) -> str:
    """The suffix of the image's file where it can be written, else that of TIFF."""
    return image.path.name[len(stem_of(image.path)) :] if image.path.suffix.lower() in WRITTEN else ".tif"
