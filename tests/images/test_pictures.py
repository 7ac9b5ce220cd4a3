"""Panels of images: sizes and grey levels of every part."""

from __future__ import annotations

import numpy as np

from pssr2_monai.images.pictures import grey_window, labelled_panel, panel


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
    assert labelled_panel({"LR": image[:50, :50], "HR": image}, low, high).size == (204, 122)


def test_names_stand_above_their_columns() -> None:
    white = np.ones((30, 60))
    picture = np.asarray(labelled_panel({"LR": white, "HR": white}, 0.0, 1.0))
    header = picture[:22] < 128
    # Columns of 60 pixels with a gap of 4; each name begins 4 pixels into its column, and is short.
    columns = np.flatnonzero(header.any(axis=0))
    assert 4 <= columns.min() <= 7
    assert not header[:, 30:64].any()
    assert header[:, 68:94].any()
    assert (picture[22:] == 255).all()
