"""Chunks of Zarr arrays: those that are short, damaged, too long, missing, linked or no files."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import log_once
from pssr2_monai.images.image import open_image

DATA = np.random.default_rng(0).integers(0, 50, (64, 48)).astype(np.uint16)
ARRAYS: dict[str, dict[str, Any]] = {
    "2 plain": {"zarr_format": 2, "compressors": None},
    "2 blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4")},
    "2 zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
    "2 gzip, delta": {"zarr_format": 2, "compressors": numcodecs.GZip(), "filters": [numcodecs.Delta("u2")]},
    "2 bz2": {"zarr_format": 2, "compressors": numcodecs.BZ2()},
    "2 zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
    "2 lz4": {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "3 plain": {"zarr_format": 3, "compressors": None},
    "3 blosc": {"zarr_format": 3, "compressors": BloscCodec(cname="zstd")},
    "3 gzip": {"zarr_format": 3, "compressors": GzipCodec()},
    "3 zstd, checksum": {"zarr_format": 3, "compressors": [ZstdCodec(), Crc32cCodec()]},
    "3 turned": {"zarr_format": 3, "compressors": ZstdCodec(), "filters": [TransposeCodec(order=(1, 0))]},
    "3 shards": {"zarr_format": 3, "compressors": BloscCodec(cname="zstd"), "shards": (64, 64)},
}


def write(path: Path, kind: str = "2 blosc", pixels: np.ndarray = DATA) -> Path:
    """A plain array; the file of its first chunk or shard."""
    array = zarr.create_array(path, shape=pixels.shape, dtype=pixels.dtype, chunks=(32, 32), **ARRAYS[kind])
    array[:] = pixels
    return path / ("c/0/0" if kind.startswith("3") else "0.0")


@pytest.mark.parametrize("kind", ARRAYS)
def test_whole_chunks_are_read_and_others_refused(tmp_path: Path, kind: str) -> None:
    chunk = write(tmp_path / "a.zarr", kind)
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").read(), DATA)
    content = chunk.read_bytes()
    for bad in (content[:-1], content[: len(content) // 2], content[:3], b""):
        chunk.write_bytes(bad)
        with pytest.raises(InputError, match=r"^a\.zarr"):
            open_image(tmp_path / "a.zarr").read()


@pytest.mark.parametrize("kind", ["2 blosc", "2 zlib", "2 zstd", "2 lz4", "2 bz2"])
def test_chunks_that_expand_to_more_than_their_pixels(tmp_path: Path, kind: str) -> None:
    chunk = write(tmp_path / "a.zarr", kind)
    chunk.write_bytes(bytes(ARRAYS[kind]["compressors"].encode(np.zeros(2**23, np.uint8))))
    with pytest.raises(InputError, match=r"^a\.zarr"):
        open_image(tmp_path / "a.zarr").read()


def test_a_chunk_of_blosc_whose_header_lies(tmp_path: Path) -> None:
    chunk = write(tmp_path / "a.zarr")
    chunk.write_bytes(imagecodecs.blosc_encode(bytes(5 * 2**20)))  # a valid one of more pixels
    with pytest.raises(InputError, match=r"^a\.zarr: a chunk has \d+ bytes, but states \d+ for 5242880"):
        open_image(tmp_path / "a.zarr").read()


def test_chunks_that_are_no_files_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    chunk = write(tmp_path / "in" / "a.zarr")
    shutil.move(chunk, tmp_path / "outside")
    for target, problem in (
        (tmp_path / "outside", "is a link out of the image"),
        (Path("/dev/zero"), "is a device"),
        (Path("nothing"), "is a link to nothing"),
    ):
        chunk.symlink_to(target)
        with pytest.raises(InputError, match=rf"^a\.zarr/0\.0: {problem}"):
            open_image(tmp_path / "in" / "a.zarr").read()
        chunk.unlink()
    chunk.mkdir()
    with pytest.raises(InputError, match=r"^a\.zarr/0\.0: is a folder"):
        open_image(tmp_path / "in" / "a.zarr").read()
    chunk.rmdir()
    os.mkfifo(chunk)
    with pytest.raises(InputError, match=r"^a\.zarr/0\.0: is a pipe"):
        open_image(tmp_path / "in" / "a.zarr").read()
    chunk.unlink()
    chunk.touch()
    os.truncate(chunk, 2**33)
    with pytest.raises(InputError, match=r"^a\.zarr/0\.0: has 8589934592 bytes, but at most"):
        open_image(tmp_path / "in" / "a.zarr").read()
    chunk.unlink()
    (tmp_path / "in" / "a.zarr" / "kept").mkdir()
    shutil.move(tmp_path / "outside", tmp_path / "in" / "a.zarr" / "kept" / "outside")
    chunk.symlink_to("kept/outside")  # as git-annex keeps its files
    np.testing.assert_array_equal(open_image(tmp_path / "in" / "a.zarr").read(), DATA)


def test_missing_chunks_have_the_fill_value_which_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_once.cache_clear()
    chunk = write(tmp_path / "a.zarr")
    chunk.unlink()
    pixels = open_image(tmp_path / "a.zarr").read()
    assert not pixels[:32, :32].any()
    np.testing.assert_array_equal(pixels[32:], DATA[32:])
    assert caplog.messages == ["a.zarr: some chunks are not stored: their pixels have its fill value"]
    for file in (tmp_path / "a.zarr").glob("*.*"):
        if not file.name.startswith("."):
            file.unlink()
    assert not open_image(tmp_path / "a.zarr").read().any()
    assert "a.zarr: none of its chunks is here: all of its pixels have its fill value" in caplog.messages


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shape": [100000, 100000]}, r"\d+ bytes would expand"),
        ({"chunks": [0, 0]}, ""),
        ({"shape": [20000, 20000], "chunks": [1, 1]}, "is divided into 400000000 chunks"),
        ({"shape": [-64, 48]}, ""),
    ],
)
def test_arrays_that_their_chunks_cannot_hold(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    write(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(InputError, match=rf"^a\.zarr: {problem}"):
        open_image(tmp_path / "a.zarr").read()


def test_a_large_array_without_any_chunk(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(30000, 30000), dtype="uint8", chunks=(1000, 1000))
    with pytest.raises(InputError, match=r"^a\.zarr: none of its chunks is here; copy"):
        open_image(tmp_path / "a.zarr")
