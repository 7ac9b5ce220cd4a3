"""Where the pixels of NRRD, MetaImage and NIfTI lie, and whether they are whole: ITK decodes what there is of them."""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pssr2_monai.errors import InputError
from pssr2_monai.images.safeguards import (
    DEFLATED,
    check_expansion,
    check_length,
    check_stream,
    chunks_of,
    decoded_bytes,
    neighbour,
)

HEADER_BYTES = 2**16  # in which the header of a NRRD or MetaImage ends
CODECS = {"gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2", "zlib": "zlib"}
MOST_FILES = 10**5  # that an image may name as its own
TEXT = ("txt", "text", "ascii")


@dataclass(frozen=True)
class Storage:
    """Where the pixels of an image lie.

    Attributes:
        path: the image file, which the messages name.
        files: that hold the pixels, one after the other.
        start: byte of each at which they begin; None where they end the file.
        encoding: how they are stored: ``raw``, a codec of ``safeguards``, ``text`` or ``hex``.
        nbytes: of all pixels when they are decoded.
        values: the number of them.
        order: of the bytes of a value: ``<`` or ``>``.
    """

    path: Path
    files: tuple[Path, ...]
    start: int | None
    encoding: str
    nbytes: int = 0
    values: int = 0
    order: str = "<"

    def of_pixels(self, sizes: Sequence[int], itemsize: int) -> Storage:
        """The storage of an image of these sizes, all samples of its pixels among them; NIfTI's own header counts."""
        values = math.prod(sizes)
        return self if self.nbytes else replace(self, values=values, nbytes=values * itemsize)

    def check_sizes(self) -> None:
        """Check, by the lengths of the files alone, that they can hold the pixels."""
        sizes = [file.stat().st_size for file in self.files]
        start, name = self.start or 0, self.path.name
        stored = sum(max(size - start, 0) for size in sizes)
        if self.encoding == "raw":
            check_length(name, self.nbytes + start * len(sizes), stored + start * len(sizes))
        elif self.encoding in ("text", "hex"):
            check_length(name, 2 * (self.nbytes if self.encoding == "hex" else self.values) - 1, stored)
        else:
            check_expansion(name, self.nbytes, stored, None if self.encoding == "bzip2" else DEFLATED)

    def check_pixels(self) -> None:
        """Check that compressed pixels, or those in the form of text, are whole: ITK reads what there is of them."""
        if self.encoding == "text":
            present = sum(len(b"".join(chunks_of(file, self.start or 0)).split()) for file in self.files)
            if present < self.values:
                raise InputError(f"{self.path.name}: holds {present} of {self.values} numbers; copy it again")
        elif self.encoding not in ("raw", "hex"):
            check_stream(self._chunks(), self.encoding, self.path.name, self.nbytes)

    def decoded(self) -> bytes:
        """The bytes of compressed pixels."""
        return decoded_bytes(self._chunks(), self.encoding, self.path.name, self.nbytes)

    def _chunks(self) -> Iterator[bytes]:
        for file in self.files:
            yield from chunks_of(file, self.start or 0)


def storage_of(path: Path) -> Storage:
    """Where the pixels of a NRRD, MetaImage or NIfTI lie: their number follows with `Storage.of_pixels`.

    Raises:
        InputError: a file that it names lies outside its folder, is missing or is no file.
    """
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _of_nifti(path)
    return (_of_nrrd if name.endswith((".nrrd", ".nhdr")) else _of_meta)(path)


def _of_nifti(path: Path) -> Storage:
    """By the sizes and the bits of its own header, since ITK may make floats of its values."""
    packed = path.name.lower().endswith(".gz")
    with gzip.open(path) if packed else path.open("rb") as file:
        header = file.read(540)
    starts = {struct.pack(f"{order}i", size): order for order in "<>" for size in (348, 540)}
    order = starts.get(header[:4], "")
    if not order or len(header) < 348:
        raise InputError(f"{path.name}: is not a NIfTI file, or damaged; copy it again")
    if struct.unpack_from(f"{order}i", header)[0] == 348:
        sizes, bits = struct.unpack_from(f"{order}8h", header, 40), struct.unpack_from(f"{order}h", header, 72)[0]
        start = struct.unpack_from(f"{order}f", header, 108)[0]
    else:
        sizes, bits = struct.unpack_from(f"{order}8q", header, 16), struct.unpack_from(f"{order}h", header, 14)[0]
        start = float(struct.unpack_from(f"{order}q", header, 168)[0])
    counts = sizes[1 : 1 + max(sizes[0], 0)]
    if not 1 <= sizes[0] <= 7 or any(n < 1 for n in counts) or bits < 1 or not 0 <= start < 2**62:
        raise InputError(
            f"{path.name}: its header is damaged: sizes {counts}, {bits} bits a pixel, pixels from byte {start:g}; "
            "copy it again"
        )
    values = math.prod(counts)
    # ITK takes 352 for the beginning where the header says less.
    nbytes = max(int(start), 348) + math.ceil(values * bits / 8)
    return Storage(path, (path,), 0, "gzip" if packed else "raw", nbytes, values)


