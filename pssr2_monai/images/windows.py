"""Windows of an image in Y and X: grids, splits by place, padding by reflection, blend weights. Arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels; it holds rows ``y`` to ``y + height - 1`` and columns ``x`` to ``x + width - 1``."""

    y: int
    x: int
    height: int
    width: int

    def slices(self) -> tuple[slice, slice]:
        """The window as an index into the last two axes, (Y, X)."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where windows of length ``tile`` begin so that they cover ``[0, size)``.

    Neighbours share ``overlap`` pixels; the last window is shifted inside to end at ``size`` and may share more.
    A ``size`` of at most ``tile`` gives one window at 0.

    Raises:
        InputError: a size or tile below 1, or an overlap that is negative or not below the tile.
    """
    if size < 1 or tile < 1:
        raise InputError(f"tile: size {size} and tile {tile} must be at least 1 pixel")
    _check_overlap(tile, overlap)
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def grid(shape_yx: Sequence[int], tile: int | tuple[int, int], overlap: int | tuple[int, int]) -> list[Window]:
    """The windows that cover an image, row by row.

    Args:
        shape_yx: height and width of the image.
        tile: side of the windows, or (height, width).
        overlap: pixels that neighbours share, or (along Y, along X).

    Returns:
        Windows of exactly the tile's size. They reach beyond the image only along an axis on which the image is
        smaller than the tile; the reader pads there by reflection.

    Raises:
        InputError: as for ``starts``.
    """
    height, width = shape_yx
    (tile_y, tile_x), (overlap_y, overlap_x) = _pair(tile), _pair(overlap)
    columns = starts(width, tile_x, overlap_x)
    return [Window(y, x, tile_y, tile_x) for y in starts(height, tile_y, overlap_y) for x in columns]


def regions_by_place(
    shape_yx: Sequence[int], tile: int | tuple[int, int], fraction: float, guard: int = 0
) -> tuple[Window, Window | None]:
    """The parts of a sheet for training and for validation, with ``guard`` unused pixels between them.

    The last ``fraction`` of the longer side (Y where both are equal) is for validation, the first part for training;
    the guard is taken from the latter. Both span the whole of the shorter side.

    Raises:
        InputError: a part would be shorter than a tile, a fraction outside [0, 1), or a negative guard.
    """
    height, width = shape_yx
    if not 0 <= fraction < 1:
        raise InputError(f"validation fraction: {fraction} is not in [0, 1); use 0.1 to 0.3, or 0 for no validation")
    if guard < 0:
        raise InputError(f"guard: {guard} is negative; use 0 or more pixels")
    whole = Window(0, 0, height, width)
    if fraction == 0:
        return whole, None
    along_y = height >= width
    length = max(height, width)
    side = _pair(tile)[0 if along_y else 1]
    validation = round(length * fraction)
    training = length - validation - guard
    least = min(validation, training)
    if least < side:
        smaller = f"tile of {least} px at most" if least > 0 else "smaller guard"
        raise InputError(
            f"split by place: a sheet of {height} x {width} px leaves {max(training, 0)} px for training and "
            f"{validation} px for validation (fraction {fraction:g}, guard {guard}), but a tile is {side} px; "
            f"use a {smaller}, another fraction, or split by file"
        )
    if along_y:
        return replace(whole, height=training), replace(whole, y=length - validation, height=validation)
    return replace(whole, width=training), replace(whole, x=length - validation, width=validation)


def reflect_indices(start: int, length: int, size: int) -> npt.NDArray[np.intp]:
    """Indices into an axis of ``size`` for the window ``[start, start + length)``, which may stick out on both sides.

    Beyond the ends the axis is mirrored without repeating the edge, as ``numpy.pad`` does in mode "reflect", however
    far the window reaches. An axis of size 1 repeats its pixel.
    """
    if size == 1:
        return np.zeros(length, dtype=np.intp)
    period = 2 * (size - 1)
    index = np.arange(start, start + length, dtype=np.intp) % period
    return np.minimum(index, period - index)


def _check_overlap(tile: int, overlap: int) -> None:
    if not 0 <= overlap < tile:
        raise InputError(f"overlap: {overlap} px do not fit a tile of {tile} px; use 0 to {tile - 1}")


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both of Y and X, or one for each."""
    if isinstance(value, int):
        return value, value
    along_y, along_x = value
    return along_y, along_x


def rounded_up(width: int, group: int) -> int:
    """The next multiple of `group`: what pixel shuffling can divide."""
    return -(-width // group) * group
