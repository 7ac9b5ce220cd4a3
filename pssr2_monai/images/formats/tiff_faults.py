"""Faults in the directories of a TIFF: those that lose no pixels are mended, as libtiff does, others refused."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tifffile
from tifffile import TiffPageSeries

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import log_once
from pssr2_monai.images.safeguards import EXPANDED, check_expansion

SLACK_BYTES = 64  # after all that a file needs, which may be padding, but no plane that was cut short
_FILE_NAME = re.compile(r"\bFileName\s*=\s*[\"']([^\"']+)")


def whole_shape(series: TiffPageSeries) -> tuple[int, ...]:
    """The shape of a series with its axes of length 1, which ``shape`` leaves out before tifffile 2026.5."""
    return tuple(series.get_shape(False) if hasattr(series, "get_shape") else series.shape)


def whole_axes(series: TiffPageSeries) -> str:
    """The axes of `whole_shape`."""
    return str(series.get_axes(False) if hasattr(series, "get_axes") else series.axes)


def pages_of(series: TiffPageSeries) -> list[Any]:
    """The pages of a series: one where all planes lie in one piece after it, None where one is missing."""
    return list(series) if series.is_multifile or series.dataoffset is None else [series.keyframe]


def series_of(pages: Sequence[Any]) -> TiffPageSeries:
    """A series of pages of one shape, which may be stored differently."""
    first = pages[0]
    several = len(pages) > 1
    shape, axes = ((len(pages), *first.shape), "I" + first.axes) if several else (first.shape, first.axes)
    return TiffPageSeries(list(pages), shape, first.dtype, axes, kind="generic")


def series_like(
    series: TiffPageSeries, pages: Iterable[Any], shape: Sequence[int] | None = None, axes: str | None = None
) -> TiffPageSeries:
    """The series with other pages and, where they are fewer, of another shape and other axes."""
    return TiffPageSeries(
        list(pages),
        whole_shape(series) if shape is None else shape,
        series.dtype,
        whole_axes(series) if axes is None else axes,
        name=series.name,
        kind=series.kind,
        multifile=series.is_multifile,
        parent=series.parent,
    )


def series_without_faults(tif: tifffile.TiffFile, file: str) -> list[TiffPageSeries]:
    """The series of a file as tifffile finds them, or one a page where its lists of planes contradict the pages.

    Raises:
        InputError: the list of pages breaks off, or the file ends before the planes that it announces.
    """
    offsets, pointer = _directories(tif)
    if pointer in offsets:
        log_once(tif.filehandle.path, "its list of planes returns to its beginning; each plane is read once")
        return [series_of([page]) for page in _pages_at(tif, offsets)]
    if pointer:
        raise InputError(f"{file}: its list of planes breaks off after {len(offsets)}; copy the file again")
    try:
        series = list(tif.series(squeeze=False) if callable(tif.series) else tif.series)  # since 2026.5
    except (ValueError, RuntimeError):  # OME-XML or pages that differ in ways which tifffile does not combine
        return _by_page(tif)
    if series[0].kind == "ome" and len(set(_FILE_NAME.findall(tif.ome_metadata or ""))) <= 1:
        return [_as_far_as_acquired(part, tif.filehandle.path) for part in series]
    announced, held = _imagej_planes(tif, series), len(offsets)
    if announced == held:
        return series
    if announced > held and _bytes_after_all(tif) > SLACK_BYTES:
        raise InputError(
            f"{file}: holds {held} of the {announced} planes that its ImageJ description announces; copy or save it "
            "again"
        )
    log_once(
        tif.filehandle.path, f"its ImageJ description counts {announced} planes, but it holds {held}; these are read"
    )
    return _by_page(tif)


def _by_page(tif: tifffile.TiffFile) -> list[TiffPageSeries]:
    tif.pages.useframes = False
    return [series_of([page.aspage()]) for page in tif.pages]


def _directories(tif: tifffile.TiffFile) -> tuple[dict[int, None], int]:
    """The offsets of the directories, and where the last one points to: 0 in a complete file."""
    layout, handle = tif.tiff, tif.filehandle
    offset, offsets = int(tif.pages.first.offset), dict[int, None]()
    while 0 < offset < handle.size and offset not in offsets:
        handle.seek(offset)
        count = handle.read(layout.tagnosize)
        if len(count) < layout.tagnosize:
            return offsets, offset
        handle.seek(offset + layout.tagnosize + struct.unpack(layout.tagnoformat, count)[0] * layout.tagsize)
        pointer = handle.read(layout.offsetsize)
        offsets[offset] = None
        if len(pointer) < layout.offsetsize:
            return offsets, -1
        offset = int(struct.unpack(layout.offsetformat, pointer)[0])
    return offsets, offset


def _pages_at(tif: tifffile.TiffFile, offsets: Sequence[int] | dict[int, None]) -> list[tifffile.TiffPage]:
    pages = []
    for index, offset in enumerate(offsets):
        tif.filehandle.seek(offset)
        pages.append(tifffile.TiffPage(tif, index=index))
    return pages


def _as_far_as_acquired(series: TiffPageSeries, path: str) -> TiffPageSeries:
    """The series of a file by itself without the last steps of its slowest axis if their planes were never written."""
    pages, shape = pages_of(series), list(whole_shape(series))
    held = next((number for number, page in enumerate(pages) if page is None), len(pages))
    slowest = next((i for i, size in enumerate(shape) if size > 1), 0)
    steps = held * shape[slowest] // len(pages)
    if held == len(pages) or not steps or any(page is not None for page in pages[held:]):
        return series
    kept = pages[: len(pages) // shape[slowest] * steps]
    log_once(path, f"its metadata announce {len(pages)} planes, but it holds {held}; {len(kept)} are read")
    shape[slowest] = steps
    return series_like(series, kept, shape)


def _imagej_planes(tif: tifffile.TiffFile, series: Sequence[TiffPageSeries]) -> int:
    """The number of pages that ImageJ's description asks for; as many as there are where it asks for none."""
    held = len(tif.pages)
    if series[0].kind == "imagej":
        first = series[0]
        planes = math.prod(first.shape) // max(first.keyframe.size, 1)
        return held if held == 1 and first.dataoffset is not None else planes
    announced = int((tif.imagej_metadata or {}).get("images", 1)) if series[0].kind in ("uniform", "generic") else 1
    return max(announced, held)


