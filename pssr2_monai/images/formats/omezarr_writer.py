"""Writing OME-Zarr 0.5 chunk by chunk, with a pyramid that is built when the image is complete."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from pssr2_monai.images.outputs import Spread, move_into_place, part_path, remove

STORED_ORDER = "TCZYX"
"""The order of axes that the format prescribes: time, channel, space."""
CHUNK = 512
REGION = 2048
"""Pixels along Y and X of a level that are written at once, unless shards say otherwise."""
PIECE = 1024
"""Pixels along Y and X of a level that are made at a time from four times as many."""
BATCH = 16
"""Regions of a level that whoever makes them makes at a time, at most; and batches of a level, at least."""
SMALLEST_LEVEL = 256
TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


class OmeZarrWriter:
    """An OME-Zarr 0.5 image of one plane of at most 512 x 512 pixels a chunk.

    The axes are stored in the order TCZYX, which the format prescribes; regions are given in the order of ``axes``.
    Processes may write at the same time as long as no two touch the same chunk or, where there are shards, the same
    shard (see ``chunks``).

    Args:
        path: the folder to write.
        shape: size along each axis.
        dtype: of the pixels.
        axes: letters out of "TZCYX".
        pixel_size: micrometres along those of "Z", "Y" and "X" that are known; the others have no unit in the file.
        channel_names: one a channel, or none.
        resume: go on with the folder begun, if it is there.
        in_blocks: regions will be whole ones of the grid ``chunks``, from each of which the first level of the pyramid
            is made at once; otherwise all of it is made at the end.
        shards: of an image in blocks, pixels along each axis that are stored together in one file, rounded up to whole
            chunks; each chunk has a file of its own by default.
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        axes: str,
        pixel_size: Mapping[str, float],
        channel_names: Sequence[str],
        resume: bool = False,
        in_blocks: bool = False,
        shards: Sequence[int] | None = None,
    ) -> None:
        self._path, self._part = path, part_path(path)
        self._axes = "".join(axis for axis in STORED_ORDER if axis in axes)
        self._order = [axes.index(axis) for axis in self._axes]
        self._pixel_size, self._channel_names = dict(pixel_size), tuple(channel_names)
        grid = [CHUNK * (1 + in_blocks) if axis in "YX" else 1 for axis in axes]
        if shards is not None:
            grid = [_whole(size, unit) for size, unit in zip(shards, grid, strict=True)]
        self.chunks: tuple[int, ...] | None = tuple(grid)
        self._grid, self._sharded = [grid[i] for i in self._order], shards is not None
        stored = [shape[i] for i in self._order]
        first = [stored, _halved_shape(stored)] if in_blocks and max(stored[-2:]) > SMALLEST_LEVEL else [stored]
        names = [str(self._part / str(level)) for level in range(len(first))]
        if resume and all(Path(name, "zarr.json").is_file() for name in names):
            self._begun = [zarr.open_array(name, mode="r+") for name in names]
            return
        remove(self._part)  # of a run that was killed
        self._part.mkdir()
        try:
            self._begun = [self._create(level, sizes, dtype) for level, sizes in enumerate(first)]
        except BaseException:
            remove(self._part)
            raise

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        """Sets the pixels of a region; see `writer.Writer`."""
        stored, pixels = tuple(region[i] for i in self._order), array.transpose(self._order)
        image, *halves = self._begun
        if halves and not self._is_whole(stored):
            raise ValueError(f"{self._path.name}: {stored} is not made of whole blocks of {self.chunks}, {self._axes}")
        image[stored] = pixels
        for half in halves:
            whole = tuple(slice(0, size) for size in _halved_shape(pixels.shape))
            half[(*stored[:-2], *(slice(part.start // 2, (part.stop + 1) // 2) for part in stored[-2:]))] = _means(
                pixels, whole
            )

    def _is_whole(self, stored: Sequence[slice]) -> bool:
        """Whether a region is made of whole blocks."""
        ends = zip(stored, self._grid, self._begun[0].shape, strict=True)
        return all(part.start % unit == 0 and (part.stop % unit == 0 or part.stop == size) for part, unit, size in ends)

    def close(self, spread: Spread = map) -> None:
        """Builds the pyramid, adds the metadata that make the folder an image, and moves it into place."""
        levels = list(self._begun)
        while max(levels[-1].shape[-2:]) > SMALLEST_LEVEL:
            levels.append(self._halved(levels[-1], len(levels), spread))
        metadata = {"ome": self._metadata(levels)}
        zarr.open_group(str(self._part), mode="a", zarr_format=3, attributes=metadata)
        for folder, _, names in os.walk(self._part):
            for name in names:
                if name.endswith(".partial"):  # a chunk that zarr was writing when its process was killed
                    os.remove(os.path.join(folder, name))
        move_into_place(self._part, self._path)

    def abort(self) -> None:
        """Removes the folder begun."""
        remove(self._part)

    def _create(self, level: int, shape: Sequence[int], dtype: np.dtype[Any]) -> zarr.Array:
        chunks = [min(CHUNK, size) if axis in "YX" else 1 for axis, size in zip(self._axes, shape, strict=True)]
        shards = None
        if self._sharded:
            # A block makes a whole shard of the image, and one of the first level of half its sides.
            wanted = [
                unit // 2 if level and axis in "YX" else unit for axis, unit in zip(self._axes, self._grid, strict=True)
            ]
            shards = tuple(_whole(min(part), chunk) for *part, chunk in zip(wanted, shape, chunks, strict=True))
        return zarr.create_array(
            str(self._part / str(level)),
            overwrite=True,  # a level that was under way when the run before was killed
            shape=tuple(shape),
            dtype=dtype,
            chunks=tuple(chunks),
            shards=shards,
            # Level 3 takes three to ten times as long for files that are 3 to 5 % smaller.
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            fill_value=0,
            dimension_names=[axis.lower() for axis in self._axes],
            zarr_format=3,
        )

    def _halved(self, fine: zarr.Array, level: int, spread: Spread) -> zarr.Array:
        """The next level: Y and X halved by the mean of 2 x 2 pixels, region by region."""
        coarse = self._create(level, _halved_shape(fine.shape), fine.dtype)
        steps = coarse.shards or (*[1] * (coarse.ndim - 2), REGION, REGION)
        halve = partial(_halve, str(self._part), level)
        for _ in spread(halve, _batches(coarse.shape, steps)):
            pass
        return coarse

    def _metadata(self, levels: Sequence[zarr.Array]) -> dict[str, Any]:
        """The multiscales (and, with channel names, omero) metadata of version 0.5."""
        described = [
            {"name": axis.lower(), "type": TYPES[axis]} | ({"unit": "micrometer"} if axis in self._pixel_size else {})
            for axis in self._axes
        ]
        datasets = []
        for k in range(len(levels)):
            scale, shift = [], []
            for axis in self._axes:
                size = self._pixel_size.get(axis, 1.0)
                factor = 2**k if axis in "YX" else 1
                scale.append(size * factor)
                shift.append(size * (factor - 1) / 2)  # the centre of the first pixel moves with its width
            transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
            if k:
                transforms.append({"type": "translation", "translation": shift})
            datasets.append({"path": str(k), "coordinateTransformations": transforms})
        name = self._path.name.split(".")[0]
        metadata: dict[str, Any] = {
            "version": "0.5",
            "multiscales": [{"name": name, "axes": described, "datasets": datasets, "type": "mean of 2 x 2"}],
        }
        if self._channel_names:
            metadata["omero"] = {"channels": [self._channel(i, levels[-1]) for i in range(len(self._channel_names))]}
        return metadata

    def _channel(self, i: int, coarsest: zarr.Array) -> dict[str, Any]:
        """What viewers want to know of a channel: its name, and a grey window from the coarsest level."""
        where = tuple(slice(i, i + 1) if axis == "C" else slice(None) for axis in self._axes)
        pixels = np.nan_to_num(coarsest[where].astype(np.float64))
        low, high = float(pixels.min()), float(pixels.max())
        window = {"min": low, "max": high, "start": low, "end": high}
        return {"label": self._channel_names[i], "color": "FFFFFF", "active": True, "window": window}


def _halve(folder: str, level: int, regions: Sequence[tuple[slice, ...]]) -> None:
    """Makes some regions of a level from the level below, in whatever process."""
    fine = zarr.open_array(f"{folder}/{level - 1}", mode="r")
    coarse = zarr.open_array(f"{folder}/{level}", mode="r+")
    for region in regions:
        coarse[region] = _means(fine, region)


def _means(fine: np.ndarray | zarr.Array, region: Sequence[slice]) -> np.ndarray:
    """A region of the level that comes after a fine one."""
    pixels = np.empty([part.stop - part.start for part in region], fine.dtype)
    for piece in _regions(pixels.shape, (*[1] * (pixels.ndim - 2), PIECE, PIECE)):
        at = [slice(all_.start + part.start, all_.start + part.stop) for all_, part in zip(region, piece, strict=True)]
        wide = [
            slice(2 * part.start, min(2 * part.stop, size)) for part, size in zip(at[-2:], fine.shape[-2:], strict=True)
        ]
        pixels[piece] = area_mean(np.asarray(fine[(*at[:-2], *wide)]))
    return pixels


def area_mean(pixels: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 pixels of the last two axes, for integers rounded half to even.

    An odd last row or column is averaged alone.
    """
    odd = [(0, size % 2) for size in pixels.shape[-2:]]
    even = np.pad(pixels, [(0, 0)] * (pixels.ndim - 2) + odd, mode="edge") if any(map(any, odd)) else pixels
    exact = pixels.dtype.kind in "ui" and pixels.dtype.itemsize < 8
    wide = np.dtype(f"{pixels.dtype.kind}{2 * pixels.dtype.itemsize}") if exact else np.dtype(np.float64)
    rows = np.add(even[..., ::2, :], even[..., 1::2, :], dtype=wide)
    total = rows[..., ::2] + rows[..., 1::2]
    if exact:
        return ((total + 1 + ((total >> 2) & 1)) >> 2).astype(pixels.dtype)
    mean = total / 4
    return (np.rint(mean) if pixels.dtype.kind in "ui" else mean).astype(pixels.dtype)


def _halved_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the next level."""
    return (*shape[:-2], *((size + 1) // 2 for size in shape[-2:]))


def _whole(size: int, chunk: int) -> int:
    """A size, rounded up to whole chunks."""
    return -(-size // chunk) * chunk


def _regions(shape: Sequence[int], steps: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """The parts of an array, of so many pixels along each axis."""
    starts = (range(0, size, step) for size, step in zip(shape, steps, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(a, min(a + step, n)) for a, step, n in zip(corner, steps, shape, strict=True))


def _batches(shape: Sequence[int], steps: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], ...]]:
    """The regions of an array, some at a time."""
    count = math.prod(-(-size // step) for size, step in zip(shape, steps, strict=True))
    regions = _regions(shape, steps)
    while batch := tuple(itertools.islice(regions, min(BATCH, -(-count // BATCH)))):
        yield batch
