"""What must hold before a file is decoded: what it is, how long it is, what it names, how far it expands."""

from __future__ import annotations

import bz2
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

from pssr2_monai.errors import InputError, one_line

EXPANDED = 100 * 2**20  # bytes of pixels that any file may hold, however short it is
EXPANSION = 200  # times its own length that a file may expand to beyond that; microscopes' images stay below 20
DEFLATED = 1032  # times that zlib, gzip and PNG can expand at most
PIECE = 2**20  # bytes that are decoded at a time
TRAILING = 2**24  # bytes that may follow the pixels in a compressed stream
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_ENTITY = re.compile(rb"\0?".join(re.escape(bytes([byte])) for byte in b"<!ENTITY"))  # in UTF-8 and in UTF-16
_DECODERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=47),
    "zlib": lambda: zlib.decompressobj(wbits=47),
    "bzip2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}


def check_regular(path: Path, name: str, mode: int | None = None, folders: bool = False) -> None:
    """Check that a path is a file of bytes, or a link to one: pipes and devices never end.

    Args:
        path: where it is.
        name: how the message calls it.
        mode: of what is there, where it is known.
        folders: allow folders, too.
    """
    mode = path.stat().st_mode if mode is None else mode
    if not (stat.S_ISREG(mode) or (folders and stat.S_ISDIR(mode))):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise InputError(f"{name}: is {kind}, not a file; copy what it stands for into a file")


def neighbour(path: Path, name: str, needed: bool = True) -> Path:
    """The file that a file names as one of its own: in its folder, or below.

    Raises:
        InputError: the name leaves the folder, by itself or through a link; what it names is no file or, where it is
            ``needed``, is missing.
    """
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    problem = f"{path.name}: names {name!r} as a file of its own, which"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute() or ".." in parts or "\0" in name:
        raise InputError(f"{problem} is not in its folder; put the file next to it, and its name alone into the header")
    file = path.parent / name
    if not name.strip() or not file.exists():
        if not needed:
            return file
        raise InputError(f"{problem} is missing; copy all files of the image")
    check_regular(file, f"{path.name}: {name}")
    if not is_inside(file, path.parent, path.resolve().parent):
        raise InputError(f"{problem} is a link out of its folder; copy the file itself into the folder")
    return file


def is_inside(file: Path, *folders: Path) -> bool:
    """Whether a file, with links followed, lies in one of these folders."""
    place = os.path.realpath(file)
    return any(place.startswith(os.path.join(os.path.realpath(folder), "")) for folder in folders)


def without_link(path: Path) -> Path:
    """The path, free of any link that lies there: writing would follow it to a file of somebody else."""
    if path.is_symlink():
        path.unlink()
    return path


def check_length(name: str, needed: int, present: int) -> None:
    """Check that a file is as long as its header needs it to be, in bytes."""
    if present < needed:
        raise InputError(
            f"{name}: is cut short: its pixels extend to byte {needed}, but the file has {present}, {needed - present} "
            "are missing; copy it again"
        )


def check_expansion(
    name: str, decoded: int, stored: int, at_most: int | None = None, expansion: int = EXPANSION
) -> None:
    """Check that bytes can, and should, be decoded to so many: before memory is taken for them.

    Args:
        name: of the file, for the message.
        decoded: bytes of pixels that are announced.
        stored: bytes from which they are to be decoded.
        at_most: how many times the compression can expand them, where it has a limit.
        expansion: how many times it may.
    """
    if at_most is not None and decoded > at_most * max(stored, 1) + PIECE:
        raise InputError(
            f"{name}: is cut short: {stored} bytes cannot hold the {decoded} bytes of pixels that its header "
            "announces; copy it again"
        )
    if decoded > max(EXPANDED, expansion * stored):
        raise InputError(
            f"{name}: {stored} bytes would expand to {decoded / 2**20:.0f} MiB, more than {expansion} times as much, "
            "as no image of a microscope does; if it is one, save it as a tiled TIFF or OME-Zarr"
        )


def pieces(chunks: Iterable[bytes], codec: str) -> Iterator[bytes]:
    """Decode a stream of gzip, zlib, bzip2 or lzma piece by piece, and check that it is whole: its checksum, too.

    Raises:
        EOFError: it ends before its end.
    """
    decoder = None
    for chunk in chunks:
        while chunk:
            if decoder is None:
                decoder = _DECODERS[codec]()
            rest = chunk
            while (piece := decoder.decompress(rest, PIECE)) or not _is_hungry(decoder):
                yield piece
                rest = getattr(decoder, "unconsumed_tail", b"")
                if decoder.eof:
                    break
            chunk = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = None
                if not chunk.strip(b"\0") or codec == "zlib":  # gzip may be followed by another, or by padding
                    return
    if decoder is not None:
        raise EOFError("the compressed data end too early")


def _is_hungry(decoder: Any) -> bool:
    """Whether a decoder has used all that it was given."""
    if decoder.eof:
        return True
    return decoder.needs_input if hasattr(decoder, "needs_input") else not decoder.unconsumed_tail


def decoded_bytes(chunks: Iterable[bytes], codec: str, name: str, needed: int) -> bytes:
    """The bytes of a compressed stream that must hold ``needed`` of them, all checked; see `check_stream`."""
    return b"".join(_checked(chunks, codec, name, needed))


def check_stream(chunks: Iterable[bytes], codec: str, name: str, needed: int) -> None:
    """Check a compressed stream to its end: that it holds the bytes that are needed and its checksum is right.

    It takes little memory, however far the stream expands.

    Raises:
        InputError: it is damaged, holds too little, or far more.
    """
    for _ in _checked(chunks, codec, name, needed):
        pass


def _checked(chunks: Iterable[bytes], codec: str, name: str, needed: int) -> Iterator[bytes]:
    total = 0
    try:
        for piece in pieces(chunks, codec):
            total += len(piece)
            if total > needed + TRAILING:
                raise InputError(
                    f"{name}: its compressed pixels expand to more than the {needed} bytes that its header announces; "
                    "save it again"
                )
            yield piece
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name}: its compressed pixels are damaged after {total} of {needed} bytes ({one_line(error)}); copy it "
            "again"
        ) from error
    check_length(name, needed, total)


def chunks_of(file: Path, offset: int = 0) -> Iterator[bytes]:
    """The bytes of a file from an offset on, piece by piece."""
    with file.open("rb") as stream:
        stream.seek(offset)
        while chunk := stream.read(PIECE):
            yield chunk


def parse_xml(text: str | bytes, name: str) -> ElementTree.Element:
    """The root of XML that declares no entities, which could expand without end or name other files.

    Raises:
        InputError: it declares some.
        ElementTree.ParseError: it is not XML.
    """
    if "<!ENTITY" in text if isinstance(text, str) else _ENTITY.search(text):
        raise InputError(f"{name}: its XML declares entities, which image files have no use for; do not trust the file")
    return ElementTree.fromstring(text)
