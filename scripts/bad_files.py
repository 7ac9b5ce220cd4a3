"""Damaged and hostile image files of every format that the package reads, for ``bad_inputs.py``.

A *whole* file is a dictionary of names and bytes, with the pixels that it holds. A case changes it, or stands alone.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import zarr
from PIL import Image

__all__ = ["Case", "Whole", "all_cases"]

SIDE = 64, 48  # rows and columns of the whole images
HUGE = 100_000
BOMB = 24_576  # rows and columns of zeros: 36 parts of 16 MiB, packed into 600 kB or less
PART = 2**24  # of which a bomb is made by repeating


@dataclass(frozen=True)
class Whole:
    """A whole file: its main name, the contents of all files, and the pixels in the order of its axes."""

    format: str
    main: str
    files: dict[str, bytes]
    pixels: np.ndarray
    header: int = 0  # bytes before the pixels in the file that holds them
    data: str = ""  # the file that holds the pixels; the main one by default
    checked: bool = False  # whether the format keeps a checksum of the pixels

    @property
    def pixel_file(self) -> str:
        return self.data or self.main


@dataclass(frozen=True)
class Case:
    """One bad file.

    Attributes:
        format, kind, name: what it is.
        make: writes it into an empty folder and returns its path.
        pixels: of the whole file, which alone may come out; None where there is nothing to be read.
        stored: other pixels may come out, if all of them are in the file as it is now: bits were flipped that no
            checksum covers.
    """

    format: str
    kind: str
    name: str
    make: Callable[[Path], Path]
    pixels: np.ndarray | None = None
    stored: bool = field(default=False)


def plane(*shape: int) -> np.ndarray:
    """Smooth structure with noise, uint16."""
    y, x = np.mgrid[: SIDE[0], : SIDE[1]]
    smooth = 9000 + 6000 * np.sin(y / 7) * np.cos(x / 5)
    noise = np.random.default_rng(len(shape)).integers(0, 64, (*shape, *SIDE))
    return (smooth + noise).astype(np.uint16)


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------------------------------------------- whole files


def tiff(name: str, pixels: np.ndarray, checked: bool = False, **options: object) -> Whole:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"metadata": None, **options})
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tif:
        first = tif.pages.first.dataoffsets[0]
        pixels = tif.asarray()
    main = "a.ome.tif" if "OME" in name else "a.tif"
    return Whole(f"TIFF {name}", main, {main: file.getvalue()}, pixels, first, checked=checked)


def tiffs() -> Iterator[Whole]:
    one, three = plane(), plane(3)
    yield tiff("plain", one, rowsperstrip=8)
    yield tiff("big", one, bigtiff=True)
    yield tiff("tiled", np.tile(one, (1, 2)), tile=(32, 32))
    yield tiff("LZW", one, compression="lzw", rowsperstrip=8)
    yield tiff("PackBits", (one >> 10).astype(np.uint8), compression="packbits", rowsperstrip=16)
    yield tiff("deflate", one, True, compression="zlib", predictor=True, rowsperstrip=16)
    yield tiff("zstd tiled", one, compression="zstd", tile=(32, 32))
    yield tiff("JPEG", (one >> 6).astype(np.uint8), compression="jpeg", tile=(32, 32))
    yield tiff("ImageJ", three, imagej=True, metadata={"axes": "ZYX"})
    yield tiff("OME", three, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack")
    yield tiff(
        "OME deflate", three, True, ome=True, metadata={"axes": "ZYX"}, compression="zlib", photometric="minisblack"
    )


def nifti_header(sizes: tuple[int, ...], code: int = 512, bits: int = 16, offset: float = 352.0) -> bytearray:
    """NIfTI-1 of unsigned 16 bits, sizes along X, Y, Z."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(sizes), *(min(n, 32767) for n in sizes), *[1] * (7 - len(sizes)))
    struct.pack_into("<2h", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, 0.5, 0.5, 0.5, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, offset)
    struct.pack_into("<f", header, 112, 1.0)
    header[123] = 2
    header[344:348] = b"n+1\0"
    return header


def nrrd_header(sizes: tuple[int, ...], encoding: str = "raw", kind: str = "ushort", more: str = "") -> bytes:
    return (
        f"NRRD0004\ntype: {kind}\ndimension: {len(sizes)}\nsizes: {' '.join(map(str, sizes))}\nencoding: {encoding}\n"
        f"endian: little\n{more}"
    ).encode()


def meta_header(sizes: tuple[int, ...], more: str = "", data: str = "LOCAL", kind: str = "MET_USHORT") -> bytes:
    return (
        f"ObjectType = Image\nNDims = {len(sizes)}\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{more}"
        f"DimSize = {' '.join(map(str, sizes))}\nElementType = {kind}\nElementDataFile = {data}\n"
    ).encode()


def volumes() -> Iterator[Whole]:
    """NIfTI, NRRD, MetaImage and MRC."""
    pixels = plane(3)
    sizes, raw = pixels.shape[::-1], pixels.astype("<u2").tobytes()
    nifti, packed = bytes(nifti_header(sizes)) + raw, zlib.compress(raw)
    yield Whole("NIfTI", "a.nii", {"a.nii": nifti}, pixels, 352)
    yield Whole("NIfTI gzip", "a.nii.gz", {"a.nii.gz": gzip.compress(nifti, mtime=0)}, pixels, 600, checked=True)
    head = nrrd_header(sizes) + b"\n"
    yield Whole("NRRD", "a.nrrd", {"a.nrrd": head + raw}, pixels, len(head))
    head = nrrd_header(sizes, "gzip") + b"\n"
    yield Whole("NRRD gzip", "a.nrrd", {"a.nrrd": head + gzip.compress(raw, mtime=0)}, pixels, len(head), checked=True)
    head = nrrd_header(sizes, "bzip2") + b"\n"
    yield Whole("NRRD bzip2", "a.nrrd", {"a.nrrd": head + bz2.compress(raw)}, pixels, len(head), checked=True)
    files = {"a.nhdr": nrrd_header(sizes, more="data file: a.raw\n"), "a.raw": raw}
    yield Whole("NHDR", "a.nhdr", files, pixels, data="a.raw")
    files = {
        "a.nhdr": nrrd_header(sizes, "gzip", more="data file: a.raw.gz\n"),
        "a.raw.gz": gzip.compress(raw, mtime=0),
    }
    yield Whole("NHDR gzip", "a.nhdr", files, pixels, data="a.raw.gz", checked=True)
    head = meta_header(sizes)
    yield Whole("MHA", "a.mha", {"a.mha": head + raw}, pixels, len(head))
    head = meta_header(sizes, f"CompressedData = True\nCompressedDataSize = {len(packed)}\n")
    yield Whole("MHA zlib", "a.mha", {"a.mha": head + packed}, pixels, len(head), checked=True)
    yield Whole("MHD", "a.mhd", {"a.mhd": meta_header(sizes, data="a.raw"), "a.raw": raw}, pixels, data="a.raw")
    head = meta_header(sizes, f"CompressedData = True\nCompressedDataSize = {len(packed)}\n", "a.zraw")
    yield Whole("MHD zlib", "a.mhd", {"a.mhd": head, "a.zraw": packed}, pixels, data="a.zraw", checked=True)
    header = mrc_header(sizes)
    yield Whole("MRC", "a.mrc", {"a.mrc": header + raw}, pixels, 1024)
    yield Whole("MRC gzip", "a.mrc.gz", {"a.mrc.gz": gzip.compress(header + raw, mtime=0)}, pixels, 800, checked=True)
    yield Whole("MRC bzip2", "a.mrc.bz2", {"a.mrc.bz2": bz2.compress(header + raw)}, pixels, 800, checked=True)


