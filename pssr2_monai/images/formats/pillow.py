"""PNG, JPEG and BMP with Pillow: formats that are decoded whole, then kept while the image is open."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.images.formats.jpeg import check_scans
from pssr2_monai.images.formats.maker_text import read_sidecar
from pssr2_monai.images.formats.shown import oriented, without_alpha
from pssr2_monai.images.formats.units import from_print_resolution, known_sizes
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.metadata import BAR_NOTE, bar_note, bar_of_note
from pssr2_monai.images.safeguards import DEFLATED, check_expansion, check_length
from pssr2_monai.images.writer import ImageSpec, Spread, written_atomically

# Modes of one sample that are kept as they are, with the type that they have in memory.
_DEEP = {"I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}
_GREY = ("1", "L", "LA", "La")
_FORMATS = ("PNG", "JPEG", "BMP", "DIB")  # whatever the suffix; no TIFF, of which Pillow reads a part
_ORIENTATION = 0x0112  # of EXIF
_HEADER = 33  # bytes of a PNG before the chunks that may state the size of a pixel
_limit = threading.Lock()


def open_file(path: Path) -> LazyImage:
    """Open a PNG, JPEG or BMP as it is shown, axes YX or YXS.

    Black-and-white pixels become 0 and 255, those of a palette its greys or colours, those of CMYK colours, and the
    orientation of EXIF is applied. Opacity is none of the channels. The whole image is decoded at the first read and
    kept until it is closed: these formats cannot be read in part.
    """
    with _opened(path) as image:
        _check_size(path, image)  # before the next line decodes the image to look up its palette
        dtype, samples, alpha = _layout(image)
        stored = (image.height, image.width, samples)
        dpi = image.info.get("dpi") or (0, 0)
        exif = Image.Exif()  # image.getexif() would decode a PNG
        exif.load(image.info.get("exif", b""))
        orientation = int(exif.get(_ORIENTATION, 1))
        noted_rows = bar_of_note(image.info.get(BAR_NOTE), image.height)
    decoded: list[np.ndarray] = []

    def reader(region: tuple[slice, ...]) -> np.ndarray:
        if not decoded:
            decoded.append(_decode(path, samples, alpha).astype(dtype, copy=False).reshape(stored))
        return decoded[0][region].copy()

    by_resolution = {"Y": from_print_resolution(dpi[1], "inch"), "X": from_print_resolution(dpi[0], "inch")}
    by_maker = read_sidecar(path, *stored[:2])
    opened = LazyImage(
        path,
        stored,
        dtype,
        "YXS",
        by_maker.pixel_size or known_sizes(by_resolution),
        reader,
        closer=decoded.clear,
        bar_rows=noted_rows or by_maker.bar_rows or 0,
        bar_stated=bool(noted_rows) or by_maker.bar_rows is not None,
    )
    return oriented(without_alpha(opened, samples - 1) if alpha else opened, orientation)


@contextmanager
def _opened(file: Path | io.BytesIO) -> Iterator[Image.Image]:
    """An image opened by Pillow without its limit on pixels: a mosaic of 20,000 x 20,000 is not an attack."""
    with _limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _check_size(path: Path, image: Any) -> None:
    """Check that a file can hold its pixels, by its length alone."""
    samples = 3 if image.mode in ("P", "PA") else len(image.getbands())
    itemsize = 2 if _is_deep_png(image) or image.mode.startswith("I;16") else 4 if image.mode in ("I", "F") else 1
    nbytes = image.width * image.height * samples * itemsize
    name, size = path.name, path.stat().st_size
    if image.format == "BMP" and image.info.get("compression") == 0:
        check_length(name, image.tile[0].offset + image.tile[0].args[1] * image.height, size)
    # Bits become bytes.
    check_expansion(name, nbytes, size, 8 * DEFLATED if image.format == "PNG" else None)


def _layout(image: Image.Image) -> tuple[np.dtype[Any], int, bool]:
    """The type of the pixels as they are shown, their samples, and whether the last of these is opacity."""
    alpha = image.has_transparency_data
    if _is_deep_png(image):
        grey = _raw_mode(image)[:2] in ("I;", "LA")
        return np.dtype("u2"), (1 if grey else 3) + alpha, alpha
    if image.mode in _DEEP:
        return np.dtype(_DEEP[image.mode]), 1, False
    grey = image.mode in _GREY
    if image.mode in ("P", "PA"):
        colours = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        grey = bool((colours == colours[:, :1]).all())
    return np.dtype("u1"), (1 if grey else 3) + alpha, alpha


def _is_deep_png(image: Image.Image) -> bool:
    """Whether this is a PNG of 16 bits a sample, of which Pillow would keep 8 and leave out the opacity."""
    return image.format == "PNG" and ";16" in _raw_mode(image)


def _raw_mode(image: Image.Image) -> str:
    """How the pixels of a PNG are stored, such as ``LA;16B``."""
    tiles = getattr(image, "tile", [])
    return str(tiles[0].args) if tiles else ""


def _check_stored(path: Path) -> None:
    """Check what decoders do not: the checksums of a PNG's parts, and that no pixels of a JPEG are missing."""

    def pixels(content: bytes) -> bytes:
        with _opened(io.BytesIO(content)) as image:
            return image.tobytes()

    with _opened(path) as image:
        if image.format == "JPEG":
            check_scans(path.read_bytes(), path.name, pixels)
        if image.format == "PNG":
            try:
                image.verify()
            except (SyntaxError, OSError, ValueError) as error:
                raise InputError(f"{path.name}: is damaged ({one_line(error)}); copy it again") from error


