"""PNG and JPEG with Pillow: formats that are decoded whole, then kept while the image is open."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.maker_text import read_sidecar
from pssr2_monai.images.formats.units import from_print_resolution, known_sizes
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.writer import ImageSpec, Spread, written_atomically

# Modes whose pixels are taken as they are, with the type that they have in memory.
_KEPT = {"L": "u1", "LA": "u1", "RGB": "u1", "RGBA": "u1", "I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}
_SAMPLES = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
_INCH_UM = 25400.0
_limit = threading.Lock()


def open_file(path: Path) -> LazyImage:
    """Open a PNG or JPEG, axes YX or YXC.

    Black-and-white pixels become 0 and 255, those of a palette its colours or greys. The whole image is decoded at the
    first read and kept until it is closed: these formats cannot be read in part.
    """
    with _opened(path) as image:
        mode, deep = _target_mode(image), _is_deep_colour(image)
        height, width = image.height, image.width
        dpi = image.info.get("dpi") or (0, 0)
    dtype = np.dtype("u2" if deep else _KEPT[mode])
    shape = (height, width, _SAMPLES[mode]) if mode in _SAMPLES else (height, width)
    decoded: list[np.ndarray] = []

    def reader(region: tuple[slice, ...]) -> np.ndarray:
        if not decoded:
            decoded.append(_decode(path, mode, deep).astype(dtype, copy=False).reshape(shape))
        return decoded[0][region].copy()

    by_resolution = {"Y": from_print_resolution(dpi[1], "inch"), "X": from_print_resolution(dpi[0], "inch")}
    by_maker = read_sidecar(path, height, width)
    return LazyImage(
        path,
        shape,
        dtype,
        "YXC"[: len(shape)],
        by_maker.pixel_size or known_sizes(by_resolution),
        reader,
        closer=decoded.clear,
        bar_rows=by_maker.bar_rows or 0,
        bar_stated=by_maker.bar_rows is not None,
    )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image opened by Pillow without its limit on pixels: a mosaic of 20,000 x 20,000 is not an attack."""
    with _limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _target_mode(image: Image.Image) -> str:
    """The mode in which pixels are grey levels or colours, not indices."""
    if image.mode in _KEPT:
        return image.mode
    if image.mode == "1":
        return "L"
    if image.mode in ("P", "PA"):
        colours = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        return "L" if (colours == colours[:, :1]).all() else "RGB"
    return "RGB"


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether this is a PNG of 16 bits a sample, which Pillow would cut to 8."""
    tiles = getattr(image, "tile", [])
    raw = tiles[0].args if tiles else ""
    return image.mode in _SAMPLES and isinstance(raw, str) and ";16" in raw


def _decode(path: Path, mode: str, deep: bool) -> np.ndarray:
    if deep:
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    with _opened(path) as image:
        return np.array(image.convert(mode) if image.mode != mode else image)


class PngWriter:
    """Collect an image "YX" of 8 or 16 bits, or one "YXC" of 8 bits, and write a PNG when closed.

    Three channels are RGB, four RGB with opacity, two grey with opacity. The pixel size is kept if it is known along Y
    and X, channel names are not. Nothing is written before the image is complete, so that ``resume`` has no effect.
    """

    def __init__(self, spec: ImageSpec, resume: bool = False) -> None:
        grey = spec.axes == "YX" and spec.dtype.name in ("uint8", "uint16")
        colour = spec.axes == "YXC" and spec.dtype.name == "uint8" and spec.shape[2] in _SAMPLES.values()
        if not grey and not colour:
            raise InputError(
                f"{spec.path.name}: a PNG holds one 8- or 16-bit image or 8-bit RGB, not {spec.dtype} of axes "
                f"{spec.axes!r}; write .tif or .ome.zarr"
            )
        self.chunks: tuple[int, ...] | None = None
        self._path, self._pixels, self._pixel_size = spec.path, np.zeros(spec.shape, spec.dtype), spec.pixel_size

    def write(self, region: Sequence[slice], array: np.ndarray) -> None:
        self._pixels[tuple(region)] = array

    def close(self, spread: Spread = map) -> None:
        sizes = [self._pixel_size.get(axis) for axis in "XY"]
        options = {"dpi": tuple(_INCH_UM / size for size in sizes if size)} if all(sizes) else {}
        with written_atomically(self._path) as part:
            Image.fromarray(self._pixels).save(part, format="PNG", **options)

    def abort(self) -> None:
        self._pixels = self._pixels[:0]
