"""Chunks of a Zarr array as they lie on the disk: regular files inside of the image, as long as their array needs them.

The decoders that zarr uses trust what they are given: a Blosc chunk that was cut short is read beyond its end, and one
that expands without end is expanded.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.storage import LocalStore

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import is_zarr, log_once
from pssr2_monai.images.safeguards import EXPANDED, EXPANSION, check_expansion, check_regular, decoded_bytes, is_inside

METADATA_BYTES = 2**24  # of a file of JSON, at most
COUNTED = 256  # chunks whose sizes are looked at when an array is opened
MOST_CHUNKS, SMALLEST_CHUNK = 10**6, 2**10  # chunks of an array, unless they have so many pixels
SPARSE = 100  # times as much as other files may an array expand, whose chunks of one value need not be stored
SLACK = 2**16  # bytes by which a chunk may be longer than its pixels
BLOSC_HEADER = struct.Struct("<4B3I")  # versions, flags, size of a number; decoded, block and stored bytes
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_STREAMS = {"gzip": "gzip", "zlib": "zlib", "bz2": "bzip2", "lzma": "lzma"}


class SoundStore(LocalStore):
    """A folder of chunks, of which regular files inside of the outermost Zarr folder alone are read."""

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        outermost = Path(root).absolute()
        while is_zarr(outermost.parent):
            outermost = outermost.parent
        self._inside = cache(lambda folder: is_inside(folder / "-", outermost, outermost.resolve()))
        self.limits: dict[str, int] = {}  # bytes of a chunk, by the path of its array

    def get_sync(self, key: str, **options: Any) -> Any:
        self._check(key)
        return super().get_sync(key, **options)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> Any:
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._check(key)
        return await super().get_partial_values(prototype, wanted)

    def _check(self, key: str) -> None:
        path, name = self.root / key, f"{self.root.name}/{key}"
        is_metadata = path.name in _METADATA
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            if not is_metadata:
                log_once(
                    self.root.absolute(), "some chunks are not stored: their pixels have its fill value", logging.INFO
                )
            return
        if stat.S_ISDIR(status.st_mode):  # which zarr takes for a chunk that is missing
            raise InputError(f"{name}: is a folder, not a file; copy the image again")
        inside = self._inside(path.parent)
        if stat.S_ISLNK(status.st_mode):
            if not path.exists():
                raise InputError(f"{name}: is a link to nothing; copy the image with all of its chunks")
            inside = inside and self._inside(Path(os.path.realpath(path)).parent)
            status = path.stat()
        check_regular(path, name, status.st_mode)
        if not inside:
            raise InputError(f"{name}: is a link out of the image; copy the chunk itself into the image")
        if status.st_size == 0:
            raise InputError(f"{name}: is empty (0 bytes); copy the image again")
        array = next((array for array in self.limits if key.startswith(f"{array}/") or not array), None)
        limit = METADATA_BYTES if is_metadata else self.limits.get(array or "", status.st_size)
        if status.st_size > limit:
            raise InputError(
                f"{name}: has {status.st_size} bytes, but at most {limit} are needed; copy the image again"
            )


def sound(array: zarr.Array, name: str) -> zarr.Array:
    """The array with decoders that check what they are given."""
    metadata, itemsize = array.metadata, array.dtype.itemsize
    whole = math.prod(array.shards or array.chunks) * itemsize
    array.store.limits[array.path] = 2 * whole + SLACK
    if metadata.zarr_format == 2:
        if metadata.compressor is None:
            return array
        checked = _Compressor(metadata.compressor, whole, not metadata.filters, name)
        metadata = replace(metadata, compressor=checked)
    else:
        metadata = replace(metadata, codecs=_checked_codecs(metadata.codecs, name))
    return zarr.Array(zarr.AsyncArray(metadata, array.store_path, array.async_array.config))


def check_chunks(array: zarr.Array, name: str) -> None:
    """Check that chunks have pixels, and that what is stored can stand for the whole array.

    Raises:
        InputError: its chunks cannot hold what its metadata announce.
    """
    if min(array.shape) < 1 or min(array.chunks) < 1:
        raise InputError(f"{name}: its array or its chunks have no pixels; correct its metadata")
    count = math.prod(-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True))
    if count > MOST_CHUNKS and math.prod(array.chunks) < SMALLEST_CHUNK:
        raise InputError(f"{name}: is divided into {count} chunks of {array.chunks} pixels; save it in larger ones")
    nbytes = math.prod(array.shape) * array.dtype.itemsize
    stored, files = _stored_bytes(array.store.root / array.path)
    if files == 0:
        if nbytes > EXPANDED:
            raise InputError(f"{name}: none of its chunks is here; copy the image with all of its files")
        log_once(array.store.root.absolute(), "none of its chunks is here: all of its pixels have its fill value")
    elif files < COUNTED:
        check_expansion(name, nbytes, stored, expansion=SPARSE * EXPANSION)


def _stored_bytes(folder: Path) -> tuple[int, int]:
    """The bytes in the first chunks below a folder, and the number of these."""
    sizes = list(itertools.islice(_sizes_below(folder), COUNTED))
    return sum(sizes), len(sizes)


def _sizes_below(folder: str | Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes_below(entry.path)
            elif entry.name not in _METADATA:
                yield entry.stat(follow_symlinks=False).st_size


def _decoded(kind: str, data: bytes, nbytes: int, exact: bool, name: str) -> bytes | None:
    """The bytes of a compressed chunk; None where its codec is left to zarr.

    Args:
        kind: the name of its codec.
        data: what is stored.
        nbytes: of its pixels.
        exact: whether the chunk decodes to these bytes alone; otherwise to at most twice as many.
        name: of the image, for the message.
    """
    most = nbytes if exact else 2 * nbytes + SLACK
    check_expansion(name, nbytes, len(data))
    if kind in _STREAMS:
        content = decoded_bytes([data], _STREAMS[kind], f"{name}, a chunk", nbytes if exact else 0)
    elif kind == "zstd":
        content = bytes(imagecodecs.zstd_decode(data, out=most))
    elif kind == "blosc":
        *_, full, _, packed = BLOSC_HEADER.unpack_from(data.ljust(BLOSC_HEADER.size, b"\0"))
        if packed != len(data) or full > most:
            raise InputError(
                f"{name}: a chunk has {len(data)} bytes, but states {packed} for {full} bytes of pixels, where "
                f"{nbytes} are needed; copy it again"
            )
        content = bytes(imagecodecs.blosc_decode(data))
    elif kind == "lz4":
        full = int.from_bytes(data[:4], "little")
        if full > most:
            raise InputError(f"{name}: a chunk states {full} bytes of pixels, where {nbytes} are needed; copy it again")
        content = bytes(imagecodecs.lz4_decode(data, header=True))
    else:
        return None
    if len(content) > most or (exact and len(content) != nbytes):
        raise InputError(f"{name}: a chunk holds {len(content)} bytes of pixels, not {nbytes}; copy it again")
    return content


class _Compressor:
    """The compressor of an array of version 2, with the methods that zarr asks of those of numcodecs."""

    codec_id = "checked"  # of the class, which is never registered

    def __init__(self, inner: Any, nbytes: int, exact: bool, name: str) -> None:
        self._inner, self._nbytes, self._exact, self._name = inner, nbytes, exact, name

    def encode(self, buf: Any) -> Any:
        return self._inner.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        content = _decoded(self._inner.codec_id, bytes(buf), self._nbytes, self._exact, self._name)
        return self._inner.decode(buf) if content is None else np.frombuffer(content, np.uint8)

    def get_config(self) -> Any:
        return self._inner.get_config()

    @classmethod
    def from_config(cls, config: Any) -> Any:
        raise NotImplementedError("made for one array alone")


class _Checked:
    """A codec of an array of version 3 whose chunks are checked before zarr decodes them, or decoded here."""

    kind = ""

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        nbytes = math.prod(chunk_spec.shape) * chunk_spec.dtype.item_size
        content = _decoded(self.kind, chunk_bytes.to_bytes(), nbytes, True, self.image)  # type: ignore[attr-defined]
        return chunk_spec.prototype.buffer.from_bytes(content)


class _Blosc(_Checked, BloscCodec):
    kind = "blosc"


class _Gzip(_Checked, GzipCodec):
    kind = "gzip"


class _Zstd(_Checked, ZstdCodec):
    kind = "zstd"


_CHECKED = {BloscCodec: _Blosc, GzipCodec: _Gzip, ZstdCodec: _Zstd}


def _checked_codecs(codecs: Iterable[Any], name: str) -> tuple[Any, ...]:
    checked = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            codec = replace(codec, codecs=_checked_codecs(codec.codecs, name))
        elif type(codec) in _CHECKED:
            options = {entry.name: getattr(codec, entry.name) for entry in fields(codec) if entry.init}
            codec = _CHECKED[type(codec)](**options)
            object.__setattr__(codec, "image", name)
        checked.append(codec)
    return tuple(checked)
