"""What every format of pictures shares: orientation, opacity (alpha), and samples of a colour beside channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pssr2_monai.images.image import LazyImage, Region

# Orientations of TIFF and EXIF: whether rows and columns are exchanged, then whether rows and columns are reversed.
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}

Reader = Callable[[Region], np.ndarray]


def oriented(image: LazyImage, orientation: int) -> LazyImage:
    """The image as it is to be shown, by an orientation of TIFF and EXIF: 1 as stored, others turned or mirrored."""
    if orientation not in _ORIENTATIONS:
        return image
    exchanged, *reversed_ = _ORIENTATIONS[orientation]
    y, x = image.axes.index("Y"), image.axes.index("X")
    shape, sizes = list(image.shape), dict(image.pixel_size)
    if exchanged:
        shape[y], shape[x] = shape[x], shape[y]
        sizes = {"YXZ"["XYZ".index(axis)]: size for axis, size in sizes.items()}

    def over(read: Reader) -> Reader:
        def reader(region: Region) -> np.ndarray:
            stored = list(region)
            for axis, backwards in zip((y, x), reversed_, strict=True):
                if backwards:
                    stored[axis] = slice(shape[axis] - region[axis].stop, shape[axis] - region[axis].start)
            if exchanged:
                stored[y], stored[x] = stored[x], stored[y]
            pixels = read(tuple(stored))
            pixels = np.swapaxes(pixels, y, x) if exchanged else pixels
            return np.flip(pixels, tuple(axis for axis, back in zip((y, x), reversed_, strict=True) if back))

        return reader

    return image.read_over(
        over,
        shape=tuple(shape),
        pixel_size=sizes,
        metadata=replace(image.metadata, origin={}),  # of a corner that is not the first pixel any more
        bar_rows=0,  # it would lie at another edge
        bar_stated=False,
    )


def without_alpha(image: LazyImage, sample: int, associated: bool = False) -> LazyImage:
    """The image without one of the samples ("S") of its pixels, their opacity, which `LazyImage.read_alpha` returns.

    Colours that were multiplied by their opacity (``associated``) are divided by it, as Pillow does.
    """
    axis = image.axes.index("S")
    samples = [i for i in range(image.shape[axis]) if i != sample]
    top = int(np.iinfo(image.dtype).max) if image.dtype.kind in "ui" else 1

    def read(region: Region, part: slice) -> np.ndarray:
        return image.reader((*region[:axis], part, *region[axis + 1 :]))

    def alpha_reader(region: Region) -> np.ndarray:
        return read(region, slice(sample, sample + 1))

    def reader(region: Region) -> np.ndarray:
        chosen = samples[region[axis]]
        if not chosen:
            return read(region, slice(0, 0))
        part = slice(chosen[0], chosen[-1] + 1)
        colours = read(region, part)
        if sample in range(part.start, part.stop):
            colours = np.delete(colours, sample - part.start, axis)
        if not associated:
            return colours
        alpha = np.maximum(alpha_reader(region), 0)
        if image.dtype.kind == "f":
            return np.where(alpha > 0, colours / np.where(alpha > 0, alpha, 1), colours)
        divided = colours.astype(np.uint64) * np.uint64(top) // np.maximum(alpha, 1).astype(np.uint64)
        return np.where(alpha > 0, np.minimum(divided, top), colours).astype(image.dtype)

    shape = (*image.shape[:axis], len(samples), *image.shape[axis + 1 :])
    return replace(image, shape=shape, reader=reader, alpha_reader=alpha_reader)


def with_joined_samples(image: LazyImage) -> LazyImage:
    """The image with the colours ("S") of its channels as channels: red, green and blue of the first, and so on."""
    sizes = dict(zip(image.axes, image.shape, strict=True))
    if sizes.get("C", 1) == 1 or sizes.get("S", 1) == 1:
        return image
    s, samples = image.axes.index("S"), sizes["S"]
    axes = image.axes.replace("S", "")
    place = axes.index("C")

    def over(read: Reader) -> Reader:
        def reader(region: Region) -> np.ndarray:
            part, stored = region[place], list(region)
            stored[place] = slice(part.start // samples, -(-part.stop // samples))
            stored.insert(s, slice(0, samples))
            pixels = np.moveaxis(read(tuple(stored)), s, place + 1)
            pixels = pixels.reshape([*pixels.shape[:place], -1, *pixels.shape[place + 2 :]])
            first = part.start % samples
            return pixels[(slice(None),) * place + (slice(first, first + part.stop - part.start),)]

        return reader

    return image.read_over(
        over,
        shape=tuple(sizes[axis] * (samples if axis == "C" else 1) for axis in axes),
        axes=axes,
        channel_names=(),
    )
