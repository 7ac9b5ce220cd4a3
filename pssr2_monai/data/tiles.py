"""Tiles that are computed when they are asked for, from the few numbers that describe the grid of each sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from pssr2_monai.images.windows import Window, starts

Item = dict[str, Any]


@dataclass(frozen=True, eq=False)
class SheetTiles:
    """The tiles of a region of one sheet: a grid of windows in each of some frames.

    Args:
        files: path of each key.
        name: of the label, with which the names of the tiles begin.
        region: where tiles may lie, in pixels of the label.
        tile: side of a tile.
        overlap: pixels that neighbouring tiles share.
        step: pixels between two places where a tile may begin.
        centres: central frame of each sample.
        run: length of the runs within which samples may lie anywhere; None where they keep their frames.
        intensity: the items' entry of this name.
        limits: likewise.
        mask_labels: those included and those excluded, where ``files`` has a mask.
        kept: numbers of the tiles with content, which may only be moved a little; None for all.
    """

    files: Mapping[str, str]
    name: str
    region: Window
    tile: int
    overlap: int
    step: int
    centres: npt.NDArray[np.intp]
    run: int | None
    intensity: Mapping[str, Any]
    limits: Sequence[tuple[float, float]]
    mask_labels: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    kept: npt.NDArray[np.intp] | None = None

    @cached_property
    def grid(self) -> tuple[int, int]:  # rows and columns of windows
        rows, columns = (
            len(starts(size // self.step, self.tile // self.step, self.overlap // self.step))
            for size in (self.region.height, self.region.width)
        )
        return rows, columns

    def __len__(self) -> int:
        rows, columns = self.grid
        return len(self.centres) * rows * columns if self.kept is None else len(self.kept)

    def place(self, number: int) -> tuple[int, Window]:
        """Return the central frame and the window of a tile."""
        rows, columns = self.grid
        sample, window = divmod(number if self.kept is None else int(self.kept[number]), rows * columns)
        row, column = divmod(window, columns)
        y, x = self.region.y + self._start(row, rows, "height"), self.region.x + self._start(column, columns, "width")
        return int(self.centres[sample]), Window(y, x, self.tile, self.tile)

    def _start(self, number: int, count: int, side: str) -> int:
        """The begin of one of ``count`` windows along a side of the region, where the last ends with the region."""
        if number < count - 1:
            return number * (self.tile // self.step - self.overlap // self.step) * self.step
        return max(0, getattr(self.region, side) // self.step * self.step - self.tile)

    def __getitem__(self, number: int) -> Item:
        frame, window = self.place(number)
        run = {} if self.run is None else {"run": [frame - frame % self.run, self.run]}
        return {
            "name": f"{self.name} frame {frame} y {window.y} x {window.x}",
            **self.files,
            "frame": frame,
            **run,
            "window": list(astuple(window)),
            "region": list(astuple(self.region if self.kept is None else self._around(window))),
            "intensity": dict(self.intensity),
            "limits": list(self.limits),
            **({} if self.mask_labels is None else {"mask_labels": self.mask_labels}),
        }

    def _around(self, window: Window) -> Window:
        """Return where a tile with content may be moved to: a quarter of its side each way, within the region."""
        reach = window.height // 4 // self.step * self.step
        top, left = max(self.region.y, window.y - reach), max(self.region.x, window.x - reach)
        bottom = min(self.region.y + self.region.height, window.y + window.height + reach)
        right = min(self.region.x + self.region.width, window.x + window.width + reach)
        return Window(top, left, bottom - top, right - left)


class Tiles(Sequence[Item]):
    """The tiles of several sheets, one after the other: a datalist that takes the memory of its sheets alone.

    Args:
        sheets: their tiles.
        limit: greatest number of tiles, which are spread evenly over all; None for all.
    """

    def __init__(self, sheets: Sequence[SheetTiles], limit: int | None = None) -> None:
        self.sheets = tuple(sheets)
        self._ends = np.cumsum([len(sheet) for sheet in self.sheets], dtype=np.intp)
        self._chosen: npt.NDArray[np.intp] | None = None
        total = len(self)
        if limit and total > limit:
            self._chosen = np.linspace(0, total - 1, limit).round().astype(np.intp)

    @property
    def files(self) -> list[str]:
        """The paths of the labels."""
        return [sheet.files["label"] for sheet in self.sheets]

    def __len__(self) -> int:
        if self._chosen is not None:
            return len(self._chosen)
        return int(self._ends[-1]) if self.sheets else 0

    @overload
    def __getitem__(self, number: int) -> Item: ...

    @overload
    def __getitem__(self, number: slice) -> list[Item]: ...

    def __getitem__(self, number: int | slice) -> Item | list[Item]:
        if isinstance(number, slice):
            return [self[inner] for inner in range(*number.indices(len(self)))]
        number = range(len(self))[number]  # an IndexError beyond the ends, and counts from the end
        if self._chosen is not None:
            number = int(self._chosen[number])
        sheet = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[sheet - 1]) if sheet else 0
        return self.sheets[sheet][number - before]
