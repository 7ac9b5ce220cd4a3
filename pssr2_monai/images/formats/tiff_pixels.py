"""The pixels of a TIFF as they are shown: few bits, white as zero, palettes, colours, opacity, orientation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, TiffPage

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.shown import oriented, with_joined_samples, without_alpha
from pssr2_monai.images.image import LazyImage, Region

Reader = Callable[[Region], np.ndarray]
ASSOCIATED, UNASSOCIATED = 1, 2  # opacity, among the kinds of samples beyond grey or colours
_JPEG = (COMPRESSION.JPEG, COMPRESSION.OJPEG, COMPRESSION.APERIO_JP2000_YCBC)  # whose decoders return RGB
_MEASURED = ("is_imagej", "is_ome", "is_lsm", "is_fluoview", "is_stk", "is_nih", "is_sis", "is_scn")
"""Kinds of files whose palette is a display colour of a measured grey value, which is the index."""


def as_shown(image: LazyImage, pages: Sequence[Any]) -> LazyImage:
    """An image of stored samples as Fiji, Pillow and libtiff show it.

    Fewer than 8 bits are spread over 0 to 255, those between 8 and 16 are kept; the greys or colours of a palette are
    looked up, unless it only gives a measured value its display colour; black is 0 where the file has white there (of
    integers); CMYK and YCbCr become RGB; opacity is none of the samples; the orientation is applied.

    Args:
        image: with the axes of tifffile.
        pages: of the image, of one kind.

    Raises:
        InputError: colours of a kind that has no certain values, such as CIELab; palettes that differ.
    """
    page = pages[0].keyframe
    alpha, associated = _alpha_sample(page)
    if alpha is not None and "S" in image.axes:
        image = without_alpha(image, alpha, associated)
    image = _converted(image, page, pages)
    return oriented(with_joined_samples(image), int(page.tags.valueof("Orientation", 1)))


def _alpha_sample(page: TiffPage) -> tuple[int | None, bool]:
    """Which of the samples is opacity, if any, and whether the others were multiplied by it."""
    kinds = [int(kind) for kind in page.extrasamples]
    first = page.samplesperpixel - len(kinds)
    if page.photometric == PHOTOMETRIC.RGB and page.samplesperpixel == 4 and not kinds:
        return 3, False  # a writer that left the tag out, as Pillow reads it
    for i, kind in enumerate(kinds):
        if kind in (ASSOCIATED, UNASSOCIATED):
            return first + i, kind == ASSOCIATED
    return None, False


def _converted(image: LazyImage, page: TiffPage, pages: Sequence[Any]) -> LazyImage:
    """The image with grey levels or RGB in place of what the samples stand for."""
    photometric = page.photometric
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * image.dtype.itemsize
    if photometric in (PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB, PHOTOMETRIC.ITULAB):
        raise InputError(f"{image.path.name}: the colours are {photometric.name}; save the image as grey levels or RGB")
    unsigned = page.sampleformat == 1 and image.dtype.kind in "ub"
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        if any(getattr(page, kind) for kind in _MEASURED):
            return _with_display_colors(image, np.asarray(page.colormap))
        if any(not np.array_equal(other.aspage().colormap, page.colormap) for other in pages[1:]):
            raise InputError(f"{image.path.name}: its planes have different palettes; save them as RGB")
        return _looked_up(image, _palette(np.asarray(page.colormap)))
    # Without the tag, tifffile takes white for 0, but libtiff and Fiji black.
    inverted = photometric == PHOTOMETRIC.MINISWHITE and "PhotometricInterpretation" in page.tags
    if unsigned and bits < 8:
        greys = np.arange(2**bits) * 255 // (2**bits - 1)
        return _looked_up(image, (greys[::-1] if inverted else greys).astype(np.uint8)[:, None])
    if inverted and image.dtype.kind in "ui":
        white = 2**bits - 1 if unsigned else -1
        windows = tuple((white - high, white - low) for low, high in image.metadata.windows)
        level = np.array(white, image.dtype)
        return _mapped(image, lambda pixels: level - pixels, metadata=replace(image.metadata, windows=windows))
    if inverted:  # real numbers have no white level: they are shown by a lookup table
        return _with_display_colors(image, np.tile(np.arange(255, -1, -1) << 8, (3, 1)))
    samples = dict(zip(image.axes, image.shape, strict=True)).get("S", 1)
    if photometric == PHOTOMETRIC.SEPARATED and samples == 4:
        return _rgb(image, "CMYK")
    if photometric == PHOTOMETRIC.YCBCR and samples == 3 and page.compression not in _JPEG:
        return _rgb(image, "YCbCr")
    return image


def _with_display_colors(image: LazyImage, colormap: np.ndarray) -> LazyImage:
    """The image with a palette as the lookup table of its one channel, unless it has one."""
    if image.metadata.luts or colormap.shape != (3, 256):
        return image
    lut = (colormap >> 8).astype(np.uint8).tobytes()
    return replace(image, metadata=replace(image.metadata, luts=(lut,)))


def _palette(colormap: np.ndarray) -> np.ndarray:
    """The entries of a palette as ``(entries, samples)`` of 8 bits: one sample if all are grey.

    Entries have 16 bits, of which some writers use 8, the lower or the upper ones.
    """
    if colormap.max(initial=0) >= 256:
        in_upper = not (colormap & 255).any()
        colormap = colormap >> 8 if in_upper else colormap.astype(np.int64) * 255 // 65535  # as libtiff
    colours = colormap.T.astype(np.uint8)
    return colours[:, :1] if (colours == colours[:, :1]).all() else colours


def _mapped(image: LazyImage, function: Callable[[np.ndarray], np.ndarray], **changes: Any) -> LazyImage:
    """The image with a function of all samples of its pixels applied to what is read."""
    return replace(image, reader=lambda region: function(image.reader(region)), **changes)


def _looked_up(image: LazyImage, table: np.ndarray) -> LazyImage:
    """The image with the entries of a table ``(entries, samples)`` in place of their indices."""
    if table.shape[1] == 1:
        return _mapped(image, lambda pixels: table[pixels.astype(np.intp), 0], dtype=table.dtype)
    axis = image.axes.find("S")
    if axis >= 0 and image.shape[axis] > 1:
        raise InputError(f"{image.path.name}: has a palette, but {image.shape[axis]} samples a pixel; save it as RGB")
    kept = [i for i in range(len(image.shape)) if i != axis]

    def over(read: Reader, colored: bool) -> Reader:
        def reader(region: Region) -> np.ndarray:
            stored = list(region[:-1])
            if axis >= 0:
                stored.insert(axis, slice(0, 1))
            pixels = read(tuple(stored))
            pixels = pixels if axis < 0 else np.take(pixels, 0, axis)
            return table[pixels.astype(np.intp)][..., region[-1]] if colored else pixels[..., None]

        return reader

    return replace(
        image,
        shape=(*(image.shape[i] for i in kept), table.shape[1]),
        axes="".join(image.axes[i] for i in kept) + "S",
        dtype=table.dtype,
        reader=over(image.reader, True),
        alpha_reader=image.alpha_reader and over(image.alpha_reader, False),
    )


def _rgb(image: LazyImage, mode: str) -> LazyImage:
    """The image with the RGB that Pillow makes of its samples, of 8 bits or of as many more as are stored."""
    axis = image.axes.index("S")
    top = np.iinfo(image.dtype).max

    def reader(region: Region) -> np.ndarray:
        samples = slice(0, image.shape[axis])
        stored = np.moveaxis(image.reader((*region[:axis], samples, *region[axis + 1 :])), axis, -1)
        flat = np.ascontiguousarray(stored.reshape(1, -1, stored.shape[-1]))
        if image.dtype == np.uint8:
            rgb = np.asarray(Image.frombytes(mode, flat.shape[1::-1], flat.tobytes()).convert("RGB"))
        else:
            rgb = _deep_rgb(flat.astype(np.float64) / top, mode) * top
        rgb = np.rint(rgb).astype(image.dtype).reshape(*stored.shape[:-1], 3)
        return np.moveaxis(rgb[..., region[axis]], -1, axis)

    return replace(image, shape=(*image.shape[:axis], 3, *image.shape[axis + 1 :]), reader=reader)


def _deep_rgb(samples: np.ndarray, mode: str) -> np.ndarray:
    """RGB from CMYK or YCbCr (JFIF), all in [0, 1]."""
    if mode == "CMYK":
        return (1 - samples[..., :3]) * (1 - samples[..., 3:])
    luma, blue, red = np.moveaxis(samples, -1, 0)
    blue, red = blue - 0.5, red - 0.5
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    return np.clip(rgb, 0, 1)
