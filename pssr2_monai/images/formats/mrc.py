"""MRC and CCP4 maps (electron microscopy and tomography): mrcfile reads the header, the pixels are memory-mapped."""

from __future__ import annotations

import math
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.units import known_sizes, micrometres, read_mapped
from pssr2_monai.images.image import LazyImage, Region
from pssr2_monai.images.metadata import ImageMetadata
from pssr2_monai.images.safeguards import DEFLATED, check_expansion, check_length, chunks_of, decoded_bytes, pieces

HEADER_BYTES = 1024
EXTENDED = 92  # byte at which the length of the extended header is stated
MACHINE_STAMP, BIG_ENDIAN = 212, 0x11  # byte that states the order of bytes, and its value
ANGSTROM_UM = 1e-4
IMAGE_STACK = 0  # among the numbers of space groups
IMOD_STAMP = 1146047817
IMOD_SIGNED = 1
_CODECS = {".gz": "gzip", ".bz2": "bzip2"}


def open_file(path: Path) -> LazyImage:
    """Open an MRC or CCP4 map, with the axes that its header assigns to columns, rows and sections.

    The voxel size (angstroms in the file) is known along Z for volumes only: the sections of an image stack have no
    distance. A size of 1 x 1 x 1 angstroms, which programs write as a default, is unknown. Bytes are signed, as the
    format defines, unless IMOD marks them as unsigned. A compressed file (.gz, .bz2) is decoded whole at the first read
    and kept until it is closed.
    """
    try:
        import mrcfile
        from mrcfile import utils
    except ImportError:
        raise InputError(
            f'{path.name}: reading MRC needs mrcfile; install it: pip install "pssr2-monai[mrc]"'
        ) from None
    _check_extended(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers of older programs, which can be read nevertheless
        with mrcfile.open(path, permissive=True, header_only=True) as mrc:
            header, voxel = mrc.header.copy(), mrc.voxel_size.copy()
    stored = utils.data_dtype_from_header(header)
    shape = tuple(int(size) for size in utils.data_shape_from_header(header))
    volume = not (int(header.ispg) == IMAGE_STACK and len(shape) == 3)
    if stored == np.int8 and _imod_bytes_are_unsigned(header):
        stored = np.dtype("u1")
    sizes = known_sizes({axis: micrometres(float(voxel[axis.lower()]), "angstrom") for axis in "ZYX"})
    if all(float(voxel[axis]) == 1 for axis in "xyz"):
        sizes = {}
    if not volume:
        sizes.pop("Z", None)
    metadata = ImageMetadata(origin=_origin(header, sizes))
    layout = (stored, int(header.nsymbt), shape)
    codec = _CODECS.get(path.suffix.lower())
    nbytes = HEADER_BYTES + math.prod(shape) * stored.itemsize
    if codec is None:
        offset = _offset(path.name, path.stat().st_size, *layout)
        return LazyImage(
            path,
            shape,
            stored,
            _axes(header, len(shape), volume),
            sizes,
            lambda region: read_mapped(path, stored, offset, shape, region),
            metadata=metadata,
        )
    check_expansion(path.name, nbytes, path.stat().st_size, DEFLATED if codec == "gzip" else None)
    decoded: list[np.ndarray] = []

    def reader(region: Region) -> np.ndarray:
        if not decoded:
            content = decoded_bytes(chunks_of(path), codec, path.name, nbytes)
            offset = _offset(path.name, len(content), *layout)
            decoded.append(np.frombuffer(content, stored, math.prod(shape), offset).reshape(shape))
        return decoded[0][region].copy()

    axes = _axes(header, len(shape), volume)
    return LazyImage(path, shape, stored, axes, sizes, reader, closer=decoded.clear, metadata=metadata)


def _check_extended(path: Path) -> None:
    """Check the length of the extended header, which mrcfile reads whole, against that of the file."""
    codec, size = _CODECS.get(path.suffix.lower()), path.stat().st_size
    content = next(pieces(chunks_of(path), codec), b"") if codec else next(chunks_of(path), b"")
    if len(content) < HEADER_BYTES:
        raise InputError(f"{path.name}: is not an MRC file, or cut short: it has no whole header; copy it again")
    stated = [struct.unpack_from(f"{order}i", content, EXTENDED)[0] for order in "<>"]
    lengths = stated[1:] if content[MACHINE_STAMP] == BIG_ENDIAN else stated[:1]
    limit = size * (DEFLATED if codec else 1)
    if not any(0 <= length <= limit for length in lengths):
        raise InputError(f"{path.name}: its extended header would take {lengths[0]} bytes; copy it again")


def _offset(name: str, size: int, stored: np.dtype[Any], extended: int, shape: tuple[int, ...]) -> int:
    """Where the pixels begin in a file of this size: some programs announce an extended header and write none."""
    nbytes = math.prod(shape) * stored.itemsize
    if size == HEADER_BYTES + nbytes:
        return HEADER_BYTES
    if extended < 0 or not nbytes:
        raise InputError(f"{name}: is not an MRC file, or its header is damaged; copy it again")
    check_length(name, HEADER_BYTES + extended + nbytes, size)
    return HEADER_BYTES + extended


def _origin(header: Any, sizes: dict[str, float]) -> dict[str, float]:
    """The position of the first voxel in micrometres: the origin or, as in CCP4 maps, the number of that voxel."""
    origin = {axis: float(header.origin[axis.lower()]) * ANGSTROM_UM for axis in sizes}
    start = {axis: int(header[f"n{axis.lower()}start"]) * size for axis, size in sizes.items()}
    straight = [int(header[key]) for key in ("mapc", "mapr", "maps")] in ([0, 0, 0], [1, 2, 3])
    return origin if any(origin.values()) else start if straight and any(start.values()) else {}


def _axes(header: Any, ndim: int, volume: bool) -> str:
    """The axes of the stored array: sections, rows, columns, and a series before them."""
    numbers = [int(header[key]) for key in ("maps", "mapr", "mapc")]
    letters = "".join("XYZ"[n - 1] for n in numbers) if sorted(numbers) == [1, 2, 3] else "ZYX"
    if not volume:
        letters = "QYX"
    return ("Q" * (ndim - 3) + letters)[-ndim:]


def _imod_bytes_are_unsigned(header: Any) -> bool:
    """Whether IMOD wrote the bytes, and wrote them unsigned, according to words 39 and 40 of the header."""
    words = np.frombuffer(header.extra2.tobytes(), header.nx.dtype)  # of bytes 112 to 195
    return bool(words[10] == IMOD_STAMP and not words[11] & IMOD_SIGNED)
