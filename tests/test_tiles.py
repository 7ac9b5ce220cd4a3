"""Windows: every pixel covered, no pixel shared across a split, padding as numpy pads, weights that add up to one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pssr2_monai.errors import InputError
from pssr2_monai.tiles import (
    Window,
    blend_weights,
    grid,
    pad_to,
    reflect_indices,
    regions_by_place,
    split_by_place,
    starts,
)

quick = settings(max_examples=100, deadline=None)
sides = st.integers(1, 90)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Shape, tile and overlap."""
    tile = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    overlap = draw(st.integers(0, tile[0] - 1)), draw(st.integers(0, tile[1] - 1))
    return (draw(sides), draw(sides)), tile, overlap


def painted(shape: tuple[int, int], windows: list[Window]) -> np.ndarray:
    """How many of the windows hold each pixel."""
    count = np.zeros(shape, dtype=int)
    for window in windows:
        count[window.slices()] += 1
    return count


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "expected"),
    [
        (10, 4, 0, [0, 4, 6]),
        (12, 4, 0, [0, 4, 8]),
        (10, 4, 2, [0, 2, 4, 6]),
        (11, 4, 2, [0, 2, 4, 6, 7]),
        (4, 4, 1, [0]),
        (3, 4, 3, [0]),
        (5, 4, 0, [0, 1]),
        (1, 1, 0, [0]),
    ],
)
def test_starts_by_hand(size: int, tile: int, overlap: int, expected: list[int]) -> None:
    assert starts(size, tile, overlap) == expected


@quick
@given(st.integers(1, 500), st.integers(1, 100), st.data())
def test_starts_cover_the_axis_with_at_least_the_overlap(size: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    found = starts(size, tile, overlap)
    assert found[0] == 0
    assert found[-1] == max(0, size - tile)
    steps = np.diff(found)
    assert np.all((steps > 0) & (steps <= tile - overlap))
    # No window too many: all but the last step are full.
    assert np.all(steps[:-1] == tile - overlap)


@quick
@given(tilings())
def test_grid_covers_every_pixel_and_leaves_the_image_only_where_it_is_small(
    tiling: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> None:
    shape, tile, overlap = tiling
    windows = grid(shape, tile, overlap)
    assert painted(shape, windows).min() >= 1
    assert len(set(windows)) == len(windows)
    assert windows == sorted(windows)
    for window in windows:
        assert (window.height, window.width) == tile
        assert window.y + window.height <= max(shape[0], tile[0])
        assert window.x + window.width <= max(shape[1], tile[1])


def test_grid_takes_one_number_for_both_axes() -> None:
    assert grid((9, 5), 4, 1) == grid((9, 5), (4, 4), (1, 1))
    assert grid((5, 9), (4, 6), (0, 1)) == [
        Window(0, 0, 4, 6),
        Window(0, 3, 4, 6),
        Window(1, 0, 4, 6),
        Window(1, 3, 4, 6),
    ]


@pytest.mark.parametrize(("tile", "overlap"), [(4, 4), (4, 9), (4, -1), (0, 0), ((8, 4), (7, 4))])
def test_impossible_tiles_are_refused(tile: int | tuple[int, int], overlap: int | tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"^(tile|overlap): "):
        grid((3, 20), tile, overlap)


windows = st.builds(Window, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9), st.integers(1, 9))


@quick
@given(windows, windows, st.integers(1, 4))
def test_overlap_is_a_shared_pixel_at_every_scale(a: Window, b: Window, factor: int) -> None:
    pixels = [{(y, x) for y in range(w.y, w.y + w.height) for x in range(w.x, w.x + w.width)} for w in (a, b)]
    shared = bool(pixels[0] & pixels[1])
    assert a.overlaps(b) == b.overlaps(a) == shared
    assert a.scaled(factor).overlaps(b.scaled(factor)) == shared


@pytest.mark.parametrize(("y", "x"), [(-4, 0), (4, 0), (0, -5), (0, 5)])
def test_windows_that_touch_do_not_overlap(y: int, x: int) -> None:
    window = Window(10, 10, 4, 5)
    assert not window.overlaps(Window(10 + y, 10 + x, 4, 5))
    assert window.overlaps(Window(10 + y - np.sign(y), 10 + x - np.sign(x), 4, 5))


def test_scaled_window_shows_the_same_place() -> None:
    image = np.arange(48).reshape(6, 8)
    window = Window(1, 2, 3, 5)
    large = image.repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(
        large[window.scaled(3).slices()], image[window.slices()].repeat(3, axis=0).repeat(3, axis=1)
    )


@settings(max_examples=200, deadline=None)
@given(tilings(), st.floats(0.01, 0.99), st.integers(0, 12))
def test_no_training_tile_shares_a_pixel_with_a_validation_tile(
    tiling: tuple[tuple[int, int], tuple[int, int], tuple[int, int]], fraction: float, guard: int
) -> None:
    shape, tile, overlap = tiling
    try:
        training, validation = split_by_place(shape, tile, overlap, fraction, guard)
    except InputError:
        long_side, side = (shape[0], tile[0]) if shape[0] >= shape[1] else (shape[1], tile[1])
        assert min(round(long_side * fraction), long_side - round(long_side * fraction) - guard) < side
        return
    assert not any(a.overlaps(b) for a in training for b in validation)
    count_training, count_validation = painted(shape, training), painted(shape, validation)
    assert not np.any((count_training > 0) & (count_validation > 0))
    # What neither holds is the guard: whole lines across the longer side.
    axis = 0 if shape[0] >= shape[1] else 1
    unused = (count_training + count_validation) == 0
    assert np.sum(np.all(unused, axis=1 - axis)) == guard
    assert unused.sum() == guard * shape[1 - axis]
    lines = np.flatnonzero(count_validation.any(axis=1 - axis))
    assert lines.min() - np.flatnonzero(count_training.any(axis=1 - axis)).max() == guard + 1
    assert abs(len(lines) - fraction * shape[axis]) <= 0.5
    # Padding is needed, if at all, across the shorter side alone: it mirrors pixels of the window's own part.
    for window in training + validation:
        assert (window.y + window.height, window.x + window.width)[axis] <= shape[axis]


def test_split_by_hand() -> None:
    training, validation = split_by_place((8, 20), 4, 0, 0.25, guard=2)
    assert training == [Window(y, x, 4, 4) for y in (0, 4) for x in (0, 4, 8, 9)]
    assert validation == [Window(y, x, 4, 4) for y in (0, 4) for x in (15, 16)]
    assert regions_by_place((8, 20), 4, 0.25, 2) == (Window(0, 0, 8, 13), Window(0, 15, 8, 5))


def test_the_longer_side_is_split_and_rows_where_both_are_equal() -> None:
    assert split_by_place((512, 512), 128, 0, 0.25)[1] == [Window(384, x, 128, 128) for x in (0, 128, 256, 384)]
    assert {window.x for window in split_by_place((300, 512), 128, 0, 0.25)[1]} == {384}


def test_without_validation_all_windows_train() -> None:
    assert split_by_place((20, 30), 8, 2, 0, guard=5) == (grid((20, 30), 8, 2), [])
    assert split_by_place((3, 5), 8, 2, 0) == ([Window(0, 0, 8, 8)], [])


@pytest.mark.parametrize(
    ("shape", "fraction", "guard"), [((50, 40), 0.1, 0), ((50, 40), 0.9, 0), ((50, 40), 0.4, 28), ((9, 5), 0.5, 0)]
)
def test_a_split_that_leaves_less_than_a_tile_says_what_to_do(
    shape: tuple[int, int], fraction: float, guard: int
) -> None:
    with pytest.raises(InputError, match="a tile is 10 px; use a smaller tile, another fraction, or split by file"):
        split_by_place(shape, 10, 0, fraction, guard)


@pytest.mark.parametrize(
    ("fraction", "guard", "words"), [(1, 0, "validation fraction: 1"), (-0.1, 0, "not in"), (0.5, -1, "guard: -1")]
)
def test_impossible_splits_are_refused(fraction: float, guard: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        split_by_place((50, 40), 10, 0, fraction, guard)


@quick
@given(st.integers(1, 30), st.integers(0, 70), st.integers(0, 70))
def test_reflection_is_numpys(size: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(size), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflect_indices(-before, before + size + after, size), expected)


@quick
@given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 20))
def test_reflected_windows_agree_wherever_they_begin(start: int, length: int, size: int) -> None:
    expected = np.pad(np.arange(size), (50, 110), mode="reflect")[start + 50 : start + 50 + length]
    np.testing.assert_array_equal(reflect_indices(start, length, size), expected)


