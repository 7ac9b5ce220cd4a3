"""The images that one file holds, and which of them is read: by number, by name, or the largest."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import LETTERS

if TYPE_CHECKING:
    from pssr2_monai.images.image import LazyImage, Region

UNKNOWN = "IQ"  # letters of axes of unknown meaning, which may be Z or T
POSITION = "P"
AXIS_NAMES = {
    **dict.fromkeys((POSITION, "R"), "position"),
    "D": "detector",
    "A": "angle",
    "V": "view",
    "W": "emission",
    "w": "excitation",
}
LISTED = 20  # images that a message lists
_PREVIEW = re.compile(r"(^|[\W_])(label|macro|thumb(nail)?|preview|overview)[\W_]*(image)?[\W_]*\d*$", re.IGNORECASE)
_WORD_WITHIN = re.compile(r"(?<=[a-z])(?=[A-Z])")  # as in SlidePreview


@dataclass(frozen=True)
class Entry:
    """One image of a file, as far as it is known without reading pixels."""

    name: str  # in the file; empty where it has none
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str  # as in `image.LazyImage` before its axes are resolved
    preview: bool = False  # a thumbnail, label or overview, which is never chosen by itself

    @property
    def text(self) -> str:
        """Shape, dtype and axes, without axes of length 1."""
        kept = [i for i, size in enumerate(self.shape) if size != 1 or self.axes[i] in "YX"]
        sizes, axes = " x ".join(str(self.shape[i]) for i in kept), known_axes("".join(self.axes[i] for i in kept))
        return f"{sizes} {self.dtype} {axes}{', preview' * self.is_preview}"

    @property
    def is_preview(self) -> bool:
        return self.preview or _PREVIEW.search(_WORD_WITHIN.sub(" ", self.name)) is not None

    @property
    def pixels(self) -> int:
        """The number of pixels, samples of a colour counting once."""
        return math.prod(size for size, axis in zip(self.shape, self.axes, strict=True) if axis != "S")


@dataclass(frozen=True)
class Contents:
    """The images of an open file; closing one of them closes the file."""

    entries: tuple[Entry, ...]
    open: Callable[[int], LazyImage]  # by the place among the entries, from 0
    closer: Callable[[], None] = lambda: None


def chosen(entries: Sequence[Entry], image: int | str | None, file: str) -> int:
    """The place of the image of this number (from 1) or name; by default of the largest that is no preview.

    Raises:
        InputError: there is no such image, or several have this name; the message lists all of them.
    """
    if image is None:
        return max(
            range(len(entries)), key=lambda place: (not entries[place].is_preview, entries[place].pixels, -place)
        )
    word = str(image).strip()
    if word.isdecimal() and 1 <= int(word) <= len(entries):
        return int(word) - 1
    exact = [entry.name.strip() for entry in entries]
    for names in (exact, [name.casefold() for name in exact]):
        places = [place for place, name in enumerate(names) if name == word]
        if len(places) == 1:
            return places[0]
        if places:
            raise InputError(
                f"{file}: images {' and '.join(str(place + 1) for place in places)} are called {word!r}; give a number"
            )
        word = word.casefold()
    raise InputError(f"{file}: there is no image {image!r}; {inventory(entries)}")


def inventory(entries: Sequence[Entry]) -> str:
    """The images of a file with their numbers and names, for messages."""
    more = f" and {len(entries) - LISTED} more" if len(entries) > LISTED else ""
    return f"it holds {len(entries)} image{'s' * (len(entries) > 1)}: {'; '.join(described(entries[:LISTED]))}{more}"


def described(entries: Sequence[Entry]) -> list[str]:
    """The number, the name and what is known of each image."""
    return [f"{number}{' ' * bool(entry.name)}{entry.name} ({entry.text})" for number, entry in enumerate(entries, 1)]


def known_axes(axes: str) -> str:
    """The axes with samples ("S") as channels, and one axis of unknown meaning as Z (T if there is a Z)."""
    if "C" not in axes:
        axes = axes.replace("S", "C")
    unknown = [letter for letter in axes if letter not in LETTERS]
    free = [letter for letter in "ZT" if letter not in axes]
    return axes.replace(unknown[0], free[0]) if len(unknown) == 1 and free else axes


def contents_of(image: LazyImage) -> Contents:
    """The contents of a file that holds one image."""
    entry = Entry("", image.shape, image.dtype, image.axes)
    return Contents((entry,), lambda place: image, image.closer)


def divided(contents: Contents, axes_given: str | None) -> Contents:
    """The contents with each position, detector or angle as an image of its own: these are neither Z nor T.

    Images whose axes the user names stay whole.
    """
    entries: list[Entry] = []
    origins: list[tuple[int, dict[int, int]]] = []  # the image of each entry, and its index along the axes left out
    for place, entry in enumerate(contents.entries):
        own = [] if _names_all(axes_given, entry) else _own_axes(entry)
        for index in itertools.product(*(range(entry.shape[i]) for i in own)):
            parts = [f"{AXIS_NAMES.get(entry.axes[i], entry.axes[i])} {k + 1}" for i, k in zip(own, index, strict=True)]
            entries.append(
                replace(
                    entry,
                    name=" ".join(filter(None, [entry.name, *parts])),
                    shape=_without(entry.shape, own),
                    axes="".join(_without(entry.axes, own)),
                )
            )
            origins.append((place, dict(zip(own, index, strict=True))))
    if len(entries) == len(contents.entries):
        return contents

    def open_(place: int) -> LazyImage:
        origin, index = origins[place]
        return _at(contents.open(origin), index)

    return replace(contents, entries=tuple(entries), open=open_)


def _names_all(axes_given: str | None, entry: Entry) -> bool:
    return axes_given is not None and len(axes_given) in (len(entry.shape), sum(size != 1 for size in entry.shape))


def _own_axes(entry: Entry) -> list[int]:
    """The axes along which each index is an image of its own."""
    known = LETTERS + UNKNOWN + "S"
    return [i for i, letter in enumerate(entry.axes) if letter not in known and entry.shape[i] > 1]


def _without(items: Sequence[Any], places: Sequence[int] | Mapping[int, int]) -> tuple[Any, ...]:
    return tuple(item for i, item in enumerate(items) if i not in places)


def _at(image: LazyImage, index: Mapping[int, int]) -> LazyImage:
    """The image at an index along some of its axes, which are left out."""
    if not index:
        return image

    def over(read: Callable[[Region], np.ndarray]) -> Callable[[Region], np.ndarray]:
        def reader(region: Region) -> np.ndarray:
            parts = iter(region)
            whole = [slice(index[i], index[i] + 1) if i in index else next(parts) for i in range(len(image.shape))]
            return read(tuple(whole)).reshape([part.stop - part.start for part in region])

        return reader

    shape, axes = _without(image.shape, index), "".join(_without(image.axes, index))
    metadata = image.metadata.at_position(index.get(image.axes.find(POSITION), 0))
    return image.read_over(over, shape=shape, axes=axes, metadata=metadata)