def _decode(path: Path, samples: int, alpha: bool) -> np.ndarray:
    _check_stored(path)
    with _opened(path) as image:
        few_bits = image.mode in ("1", "L") and "transparency" in image.info  # Pillow takes another value for clear
        if _is_deep_png(image) or (image.format == "PNG" and few_bits):
            return np.asarray(imagecodecs.png_decode(path.read_bytes()))
        if image.mode in _DEEP:
            return np.array(image)
        if alpha:
            return np.array(image.convert("RGBA"))[..., [0, 3] if samples == 2 else slice(None)]
        return np.array(image.convert("L" if samples == 1 else "RGB"))


class PngWriter:
    """Collect one image "YX" or "YXC" (red, green, blue) of 8 or 16 bits, and write a PNG when closed.

    The pixel size is kept if it is known along Y and X, channel names are not. Nothing is written before the image is
    complete, so that ``resume`` has no effect.
    """

    def __init__(self, spec: ImageSpec, resume: bool = False) -> None:
        colours = spec.shape[2] if spec.axes == "YXC" else 1
        if spec.axes not in ("YX", "YXC") or colours not in (1, 3) or spec.dtype.name not in ("uint8", "uint16"):
            raise InputError(
                f"{spec.path.name}: a PNG holds one 8- or 16-bit image or RGB, not {spec.dtype} of axes {spec.axes!r} "
                f"and shape {' x '.join(map(str, spec.shape))}; write .tif or .ome.zarr"
            )
        self.chunks: tuple[int, ...] | None = None
        self.holds_alpha, self._bar_rows = spec.alpha, spec.metadata.bar_rows
        self._path, self._pixel_size, self._colours = spec.path, spec.pixel_size, colours
        self._pixels = np.zeros((*spec.shape[:2], colours + spec.alpha), spec.dtype)

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        y, x, c = (*region, slice(0, 1))[:3]
        self._pixels[y, x, c] = array if array.ndim == 3 else array[..., None]

    def write_alpha(self, region: Sequence[slice], array: np.ndarray) -> None:
        y, x = region[:2]
        self._pixels[y, x, self._colours] = array.reshape(array.shape[:2])

    def close(self, spread: Spread = map) -> None:
        chunks = b""
        encoded = imagecodecs.png_encode(self._pixels if self._pixels.shape[2] > 1 else self._pixels[..., 0])
        sizes = [self._pixel_size.get(axis) for axis in "XY"]
        if all(sizes):
            per_metre = struct.pack(">IIB", *(round(1e6 / size) for size in sizes if size), 1)
            chunks += _chunk(b"pHYs", per_metre)
        if self._bar_rows:
            note = bar_note(self._bar_rows, self._pixels.shape[0])
            chunks += _chunk(b"tEXt", f"{BAR_NOTE}\0{note}".encode("latin-1"))
        with written_atomically(self._path) as part:
            part.write_bytes(encoded[:_HEADER] + chunks + encoded[_HEADER:])

    def abort(self) -> None:
        self._pixels = self._pixels[:0]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
