"""Checks before decoding: lengths, expansion, names, streams and XML, against the standard library's own encoders."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import socket
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import SUFFIXES
from pssr2_monai.images.image import open_image
from pssr2_monai.images.safeguards import (
    check_expansion,
    check_length,
    check_stream,
    decoded_bytes,
    is_inside,
    neighbour,
    parse_xml,
)

CONTENT = bytes(range(256)) * 700
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "lzma": lzma.compress,
}


def divided(content: bytes, size: int = 500) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.mark.parametrize("codec", ENCODERS)
def test_streams_are_decoded_whole_or_refused(codec: str) -> None:
    packed = ENCODERS[codec](CONTENT)
    assert decoded_bytes(divided(packed), codec, "a", len(CONTENT)) == CONTENT
    check_stream([packed], codec, "a", len(CONTENT))
    for tenth in range(10):
        with pytest.raises(InputError, match=r"^a: "):
            check_stream(divided(packed[: len(packed) * tenth // 10]), codec, "a", len(CONTENT))
    for place in (len(packed) // 3, len(packed) - 3):  # in the data, and in the checksum behind them
        flipped = packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :]
        with pytest.raises(InputError, match="damaged|cut short"):
            check_stream([flipped], codec, "a", len(CONTENT))
    with pytest.raises(InputError, match="cut short: .* 1 are missing"):
        check_stream([packed], codec, "a", len(CONTENT) + 1)


def test_several_streams_of_gzip_and_padding() -> None:
    packed = gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:]) + bytes(77)
    assert decoded_bytes(divided(packed), "gzip", "a", len(CONTENT)) == CONTENT


def test_a_stream_that_expands_without_end_takes_little_memory() -> None:
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(40)) + packer.flush()
    tracemalloc.start()
    with pytest.raises(InputError, match="expand to more than the 5 bytes"):
        check_stream([packed], "zlib", "a", 5)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_lengths_and_expansion() -> None:
    check_length("a.nrrd", 100, 100)
    with pytest.raises(InputError, match=r"a\.nrrd: is cut short: .* byte 100, but the file has 70, 30 are missing"):
        check_length("a.nrrd", 100, 70)
    check_expansion("a.png", 100 * 2**20, 1)
    check_expansion("a.png", 4 * 10**8, 2 * 10**6)
    with pytest.raises(InputError, match=r"a\.png: 150 bytes would expand to 9537 MiB"):
        check_expansion("a.png", 10**10, 150)
    with pytest.raises(InputError, match=r"a\.gz: is cut short: 1000 bytes cannot hold the 9000000 bytes"):
        check_expansion("a.gz", 9 * 10**6, 1000, at_most=1032)


def test_neighbours(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    for file in (folder / "a.raw", folder / "below" / "b.raw", tmp_path / "c.raw"):
        file.write_bytes(b"1")
    header = folder / "a.mhd"
    header.write_bytes(b"1")
    assert neighbour(header, "a.raw") == folder / "a.raw"
    assert neighbour(header, "below/b.raw").read_bytes() == b"1"
    for name in ("../c.raw", str(tmp_path / "c.raw"), "below/../../c.raw", r"C:\c.raw", r"..\c.raw", "/dev/zero"):
        with pytest.raises(InputError, match=r"a\.mhd: names .* is not in its folder"):
            neighbour(header, name)
    for name in ("missing.raw", "", " "):
        with pytest.raises(InputError, match="is missing"):
            neighbour(header, name)
    (folder / "link.raw").symlink_to(tmp_path / "c.raw")
    with pytest.raises(InputError, match="is a link out of its folder"):
        neighbour(header, "link.raw")
    (tmp_path / "linked.mhd").symlink_to(header)  # as a program for versions of data keeps its files
    assert not is_inside(folder / "link.raw", folder)
    os.mkfifo(folder / "pipe.raw")
    with pytest.raises(InputError, match=r"a\.mhd: pipe\.raw: is a pipe"):
        neighbour(header, "pipe.raw")
    with pytest.raises(InputError, match="is a folder"):
        neighbour(header, "below")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".xyz"])
def test_pipes_devices_and_sockets_are_no_images(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / f"a{suffix}")
    (tmp_path / f"b{suffix}").symlink_to(f"a{suffix}")
    (tmp_path / f"c{suffix}").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"d{suffix}")
    for name, kind in (("a", "pipe"), ("b", "pipe"), ("c", "device"), ("d", "socket")):
        with pytest.raises(InputError, match=f"^{name}.*: is a {kind}, not a file"):
            open_image(tmp_path / f"{name}{suffix}")


def test_xml_without_entities() -> None:
    assert parse_xml("<a b='1 &lt; 2'/>", "x").get("b") == "1 < 2"
    text = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'
    for attack in (text, text.encode(), text.encode("utf-16"), text.encode("utf-16-be")):
        with pytest.raises(InputError, match=r"^x: its XML declares entities"):
            parse_xml(attack, "x")
