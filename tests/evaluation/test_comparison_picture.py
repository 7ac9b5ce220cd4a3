"""Pictures: what is shown where, and in which colour."""

from __future__ import annotations

import numpy as np

from pssr2_monai.evaluation.comparison_picture import comparison_picture, error_colours


def test_errors_are_red_above_blue_below_and_white_at_zero() -> None:
    colours = error_colours(np.array([[0.0, 0.2, -0.2, 0.05, 9.0]]), 0.2)[0]
    assert colours[0].tolist() == [255, 255, 255]
    assert colours[1].tolist() == colours[4].tolist() == [178, 24, 43]
    assert colours[2].tolist() == [33, 102, 172]
    np.testing.assert_allclose(colours[3], [255 - 77 / 4, 255 - 231 / 4, 255 - 212 / 4], atol=1)


def test_the_picture_shows_each_image_and_enlarges_the_worst_place() -> None:
    rng = np.random.default_rng(0)
    lr = rng.random((36, 36))
    hr = rng.random((72, 72))
    restored = hr.copy()
    restored[40:50, 8:20] = 1 - restored[40:50, 8:20]
    picture = np.asarray(comparison_picture({"LR": lr, "bicubic": hr, "restored": restored, "HR": hr}))
    # 72 px are shown four times as large; the zoom of 18 px sixteen times.
    assert picture.shape == (22 + 288 + 4 + 288, 5 * 292 - 4, 3)
    low, high = np.percentile(hr, [0.1, 99.9])
    grey = (np.clip((hr - low) / (high - low), 0, 1) * 255).round()
    shown = picture[22:310, 3 * 292 : 3 * 292 + 288, 0][2::4, 2::4]
    outside = np.abs(shown - grey) > 0
    assert outside.mean() < 0.06  # the frame around the place of the zoom
    rows, columns = np.nonzero(outside)
    assert rows.min() <= 40 <= 50 <= rows.max() + 1
    assert columns.min() <= 8 <= 20 <= columns.max() + 1
    top, left = int(rows.min()), int(columns.min())
    zoom = picture[314:, 3 * 292 : 3 * 292 + 288, 0][8::16, 8::16]
    np.testing.assert_array_equal(zoom, grey[top : top + 18, left : left + 18])
    error = picture[22:310, 4 * 292 :][2::4, 2::4]
    assert error[60:, 60:].min() > 215  # nearly white: gain and offset are fitted to what was changed, too
    assert error[42:48, 10:18].min() < 100


def test_the_scale_bar_has_a_round_length() -> None:
    images = dict.fromkeys(("LR", "bicubic", "restored", "HR"), np.full((288, 288), 0.5))
    with_bar, without = (
        np.asarray(comparison_picture(images, size))[22:310, 3 * 292 : 3 * 292 + 288].astype(int)
        for size in (4.0, None)
    )
    # A quarter of 288 px of 4 nm is 288 nm: the bar is 200 nm, 50 px, long and lies above the lower border.
    bar = (with_bar[278] == 255).all(axis=-1)
    assert bar.sum() == 51
    assert (np.abs(with_bar - without)[:250, 100:] == 0).all()