@quick
@given(tilings())
def test_padding_fills_the_first_window_by_reflection(
    tiling: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> None:
    shape, tile, _ = tiling
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    padded = np.pad(image, pad_to(shape, tile), mode="reflect")
    assert padded.shape == (max(shape[0], tile[0]), max(shape[1], tile[1]))
    rows, columns = reflect_indices(0, tile[0], shape[0]), reflect_indices(0, tile[1], shape[1])
    np.testing.assert_array_equal(image[np.ix_(rows, columns)], padded[: tile[0], : tile[1]])


def test_padding_by_hand() -> None:
    assert pad_to((5, 9), 8) == ((0, 3), (0, 0))
    assert pad_to((9, 5), (4, 8)) == ((0, 0), (0, 3))


def test_weights_are_a_raised_cosine() -> None:
    weights = blend_weights((8, 6), (3, 0))
    assert weights.dtype == np.float32
    ramp = [np.sin(np.pi * (i + 0.5) / 6) ** 2 for i in range(3)]
    np.testing.assert_allclose(weights, np.outer([*ramp, 1, 1, *ramp[::-1]], np.ones(6)), rtol=1e-6)


@quick
@given(tilings())
def test_weights_are_positive_and_symmetric(tiling: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> None:
    _, tile, overlap = tiling
    weights = blend_weights(tile, overlap)
    assert weights.shape == tile
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-6)


@quick
@given(st.integers(2, 40), st.integers(1, 4), st.data())
def test_neighbours_weights_add_up_to_one(tile: int, steps: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile // 2))
    size = tile + steps * (tile - overlap)
    total = np.zeros((size, size))
    for window in grid((size, size), tile, overlap):
        total[window.slices()] += blend_weights((tile, tile), (overlap, overlap))
    inner = slice(overlap, size - overlap)
    np.testing.assert_allclose(total[inner, inner], 1, atol=1e-6)


@quick
@given(tilings())
def test_blending_gives_back_the_image(tiling: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]) -> None:
    shape, tile, overlap = tiling
    shape = max(shape[0], tile[0]), max(shape[1], tile[1])
    image = np.random.default_rng(0).random(shape)
    weights = blend_weights(tile, overlap).astype(np.float64)
    total, weight = np.zeros(shape), np.zeros(shape)
    for window in grid(shape, tile, overlap):
        total[window.slices()] += weights * image[window.slices()]
        weight[window.slices()] += weights
    np.testing.assert_allclose(total / weight, image, rtol=1e-9)


def test_weights_with_an_overlap_of_a_whole_tile_are_refused() -> None:
    with pytest.raises(InputError, match="overlap: 8 px do not fit a tile of 8 px; use 0 to 7"):
        blend_weights((8, 8), (8, 0))