def nrrd_header(path: Path) -> dict[str, str]:
    """The fields of a NRRD's header; empty for other formats."""
    if path.suffix.lower() not in (".nrrd", ".nhdr"):
        return {}
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    if not content.startswith(b"NRRD"):
        return {}
    text = re.split(rb"\r?\n\r?\n", content)[0].decode("utf-8", "replace")
    return {name.strip().lower(): value.strip() for name, value in re.findall(r"(?m)^([\w ]+):(?!=)(.*)$", text)}


def _of_nrrd(path: Path) -> Storage:
    header = nrrd_header(path)
    if not header:
        raise InputError(f"{path.name}: is not a NRRD file, or damaged; copy it again")
    encoding = header.get("encoding", "raw").lower()
    encoding = "text" if encoding in TEXT else CODECS.get(encoding, encoding)
    order = ">" if header.get("endian", "").lower() == "big" else "<"
    stated = header.get("data file", header.get("datafile"))
    skipped = int(header.get("byte skip", header.get("byteskip", "0")))
    if stated is None:
        with path.open("rb") as file:
            content = file.read(HEADER_BYTES)
        end = re.search(rb"\r?\n\r?\n", content)
        if end is None:
            raise InputError(f"{path.name}: its header has no end, so that no pixels follow; copy it again")
        start = None if skipped < 0 else end.end() + skipped * (encoding == "raw")
        return Storage(path, (path,), start, encoding, order=order)
    if stated.upper().startswith("LIST"):
        text = path.read_bytes()[:HEADER_BYTES].decode("utf-8", "replace")
        names = [line.strip() for line in re.split(r"(?i)data ?file:[^\n]*\n", text, maxsplit=1)[-1].splitlines()]
        names = [name for name in names if name]
    else:
        names = _numbered(stated, path)
    files = tuple(neighbour(path, name) for name in names)
    return Storage(path, files, None if skipped < 0 else skipped * (encoding == "raw"), encoding, order=order)


def _of_meta(path: Path) -> Storage:
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    end = re.search(rb"(?m)^\s*ElementDataFile\s*=\s*([^\r\n]*)\r?\n?", content)
    if end is None:
        raise InputError(f"{path.name}: its header does not say where its pixels are; copy it again")
    header = {
        name.lower(): value.strip()
        for name, value in re.findall(r"(?m)^\s*(\w+)\s*=\s*([^\r\n]*)", content[: end.end()].decode("latin-1"))
    }
    sizes = header.get("dimsize", "").split()
    if header.get("ndims") != str(len(sizes)) or not all(size.isdecimal() and int(size) for size in sizes):
        raise InputError(f"{path.name}: its header is damaged: it states no NDims sizes (DimSize); copy it again")
    stated = end[1].decode("utf-8", "replace").strip()
    encoding = "zlib" if _is_true(header, "compresseddata") else "raw"
    if encoding == "raw" and header.get("binarydata", "True").lower().startswith("f"):
        encoding = "text"
    order = ">" if any(_is_true(header, key) for key in ("binarydatabyteordermsb", "elementbyteordermsb")) else "<"
    skipped = int(header.get("headersize", "0") or 0)
    if stated.upper() in ("LOCAL", "LOCAL."):
        return Storage(path, (path,), None if skipped < 0 else end.end() + skipped, encoding, order=order)
    if stated.upper().startswith("LIST"):
        names = [line.strip() for line in content[end.end() :].decode("utf-8", "replace").splitlines() if line.strip()]
    else:
        names = _numbered(stated, path)
    files = tuple(neighbour(path, name) for name in names)
    return Storage(path, files, None if skipped < 0 else skipped, encoding, order=order)


def _is_true(header: Mapping[str, str], key: str) -> bool:
    return header.get(key, "False").lower().startswith("t")


def _numbered(stated: str, path: Path) -> list[str]:
    """The names of ``slice%03d.raw 1 12 1``, or the one name that is stated."""
    numbers = re.fullmatch(r"(.*%[0-9]*[du]\S*)\s+(\d+)\s+(\d+)\s+(\d+)(?:\s+\d+)?", stated)
    if not numbers:
        return [stated]
    first, last, step = map(int, numbers.groups()[1:])
    counted = range(first, last + 1, max(step, 1))
    if len(counted) > MOST_FILES:
        raise InputError(f"{path.name}: names {len(counted)} files as its own; correct its header")
    return [re.sub(r"%0?(\d?)[du]", lambda part: str(k).zfill(int(part[1] or 0)), numbers[1]) for k in counted]  # noqa: B023
