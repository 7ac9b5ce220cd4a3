"""OME-Zarr chunk by chunk: reads versions 0.1 to 0.5 and plain Zarr arrays, writes version 0.5 with a pyramid."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from pssr2_monai.errors import InputError
from pssr2_monai.images.contents import Contents, Entry, contents_of
from pssr2_monai.images.files import natural_order
from pssr2_monai.images.formats.omezarr_chunks import SoundStore, check_chunks, sound
from pssr2_monai.images.formats.omezarr_metadata import image_metadata, stated
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.metadata import BAR_NOTE, ImageMetadata, bar_of_note
from pssr2_monai.images.safeguards import parse_xml, without_link
from pssr2_monai.images.windows import rounded_up
from pssr2_monai.images.writer import ZARR_CHUNK, ImageSpec, Spread, move_into_place, part_path, remove

LETTER_OF = {
    **dict.fromkeys(("position", "field", "scene", "series", "tile"), "P"),
    "detector": "D",
    "angle": "A",
    "view": "V",
    "time": "T",
    "channel": "C",
    "depth": "Z",
    "height": "Y",
    "width": "X",
    **{x.lower(): x for x in "TZCYX"},
}
STORED_ORDER = "TCZYX"  # which the format prescribes: time, channel, space
REGION = 2048  # pixels along Y and X of a level that are written at once, unless shards say otherwise
PIECE = 1024  # pixels along Y and X of a level that are computed at a time, from four times as many
BATCH = 16  # regions of a level in one task, at most; and tasks of a level, at least
SMALLEST_LEVEL = 256  # the pyramid ends with the first level of at most so many pixels along Y and X


def open_file(path: Path) -> Contents:
    """Open the images of an OME-Zarr at full resolution, or a plain Zarr array.

    The axes of a plain array are its dimension names; without names, its last two axes are Y and X.
    """
    node = zarr.open(SoundStore(path), mode="r")
    if isinstance(node, zarr.Array):
        return contents_of(_plain_image(path, node))
    attributes = _ome_attributes(node)
    if "plate" in attributes:
        well = attributes["plate"]["wells"][0]["path"]
        raise InputError(f"{path.name}: is a plate of many images; open one of them, such as {path.name}/{well}/0")
    named = _series(node, attributes, path)
    images = [
        (name or str(multiscale.get("name") or _name_of(group)), _multiscale(path, group, ome, multiscale))
        for name, group, ome in named
        for multiscale in ome["multiscales"]
    ]
    if images:
        entries = tuple(Entry(name, image.shape, image.dtype, image.axes) for name, image in images)
        return Contents(entries, lambda place: _checked(images[place][1]))
    arrays = dict(node.arrays())
    if len(arrays) != 1:
        names = ", ".join(sorted(arrays)) or "no array"
        raise InputError(
            f"{path.name}: is not an OME-Zarr image and holds {names}; open one array, such as {path.name}/NAME"
        )
    (array,) = arrays.values()
    return contents_of(_plain_image(path, array))


def _checked(image: LazyImage) -> LazyImage:
    """The image, after its chunks were compared with what its metadata announce."""
    check_chunks(image.reader.keywords["array"], image.path.name)  # type: ignore[attr-defined]
    return image


def _plain_image(path: Path, array: zarr.Array) -> LazyImage:
    return _checked(_image(path, array, _plain_axes(array)))


def _read(region: Sequence[slice], array: zarr.Array) -> np.ndarray:
    return np.asarray(array[tuple(region)])


def _series(
    node: zarr.Group, attributes: Mapping[str, Any], path: Path
) -> list[tuple[str, zarr.Group, Mapping[str, Any]]]:
    """The images of a group with their names: its own, the fields of a well, or the series of a converted file."""
    if "multiscales" in attributes:
        return [("", node, attributes)]
    groups = dict(node.groups())
    listed = [str(image["path"]) for image in (attributes.get("well") or {}).get("images", ())]
    if not listed and "OME" in groups:
        listed = [str(series) for series in _ome_attributes(groups["OME"]).get("series", ())]
    paths = [name for name in listed or sorted(groups, key=natural_order) if name in groups]
    names = _names_in_xml(path / "OME" / "METADATA.ome.xml")
    found = []
    for number, name in enumerate(paths):
        ome = _ome_attributes(groups[name])
        if "multiscales" in ome:
            found.append((names[number] if len(names) == len(paths) else "", groups[name], ome))
    return found


def _name_of(group: zarr.Group) -> str:
    """The name of the folder of an image, unless it is a number, which could be taken for that of the image."""
    return "" if group.basename.isdecimal() else group.basename


def _names_in_xml(file: Path) -> list[str]:
    """The names of the images in a file of OME-XML, empty if there is no such file."""
    if not file.is_file():
        return []
    root = parse_xml(file.read_bytes(), f"{file.parent.parent.name}/{file.parent.name}/{file.name}")
    return [image.get("Name") or "" for image in root.iterfind("{*}Image")]


def _ome_attributes(group: zarr.Group) -> Mapping[str, Any]:
    """The OME metadata of a group, which version 0.5 stores under the key ``ome``."""
    attributes = group.attrs.asdict()
    return attributes.get("ome", attributes)


def _multiscale(
    path: Path, group: zarr.Group, attributes: Mapping[str, Any], multiscale: Mapping[str, Any]
) -> LazyImage:
    level = _full_resolution(path, group, multiscale["datasets"])
    array = group[level["path"]]
    # Versions before 0.3 have five axes and no list of them; 0.3 lists their names only.
    described = [
        axis if isinstance(axis, Mapping) else {"name": axis} for axis in multiscale.get("axes", list("tczyx"))
    ]
    axes = "".join(_letter(str(axis["name"])) for axis in described)
    omero = attributes.get("omero") or {}
    sizes, names, metadata = stated(axes, described, (level, multiscale), omero.get("channels", ()))
    notes = multiscale.get("metadata")
    if isinstance(notes, Mapping) and BAR_NOTE in notes:
        metadata = replace(metadata, bar_rows=bar_of_note(notes[BAR_NOTE], array.shape[axes.index("Y")]))
    return _image(path, array, axes, sizes, names, metadata)


def _full_resolution(path: Path, group: zarr.Group, levels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The level of full resolution: the first or, as some writers list the smallest first, the last one.

    Raises:
        InputError: it may be the one that is missing.
    """
    ends = [level for level in (levels[0], levels[-1]) if _is_array(group, level)]
    if not ends or not _is_array(group, levels[0]) or (len(ends) < 2 and _step(levels[-1]) <= _step(levels[0])):
        missing = next(level["path"] for level in (levels[0], levels[-1]) if level not in ends)
        raise InputError(f"{path.name}: its level {missing!r} is missing; copy the image with all of its files")
    return max(ends, key=lambda level: group[level["path"]].size)


