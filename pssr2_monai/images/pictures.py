"""Pictures to judge by: charts by matplotlib in one style, and images side by side in one grey window.

Callers draw charts on the axes with matplotlib itself. Nothing global is read or changed (no ``pyplot``), so that
charts may be drawn from any thread, and matplotlib is imported only when the first chart is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, GREY, BLUE, ORANGE = "#000000", "#969696", "#005aaa", "#d55e00"  # colour-blind readers can tell them apart
DPI = 96  # of a chart at its nominal size; text of 10 points is 13 pixels high
SHARP_FACTOR = 2  # a sharp picture has so many times the nominal pixels along each side
GAP_PX = 4  # white, between two images
HEADER_PX = 22  # height of the line of names above images


def new_figure(width: int, height: int, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Create an empty figure of so many pixels in the style of the package, and its axes from left to right.

    Example:
        >>> figure, (axes,) = new_figure(480, 340)
        >>> _ = axes.plot([0, 1], [0, 1], color=BLUE)
        >>> to_image(figure).size
        (480, 340)
    """
    from matplotlib.figure import Figure

    figure = Figure((width / DPI, height / DPI), dpi=DPI, layout="constrained", facecolor="white")
    plots = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for axes in plots:
        axes.set_prop_cycle(color=[BLUE, ORANGE, GREY, BLACK])
        axes.grid(color="#e8e8e8")
        axes.set_axisbelow(True)
    return figure, plots


def to_image(figure: Figure, sharp: bool = False) -> Image.Image:
    """Render a figure as an RGB image, with twice the pixels along each side if ``sharp``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DPI * (SHARP_FACTOR if sharp else 1))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def to_png(figure: Figure) -> bytes:
    """Render a figure as the bytes of a sharp PNG file."""
    content = io.BytesIO()
    to_image(figure, sharp=True).save(content, "PNG", optimize=True)
    return content.getvalue()


@cache
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of labels on images, ``size`` pixels high: DejaVu Sans of matplotlib, which has µ and ±."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def grey_window(image: np.ndarray) -> tuple[float, float]:
    """Return the levels to show black and white: the 0.1 and 99.9 percentile, at least one grey level apart."""
    low, high = np.percentile(image, [0.1, 99.9])
    return float(low), float(max(high, low + 1 / 255))


def to_grey(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map values from ``low`` to ``high`` to uint8 grey levels 0 to 255, and clip those beyond."""
    return (np.clip((image - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)


def repeat_pixels(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Enlarge an image ``(Y, X)`` to a shape that is a whole multiple of its own."""
    return image.repeat(shape[0] // image.shape[0], axis=0).repeat(shape[1] // image.shape[1], axis=1)


def panel(images: Sequence[np.ndarray], low: float, high: float) -> np.ndarray:
    """Join images ``(Y, X)`` side by side as uint8 in one grey window, so that a shift of brightness shows.

    The last image sets the size, to which smaller ones are enlarged by repeating their pixels.
    """
    height, width = images[-1].shape
    columns: list[np.ndarray] = []
    for image in images:
        columns += [repeat_pixels(image, (height, width)), np.full((height, GAP_PX), high)]
    return to_grey(np.concatenate(columns[:-1], axis=1), low, high)


def write_names(picture: Image.Image, names: Sequence[str]) -> None:
    """Write the names of equally wide columns into the header of a picture."""
    draw, font = ImageDraw.Draw(picture), label_font(HEADER_PX - 9)
    column_width = (picture.width + GAP_PX) / len(names)
    for number, name in enumerate(names):
        draw.text((number * column_width + 4, 2), name, fill="black", font=font)


def labelled_panel(images: Mapping[str, np.ndarray], low: float, high: float) -> Image.Image:
    """Join images in one grey window, with the name of each above it; see ``panel``."""
    joined = Image.fromarray(panel(list(images.values()), low, high))
    picture = Image.new("L", (joined.width, joined.height + HEADER_PX), color=255)
    picture.paste(joined, (0, HEADER_PX))
    write_names(picture, list(images))
    return picture


def draw_scale_bar(picture: Image.Image, pixel_size_nm: float) -> None:
    """Draw a bar of a round length, about a quarter of the width, in the lower left corner."""
    rough = picture.width / 4 * pixel_size_nm
    power = 10 ** math.floor(math.log10(rough))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= rough)
    label = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    draw = ImageDraw.Draw(picture)
    left, bottom = 8, picture.height - 8
    right = left + round(length / pixel_size_nm)
    draw.rectangle((left - 1, bottom - 5, right + 1, bottom + 1), fill="black")
    draw.rectangle((left, bottom - 4, right, bottom), fill="white")
    font = label_font(13)
    draw.text((left, bottom - 7), label, fill="white", font=font, anchor="lb", stroke_width=2, stroke_fill="black")
