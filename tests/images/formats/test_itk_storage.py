"""Where NRRD, MetaImage and NIfTI keep their pixels, and what is refused before ITK sees it; files written by hand."""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.itk_storage import storage_of
from pssr2_monai.images.image import open_image

DATA = np.random.default_rng(0).integers(0, 999, (4, 6, 5)).astype("<u2")
RAW = DATA.tobytes()
SIZES = "5 6 4"


def nrrd(encoding: str = "raw", more: str = "", sizes: str = SIZES) -> bytes:
    head = f"NRRD0004\ntype: ushort\ndimension: 3\nsizes: {sizes}\nendian: little\nencoding: {encoding}\n{more}"
    return head.encode() + (b"" if "data file" in more else b"\n")


def meta(data: str = "LOCAL", more: str = "", sizes: str = SIZES) -> bytes:
    head = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{more}DimSize = {sizes}\n"
    )
    return f"{head}ElementType = MET_USHORT\nElementDataFile = {data}\n".encode()


def nifti(sizes: tuple[int, ...] = (5, 6, 4), offset: float = 352.0, bits: int = 16) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(sizes), *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into("<2h", header, 70, 512, bits)
    struct.pack_into("<2f", header, 108, offset, 1.0)
    header[344:348] = b"n+1\0"
    return bytes(header)


COMPRESSED = "CompressedData = True\n"
WHOLE: dict[str, dict[str, bytes]] = {
    "a.nrrd": {"a.nrrd": nrrd() + RAW},
    "b.nrrd": {"b.nrrd": nrrd("gzip") + gzip.compress(RAW)},
    "c.nrrd": {"c.nrrd": nrrd("bzip2") + bz2.compress(RAW)},
    "d.nrrd": {"d.nrrd": nrrd("ascii") + " ".join(map(str, DATA.ravel())).encode()},
    "e.nrrd": {"e.nrrd": nrrd("hex") + RAW.hex().encode()},
    "a.nhdr": {"a.nhdr": nrrd(more="data file: a.raw\n"), "a.raw": RAW},
    "b.nhdr": {"b.nhdr": nrrd("gzip", "data file: a.gz\n"), "a.gz": gzip.compress(RAW)},
    "c.nhdr": {
        "c.nhdr": nrrd(more="data file: s%02d.raw 1 4 1 2\n"),
        **{f"s0{z + 1}.raw": DATA[z].tobytes() for z in range(4)},
    },
    "d.nhdr": {
        "d.nhdr": nrrd(more="data file: LIST 2\ns1.raw\ns2.raw\ns3.raw\ns4.raw\n"),
        **{f"s{z + 1}.raw": DATA[z].tobytes() for z in range(4)},
    },
    "a.mha": {"a.mha": meta() + RAW},
    "b.mha": {"b.mha": meta(more=COMPRESSED) + zlib.compress(RAW)},
    "a.mhd": {"a.mhd": meta("a.raw"), "a.raw": RAW},
    "b.mhd": {"b.mhd": meta("a.zraw", COMPRESSED), "a.zraw": zlib.compress(RAW)},
    "c.mhd": {"c.mhd": meta("s%02d.raw 1 4 1"), **{f"s0{z + 1}.raw": DATA[z].tobytes() for z in range(4)}},
    "a.nii": {"a.nii": nifti() + RAW},
    "a.nii.gz": {"a.nii.gz": gzip.compress(nifti() + RAW)},
}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read_and_shorter_ones_refused(tmp_path: Path, name: str) -> None:
    files = WHOLE[name]
    write(tmp_path, files)
    np.testing.assert_array_equal(open_image(tmp_path / name).read(), DATA)
    last = list(files)[-1]
    for lost in (3, len(RAW) // 3):
        (tmp_path / last).write_bytes(files[last][:-lost])
        with pytest.raises(InputError, match=rf"^{name}: "):
            open_image(tmp_path / name).read()


@pytest.mark.parametrize("name", ["b.nrrd", "c.nrrd", "b.nhdr", "b.mha", "b.mhd", "a.nii.gz"])
def test_damage_of_compressed_pixels_is_noticed(tmp_path: Path, name: str) -> None:
    files = WHOLE[name]
    last = list(files)[-1]
    content = files[last]
    for back in (2, 40, 90):
        place = len(content) - back
        flipped = content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]
        write(tmp_path, files | {last: flipped})
        with pytest.raises(InputError, match=rf"^{name}: .*(damaged|cut short|complete)"):
            open_image(tmp_path / name).read()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nrrd", nrrd(sizes="100000 100000 1") + RAW),
        ("b.nrrd", nrrd("gzip", sizes="100000 100000 1") + gzip.compress(RAW)),
        ("c.nrrd", nrrd("bzip2", sizes="100000 100000 1") + bz2.compress(RAW)),
        ("a.mha", meta(sizes="100000 100000 1") + RAW),
        ("b.mha", meta(more=COMPRESSED, sizes="100000 100000 1") + zlib.compress(RAW)),
        ("a.nii", nifti((32000, 32000, 99)) + RAW),
        ("a.nii.gz", gzip.compress(nifti((32000, 32000, 99)) + RAW)),
        ("b.nii", nifti(offset=1e12) + RAW),
        ("c.nii", nifti(offset=float("nan")) + RAW),
        ("d.nii", nifti((5, -6, 4)) + RAW),
        ("e.nii", nifti(bits=0) + RAW),
    ],
)
def test_sizes_that_the_file_cannot_hold(tmp_path: Path, name: str, content: bytes) -> None:
    write(tmp_path, {name: content})
    with pytest.raises(InputError, match=rf"^{name}: (is cut short|its header is damaged|\d+ bytes would expand)"):
        open_image(tmp_path / name)


@pytest.mark.parametrize("name", ["../out.raw", "/etc/passwd", "a/../../out.raw"])
@pytest.mark.parametrize("suffix", [".nhdr", ".nrrd", ".mhd", ".mha"])
def test_pixels_outside_of_the_folder(tmp_path: Path, suffix: str, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.raw").write_bytes(RAW)
    header = nrrd(more=f"data file: {name}\n") if suffix in (".nhdr", ".nrrd") else meta(name)
    write(tmp_path / "in", {f"a{suffix}": header})
    with pytest.raises(InputError, match=f"^a{suffix}: names '.*' as a file of its own, which is not in its folder"):
        storage_of(tmp_path / "in" / f"a{suffix}")
