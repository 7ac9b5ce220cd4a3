"""Charts: lines at the heights that the axes state, exact sizes; panels: sizes and grey levels of every part."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageColor

from pssr2_monai.images.pictures import (
    BLUE,
    GAP_PX,
    HEADER_PX,
    ORANGE,
    draw_scale_bar,
    grey_window,
    label_font,
    labelled_panel,
    new_figure,
    panel,
    to_image,
    to_png,
    write_names,
)


def _near(picture: Image.Image, colour: str) -> np.ndarray:
    return np.abs(np.asarray(picture).astype(int) - ImageColor.getrgb(colour)).max(axis=2) < 60


@pytest.mark.parametrize(("sharp", "factor"), [(False, 1), (True, 2)])
def test_a_level_line_is_drawn_at_its_height_between_its_ends(sharp: bool, factor: int) -> None:
    figure, (axes,) = new_figure(300, 200)
    axes.set(xlim=(0, 10), ylim=(0, 4), title="title", xlabel="x", ylabel="y")
    axes.plot([2, 8], [1, 1], color=BLUE, linewidth=3, solid_capstyle="butt")
    picture = to_image(figure, sharp)
    assert picture.size == (300 * factor, 200 * factor)
    frame = axes.get_window_extent()
    rows, columns = np.nonzero(_near(picture, BLUE))
    assert abs(picture.height - rows.mean() - 0.5 - (frame.y0 + frame.height / 4)) < 1
    assert abs(columns.min() - (frame.x0 + 0.2 * frame.width)) < 2
    assert abs(columns.max() + 1 - (frame.x0 + 0.8 * frame.width)) < 2


def test_nothing_is_drawn_beyond_the_axes() -> None:
    figure, (axes,) = new_figure(300, 200)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0.5, 9], color=ORANGE, linewidth=3)
    picture = to_image(figure)
    rows, _ = np.nonzero(_near(picture, ORANGE))
    top = picture.height - axes.get_window_extent().y1
    assert len(rows) > 20
    assert rows.min() >= top - 1


def test_axes_stand_side_by_side_without_overlap() -> None:
    figure, plots = new_figure(900, 200, columns=3)
    to_image(figure)
    frames = [axes.get_window_extent() for axes in plots]
    assert len(frames) == 3
    assert frames[0].x1 < frames[1].x0
    assert frames[1].x1 < frames[2].x0
    assert len({round(frame.width) for frame in frames}) == 1


@pytest.mark.parametrize("width", [113, 201, 346, 735])
def test_a_picture_has_exactly_the_size_asked_for(width: int) -> None:
    figure, _ = new_figure(width, 301)
    assert to_image(figure).size == (width, 301)


def test_a_png_holds_the_sharp_picture_and_is_the_same_each_time() -> None:
    def png() -> bytes:
        figure, (axes,) = new_figure(200, 150)
        axes.plot([0, 1], [0, 1])
        return to_png(figure)

    figure, (axes,) = new_figure(200, 150)
    axes.plot([0, 1], [0, 1])
    with Image.open(io.BytesIO(png())) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(to_image(figure, sharp=True)))
    assert png() == png()


def test_the_font_of_labels_has_the_letters_that_units_need() -> None:
    font = label_font(14)
    missing = font.getmask("\U0010ffff")  # a code point that no font has is drawn as the empty box
    for letter in "µ±−":
        mask = font.getmask(letter)
        assert (mask.size, bytes(mask)) != (missing.size, bytes(missing))


def test_matplotlib_is_loaded_with_the_first_chart_only_and_without_pyplot() -> None:
    program = (
        "import sys; from pssr2_monai.images import pictures; assert 'matplotlib' not in sys.modules;"
        "figure, _ = pictures.new_figure(200, 100); pictures.to_png(figure);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_panel_shows_all_images_in_one_grey_window() -> None:
    lr = np.array([[0.0, 0.5]])
    hr = np.array([[0.25, 0.25, 0.75, 0.75], [0.25, 0.25, 0.75, 1.0]])
    grey = panel([lr, hr + 0.1, hr], 0.25, 0.75)
    assert grey.shape == (2, 4 + 4 + 4 + 4 + 4)
    np.testing.assert_array_equal(grey[0, :4], [0, 0, 128, 128])
    np.testing.assert_array_equal(grey[0, 8:12], [51, 51, 255, 255])  # the shift of 0.1 shows
    np.testing.assert_array_equal(grey[1, 16:], [0, 0, 255, 255])


def test_the_grey_window_leaves_out_a_few_extremes_and_never_closes() -> None:
    image = np.full((100, 100), 0.5)
    image[0, 0] = 100
    low, high = grey_window(image)
    assert (low, high) == (0.5, 0.5 + 1 / 255)
    assert panel([image[:50, :50], image], low, high).shape == (100, 204)


def test_names_stand_above_their_columns() -> None:
    blank = Image.new("L", (124, 52), color=255)
    write_names(blank, ["LR", "HR"])
    picture = np.asarray(blank)
    header = picture[:22] < 128
    # Columns of 60 pixels with a gap of 4; each name begins 4 pixels into its column, and is short.
    columns = np.flatnonzero(header.any(axis=0))
    assert 4 <= columns.min() <= 7
    assert not header[:, 30:64].any()
    assert header[:, 68:94].any()
    assert (picture[22:] == 255).all()


def test_a_labelled_panel_has_its_names_above_the_images() -> None:
    images = {"scan": np.zeros((10, 40)), "restored": np.ones((10, 40))}
    picture = np.asarray(labelled_panel(images, 0, 1))
    assert picture.shape == (HEADER_PX + 10, 80 + GAP_PX)
    np.testing.assert_array_equal(picture[HEADER_PX:], panel(list(images.values()), 0, 1))
    assert all(picture[:HEADER_PX, start : start + 40].min() < 100 for start in (0, 40 + GAP_PX))


def test_a_scale_bar_has_a_round_length() -> None:
    picture = Image.new("L", (400, 100), 128)
    draw_scale_bar(picture, 8.0)  # a quarter of the width is 800 nm
    row = np.asarray(picture)[100 - 8 - 2]
    assert np.count_nonzero(row == 255) == pytest.approx(500 / 8, abs=1)
