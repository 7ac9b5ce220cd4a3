"""TIFF, OME-TIFF, ImageJ hyperstacks and BigTIFF, read and written window by window with tifffile."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from pssr2_monai.errors import InputError
from pssr2_monai.images.contents import Contents
from pssr2_monai.images.formats.tiff_descriptions import (
    as_signed,
    channel_names,
    fits_imagej,
    imagej_options,
    is_signed,
    metadata_of,
    ome_options,
    pixel_size,
    stored_axes,
    stored_shape,
)
from pssr2_monai.images.formats.tiff_faults import (
    check_segments,
    check_stored,
    pages_of,
    whole_axes,
    whole_shape,
    with_byte_counts,
)
from pssr2_monai.images.formats.tiff_pixels import as_shown
from pssr2_monai.images.formats.tiff_series import TiffImage, images_of
from pssr2_monai.images.formats.tiff_sets import COMPANION, open_tiff
from pssr2_monai.images.formats.tiff_tags import resolution_size, stated_by_maker
from pssr2_monai.images.formats.units import read_mapped
from pssr2_monai.images.image import LazyImage, Region
from pssr2_monai.images.safeguards import check_length, without_link
from pssr2_monai.images.writer import ImageSpec, Spread, check_room, move_into_place, part_path, remove

if TYPE_CHECKING:
    import zarr

OME_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
IMAGEJ_BYTES = 2**32 - 2**24  # largest image written as an ImageJ hyperstack: classic TIFF, with room for its header

LARGE_STRIP_BYTES = 2**22  # of a decoded strip or tile from which on it is kept: 2048 x 2048 pixels of 8 bits
KEPT_BYTES = 2**29  # of decoded strips of an image that are kept, though at least one


def open_file(path: Path) -> Contents:
    """Open the images of a TIFF, at full resolution.

    Uncompressed pixels are memory-mapped, so that reading a window costs no more than the window; of tiles and
    compressed strips, those that the window touches are decoded.
    """
    tif = open_tiff(path)
    try:
        images = images_of(tif, None if path.suffix.lower() == COMPANION else path.name)
        return Contents(
            tuple(image.entry for image in images), lambda place: _image(path, tif, images[place]), tif.close
        )
    except BaseException:
        tif.close()
        raise


def _image(path: Path, tif: tifffile.TiffFile, image: TiffImage) -> LazyImage:
    entry = image.entry
    check_segments(image.series, path.name)
    image = replace(image, series=with_byte_counts(image.series))
    check_stored(image.series, path.name)
    _check_complete(image.series, path.name)
    by_maker, metadata = stated_by_maker(image.series.keyframe), metadata_of(tif, image)
    dtype, reader = entry.dtype, _reader(image.series)
    if is_signed(metadata, dtype):
        dtype, reader, metadata = np.dtype(np.int16), _signed(reader), as_signed(metadata)
    stored = LazyImage(
        path,
        entry.shape,
        dtype,
        entry.axes,
        pixel_size(tif, image) or by_maker.pixel_size or resolution_size(image.series.keyframe),
        reader,
        channel_names(tif, image),
        tif.close,
        metadata=metadata,
        bar_rows=metadata.bar_rows or by_maker.bar_rows or 0,
        bar_stated=bool(metadata.bar_rows) or by_maker.bar_rows is not None,
    )
    return as_shown(stored, pages_of(image.series))


def _signed(read: Callable[[Region], np.ndarray]) -> Callable[[Region], np.ndarray]:
    """A reader of ImageJ's numbers with a sign, which are stored 2**15 greater."""
    return lambda region: (read(region) ^ 2**15).view(np.int16)