def mrc_header(sizes: tuple[int, ...], mode: int = 6, extended: int = 0) -> bytes:
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, *sizes, mode)
    struct.pack_into("<3i", header, 28, *sizes)
    struct.pack_into("<3f", header, 40, *(4.0 * n for n in sizes))
    struct.pack_into("<3f3i", header, 52, 90, 90, 90, 1, 2, 3)
    struct.pack_into("<2i", header, 88, 1, extended)
    header[208:216] = b"MAP \x44\x44\0\0"
    return bytes(header)


def pictures() -> Iterator[Whole]:
    grey, deep = (plane() >> 6).astype(np.uint8), plane()
    for suffix, pixels in (("png", grey), ("bmp", grey), ("jpg", grey)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
        shown = np.asarray(Image.open(io.BytesIO(file.getvalue())))
        header = {"png": 41, "bmp": 1078, "jpg": 330}[suffix]
        name = suffix.upper()
        yield Whole(name, f"a.{suffix}", {f"a.{suffix}": file.getvalue()}, shown, header, checked=suffix == "png")
    yield Whole("PNG 16 bits", "a.png", {"a.png": imagecodecs.png_encode(deep)}, deep, 41, checked=True)
    file = io.BytesIO()
    colours = np.stack([grey, grey[::-1], grey[:, ::-1]], -1)
    Image.fromarray(colours).save(file, "JPEG", progressive=True)
    shown = np.moveaxis(np.asarray(Image.open(io.BytesIO(file.getvalue()))), -1, 2)
    yield Whole("JPEG progressive", "a.jpg", {"a.jpg": file.getvalue()}, shown, 330)


def zarrs() -> Iterator[Whole]:
    """OME-Zarr of version 2 and 3 with the codecs that are in use."""
    import numcodecs
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    kinds: dict[str, dict[str, object]] = {
        "v2 blosc": {"zarr_format": 2, "compressors": numcodecs.Blosc("lz4")},
        "v2 zlib": {"zarr_format": 2, "compressors": numcodecs.Zlib()},
        "v2 zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
        "v2 plain": {"zarr_format": 2, "compressors": None},
        "v3 blosc": {"zarr_format": 3, "compressors": BloscCodec(cname="zstd")},
        "v3 zstd": {"zarr_format": 3, "compressors": ZstdCodec(checksum=True)},
        "v3 gzip": {"zarr_format": 3, "compressors": GzipCodec()},
        "v3 plain": {"zarr_format": 3, "compressors": None},
        "v3 sharded": {"zarr_format": 3, "compressors": BloscCodec(cname="zstd"), "shards": (1, 64, 64)},
    }
    pixels = plane(3)
    for name, options in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "a.ome.zarr")
            ome = {"version": "0.5" if options["zarr_format"] == 3 else "0.4", "multiscales": [multiscale("0")]}
            attributes = {"ome": ome} if options["zarr_format"] == 3 else ome
            zarr.open_group(root, mode="w", zarr_format=options["zarr_format"], attributes=attributes)
            array = zarr.create_array(root / "0", shape=pixels.shape, dtype="uint16", chunks=(1, 32, 32), **options)
            array[:] = pixels
            files = read_all(Path(folder))
        chunk = min((name for name in files if re.search(r"\d$", name)), key=lambda name: (name.count("/") > 9, name))
        checked = any(word in name for word in ("zlib", "gzip", "v3 zstd"))
        yield Whole(f"Zarr {name}", "a.ome.zarr", files, pixels, 20, chunk, checked)


def multiscale(path: str) -> dict[str, object]:
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [0.5, 0.1, 0.1]}]
    return {"axes": axes, "datasets": [{"path": path, "coordinateTransformations": scale}]}


def makers(shared: Path) -> Iterator[Whole]:
    """Formats of microscopes: a DM3 and a CZI made here, an ND2 where the folder of real images is."""
    pixels = plane()
    yield Whole("DM3", "a.dm3", {"a.dm3": dm3(pixels)}, pixels, 200)
    yield Whole("LIF", "a.lif", {"a.lif": lif(plane(3))}, plane(3), 2400)
    try:
        from pylibCZIrw import czi
    except ImportError:
        return
    for name, options in (("CZI", "uncompressed:"), ("CZI zstd", "zstd1:ExplicitLevel=1")):
        with tempfile.TemporaryDirectory() as folder:
            with czi.create_czi(f"{folder}/a.czi", compression_options=options) as document:
                document.write(pixels[..., None])
                document.write_metadata("a")
            yield Whole(name, "a.czi", {"a.czi": Path(folder, "a.czi").read_bytes()}, pixels, 1100)
    nd2 = shared / "formats" / "nd2" / "cluster.nd2"
    if nd2.is_file():
        try:
            from nd2 import imread
        except ImportError:
            return
        yield Whole("ND2", "a.nd2", {"a.nd2": nd2.read_bytes()}, imread(nd2), 4096)