def _bytes_after_all(tif: tifffile.TiffFile) -> int:
    """The bytes at the end of a file that belong neither to its directories nor to their planes."""
    layout, end = tif.tiff, 0
    for page in tif.pages:
        page = page.aspage()
        tags = list(page.tags)
        directory = page.offset + layout.tagnosize + len(tags) * layout.tagsize + layout.offsetsize
        values = [tag.valueoffset + tag.valuebytecount for tag in tags]
        pixels = [sum(strip) for strip in zip(page.dataoffsets, page.databytecounts, strict=True)]
        end = max(end, directory, *values, *pixels)
    return int(tif.filehandle.size) - end


def check_segments(series: TiffPageSeries, name: str) -> None:
    """Check that all strips or tiles of an image are listed.

    Raises:
        InputError: some are not.
    """
    for page in pages_of(series):
        if page is None:
            continue
        keyframe, offsets = page.keyframe, page.dataoffsets
        if 0 in keyframe.shape or 0 in keyframe.chunks:
            raise InputError(f"{name}: its image or its tiles have no pixels; copy it again")
        needed = math.prod(keyframe.chunked)
        if len(offsets) >= needed or keyframe.is_stk or keyframe.is_lsm:
            continue
        if len(offsets) != 1 or keyframe.compression != 1:
            raise InputError(
                f"{name}: lists {len(offsets)} of the {needed} strips or tiles of its image; copy it again"
            )


