"""Gatan DigitalMicrograph DM3 and DM4: a tree of tags, in which the pixels lie uncompressed and are memory-mapped.

No kept library of a permissive licence reads both. DM4 differs from DM3 in the width of its numbers alone.
"""

from __future__ import annotations

import logging
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.contents import Contents, Entry
from pssr2_monai.images.formats.units import known_sizes, micrometres, read_mapped, seconds
from pssr2_monai.images.image import LazyImage, Region
from pssr2_monai.images.metadata import ImageMetadata
from pssr2_monai.images.safeguards import check_length

logger = logging.getLogger(__name__)
GROUP = 20  # among the kinds of entries
BYTE, STRUCTURE, STRING, ARRAY = 8, 15, 18, 20  # among the types of values
_NUMBERS = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "u1", 9: "i1", 10: "i1", 11: "i8", 12: "u8"}
_PIXELS = {1: "i2", 2: "f4", 3: "c8", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 13: "c16", 14: "u1"}
_RGB = 23  # the type of pixels that hold nothing, red, green and blue in a number of 32 bits
AXES = {1: "X", 2: "YX", 3: "QYX", 4: "IQYX"}


@dataclass(frozen=True)
class _Values:
    """Where an array lies in the file."""

    dtype: np.dtype[Any]
    count: int
    offset: int


def open_file(path: Path) -> Contents:
    """Open the images of a DM3 or DM4 file; thumbnails are previews. Files of old Macintoshes are read, too."""
    with path.open("rb") as file:
        tags = _read_tags(file)
    previews = {int(entry.get("ImageIndex", -1)) for entry in _items(tags.get("Thumbnails"))}
    images: list[tuple[Entry, LazyImage]] = []
    stored = _items(tags.get("ImageList"))
    for number, tag in enumerate(stored):
        data = tag.get("ImageData", {})
        code = int(data.get("DataType", 0))
        if code not in (*_PIXELS, _RGB) or not isinstance(data.get("Data"), _Values):
            logger.info("%s: image %d has pixels of type %d and is left out", path.name, number + 1, code)
            continue
        image = _image(path, data, code)
        preview = number in previews or (code == _RGB and number == 0 and len(stored) > 1)
        images.append((Entry(_text(path, tag.get("Name")), image.shape, image.dtype, image.axes, preview), image))
    if not images:
        raise InputError(f"{path.name}: holds no image that can be read")
    return Contents(tuple(entry for entry, _ in images), lambda place: images[place][1])


def _image(path: Path, data: Mapping[str, Any], code: int) -> LazyImage:
    values = data["Data"]
    shape = tuple(int(size) for size in reversed(_items(data["Dimensions"])))
    colors = code == _RGB
    order: Any = values.dtype.byteorder
    stored = np.dtype("u1" if colors else _PIXELS[code]).newbyteorder(order)
    whole = (*shape, 4) if colors else shape
    nbytes = math.prod(whole) * stored.itemsize
    if nbytes > values.count * values.dtype.itemsize:
        raise InputError(f"{path.name}: its pixels take {nbytes} bytes, but it has fewer values; copy it again")
    check_length(path.name, values.offset + nbytes, path.stat().st_size)

    def reader(region: Region) -> np.ndarray:
        if not colors:
            return read_mapped(path, stored, values.offset, whole, region)
        pixels = read_mapped(path, stored, values.offset, whole, (*region[:-1], slice(0, 4)))
        pixels = pixels[..., 1:] if order == ">" else pixels[..., 2::-1]
        return pixels[..., region[-1]]

    axes, sizes, step = _calibration(path, data, len(shape))
    return LazyImage(
        path,
        (*shape, 3) if colors else shape,
        stored,
        axes + "S" * colors,
        sizes,
        reader,
        metadata=ImageMetadata(time_step=step),
    )