def dm3(pixels: np.ndarray, count: int | None = None, size: tuple[int, int] | None = None) -> bytes:
    """The smallest tree of tags with one image of unsigned 16 bits."""

    def tag(name: str, *info: int, value: bytes) -> bytes:
        words = struct.pack(f">{len(info) + 1}I", len(info), *info)
        return struct.pack(">BH", 21, len(name)) + name.encode() + b"%%%%" + words + value

    def group(name: str, *tags: bytes) -> bytes:
        head = struct.pack(">BH", 20, len(name)) + name.encode() if name is not None else b""
        return head + b"\1\0" + struct.pack(">I", len(tags)) + b"".join(tags)

    rows, columns = size or pixels.shape
    sides = [tag("", 5, value=struct.pack("<I", n)) for n in (columns, rows)]
    data = tag("Data", 20, 4, pixels.size if count is None else count, value=pixels.astype("<u2").tobytes())
    kind = tag("DataType", 5, value=struct.pack("<I", 10))
    image = group("", group("ImageData", kind, group("Dimensions", *sides), data))
    root = b"\1\0" + struct.pack(">I", 1) + group("ImageList", image)
    return struct.pack(">3I", 3, len(root), 1) + root + bytes(8)


def lif(pixels: np.ndarray, size: int | None = None, depth: int | None = None, head: str = "") -> bytes:
    dimensions = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{n}" Origin="0" Length="1e-6" Unit="m" '
        f'BytesInc="{step}" BitInc="0"/>'
        for number, n, step in zip(
            (1, 2, 3), (*pixels.shape[:0:-1], depth or pixels.shape[0]), pixels.strides[::-1], strict=True
        )
    )
    xml = (
        f'{head}<LMSDataContainerHeader Version="2"><Element Name="a"><Children>'
        '<Element Name="s" UniqueID="s"><Data><Image>'
        '<ImageDescription><Channels><ChannelDescription DataType="0" ChannelTag="0" Resolution="16" '
        'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="0" BitInc="0"/>'
        f"</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{size or pixels.nbytes}" MemoryBlockID="Mem0"/></Element></Children></Element>'
        "</LMSDataContainerHeader>"
    ).encode("utf-16-le")
    block = "Mem0".encode("utf-16-le")
    content = struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2) + xml
    return content + struct.pack("<IIBQBI", 0x70, 0, 0x2A, size or pixels.nbytes, 0x2A, 4) + block + pixels.tobytes()


# ---------------------------------------------------------------------------------------------------------- damage


