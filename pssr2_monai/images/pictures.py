"""Pictures to judge by: images side by side in one grey window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 4
HEADER = 22


def grey_window(image: np.ndarray) -> tuple[float, float]:
    """The black and white level that show an image well: its 0.1 and 99.9 percentile, at least one grey level apart."""
    low, high = np.percentile(image, [0.1, 99.9])
    return float(low), float(max(high, low + 1 / 255))


def panel(images: Sequence[np.ndarray], low: float, high: float) -> np.ndarray:
    """Images side by side in one grey window, so that a shift of brightness or contrast shows.

    Args:
        images: each ``(Y, X)``; the last sets the size, to which smaller ones are enlarged by repeating their pixels.
        low: value shown black.
        high: value shown white.

    Returns:
        uint8 ``(Y, X)``.
    """
    height, width = images[-1].shape
    columns: list[np.ndarray] = []
    for image in images:
        columns += [enlarged(image, (height, width)), np.full((height, GAP), high)]
    return grey(np.concatenate(columns[:-1], axis=1), low, high)


def labelled_panel(images: Mapping[str, np.ndarray], low: float, high: float) -> Image.Image:
    """A panel with the name of each image above it."""
    joined = Image.fromarray(panel(list(images.values()), low, high))
    picture = Image.new("L", (joined.width, joined.height + HEADER), color=255)
    picture.paste(joined, (0, HEADER))
    write_names(picture, list(images))
    return picture


def enlarged(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Enlarge an image ``(Y, X)`` to a multiple of its size by repeating its pixels."""
    return image.repeat(shape[0] // image.shape[0], axis=0).repeat(shape[1] // image.shape[1], axis=1)


def grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey levels 0 to 255 of an image, ``low`` black and ``high`` white; values beyond are clipped."""
    levels: np.ndarray = (np.clip((image - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    return levels


def write_names(picture: Image.Image, names: Sequence[str]) -> None:
    """Write the name of each column above it."""
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=HEADER - 8)
    step = (picture.width + GAP) / len(names)
    for number, name in enumerate(names):
        draw.text((number * step + 4, 2), name, fill=0 if picture.mode == "L" else "black", font=font)