def check_stored(series: TiffPageSeries, name: str) -> None:
    """Check, before any is decoded, that strips or tiles are stored, and do not expand beyond reason.

    Raises:
        InputError: a strip or tile, or all of them, has no bytes, or too few for its pixels.
    """
    listed = holes = 0
    for page in (page for page in pages_of(series) if page is not None):
        keyframe, counts = page.keyframe, page.databytecounts
        empty = [bool(offset) for offset, count in zip(page.dataoffsets, counts, strict=False) if not count]
        if any(empty):
            raise InputError(
                f"{name}: is cut short: {sum(empty)} of its strips or tiles cannot be decoded; copy it again"
            )
        listed, holes = listed + len(page.dataoffsets), holes + len(empty)
        if keyframe.compression != 1:
            is_large = math.prod(keyframe.chunks) * np.dtype(keyframe.dtype).itemsize > EXPANDED
            for number, count in enumerate(counts if is_large else ()):
                check_expansion(name, _decoded_bytes(keyframe, number), count or EXPANDED)
        elif not empty and not keyframe.is_subsampled and sum(counts) < (needed := _bytes_of_plane(keyframe)):
            raise InputError(f"{name}: has {sum(counts)} of the {needed} bytes of a plane; copy it again")
    if holes == listed:
        raise InputError(f"{name}: none of its pixels is stored; copy it again")
    if holes:  # as GDAL leaves out tiles without data
        log_once(name, f"{holes} of its strips or tiles are not stored: their pixels are 0, or its value for no data")


def with_byte_counts(series: TiffPageSeries) -> TiffPageSeries:
    """The series with the bytes of its strips or tiles counted anew where the file counts none or too many."""
    pages, mended = pages_of(series), False
    for page in pages:
        if page is not None and (counts := _byte_counts(page)) != tuple(page.databytecounts):
            page.databytecounts, mended = counts, True
    return series_like(series, pages) if mended else series


def _byte_counts(page: Any) -> tuple[int, ...]:
    """The bytes of each strip or tile of a page, in accordance with its size and with the end of the file."""
    counts, keyframe, size = tuple(page.databytecounts), page.keyframe, page.parent.filehandle.size
    plain = keyframe.compression == 1
    if len(counts) == 1 and 0 < counts[0] <= (keyframe.nbytes if plain else size - page.dataoffsets[0]):
        return counts  # of most files, and quick
    offsets, bytes_ = np.array(page.dataoffsets, np.int64), np.array(counts, np.int64)
    starts = np.unique(offsets)
    limits = np.append(starts[1:], size)  # where the next one begins, or the file ends
    room = limits[np.searchsorted(starts, offsets)] - offsets
    in_excess = plain and not keyframe.is_tiled and bytes_.sum() > keyframe.nbytes
    if ((bytes_ > 0) & (bytes_ <= room)).all() and not in_excess:
        return counts
    for i in np.flatnonzero(offsets):
        full = _decoded_bytes(keyframe, int(i))
        if plain and not 0 < bytes_[i] <= full:
            bytes_[i] = full
        elif not plain and not 0 < bytes_[i] <= room[i] and _decodes(page, int(offsets[i]), int(room[i]), full):
            bytes_[i] = room[i]
    return tuple(bytes_.tolist())


def _decoded_bytes(page: Any, index: int) -> int:
    """The bytes of a strip or tile when it is decoded."""
    bits, contig = int(page.bitspersample), page.planarconfig == 1
    samples = page.samplesperpixel if contig else 1
    if page.is_tiled:
        return -(-page.tilewidth * samples * bits // 8) * int(page.tilelength)
    strips = -(-page.imagelength // page.rowsperstrip)
    rows = min(page.rowsperstrip, page.imagelength - index % strips * page.rowsperstrip)
    return -(-page.imagewidth * samples * bits // 8) * int(rows)


def _bytes_of_plane(page: Any) -> int:
    """The bytes of the pixels of a page without compression."""
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8
    return math.prod(page.shape) * bits // 8


def _decodes(page: Any, start: int, room: int, full: int) -> bool:
    """Whether a strip or tile of so many bytes holds all of its pixels: otherwise the file was cut short."""
    handle = page.parent.filehandle
    handle.seek(start)
    try:
        return len(tifffile.TIFF.DECOMPRESSORS[page.keyframe.compression](handle.read(room))) >= full
    except Exception:  # decoders raise all kinds of errors on incomplete bytes
        return False