def _is_array(group: zarr.Group, level: Mapping[str, Any]) -> bool:
    """Whether a level is an array within the group."""
    name = level["path"]
    if not isinstance(name, str) or not name or ".." in name.split("/") or name not in group:
        return False
    return isinstance(group[name], zarr.Array)


def _step(level: Mapping[str, Any]) -> float:
    """The distance of its pixels, 0 where the level does not state it."""
    transforms = level.get("coordinateTransformations", ())
    return max((float(transform["scale"][-1]) for transform in transforms if "scale" in transform), default=0.0)


def _image(
    path: Path,
    array: zarr.Array,
    axes: str,
    sizes: Mapping[str, float] | None = None,
    names: tuple[str, ...] = (),
    metadata: ImageMetadata | None = None,
) -> LazyImage:
    if len(axes) != array.ndim:
        raise InputError(
            f"{path.name}: its metadata name {len(axes)} axes ({axes!r}), but the array has {array.ndim} dimensions; "
            "correct the metadata, or open the array within it"
        )
    array = sound(array, path.name)
    shape = tuple(int(size) for size in array.shape)
    return LazyImage(
        path,
        shape,
        array.dtype,
        axes,
        sizes or {},
        partial(_read, array=array),
        names,
        metadata=metadata or ImageMetadata(),
        bar_rows=metadata.bar_rows if metadata is not None else 0,
        bar_stated=True,
    )


