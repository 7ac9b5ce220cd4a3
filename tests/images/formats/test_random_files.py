"""Files of all formats with pixels, axes and layouts drawn at random, against what was written into them.

Up to fifty examples of each by default; ``PSSR2_EXAMPLES=5000 pytest tests/images/formats/test_random_files.py`` looks
further.
"""

from __future__ import annotations

import bz2
import gzip
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
COMPRESSIONS = [None, "zlib", "lzw", "packbits", "zstd", "lzma"]
few = settings(max_examples=settings.default.max_examples // 5 + 1)  # of what is slow to write
lengths = st.integers(1, 5)
sides = st.integers(1, 40)


@dataclass(frozen=True)
class Pixels:
    """An array and the letters of its axes, without those of length 1 but Y and X."""

    array: np.ndarray
    axes: str

    @property
    def kept(self) -> Pixels:
        long = [i for i, axis in enumerate(self.axes) if axis in "YX" or self.array.shape[i] > 1]
        shape = [self.array.shape[i] for i in long]
        return Pixels(self.array.reshape(shape), "".join(self.axes[i] for i in long))


@st.composite
def pixels(draw: st.DrawFn, axes: st.SearchStrategy[str], dtypes: list[str] = DTYPES) -> Pixels:
    """Random pixels over the whole range of a dtype, also of one row or column."""
    letters, dtype = draw(axes), np.dtype(draw(st.sampled_from(dtypes)))
    shape = [draw(sides if axis in "YX" else st.sampled_from([3, 4]) if axis == "S" else lengths) for axis in letters]
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if dtype.kind == "f":
        return Pixels(rng.normal(0, 1e3, shape).astype(dtype), letters)
    info = np.iinfo(dtype)
    return Pixels(rng.integers(info.min, info.max, shape, dtype, endpoint=True), letters)


def subsets(letters: str, fixed: str = "YX") -> st.SearchStrategy[str]:
    """Some of the letters in their order, with all of the fixed ones."""
    chosen = st.sets(st.sampled_from(letters))
    return chosen.map(lambda some: "".join(letter for letter in letters if letter in {*some, *fixed}))


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def check(path: Path, expected: Pixels, data: st.DataObject) -> None:
    """Compare a file with its pixels: all of them, and a region as numpy would cut it out."""
    kept = expected.kept
    bounds = [st.none() | st.integers(-size - 2, size + 2) for size in kept.array.shape]
    region = tuple(slice(data.draw(bound), data.draw(bound)) for bound in bounds)
    with open_image(path) as image:
        assert (image.axes, image.shape) == (kept.axes, kept.array.shape)
        assert image.dtype == kept.array.dtype
        np.testing.assert_array_equal(image.read(region), kept.array[region])
        np.testing.assert_array_equal(image.read(), kept.array)


@st.composite
def layouts(draw: st.DrawFn, compressions: list[str | None] = COMPRESSIONS) -> dict[str, Any]:
    """Options of tifffile: strips or tiles, compression and its predictor, the order of bytes."""
    options: dict[str, Any] = {
        "compression": draw(st.sampled_from(compressions)),
        "byteorder": draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
    }
    if draw(st.booleans()):
        options["tile"] = (16 * draw(st.integers(1, 2)), 16 * draw(st.integers(1, 3)))
    else:
        options["rowsperstrip"] = draw(st.integers(1, 50))
    if options["compression"] not in (None, "packbits"):
        options["predictor"] = draw(st.booleans())
    return options


@given(pixels(subsets("TZCYX")), layouts(), st.data())
def test_ome_tiff(written: Pixels, layout: dict[str, Any], data: st.DataObject) -> None:
    assume(written.array.shape[-1] > 1)  # tifffile takes a width of 1 for an axis of samples
    with folder() as place:
        tifffile.imwrite(
            place / "a.ome.tif", written.array, metadata={"axes": written.axes}, photometric="minisblack", **layout
        )
        check(place / "a.ome.tif", written, data)


@given(pixels(subsets("TZCYX"), ["uint8", "uint16", "float32"]), st.booleans(), st.data())
def test_imagej_hyperstacks(written: Pixels, big_endian: bool, data: st.DataObject) -> None:
    assume(written.array.shape[-1] > 1)  # tifffile takes a width of 1 for an axis of samples
    with folder() as place:
        order = ">" if big_endian else "<"
        options = {"metadata": {"axes": written.axes}, "byteorder": order, "photometric": "minisblack"}
        tifffile.imwrite(place / "a.tif", written.array, imagej=True, **options)
        check(place / "a.tif", written, data)


@given(pixels(st.sampled_from(["YX", "ZYX"])), layouts(), st.data())
def test_plain_tiff(written: Pixels, layout: dict[str, Any], data: st.DataObject) -> None:
    with folder() as place:
        tifffile.imwrite(place / "a.tif", written.array, metadata=None, photometric="minisblack", **layout)
        check(place / "a.tif", written, data)


@given(pixels(st.sampled_from(["YXS", "ZYXS"]), ["uint8", "uint16", "float32"]), layouts(), st.booleans(), st.data())
def test_tiff_in_colours(written: Pixels, layout: dict[str, Any], planar: bool, data: st.DataObject) -> None:
    """Three samples are channels; the fourth is opacity."""
    stored, axes = written.array, written.axes.replace("S", "C")
    options = {"photometric": "rgb", "metadata": None} | layout
    if stored.shape[-1] == 4:
        options["extrasamples"] = ["unassalpha"]
    shown = stored[..., :3]
    if planar:
        stored, shown, axes = np.moveaxis(stored, -1, -3), np.moveaxis(shown, -1, -3), f"{axes[:-3]}CYX"
        options["planarconfig"] = "separate"
    with folder() as place:
        tifffile.imwrite(place / "a.tif", stored, **options)
        check(place / "a.tif", Pixels(shown, axes), data)
        if written.array.shape[-1] == 4:
            with open_image(place / "a.tif") as image:
                np.testing.assert_array_equal(image.read_alpha().squeeze(), written.array[..., 3].squeeze())


@few
@given(pixels(subsets("TZCYX")), st.data())
def test_zarr_arrays_with_named_axes(written: Pixels, data: st.DataObject) -> None:
    axes = "".join(data.draw(st.permutations(written.axes)))
    array = written.array.transpose([written.axes.index(axis) for axis in axes])
    compressor = data.draw(st.sampled_from([None, BloscCodec(cname="lz4"), GzipCodec(), ZstdCodec(checksum=True)]))
    chunks = tuple(data.draw(st.integers(1, size)) for size in array.shape)
    shards = data.draw(st.none() | st.tuples(*(st.integers(1, 2).map(lambda n, c=c: n * c) for c in chunks)))
    with folder() as place:
        names = [axis.lower() for axis in axes]
        options = {"chunks": chunks, "shards": shards, "compressors": compressor, "dimension_names": names}
        zarr.create_array(place / "a.zarr", data=array, zarr_format=3, **options)
        check(place / "a.zarr", Pixels(array, axes), data)


@few
@given(pixels(subsets("TCZYX")), st.sampled_from([2, 3]), st.booleans(), st.data())
def test_ome_zarr(written: Pixels, version: int, nested: bool, data: st.DataObject) -> None:
    kinds = {"T": "time", "C": "channel"}
    axes = [{"name": axis.lower(), "type": kinds.get(axis, "space")} for axis in written.axes]
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    content = {"multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]}
    chunks = tuple(data.draw(st.integers(1, size)) for size in written.array.shape)
    with folder() as place:
        attributes = {"ome": {"version": "0.5", **content}} if version == 3 else content
        group = zarr.open_group(place / "a.ome.zarr", mode="w", zarr_format=version, attributes=attributes)
        separator = {"name": "default" if version == 3 else "v2", "separator": "/" if nested else "."}
        stored = group.create_array(
            "0", shape=written.array.shape, dtype=written.array.dtype, chunks=chunks, chunk_key_encoding=separator
        )
        stored[...] = written.array
        check(place / "a.ome.zarr", written, data)


@given(pixels(st.sampled_from(["YX", "YXS"]), ["uint8", "uint16"]), st.sampled_from([".png", ".bmp"]), st.data())
def test_pictures_against_imageio(written: Pixels, suffix: str, data: st.DataObject) -> None:
    deep, alpha = written.array.dtype == np.uint16, written.array.shape[-1] == 4 and written.axes == "YXS"
    assume(suffix == ".png" or not (deep or alpha))
    assume(not (deep and written.axes == "YXS"))  # which imageio does not write
    with folder() as place:
        path = place / f"a{suffix}"
        imageio.imwrite(path, written.array)
        read = imageio.imread(path)
        np.testing.assert_array_equal(read, written.array)
        shown = written.array[..., :3] if written.axes == "YXS" else written.array
        check(path, Pixels(shown, written.axes.replace("S", "C")), data)
        if alpha:
            with open_image(path) as image:
                np.testing.assert_array_equal(image.read_alpha()[..., 0], written.array[..., 3])


NRRD_KINDS = {"int8": "int8", "uint8": "uint8", "float32": "float", "float64": "double"}


@few
@given(pixels(st.sampled_from(["YX", "ZYX"])), st.sampled_from(["raw", "gzip", "bzip2"]), st.booleans(), st.data())
def test_nrrd(written: Pixels, encoding: str, big_endian: bool, data: st.DataObject) -> None:
    stored = written.array.astype(written.array.dtype.newbyteorder(">" if big_endian else "<")).tobytes()
    encode = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding]
    header = [
        "NRRD0004",
        f"type: {NRRD_KINDS.get(written.array.dtype.name, written.array.dtype.name)}",
        f"dimension: {written.array.ndim}",
        f"sizes: {' '.join(map(str, reversed(written.array.shape)))}",
        f"endian: {'big' if big_endian else 'little'}",
        f"encoding: {encoding}",
    ]
    with folder() as place:
        (place / "a.nrrd").write_bytes("\n".join(header).encode() + b"\n\n" + encode(stored))
        check(place / "a.nrrd", written, data)


@given(pixels(st.sampled_from(["YX", "ZYX", "TZYX"])), st.booleans(), st.data())
def test_nifti(written: Pixels, packed: bool, data: st.DataObject) -> None:
    kinds = {
        "uint8": 2,
        "int16": 4,
        "int32": 8,
        "float32": 16,
        "float64": 64,
        "int8": 256,
        "uint16": 512,
        "uint32": 768,
    }
    array = written.array
    dims = (array.ndim, *reversed(array.shape), *[1] * (7 - array.ndim))
    header = struct.pack("<i36x8h14x2h2x8f", 348, *dims, kinds[array.dtype.name], 8 * array.itemsize, *[1.0] * 8)
    header += struct.pack("<fffhBB", 352.0, 0.0, 0.0, 0, 0, 0)
    content = header.ljust(344, b"\0") + b"n+1\0" + bytes(4) + array.tobytes()
    with folder() as place:
        path = place / ("a.nii.gz" if packed else "a.nii")
        path.write_bytes(gzip.compress(content) if packed else content)
        check(path, written, data)


@given(
    pixels(st.sampled_from(["YX", "ZYX"]), ["int8", "int16", "uint16", "float32"]),
    st.sampled_from(["", ".gz", ".bz2"]),
    st.data(),
)
def test_mrc(written: Pixels, packing: str, data: st.DataObject) -> None:
    with folder() as place:
        with mrcfile.new(place / "a.mrc", written.array):
            pass
        content = (place / "a.mrc").read_bytes()
        path = place / f"b.mrc{packing}"
        path.write_bytes({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[packing](content))
        check(path, written, data)


@given(
    st.binary(max_size=400), st.sampled_from([".tif", ".png", ".jpg", ".nrrd", ".mha", ".nii", ".mrc", ".dm3", ".lif"])
)
def test_bytes_that_are_no_image_are_refused_in_one_line(content: bytes, suffix: str) -> None:
    with folder() as place:
        (place / f"a{suffix}").write_bytes(content)
        with pytest.raises(InputError, match=rf"\Aa\{suffix}: [^\n]+\Z"):
            open_image(place / f"a{suffix}").read()