def _reader(series: tifffile.TiffPageSeries, large: int = LARGE_STRIP_BYTES) -> Callable[[Region], np.ndarray]:
    pages = pages_of(series)
    shape = whole_shape(series)
    split = next((k for k in range(len(shape)) if math.prod(shape[:k]) == len(pages)), None)
    mapped = None if split is None else _mapped(series, pages, shape, split)
    if mapped is not None:
        return mapped
    if split is not None and len({page.hash for page in pages}) > 1:
        axes = whole_axes(series)

        @cache  # planes that are stored differently, each opened when it is first read
        def reader_of(number: int) -> Callable[[Region], np.ndarray]:
            return _reader(tifffile.TiffPageSeries([pages[number]], shape[split:], series.dtype, axes[split:]))

        return _by_plane(shape[:split], lambda number, region: reader_of(number)(region))
    keyframe = series.keyframe
    if split is not None and 1 in keyframe.shape and math.prod(keyframe.chunked) > 1 and series.transform is None:
        # Decoded as a whole: tifffile counts the tiles of a single row wrongly.
        return _by_plane(shape[:split], lambda number, region: pages[number].asarray().reshape(shape[split:])[region])
    import zarr  # takes half a second, which memory-mapped files do not need

    array = zarr.open_array(series.aszarr(level=0, squeeze=False), mode="r")
    if math.prod(array.chunks) * array.dtype.itemsize >= large:
        return _by_chunk(array)
    return lambda region: array[region]