def changed(whole: Whole, name: str, content: bytes | None) -> Callable[[Path], Path]:
    """Writes the whole file with another content of one of its files, or without it."""

    def make(folder: Path) -> Path:
        files = dict(whole.files)
        del files[name]
        write(folder, files if content is None else files | {name: content})
        return folder / whole.main

    return make


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def damaged(whole: Whole) -> Iterator[Case]:
    """The whole file, the file cut at every tenth, bits flipped in header and pixels, zero bytes."""
    name, pixels = whole.pixel_file, whole.pixels
    content = whole.files[name]
    yield Case(whole.format, "whole", "as it is", changed(whole, name, content), pixels)
    for tenth in range(10):
        cut = content[: len(content) * tenth // 10]
        yield Case(whole.format, "cut short", f"{tenth} tenths of {name}", changed(whole, name, cut))
    yield Case(whole.format, "cut short", f"the last byte of {name}", changed(whole, name, content[:-1]), pixels)
    yield Case(
        whole.format,
        "cut short",
        f"zeros for the second half of {name}",
        changed(whole, name, content[: len(content) // 2] + bytes(len(content) - len(content) // 2)),
        None,
        not whole.checked,
    )
    yield Case(
        whole.format,
        "cut short",
        f"{name} is all zeros",
        changed(whole, name, bytes(len(content))),
        None,
        whole.pixel_file != whole.main and not whole.checked,
    )
    first = min(whole.header, len(content) - 40)
    for part in (1, 3, 5):
        place = first + (len(content) - first) * part // 6
        case = f"byte {place} of {name}"
        yield Case(
            whole.format,
            "bit in pixels",
            case,
            changed(whole, name, flipped(content, place)),
            pixels,
            not whole.checked,
        )
    head = (
        whole.main
        if whole.main in whole.files
        else min(n for n in whole.files if n.endswith((".zarray", "0/zarr.json")))
    )
    text = whole.files[head]
    last = whole.header if head == name else len(text)
    for part in (1, 2, 3, 4, 5, 6, 7):
        place = last * part // 8
        yield Case(
            whole.format,
            "bit in header",
            f"byte {place} of {head}",
            changed(whole, head, flipped(text, place)),
            pixels,
            True,
        )
    if head != name:
        for tenth in (0, 3, 6, 9):
            cut = text[: len(text) * tenth // 10]
            yield Case(whole.format, "cut short", f"{tenth} tenths of {head}", changed(whole, head, cut))
        yield Case(
            whole.format, "missing", name, changed(whole, name, None), zeroed(whole) if "Zarr" in whole.format else None
        )


def zeroed(whole: Whole) -> np.ndarray:
    """The pixels with the fill value where the first chunk, which is missing, lay: so the format has it."""
    pixels = whole.pixels.copy()
    pixels[0, : 64 if "shard" in whole.format else 32, : 64 if "shard" in whole.format else 32] = 0
    return pixels


def wrong_suffixes(wholes: list[Whole]) -> Iterator[Case]:
    suffixes = (
        ".tif",
        ".ome.tif",
        ".png",
        ".jpg",
        ".bmp",
        ".nii",
        ".nii.gz",
        ".nrrd",
        ".nhdr",
        ".mha",
        ".mhd",
        ".mrc",
        ".mrc.gz",
        ".dm3",
        ".czi",
        ".lif",
        ".nd2",
        ".lsm",
        ".stk",
    )
    singles = [whole for whole in wholes if list(whole.files) == [whole.main] and len(whole.files[whole.main]) < 10**5]
    for i, suffix in enumerate(suffixes):
        for whole in (singles[(3 * i) % len(singles)], singles[(5 * i + 2) % len(singles)]):
            content = whole.files[whole.main]
            yield Case(
                f"*{suffix}",
                "wrong suffix",
                f"{whole.format} named {suffix}",
                alone(f"a{suffix}", content),
                whole.pixels,
            )
        yield Case(f"*{suffix}", "wrong suffix", f"text named {suffix}", alone(f"a{suffix}", b"no image\n" * 300))
        yield Case(f"*{suffix}", "wrong suffix", f"zeros named {suffix}", alone(f"a{suffix}", bytes(5000)))
        yield Case(
            f"*{suffix}",
            "wrong suffix",
            f"noise named {suffix}",
            alone(f"a{suffix}", np.random.default_rng(i).bytes(5000)),
        )


def alone(name: str, content: bytes, **others: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder, {name: content, **others})
        return folder / name

    return make


# ------------------------------------------------------------------------------------------------ sizes and bombs


def png_of(width: int, height: int, content: bytes, bits: int = 8) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">2I5B", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def tags_of(content: bytes) -> dict[int, int]:
    """Where the entries of the first directory of a little-endian classic TIFF lie, by their codes."""
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    return {struct.unpack_from("<H", content, first + 2 + 12 * i)[0]: first + 2 + 12 * i for i in range(count)}


def with_tag(content: bytes, code: int, value: int, count: int | None = None) -> bytes:
    """A TIFF with another value of a tag (as 32 bits), and another count of values."""
    entry = tags_of(content)[code]
    head = struct.pack("<HHI", code, 4, 1 if count is None else count)
    return content[:entry] + head + struct.pack("<I", value) + content[entry + 12 :]


def declared() -> Iterator[Case]:
    """Small files that declare huge images."""
    small = plane()
    raw = small.tobytes()
    for name, content in {
        "a.nrrd": nrrd_header((HUGE, HUGE)) + b"\n" + raw[:60],
        "b.nrrd": nrrd_header((HUGE, HUGE), "gzip") + b"\n" + gzip.compress(raw[:60]),
        "c.nrrd": nrrd_header((HUGE, HUGE), "bzip2") + b"\n" + bz2.compress(raw[:60]),
        "d.nrrd": nrrd_header((2**40, 2**40)) + b"\n" + raw,
        "e.nrrd": nrrd_header((-5, 7)) + b"\n" + raw,
        "f.nrrd": nrrd_header((HUGE, HUGE), "ascii") + b"\n1 2 3 4",
        "g.nrrd": nrrd_header((HUGE, HUGE), "hex") + b"\nabcd",
        "a.mha": meta_header((HUGE, HUGE)) + raw[:60],
        "b.mha": meta_header((HUGE, HUGE), "CompressedData = True\n") + zlib.compress(raw[:60]),
        "c.mha": meta_header((HUGE, HUGE)).replace(b"BinaryData = True", b"BinaryData = False") + b"1 2 3",
        "d.mha": meta_header((HUGE, HUGE), "HeaderSize = -1\n") + raw,
        "e.mha": meta_header((2**40, 2**40)) + raw,
        "f.mha": meta_header((64, 64), f"CompressedData = True\nCompressedDataSize = {2**62}\n") + zlib.compress(raw),
        "g.mha": meta_header((48, 64), f"HeaderSize = {2**40}\n") + raw,
        "a.nii": bytes(nifti_header((32000, 32000, 100))) + raw[:60],
        "a.nii.gz": gzip.compress(bytes(nifti_header((32000, 32000, 100))) + raw[:60]),
        "b.nii": bytes(nifti_header((48, 64), offset=1e12)) + raw,
        "c.nii": bytes(nifti_header((48, 64), offset=float("nan"))) + raw,
        "d.nii": bytes(nifti_header((-48, 64))) + raw,
        "e.nii": bytes(nifti_header((48, 64), code=512, bits=64)) + raw,
        "f.nii": bytes(nifti_header((48, 64), code=9999)) + raw,
        "a.mrc": mrc_header((HUGE, HUGE, 1)) + raw,
        "b.mrc": mrc_header((48, 64, 1), extended=2**31 - 1) + raw[:99],
        "c.mrc": mrc_header((-48, 64, 1)) + raw,
        "d.mrc": mrc_header((48, 64, 1), mode=77) + raw,
        "e.mrc": mrc_header((48, 64, 1), extended=-4096) + raw,
        "a.mrc.gz": gzip.compress(mrc_header((HUGE, HUGE, 1)) + raw),
        "a.png": png_of(HUGE, HUGE, zlib.compress(bytes(100))),
        "b.png": png_of(HUGE, HUGE, zlib.compress(bytes(100)), 16),
        "c.png": png_of(2**31 - 1, 2**31 - 1, zlib.compress(bytes(100))),
        "d.png": png_of(HUGE, HUGE, zlib.compress(bytes(100)), 1),
        "a.dm3": dm3(small, size=(HUGE, HUGE)),
        "b.dm3": dm3(small, count=2**31),
        "a.lif": lif(plane(3), depth=10**7),
        "b.lif": lif(plane(3), size=2**40),
    }.items():
        whole = {"b.lif": plane(3), "g.mha": small}.get(name)  # may be read nevertheless
        yield Case(f"*{Path(name).suffix}", "huge size", f"{name} of {len(content)} bytes", alone(name, content), whole)
    file = io.BytesIO()
    Image.fromarray((small >> 6).astype(np.uint8)).save(file, "JPEG")
    jpeg = file.getvalue()
    frame = jpeg.index(b"\xff\xc0") + 5
    for side in (65500, 20000):
        content = jpeg[:frame] + struct.pack(">2H", side, side) + jpeg[frame + 4 :]
        yield Case("*.jpg", "huge size", f"JPEG of {side}", alone("a.jpg", content))
    file = io.BytesIO()
    Image.fromarray((small >> 6).astype(np.uint8)).save(file, "BMP")
    content = file.getvalue()
    yield Case(
        "*.bmp", "huge size", "BMP", alone("a.bmp", content[:18] + struct.pack("<2i", HUGE, HUGE) + content[26:])
    )
    rle = content[:18] + struct.pack("<2i", HUGE, HUGE) + content[26:30] + struct.pack("<I", 1) + content[34:]
    yield Case("*.bmp", "huge size", "BMP with run lengths", alone("a.bmp", rle))
    yield from declared_tiffs(small)
    yield from declared_zarrs()


def declared_tiffs(small: np.ndarray) -> Iterator[Case]:
    for compression in (None, "lzw", "zlib", "packbits", "zstd"):
        content = tiff("x", small, compression=compression).files["a.tif"]
        sides = with_tag(with_tag(with_tag(content, 256, HUGE), 257, HUGE), 278, HUGE)
        yield Case("TIFF", "huge size", f"sides, {compression}", alone("a.tif", sides))
    plain = tiff("x", small, rowsperstrip=8).files["a.tif"]
    tiled = tiff("x", small, tile=(32, 32), compression="zlib").files["a.tif"]
    for name, content in {
        "width": with_tag(plain, 256, 2**31 - 1),
        "height": with_tag(plain, 257, 2**31 - 1),
        "no width": with_tag(plain, 256, 0),
        "no rows per strip": with_tag(plain, 278, 0),
        "bits per sample": with_tag(plain, 258, 4096),
        "samples per pixel": with_tag(plain, 277, 65535),
        "offsets of strips": with_tag(plain, 273, 2**32 - 9, 8),
        "count of offsets": with_tag(plain, 273, 8, 2**32 - 1),
        "counts of bytes": with_tag(plain, 279, 2**32 - 9, 8),
        "compression": with_tag(plain, 259, 12345),
        "width of tiles": with_tag(tiled, 322, 2**30),
        "no width of tiles": with_tag(tiled, 322, 0),
        "tiles of all": with_tag(with_tag(tiled, 322, HUGE), 323, HUGE),
        "directory loop": plain[:4] + struct.pack("<I", 4) + plain[8:],
        "directory at the end": plain[:4] + struct.pack("<I", len(plain) - 1) + plain[8:],
        "directory beyond the end": plain[:4] + struct.pack("<I", 2**32 - 2) + plain[8:],
    }.items():
        yield Case("TIFF", "huge size", name, alone("a.tif", content), small)
    sparse = tiff("x", small, tile=(32, 32), compression="zlib").files["a.tif"]
    counts = tags_of(sparse)
    place = struct.unpack_from("<I", sparse, counts[325] + 8)[0], struct.unpack_from("<I", sparse, counts[324] + 8)[0]
    holes = bytearray(sparse)
    for where in place:
        holes[where : where + 16] = bytes(16)
    yield Case("TIFF", "missing", "all tiles are holes", alone("a.tif", bytes(holes)))
    for name, text in {
        "images": f"ImageJ=1.11a\nimages={10**9}\nslices={10**9}\n",
        "channels": f"ImageJ=1.11a\nimages=12\nchannels={10**9}\nslices=3\n",
        "negative": "ImageJ=1.11a\nimages=-3\nslices=-3\n",
        "shape": '{"shape": [1000000000, 64, 48]}',
        "long": "ImageJ=1.11a\nimages=3\n" + "x=1\n" * 10**5,
    }.items():
        content = tiff("x", plane(3), description=text).files["a.tif"]
        yield Case("TIFF ImageJ", "huge size", name, alone("a.tif", content), plane(3))
    content = tiff("x", small, imagej=True, metadata={}).files["a.tif"].replace(b"images=1", b"images=9")
    yield Case("TIFF ImageJ", "huge size", "nine planes of one", alone("a.tif", content), small)


def declared_zarrs() -> Iterator[Case]:
    for version, name in ((2, ".zarray"), (3, "zarr.json")):
        whole = next(w for w in zarrs() if f"v{version} zstd" in w.format or f"v{version} blosc" in w.format)
        meta = json.loads(whole.files[f"a.ome.zarr/0/{name}"])

        def with_(version: int = version, whole: Whole = whole, name: str = name, meta: dict = meta, **entries: object):
            return changed(whole, f"a.ome.zarr/0/{name}", json.dumps({**meta, **entries}).encode())

        def chunks(*sizes: int, version: int = version) -> dict[str, object]:
            grid = {"name": "regular", "configuration": {"chunk_shape": sizes}}
            return {"chunks": sizes} if version == 2 else {"chunk_grid": grid}

        kind = f"Zarr v{version}"
        yield Case(kind, "huge size", "shape", with_(shape=[1, HUGE, HUGE]))
        yield Case(kind, "huge size", "shape of 2**60", with_(shape=[2**60, 64, 48]))
        yield Case(kind, "huge size", "negative shape", with_(shape=[-3, 64, 48]))
        yield Case(kind, "huge size", "shape and chunk", with_(shape=[1, HUGE, HUGE], **chunks(1, HUGE, HUGE)))
        yield Case(kind, "huge size", "chunks", with_(**chunks(1, HUGE, HUGE)))
        yield Case(kind, "huge size", "chunks of 2**60", with_(**chunks(2**60, 32, 32)))
        yield Case(kind, "huge size", "chunks of nothing", with_(**chunks(0, 0, 0)))
        yield Case(kind, "huge size", "a chunk of one pixel each", with_(shape=[1, 20000, 20000], **chunks(1, 1, 1)))
        yield Case(kind, "huge size", "fill value", with_(fill_value="x" * 10**6))
        yield Case(kind, "huge size", "text for numbers", with_(shape="many"))
        yield Case(kind, "huge size", "deep", changed(whole, f"a.ome.zarr/0/{name}", b"[" * 10**5 + b"]" * 10**5))


def deflated_zeros(count: int, gzip_of: bytes | None = None) -> bytes:
    """Zeros as zlib packs them or, after some other bytes, gzip: one block of them is packed, and repeated."""
    head = b"" if gzip_of is None else gzip_of

    def block(content: bytes, end: int) -> bytes:
        packer = zlib.compressobj(9, wbits=-15)
        return packer.compress(content) + packer.flush(end)

    whole, rest = divmod(count, PART)
    raw = (
        block(head, zlib.Z_FULL_FLUSH)
        + block(bytes(PART), zlib.Z_FULL_FLUSH) * whole
        + block(bytes(rest), zlib.Z_FINISH)
    )
    parts = [head, *[bytes(PART)] * whole, bytes(rest)]
    if gzip_of is None:
        check = 1
        for part in parts:
            check = zlib.adler32(part, check)
        return b"\x78\xda" + raw + struct.pack(">I", check)
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + raw + struct.pack("<2I", check, (len(head) + count) % 2**32)


def bombs() -> Iterator[Case]:
    """Files whose content is really there, but expands a thousandfold and more."""
    packed, gz = deflated_zeros(BOMB * BOMB), deflated_zeros(BOMB * BOMB, gzip_of=b"")
    bz = bz2.compress(bytes(PART)) * (BOMB * BOMB // 4 // PART)  # streams may follow one another
    zstd = imagecodecs.zstd_encode(bytes(PART)) * (BOMB * BOMB // PART)

    def gzipped(head: bytes) -> bytes:
        return deflated_zeros(BOMB * BOMB, gzip_of=head)

    scanlines = deflated_zeros(BOMB * (BOMB + 1))
    size = (BOMB, BOMB)
    for name, content in {
        "a.png": png_of(*size, scanlines),
        "b.png": png_of(48, 64, scanlines),
        "a.nrrd": nrrd_header(size, "gzip", "uchar") + b"\n" + gz,
        "b.nrrd": nrrd_header((48, 64), "gzip", "uchar") + b"\n" + gz,
        "c.nrrd": nrrd_header((BOMB, BOMB // 4), "bzip2", "uchar") + b"\n" + bz,
        "d.nrrd": nrrd_header((48, 64), "bzip2", "uchar") + b"\n" + bz,
        "a.mha": meta_header(size, "CompressedData = True\n", kind="MET_UCHAR") + packed,
        "b.mha": meta_header((48, 64), "CompressedData = True\n", kind="MET_UCHAR") + packed,
        "a.nii.gz": gzipped(bytes(nifti_header(size, 2, 8))),
        "b.nii.gz": gzipped(bytes(nifti_header((48, 64), 2, 8))),
        "a.mrc.gz": gzipped(mrc_header((*size, 1), 0)),
        "b.mrc.gz": gzipped(mrc_header((48, 64, 1), 0)),
        "a.mrc.bz2": bz2.compress(mrc_header((BOMB, BOMB // 4, 1), 0)) + bz,
    }.items():
        small = np.zeros(SIDE) if name in ("b.png", "b.mrc.gz") else None  # what is left over is ignored
        yield Case(f"*{Path(name).suffix}", "bomb", f"{name} of {len(content)} bytes", alone(name, content), small)
    for compression, stream in (("zlib", packed), ("zstd", zstd)):
        one = tiff("x", plane().astype(np.uint8), compression=compression).files["a.tif"]
        for side in (BOMB, 48):
            content = with_tag(with_tag(with_tag(one, 256, side), 257, side), 278, side)
            content = with_tag(with_tag(content, 273, len(content)), 279, len(stream)) + stream
            yield Case("TIFF", "bomb", f"one strip of {compression}, side {side}", alone("a.tif", content))
    for number, (stream, kind) in enumerate(
        ((packed, "v2 zlib"), (gz, "v3 gzip"), (zstd, "v2 zstd"), (imagecodecs.blosc_encode(bytes(2**28)), "v2 blosc"))
    ):
        whole = next(w for w in zarrs() if kind in w.format)
        yield Case(f"Zarr {kind}", "bomb", f"chunk {number}", changed(whole, whole.data, stream))
        meta = "a.ome.zarr/0/" + (".zarray" if "v2" in kind else "zarr.json")
        content = json.loads(whole.files[meta])
        content["shape"] = [1, BOMB, BOMB]
        if "v2" in kind:
            content["chunks"] = [1, BOMB, BOMB]
        else:
            content["chunk_grid"]["configuration"]["chunk_shape"] = [1, BOMB, BOMB]
        files = {
            meta: json.dumps(content).replace("<u2", "|u1").replace("uint16", "uint8").encode(),
            whole.data: stream,
        }
        files |= {
            "a.ome.zarr/" + name: whole.files["a.ome.zarr/" + name]
            for name in (".zgroup", ".zattrs", "zarr.json")
            if "a.ome.zarr/" + name in whole.files
        }

        def make(folder: Path, files: dict[str, bytes] = files) -> Path:
            write(folder, files)
            return folder / "a.ome.zarr"

        yield Case(f"Zarr {kind}", "bomb", f"one chunk of {BOMB} x {BOMB}", make)


# ------------------------------------------------------------------------------------- what is no file, and links


def special(wholes: list[Whole]) -> Iterator[Case]:
    suffixes = (
        ".tif",
        ".png",
        ".nii",
        ".nii.gz",
        ".nrrd",
        ".mha",
        ".mrc",
        ".mrc.gz",
        ".dm3",
        ".czi",
        ".lif",
        ".nd2",
        ".zarr",
        ".companion.ome",
    )
    for suffix in suffixes:

        def pipe(folder: Path, suffix: str = suffix) -> Path:
            os.mkfifo(folder / f"a{suffix}")
            return folder / f"a{suffix}"

        def link_to_pipe(folder: Path, suffix: str = suffix) -> Path:
            os.mkfifo(folder / "pipe")
            (folder / f"a{suffix}").symlink_to("pipe")
            return folder / f"a{suffix}"

        def device(folder: Path, suffix: str = suffix, target: str = "/dev/zero") -> Path:
            (folder / f"a{suffix}").symlink_to(target)
            return folder / f"a{suffix}"

        def loop(folder: Path, suffix: str = suffix) -> Path:
            (folder / f"b{suffix}").symlink_to(f"a{suffix}")
            (folder / f"a{suffix}").symlink_to(f"b{suffix}")
            return folder / f"a{suffix}"

        def directory(folder: Path, suffix: str = suffix) -> Path:
            (folder / f"a{suffix}").mkdir()
            (folder / f"a{suffix}" / "back").symlink_to("..")
            return folder / f"a{suffix}"

        for name, make in (
            ("pipe", pipe),
            ("link to a pipe", link_to_pipe),
            ("link to /dev/zero", device),
            ("links in a circle", loop),
            ("folder that contains itself", directory),
        ):
            yield Case(f"*{suffix}", "no file", name, make)
    for whole in wholes:
        if whole.pixel_file != whole.main:
            yield from linked(whole)


def linked(whole: Whole) -> Iterator[Case]:
    """What holds the pixels is a pipe, a device, a link out of the folder or nothing."""
    zarr_ = "Zarr" in whole.format

    def placed(folder: Path, put: Callable[[Path], None], name: str = whole.pixel_file) -> Path:
        inside = folder / "in"
        write(inside, {key: content for key, content in whole.files.items() if key != name})
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        put(inside / name)
        return inside / whole.main

    def outside(path: Path, steps: int = whole.pixel_file.count("/") + 1) -> None:
        target = path.parents[steps - 1].parent / "outside.bin"
        target.write_bytes(whole.files[whole.pixel_file])
        path.symlink_to(target)

    def itself(path: Path) -> None:
        path.symlink_to(path.name)

    puts: dict[str, Callable[[Path], None]] = {
        "a pipe": os.mkfifo,
        "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "a link to /dev/urandom": lambda path: path.symlink_to("/dev/urandom"),
        "a link out of the folder": outside,
        "a link to itself": itself,
        "a folder": lambda path: path.mkdir(),
        "8 GiB of holes": lambda path: (path.touch(), os.truncate(path, 2**33)),
    }
    for name, put in puts.items():
        yield Case(
            whole.format,
            "no file",
            f"{whole.pixel_file} is {name}",
            lambda folder, put=put: placed(folder, put),
            None,
            name.startswith("8"),
        )
    if zarr_:
        metas = [name for name in whole.files if name.endswith((".zarray", "0/zarr.json"))]
        for name, put in list(puts.items())[:3]:
            yield Case(
                whole.format, "no file", f"{metas[0]} is {name}", lambda folder, put=put: placed(folder, put, metas[0])
            )


def referring(shared: Path) -> Iterator[Case]:
    """Headers that name files outside of their folder, or that are none."""
    pixels = plane(3)
    raw, sizes = pixels.tobytes(), pixels.shape[::-1]
    names = {
        "absolute": "{outside}/outside.raw",
        "one up": "../outside.raw",
        "up and down": "../in/../outside.raw",
        "a device": "/dev/zero",
        "the system's": "/etc/passwd",
        "itself": "{main}",
        "nothing": "",
        "a folder": ".",
        "missing": "b.raw",
        "address": "http://127.0.0.1:9/a.raw",
    }
    for label, name in names.items():
        for main in ("a.nhdr", "a.mhd", "a.nrrd", "b.nhdr"):

            def make(folder: Path, name: str = name, main: str = main) -> Path:
                write(folder, {"outside.raw": raw, "in/x.raw": raw})
                stated = name.format(outside=folder, main=main)
                compressed = main.startswith("b")
                if main.endswith("mhd"):
                    head = meta_header(sizes, data=stated)
                else:
                    head = nrrd_header(sizes, "bzip2" if compressed else "raw", more=f"data file: {stated}\n")
                write(folder / "in", {main: head})
                if compressed:
                    (folder / "outside.raw").write_bytes(bz2.compress(raw))
                return folder / "in" / main

            yield Case(f"*{Path(main).suffix}", "reference", f"{main}: {label}", make)
    for label, more in (("list", "LIST\n{outside}/outside.raw\n"), ("pattern", "../out%04d.raw 1 1 1 2\n")):
        for main in ("a.nhdr", "a.mhd"):

            def make(folder: Path, more: str = more, main: str = main) -> Path:
                write(folder, {"outside.raw": raw, "out0001.raw": raw})
                stated = more.format(outside=folder)
                head = (
                    meta_header(sizes, data=stated)
                    if main.endswith("mhd")
                    else nrrd_header(sizes, more=f"data file: {stated}")
                )
                write(folder / "in", {main: head})
                return folder / "in" / main

            yield Case(f"*{Path(main).suffix}", "reference", f"{main}: {label}", make)
    yield from referring_zarrs()


def referring_zarrs() -> Iterator[Case]:
    v2, v3 = (next(w for w in zarrs() if kind in w.format) for kind in ("v2 zlib", "v3 gzip"))
    for whole in (v2, v3):
        name = "a.ome.zarr/.zattrs" if whole is v2 else "a.ome.zarr/zarr.json"
        for stated in (
            "../b.ome.zarr/0",
            "/dev/zero",
            "..",
            ".",
            "",
            "0/../../b.ome.zarr/0",
            "1",
            "{absolute}",
            7,
            None,
        ):

            def make(folder: Path, whole: Whole = whole, name: str = name, stated: object = stated) -> Path:
                write(folder / "in", whole.files)
                for key, content in whole.files.items():
                    write(folder / "in", {key.replace("a.ome", "b.ome"): content})
                path = str(folder / "in" / "b.ome.zarr" / "0") if stated == "{absolute}" else stated
                text = json.dumps(json.loads(whole.files[name])).replace('"path": "0"', f'"path": {json.dumps(path)}')
                write(folder / "in", {name: text.encode()})
                return folder / "in" / "a.ome.zarr"

            yield Case(whole.format, "reference", f"dataset {stated!r}", make)

        def cycle(folder: Path, whole: Whole = whole) -> Path:
            root = (
                {"a.ome.zarr/.zgroup": b'{"zarr_format": 2}'}
                if whole is v2
                else {"a.ome.zarr/zarr.json": b'{"zarr_format": 3, "node_type": "group"}'}
            )
            write(folder, root)
            for link in ("b", "c"):
                (folder / "a.ome.zarr" / link).symlink_to(".")
            return folder / "a.ome.zarr"

        yield Case(whole.format, "no file", "groups in a circle", cycle)

        def level(folder: Path, whole: Whole = whole) -> Path:
            write(folder, {f"outside/{key}": content for key, content in whole.files.items()})
            write(folder / "in", {key: content for key, content in whole.files.items() if "/0/" not in key})
            (folder / "in" / "a.ome.zarr" / "0").symlink_to(folder / "outside" / "a.ome.zarr" / "0")
            return folder / "in" / "a.ome.zarr"

        yield Case(whole.format, "no file", "a level is a link out of the folder", level)

        def all_missing(folder: Path, whole: Whole = whole) -> Path:
            write(
                folder,
                {
                    key: content
                    for key, content in whole.files.items()
                    if key.endswith(("json", ".zarray", ".zattrs", ".zgroup"))
                },
            )
            return folder / "a.ome.zarr"

        yield Case(whole.format, "missing", "every chunk", all_missing, np.zeros_like(whole.pixels))

        def converted(folder: Path, xml: str, whole: Whole = whole) -> Path:
            group = (
                {".zgroup": b'{"zarr_format": 2}'}
                if whole is v2
                else {"zarr.json": b'{"zarr_format": 3, "node_type": "group"}'}
            )
            write(folder, {f"a.zarr/{key}": content for key, content in group.items()})
            write(folder, {key.replace("a.ome.zarr", "a.zarr/0"): content for key, content in whole.files.items()})
            write(folder, {"a.zarr/OME/METADATA.ome.xml": xml.encode()})
            return folder / "a.zarr"

        for label, xml in xml_attacks("<OME><Image Name='&x;'/></OME>"):
            yield Case(
                whole.format,
                "OME-XML",
                label,
                lambda folder, xml=xml, converted=converted: converted(folder, xml),
                whole.pixels,
            )


# --------------------------------------------------------------------------------------------------------- OME-XML


def xml_attacks(body: str) -> Iterator[tuple[str, str]]:
    """External entities, and entities that expand to gigabytes."""
    yield "external entity", f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>{body}'
    yield "entity of a device", f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "/dev/zero">]>{body}'
    yield "parameter entity", f'<!DOCTYPE a [<!ENTITY % y SYSTEM "file:///dev/zero"> %y; <!ENTITY x "a">]>{body}'
    laughs = "".join(f'<!ENTITY x{i} "{f"&x{i - 1};" * 10}">' for i in range(1, 12))
    yield "a billion laughs", f'<!DOCTYPE a [<!ENTITY x0 "ha">{laughs}<!ENTITY x "&x11;">]>{body}'
    yield "quadratic", f'<!DOCTYPE a [<!ENTITY x "{"a" * 200000}">]>{body.replace("&x;", "&x;" * 20000)}'


def ome_xml() -> Iterator[Case]:
    whole = next(w for w in tiffs() if w.format == "TIFF OME")
    with tifffile.TiffFile(io.BytesIO(whole.files["a.ome.tif"])) as tif:
        xml = tif.ome_metadata or ""

    def with_xml(text: str) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            (folder / "in").mkdir()
            content = text.replace("{outside}", str(folder))
            tifffile.imwrite(folder / "in" / "a.ome.tif", whole.pixels, metadata=None, description=content.encode())
            tifffile.imwrite(folder / "outside.ome.tif", whole.pixels + 1, metadata=None, description=content.encode())
            os.mkfifo(folder / "in" / "pipe.ome.tif")
            return folder / "in" / "a.ome.tif"

        return make

    def sub(pattern: str, new: str) -> str:
        text, count = re.subn(pattern, new, xml)
        assert count, pattern
        return text

    def placed(name: str) -> str:
        places = "".join(
            f'<TiffData FirstZ="{z}" IFD="{z}" PlaneCount="1"><UUID FileName="{name if z else "a.ome.tif"}">'
            f"urn:uuid:{z}</UUID></TiffData>"
            for z in range(3)
        )
        return re.sub(r"<TiffData.*?(/>|</TiffData>)", "", xml, flags=re.DOTALL).replace(
            "</Pixels>", f"{places}</Pixels>"
        )

    texts = {
        "SizeZ": sub('SizeZ="3"', f'SizeZ="{10**9}"'),
        "SizeZ of 2 million": sub('SizeZ="3"', f'SizeZ="{2 * 10**6}"'),
        "SizeT": sub('SizeT="1"', f'SizeT="{10**9}"'),
        "SizeC": sub('SizeC="1"', f'SizeC="{10**9}"'),
        "no SizeZ": sub('SizeZ="3"', 'SizeZ="0"'),
        "negative SizeZ": sub('SizeZ="3"', 'SizeZ="-3"'),
        "SizeZ in words": sub('SizeZ="3"', 'SizeZ="three"'),
        "SizeZ of 4": sub('SizeZ="3"', 'SizeZ="4"'),
        "SizeX": sub('SizeX="48"', f'SizeX="{HUGE}"'),
        "SizeX of 47": sub('SizeX="48"', 'SizeX="47"'),
        "type": sub('Type="uint16"', 'Type="float"'),
        "unknown type": sub('Type="uint16"', 'Type="quaternion"'),
        "samples": sub('SamplesPerPixel="1"', f'SamplesPerPixel="{10**9}"'),
        "order": sub('DimensionOrder="\\w+"', 'DimensionOrder="ABCDE"'),
        "page": sub("<TiffData", f'<TiffData IFD="{10**9}"'),
        "count of planes": sub('PlaneCount="\\d+"', f'PlaneCount="{10**9}"'),
        "no end": xml[: len(xml) * 2 // 3],
        "deep": "<a>" * 10**5,
        "many images": xml.replace("</OME>", "".join(re.findall("<Image.*</Image>", xml, re.DOTALL)) * 300 + "</OME>"),
        "nothing": "<OME></OME>",
        "a file up": placed("../outside.ome.tif"),
        "an absolute file": placed("{outside}/outside.ome.tif"),
        "a device": placed("/dev/zero"),
        "a pipe": placed("pipe.ome.tif"),
        "a missing file": placed("b.ome.tif"),
        "metadata up": '<OME><BinaryOnly MetadataFile="../outside.ome.tif" UUID="urn:uuid:1"/></OME>',
        "metadata of a device": '<OME><BinaryOnly MetadataFile="/dev/zero" UUID="urn:uuid:1"/></OME>',
        "metadata of a pipe": '<OME><BinaryOnly MetadataFile="pipe.ome.tif" UUID="urn:uuid:1"/></OME>',
        "metadata of itself": '<OME><BinaryOnly MetadataFile="a.ome.tif" UUID="urn:uuid:1"/></OME>',
        **dict(xml_attacks(xml[xml.index("<OME") :].replace("<Image ", '<Image AcquiredBy="&x;" ', 1))),
    }
    for name, text in texts.items():
        yield Case("TIFF OME", "OME-XML", name, with_xml(text), whole.pixels)
    for name in (
        "a file up",
        "an absolute file",
        "a device",
        "a pipe",
        "a missing file",
        "external entity",
        "a billion laughs",
        "SizeZ",
        "no end",
    ):

        def companion(folder: Path, text: str = texts[name]) -> Path:
            with_xml(text)(folder)
            content = text.replace("{outside}", str(folder))
            (folder / "in" / "a.companion.ome").write_text(content)
            return folder / "in" / "a.companion.ome"

        yield Case("OME companion", "OME-XML", name, companion, whole.pixels)


def lif_xml() -> Iterator[Case]:
    pixels = plane(3)
    for name, text in xml_attacks(""):
        yield Case("LIF", "OME-XML", name, alone("a.lif", lif(pixels, head=text)), pixels)


def slices(wholes: list[Whole]) -> Iterator[Case]:
    """Folders of slices of which one is bad, and names that are none."""
    whole = next(w for w in wholes if w.format == "PNG")
    content = whole.files["a.png"]
    stack = np.stack([whole.pixels] * 3)

    def folder_of(third: Callable[[Path], object]) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            write(folder / "stack", {"a1.png": content, "a2.png": content})
            third(folder / "stack" / "a3.png")
            return folder / "stack"

        return make

    for name, third in {
        "whole": lambda path: path.write_bytes(content),
        "cut": lambda path: path.write_bytes(content[: len(content) // 2]),
        "a pipe": os.mkfifo,
        "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a folder that contains itself": lambda path: path.symlink_to("."),
    }.items():
        yield Case(
            "slices", "no file", name, folder_of(third), stack if name != "cut" else None, name not in ("whole", "cut")
        )
    for name in (
        "a\nb.png",
        "-rf.png",
        "a;touch b.png",
        "<script>.png",
        "ä" * 60 + ".png",
        "%s%n.png",
        "a.png.png",
        "..png",
    ):
        yield Case("PNG", "name", repr(name), alone(name, content), whole.pixels)


def all_cases(shared: Path) -> list[Case]:
    """Every case, in the order of the table."""
    wholes = [*tiffs(), *volumes(), *pictures(), *zarrs(), *makers(shared)]
    cases = [case for whole in wholes for case in damaged(whole)]
    for part in (
        wrong_suffixes(wholes),
        declared(),
        bombs(),
        special(wholes),
        referring(shared),
        ome_xml(),
        lif_xml(),
        slices(wholes),
    ):
        cases += part
    return cases
