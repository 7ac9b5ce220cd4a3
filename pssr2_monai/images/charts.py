"""Charts by matplotlib in one style, drawn off screen.

Callers draw on the axes with matplotlib itself. Nothing global is read or changed (no ``pyplot``), so that charts may
be drawn from any thread, and matplotlib is imported only when the first chart is drawn.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK, GREY, BLUE, ORANGE = "#000000", "#969696", "#005aaa", "#d55e00"
"""Colours that colour-blind readers can tell apart."""
DPI = 96
"""Pixels per inch of a chart at its nominal size; text of 10 points is 13 pixels high."""
SHARP_FACTOR = 2
"""A sharp picture has so many times the nominal pixels along each side."""


def new_figure(width: int, height: int, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Create an empty figure with axes side by side, in the style of the package.

    Args:
        width: in pixels.
        height: in pixels.
        columns: number of axes.

    Returns:
        The figure, for ``to_image`` or ``to_png``, and its axes from left to right.

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
    """Return the font of labels on images: matplotlib's DejaVu Sans, which has µ and ± on every machine.

    Args:
        size: height in pixels.
    """
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


# -- The charts drawn with Pillow, until their last users have moved to the functions above.

Colour = str
FINE = 2
"""Charts are drawn so many times as large and shrunk, which smooths their lines."""
TEXT = 14
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 50
BOX = 0.2
"""Half the width of a box, along an X axis with a name at each whole number."""


@dataclass
class Chart:
    """One chart; what is added first is drawn first.

    Attributes:
        title: above it.
        x_label: what runs along X.
        y_label: what runs along Y; written above the axis.
        size: width and height, pixels.
        x_range: ends of the X axis; by default those of what is drawn.
        y_range: likewise.
        legend_left: whether the legend stands on the left.
        x_names: what stands below 0, 1, 2 and so on of the X axis, instead of numbers.
    """

    title: str
    x_label: str
    y_label: str
    size: tuple[int, int] = (480, 340)
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    legend_left: bool = False
    x_names: Sequence[str] = ()
    _drawn: list[tuple[str, np.ndarray, np.ndarray, Colour, int, str]] = field(default_factory=list)

    def line(self, x: npt.ArrayLike, y: npt.ArrayLike, colour: Colour = BLACK, width: int = 2, name: str = "") -> None:
        """A curve through points; ``name`` puts it into the legend."""
        self._add("line", x, y, colour, width, name)

    def dots(self, x: npt.ArrayLike, y: npt.ArrayLike, colour: Colour = BLACK, radius: int = 4, name: str = "") -> None:
        """A dot at each point."""
        self._add("dots", x, y, colour, radius, name)

    def area(self, x: npt.ArrayLike, y: npt.ArrayLike, colour: Colour = GREY, name: str = "") -> None:
        """What lies between a curve and zero, filled."""
        self._add("area", x, y, colour, 0, name)

    def box(self, x: float, values: npt.ArrayLike, colour: Colour = BLACK) -> None:
        """A box plot (Tukey 1977) at ``x``: quartiles, median, and whiskers to the last value within 1.5 boxes.

        Every value is a dot beside them.
        """
        numbers = np.sort(np.asarray(values, dtype=float))
        low, middle, high = np.percentile(numbers, [25, 50, 75])
        inside = numbers[(numbers >= low - 1.5 * (high - low)) & (numbers <= high + 1.5 * (high - low))]
        left, right = x - BOX, x + BOX
        for start, end in ((inside[0], low), (high, inside[-1])):
            self.line([x, x], [start, end], colour)
        self.line([left, right, right, left, left], [low, low, high, high, low], colour)
        self.line([left, right], [middle, middle], colour, 4)
        # Dots side by side in a fixed order, so that the same values give the same picture.
        aside = x + BOX * 1.35 + 0.06 * (np.arange(len(numbers)) % 3)
        self.dots(aside, numbers, colour, 2)

    def image(self, sharp: bool = False) -> Image.Image:
        """The chart as an RGB picture of ``size``, or of twice that for screens with fine pixels."""
        width, height = (side * FINE for side in self.size)
        picture = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(picture)
        x_range, y_range = self._range(1, self.x_range), self._range(2, self.y_range)
        box = [LEFT * FINE, TOP * FINE, width - RIGHT * FINE, height - BOTTOM * FINE]

        def place(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
            across = box[0] + (np.asarray(x) - x_range[0]) / (x_range[1] - x_range[0]) * (box[2] - box[0])
            up = box[3] - (np.asarray(y) - y_range[0]) / (y_range[1] - y_range[0]) * (box[3] - box[1])
            return [(float(a), float(b)) for a, b in zip(across, up, strict=True)]

        self._axes(draw, box, x_range, y_range)
        inner = Image.new("RGB", picture.size, "white")
        inner_draw = ImageDraw.Draw(inner)
        inner.paste(picture)
        for kind, x, y, colour, thick, _ in self._drawn:
            _draw(inner_draw, kind, place(x, y), box[3], colour, thick * FINE)
        # Nothing is drawn beyond the axes.
        picture.paste(inner.crop((box[0], box[1], box[2], box[3])), (box[0], box[1]))
        draw.rectangle(box, outline=BLACK, width=FINE)
        self._legend(draw, box)
        return picture if sharp else picture.resize(self.size, Image.Resampling.LANCZOS)

    def _add(self, kind: str, x: npt.ArrayLike, y: npt.ArrayLike, colour: Colour, width: int, name: str) -> None:
        self._drawn.append((kind, np.asarray(x, dtype=float), np.asarray(y, dtype=float), colour, width, name))

    def _range(self, column: int, given: tuple[float, float] | None) -> tuple[float, float]:
        if given is not None:
            return given
        values = np.concatenate([np.asarray(each[column]) for each in self._drawn])
        low, high = float(values.min()), float(values.max())
        return (low, high * 1.08) if high > low else (low - 1, low + 1)

    def _axes(
        self, draw: ImageDraw.ImageDraw, box: list[int], x_range: tuple[float, float], y_range: tuple[float, float]
    ) -> None:
        font = ImageFont.load_default(size=TEXT * FINE)
        draw.text((box[0], 6 * FINE), self.title, fill=BLACK, font=ImageFont.load_default(size=(TEXT + 2) * FINE))
        draw.text(((box[0] + box[2]) / 2, box[3] + 26 * FINE), self.x_label, fill=BLACK, font=font, anchor="mt")
        draw.text((box[2], 8 * FINE), self.y_label, fill="#5a5a5a", font=font, anchor="rt")
        numbered = [(tick, f"{tick:g}") for tick in _ticks(*x_range, 6)]
        named = [(float(place), name) for place, name in enumerate(self.x_names)]
        for tick, name in named or numbered:
            at = box[0] + (tick - x_range[0]) / (x_range[1] - x_range[0]) * (box[2] - box[0])
            draw.line((at, box[1], at, box[3]), fill="#e8e8e8", width=FINE)
            draw.text((at, box[3] + 6 * FINE), name, fill=BLACK, font=font, anchor="mt")
        for tick in _ticks(*y_range, 5):
            at = box[3] - (tick - y_range[0]) / (y_range[1] - y_range[0]) * (box[3] - box[1])
            draw.line((box[0], at, box[2], at), fill="#e8e8e8", width=FINE)
            draw.text((box[0] - 6 * FINE, at), f"{tick:g}", fill=BLACK, font=font, anchor="rm")

    def _legend(self, draw: ImageDraw.ImageDraw, box: list[int]) -> None:
        font = ImageFont.load_default(size=TEXT * FINE)
        named = [(kind, colour, name) for kind, _, _, colour, _, name in self._drawn if name]
        if not named:
            return
        width = max(draw.textlength(name, font=font) for _, _, name in named)
        left = box[0] + 12 * FINE if self.legend_left else box[2] - width - 44 * FINE
        top, row = box[1] + 8 * FINE, (TEXT + 5) * FINE
        for number, (kind, colour, name) in enumerate(named):
            middle = top + row * (number + 0.5)
            ends = [(left, middle), (left + 24 * FINE, middle)]
            if kind == "dots":
                _draw(draw, kind, [(left + 12 * FINE, middle)], 0, colour, 4 * FINE)
            else:
                draw.line(ends, fill=colour, width=(8 if kind == "area" else 3) * FINE)
            draw.text((left + 32 * FINE, middle), name, fill=BLACK, font=font, anchor="lm")


def _draw(
    draw: ImageDraw.ImageDraw, kind: str, at: list[tuple[float, float]], ground: float, colour: Colour, size: int
) -> None:
    if kind == "line":
        draw.line(at, fill=colour, width=size, joint="curve")
    elif kind == "area":
        draw.polygon([(at[0][0], ground), *at, (at[-1][0], ground)], fill=colour)
    else:
        for x, y in at:
            draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers within a range: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]