def _by_chunk(array: zarr.Array) -> Callable[[Region], np.ndarray]:
    """A reader of strips that may be larger than a window, which keeps some of them decoded for the next windows."""
    sides = array.chunks

    @lru_cache(maxsize=max(1, KEPT_BYTES // (math.prod(sides) * array.dtype.itemsize)))
    def chunk(place: tuple[int, ...]) -> np.ndarray:
        return np.asarray(array.get_block_selection(place))

    def reader(region: Region) -> np.ndarray:
        starts, stops = np.transpose([(part.start, part.stop) for part in region])
        out = np.empty(stops - starts, array.dtype)
        for place in itertools.product(*map(range, starts // sides, -(-stops // sides))):
            begins = np.multiply(place, sides)
            low, high = np.maximum(starts, begins), np.minimum(stops, begins + sides)
            out[tuple(map(slice, low - starts, high - starts))] = chunk(place)[
                tuple(map(slice, low - begins, high - begins))
            ]
        return out

    return reader


def _by_plane(counts: Sequence[int], read: Callable[[int, Region], np.ndarray]) -> Callable[[Region], np.ndarray]:
    """A reader of planes, ``counts`` along the axes before them, from one of a region of the plane of a number."""
    numbers = np.arange(math.prod(counts)).reshape(counts)

    def reader(region: Region) -> np.ndarray:
        planes = [read(int(number), region[len(counts) :]) for number in numbers[region[: len(counts)]].flat]
        return np.reshape(planes, [part.stop - part.start for part in region])

    return reader


def _check_complete(series: tifffile.TiffPageSeries, name: str) -> None:
    """Refuse a truncated file: tifffile would leave frames out, or fill them with zeros."""
    pages = pages_of(series)
    missing = sum(page is None for page in pages)
    if missing:
        raise InputError(
            f"{name}: {missing} of the {len(pages)} planes that its metadata announce are missing; copy the file "
            "again, with the other files of its set"
        )
    offset = None if series.is_multifile else series.dataoffset
    ends = [
        (pages[0].parent, 0 if offset is None else offset + math.prod(series.shape) * np.dtype(series.dtype).itemsize)
    ]
    for page in pages if offset is None else []:
        ends += [(page.parent, sum(strip)) for strip in zip(page.dataoffsets, page.databytecounts, strict=True)]
    for file, end in ends:
        check_length(name, end, file.filehandle.size)


def _mapped(
    series: tifffile.TiffPageSeries, pages: Sequence[Any], shape: tuple[int, ...], split: int
) -> Callable[[Region], np.ndarray] | None:
    """A reader that maps uncompressed planes into memory, or None where the pixels need decoding.

    The first ``split`` axes are those of the pages, of which there is one where all planes lie in one piece.
    """
    in_one_piece = not series.is_multifile and series.dataoffset is not None
    if series.transform is not None or not all(page.keyframe.is_final for page in pages):
        return None
    if not in_one_piece and not all(_in_one_piece(page) for page in pages):
        return None
    first = [series.dataoffset] if in_one_piece else [page.dataoffsets[0] for page in pages]
    order = [np.dtype(series.dtype).newbyteorder(page.parent.byteorder) for page in pages]
    files = [Path(page.parent.filehandle.path) for page in pages]
    numbers = np.arange(len(pages)).reshape(shape[:split])

    def reader(region: Region) -> np.ndarray:
        starts = [part.start for part in region[:split]]
        out = np.empty([part.stop - part.start for part in region], order[0].newbyteorder("="))
        for index in np.ndindex(*out.shape[:split]):
            number = int(numbers[tuple(np.add(starts, index))])
            out[index] = read_mapped(files[number], order[number], first[number], shape[split:], region[split:])
        return out

    return reader


def _in_one_piece(page: Any) -> bool:
    """Whether the strips of a page follow one another and hold its pixels and nothing else."""
    offsets, counts = page.dataoffsets, page.databytecounts
    ends = [start + n for start, n in zip(offsets, counts, strict=True)]
    return ends[:-1] == list(offsets[1:]) and sum(counts) == page.nbytes


class TiffWriter:
    """Write an uncompressed TIFF region by region; BigTIFF where needed.

    Files named ``.ome.tif`` carry OME-XML. Others carry ImageJ's description, which Fiji reads without a plugin, if it
    can describe the image and it has at most ``imagej_bytes``, else OME-XML. Y and X come last, or C after them for
    interleaved samples. Opacity is held as one more sample, unless there are planes of channels.
    """

    def __init__(self, spec: ImageSpec, resume: bool = False, imagej_bytes: int = IMAGEJ_BYTES) -> None:
        path, axes, dtype = spec.path, spec.axes, spec.dtype
        if dtype.name not in OME_DTYPES:
            raise InputError(f"{path.name}: TIFF for microscopy holds no {dtype}; write .ome.zarr, or another dtype")
        if not axes.endswith(("YX", "YXC")):
            raise InputError(f"{path.name}: TIFF keeps Y and X last, not axes {axes!r}; write .ome.zarr")
        spec = replace(spec, alpha=spec.alpha and (axes.endswith("C") or "C" not in axes))
        self.holds_alpha, self._interleaved = spec.alpha, axes.endswith("C")
        self._path, self._part, self._shape = path, without_link(part_path(path)), stored_shape(spec)
        nbytes = math.prod(self._shape) * dtype.itemsize
        big = nbytes > imagej_bytes
        imagej = not (big or path.name.lower().endswith((".ome.tif", ".ome.tiff"))) and fits_imagej(spec)
        self._has_offset = imagej and dtype == np.int16  # which ImageJ stores without a sign
        self._dtype = np.dtype(np.uint16) if self._has_offset else dtype
        self.chunks: tuple[int, ...] | None = (1,) * len(spec.shape)
        if resume and self._part.is_file():
            with tifffile.TiffFile(self._part) as unfinished:
                self._offset = unfinished.pages.first.dataoffsets[0]
            return
        check_room(path, nbytes)
        options = _samples(spec) | (imagej_options if imagej else ome_options)(spec)
        try:
            with tifffile.TiffWriter(self._part, imagej=imagej, ome=not imagej, bigtiff=big) as tif:
                place = tif.write(shape=self._shape, dtype=self._dtype, returnoffset=True, **options)
            _reserve(self._part)
        except BaseException:
            remove(self._part)
            raise
        self._offset = place[0]

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        pixels = self._map()
        pixels = pixels[..., 0] if self.holds_alpha and not self._interleaved else pixels
        pixels[tuple(region)] = array.view(np.uint16) ^ 2**15 if self._has_offset else array

    def write_alpha(self, region: Sequence[slice], array: np.ndarray) -> None:
        plane = region[:-1] if self._interleaved else region
        self._map()[..., -1][tuple(plane)] = array.reshape([part.stop - part.start for part in plane])

    def _map(self) -> np.ndarray:
        """The stored pixels, mapped for one write only: the pages of a map count as memory of the process."""
        return np.memmap(self._part, self._dtype, "r+", self._offset, self._shape)

    def close(self, spread: Spread = map) -> None:
        move_into_place(self._part, self._path)

    def abort(self) -> None:
        remove(self._part)


def _reserve(path: Path) -> None:
    """Allocate the file on the disk: if the disk fills while a file with holes is mapped, the process is killed."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _samples(spec: ImageSpec) -> dict[str, Any]:
    """tifffile's options for the samples of a pixel."""
    if "S" not in stored_axes(spec):
        return {"photometric": "minisblack"}
    samples = stored_shape(spec)[-1]
    rgb = samples - spec.alpha == 3
    kinds = ["unspecified"] * (samples - (3 if rgb else 1) - spec.alpha) + ["unassalpha"] * spec.alpha
    return {"photometric": "rgb" if rgb else "minisblack", "planarconfig": "contig", "extrasamples": kinds}