def _plain_axes(array: zarr.Array) -> str:
    """The axes of a plain array: from its dimension names (Zarr 3 or xarray), else Y and X last."""
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else None
    names = names or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    letters = [_letter(str(name)) for name in names or ()]
    if "Y" in letters and "X" in letters:
        return "".join(letters)
    return ("Q" * (array.ndim - 2) + "YX")[-array.ndim :]


def _letter(name: str) -> str:
    """The letter of an axis of this name; "Q" for an axis of another meaning."""
    return LETTER_OF.get(name.strip().lower(), "Q")


class OmeZarrWriter:
    """Write an OME-Zarr 0.5 image whose chunks hold one plane of at most 512 x 512 pixels.

    The axes are stored in the order TCZYX, which the format prescribes; regions are given in the order of ``axes``.
    Processes may write at the same time as long as no two write to the same chunk or, with shards, to the same shard
    (see ``chunks``). Axes of unknown pixel size have no unit in the file.

    ``in_blocks``, each region is also written to the first level of the pyramid, which is otherwise built at the end;
    ``shards`` are rounded up to whole chunks. For the other arguments, see ``writer.create_writer``.
    """

    def __init__(
        self,
        spec: ImageSpec,
        resume: bool = False,
        in_blocks: bool = False,
        shards: Sequence[int] | None = None,
        chunk: int | None = None,
    ) -> None:
        self._path, self._part = spec.path, without_link(part_path(spec.path))
        self._axes = "".join(axis for axis in STORED_ORDER if axis in spec.axes)
        self._order = [spec.axes.index(axis) for axis in self._axes]
        self._spec = spec
        self._chunk = chunk or ZARR_CHUNK
        grid = [self._chunk * (1 + in_blocks) if axis in "YX" else 1 for axis in spec.axes]
        if shards is not None:
            grid = [rounded_up(size, unit) for size, unit in zip(shards, grid, strict=True)]
        self.chunks: tuple[int, ...] | None = tuple(grid)
        self.holds_alpha = False
        self._grid, self._sharded = [grid[i] for i in self._order], shards is not None
        stored = [spec.shape[i] for i in self._order]
        first = [stored, _halved_shape(stored)] if in_blocks and max(stored[-2:]) > SMALLEST_LEVEL else [stored]
        names = [str(self._part / str(level)) for level in range(len(first))]
        if resume and all(Path(name, "zarr.json").is_file() for name in names):
            self._levels = [zarr.open_array(name, mode="r+") for name in names]
            return
        remove(self._part)  # left by a process that was killed
        self._part.mkdir()
        try:
            self._levels = [self._create(level, sizes, spec.dtype) for level, sizes in enumerate(first)]
        except BaseException:
            remove(self._part)
            raise

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        stored, pixels = tuple(region[i] for i in self._order), array.transpose(self._order)
        image, *halves = self._levels
        if halves and not self._in_whole_blocks(stored):
            raise ValueError(f"{self._path.name}: {stored} is not made of whole blocks of {self.chunks}, {self._axes}")
        image[stored] = pixels
        for half in halves:
            whole = tuple(slice(0, size) for size in _halved_shape(pixels.shape))
            half_plane = (slice(part.start // 2, (part.stop + 1) // 2) for part in stored[-2:])
            half[(*stored[:-2], *half_plane)] = _means(pixels, whole)

    def _in_whole_blocks(self, stored: Sequence[slice]) -> bool:
        ends = zip(stored, self._grid, self._levels[0].shape, strict=True)
        return all(part.start % unit == 0 and (part.stop % unit == 0 or part.stop == size) for part, unit, size in ends)

    def close(self, spread: Spread = map) -> None:
        """Build the pyramid, add the metadata that make the folder an image, and move it into place."""
        levels = list(self._levels)
        while max(levels[-1].shape[-2:]) > SMALLEST_LEVEL:
            levels.append(self._halved(levels[-1], len(levels), spread))
        metadata = {"ome": image_metadata(self._spec, self._axes, levels)}
        zarr.open_group(str(self._part), mode="a", zarr_format=3, attributes=metadata)
        for folder, _, names in os.walk(self._part):
            for name in names:
                if name.endswith(".partial"):  # a chunk that zarr was writing when a process was killed
                    os.remove(os.path.join(folder, name))
        move_into_place(self._part, self._path)

    def abort(self) -> None:
        remove(self._part)

    def _create(self, level: int, shape: Sequence[int], dtype: np.dtype[Any]) -> zarr.Array:
        chunks = [min(self._chunk, size) if axis in "YX" else 1 for axis, size in zip(self._axes, shape, strict=True)]
        shards = None
        if self._sharded:
            # A block fills one shard of the image, and one of half its sides in the first level.
            sides = [
                unit // 2 if level and axis in "YX" else unit for axis, unit in zip(self._axes, self._grid, strict=True)
            ]
            shards = tuple(rounded_up(min(limits), chunk) for *limits, chunk in zip(sides, shape, chunks, strict=True))
        return zarr.create_array(
            str(self._part / str(level)),
            overwrite=True,  # an unfinished level of a process that was killed
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
        """Write the next level: the mean of each 2 x 2 pixels, region by region."""
        coarse = self._create(level, _halved_shape(fine.shape), fine.dtype)
        steps = coarse.shards or (*[1] * (coarse.ndim - 2), REGION, REGION)
        halve = partial(_halve, str(self._part), level)
        for _ in spread(halve, _batches(coarse.shape, steps)):
            pass
        return coarse


def _halve(folder: str, level: int, regions: Sequence[tuple[slice, ...]]) -> None:
    """Write regions of a level from the level below, in this or another process."""
    fine = zarr.open_array(f"{folder}/{level - 1}", mode="r")
    coarse = zarr.open_array(f"{folder}/{level}", mode="r+")
    for region in regions:
        coarse[region] = _means(fine, region)


def _means(fine: np.ndarray | zarr.Array, region: Sequence[slice]) -> np.ndarray:
    """A region of the level above a fine one, piece by piece to bound the memory."""
    pixels = np.empty([part.stop - part.start for part in region], fine.dtype)
    for piece in _regions(pixels.shape, (*[1] * (pixels.ndim - 2), PIECE, PIECE)):
        *outer, y, x = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(region, piece, strict=True))
        plane = zip((y, x), fine.shape[-2:], strict=True)
        wide = [slice(2 * part.start, min(2 * part.stop, size)) for part, size in plane]
        pixels[piece] = area_mean(np.asarray(fine[(*outer, *wide)]))
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
    return (*shape[:-2], *((size + 1) // 2 for size in shape[-2:]))


def _regions(shape: Sequence[int], steps: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """The regions of an array, of ``steps`` pixels along each axis or fewer at its end."""
    starts = (range(0, size, step) for size, step in zip(shape, steps, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(a, min(a + step, n)) for a, step, n in zip(corner, steps, shape, strict=True))


def _batches(shape: Sequence[int], steps: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], ...]]:
    """The regions of an array, several in one tuple."""
    count = math.prod(-(-size // step) for size, step in zip(shape, steps, strict=True))
    regions = _regions(shape, steps)
    while batch := tuple(itertools.islice(regions, min(BATCH, -(-count // BATCH)))):
        yield batch