def _calibration(path: Path, data: Mapping[str, Any], ndim: int) -> tuple[str, dict[str, float], float | None]:
    """The axes of an image, its pixel size, and the seconds between its frames."""
    axes = AXES.get(ndim, "?" * ndim)
    dimensions = _items(data.get("Calibrations", {}).get("Dimension"))[:ndim]
    steps = [(entry.get("Scale"), _text(path, entry.get("Units"))) for entry in reversed(dimensions)]
    if len(steps) < ndim:
        return axes, {}, None
    lengths, times = [micrometres(*step) for step in steps], [seconds(*step) for step in steps]
    if ndim == 3 and (lengths[0] or times[0]):
        axes = ("Z" if lengths[0] else "T") + axes[1:]
    sizes = known_sizes({axis: length for axis, length in zip(axes, lengths, strict=True) if axis in "ZYX"})
    return axes, sizes, times[0] if axes[0] == "T" else None


def _items(group: Any) -> list[Any]:
    """The entries of a group of entries without names."""
    return list(group.values()) if isinstance(group, dict) else []


def _text(path: Path, values: Any) -> str:
    """A text, which is stored as an array of UTF-16."""
    if not isinstance(values, _Values) or not values.count:
        return ""
    codes = np.fromfile(path, values.dtype, values.count, offset=values.offset)
    return codes.astype("<u2").tobytes().decode("utf-16-le", "replace").rstrip("\0")


def _read_tags(file: IO[bytes]) -> dict[str, Any]:
    version = struct.unpack(">I", file.read(4))[0]
    if version not in (3, 4):
        raise ValueError(f"version {version} instead of 3 or 4")
    word = ">I" if version == 3 else ">Q"
    file.read(struct.calcsize(word))
    order = "<" if struct.unpack(">I", file.read(4))[0] == 1 else ">"
    return _Reader(file, word, order).group()


@dataclass(frozen=True)
class _Reader:
    """Reads tags, of which the numbers of the structure are big-endian, and those of the values in another order."""

    file: IO[bytes]
    word: str  # a number of the structure, as `struct` calls it
    order: str  # of the bytes of values

    def group(self) -> dict[str, Any]:
        """A group of tags; those without a name are called by their number."""
        self.file.read(2)
        tags: dict[str, Any] = {}
        for number in range(self._word()):
            kind, length = struct.unpack(">BH", self.file.read(3))
            name = self.file.read(length).decode("latin-1") or f"#{number}"
            if self.word == ">Q":
                self._word()  # the bytes of the tag
            tags[name] = self.group() if kind == GROUP else self._value()
        return tags

    def _word(self) -> int:
        return int(struct.unpack(self.word, self.file.read(struct.calcsize(self.word)))[0])

    def _value(self) -> Any:
        if (mark := self.file.read(4)) != b"%%%%":
            raise ValueError(f"{mark!r} where a value should begin")
        info = [self._word() for _ in range(self._word())]
        if info[0] in (STRING, ARRAY):
            return self._array(info)
        if info[0] == STRUCTURE:
            return [self._number(kind) for kind in _fields(info)]
        return self._number(info[0])

    def _array(self, info: Sequence[int]) -> _Values | None:
        """The place of an array; None if it consists of structures."""
        kinds, count = ([BYTE], info[1]) if info[0] == STRING else (_fields(info[1:]), info[-1])
        offset = self.file.tell()
        end = offset + count * sum(np.dtype(_NUMBERS[kind]).itemsize for kind in kinds)
        check_length(Path(self.file.name).name, end, os.fstat(self.file.fileno()).st_size)
        self.file.seek(end)
        return _Values(self._dtype(kinds[0]), count, offset) if len(kinds) == 1 else None

    def _number(self, kind: int) -> Any:
        dtype = self._dtype(kind)
        return np.frombuffer(self.file.read(dtype.itemsize), dtype)[0].item()

    def _dtype(self, kind: int) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{_NUMBERS[kind]}")


def _fields(info: Sequence[int]) -> list[int]:
    """The types of the fields of a structure, or the one type of a number."""
    return list(info[4 : 4 + 2 * info[2] : 2]) if info[0] == STRUCTURE else [info[0]]
