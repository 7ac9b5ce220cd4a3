"""Pictures to judge by: images side by side in one grey window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from pssr2_monai.images.charts import label_font

GAP_PX = 4
"""White pixels between two images."""
HEADER_PX = 22
"""Height of the line of names above images."""


def grey_window(image: np.ndarray) -> tuple[float, float]:
    """Return the levels to show black and white: the 0.1 and 99.9 percentile, at least one grey level apart."""
    low, high = np.percentile(image, [0.1, 99.9])
    return float(low), float(max(high, low + 1 / 255))


def to_grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map values from ``low`` to ``high`` to uint8 grey levels 0 to 255, and clip those beyond."""
    grey: np.ndarray = (np.clip((image - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    return grey


def repeat_pixels(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Enlarge an image ``(Y, X)`` to a shape that is a whole multiple of its own."""
    return image.repeat(shape[0] // image.shape[0], axis=0).repeat(shape[1] // image.shape[1], axis=1)


def panel(images: Sequence[np.ndarray], low: float, high: float) -> np.ndarray:
    """Join images side by side in one grey window, so that a shift of brightness or contrast shows.

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
        columns += [repeat_pixels(image, (height, width)), np.full((height, GAP_PX), high)]
    return to_grey(np.concatenate(columns[:-1], axis=1), low, high)


def labelled_panel(images: Mapping[str, np.ndarray], low: float, high: float) -> Image.Image:
    """Join images as ``panel`` does, with the name of each above it."""
    joined = Image.fromarray(panel(list(images.values()), low, high))
    picture = Image.new("L", (joined.width, joined.height + HEADER_PX), color=255)
    picture.paste(joined, (0, HEADER_PX))
    write_names(picture, list(images))
    return picture


def write_names(picture: Image.Image, names: Sequence[str]) -> None:
    """Write the names of equally wide columns into the header of a picture."""
    draw, font = ImageDraw.Draw(picture), label_font(HEADER_PX - 9)
    column_width = (picture.width + GAP_PX) / len(names)
    for number, name in enumerate(names):
        draw.text((number * column_width + 4, 2), name, fill="black", font=font)
