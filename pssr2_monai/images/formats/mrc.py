"""MRC and CCP4 maps (electron microscopy and tomography): mrcfile reads the header, the pixels are memory-mapped."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.units import known_sizes, micrometres, read_mapped
from pssr2_monai.images.image import LazyImage

HEADER_BYTES = 1024
IMOD_STAMP = 1146047817
IMOD_SIGNED = 1


def open_file(path: Path) -> LazyImage:
    """Open an MRC or CCP4 map, with the axes that its header assigns to columns, rows and sections.

    The voxel size (angstroms in the file) is known along Z for volumes only: the sections of an image stack have no
    distance. A size of 1 x 1 x 1 angstroms, which programs write as a default, is unknown. Bytes are signed, as the
    format defines, unless IMOD marks them as unsigned.
    """
    try:
        import mrcfile
    except ImportError:
        raise InputError(
            f'{path.name}: reading MRC needs mrcfile; install it: pip install "pssr2-monai[mrc]"'
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers of older programs, which can be read nevertheless
        with mrcfile.mmap(path, mode="r", permissive=True) as mrc:
            if mrc.data is None:
                raise InputError(f"{path.name}: is not an MRC file, or shorter than its header says; copy it again")
            header, stored, shape = mrc.header.copy(), mrc.data.dtype, mrc.data.shape
            volume, voxel = not mrc.is_image_stack(), mrc.voxel_size.copy()
    if stored == np.int8 and _imod_bytes_are_unsigned(header):
        stored = np.dtype("u1")
    offset = HEADER_BYTES + int(header.nsymbt)
    sizes = known_sizes({axis: micrometres(float(voxel[axis.lower()]), "angstrom") for axis in "ZYX"})
    if all(float(voxel[axis]) == 1 for axis in "xyz"):
        sizes = {}
    if not volume:
        sizes.pop("Z", None)
    return LazyImage(
        path,
        shape,
        stored,
        _axes(header, len(shape), volume),
        sizes,
        lambda region: read_mapped(path, stored, offset, shape, region),
    )


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
