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
    reflect_indices,
    regions_by_place,
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


def test_split_by_hand() -> None:
    assert regions_by_place((8, 20), 4, 0.25, 2) == (Window(0, 0, 8, 13), Window(0, 15, 8, 5))
    assert regions_by_place((20, 30), 8, 0, guard=5) == (Window(0, 0, 20, 30), None)


def test_the_longer_side_is_split_and_rows_where_both_are_equal() -> None:
    assert regions_by_place((512, 512), 128, 0.25)[1] == Window(384, 0, 128, 512)
    assert regions_by_place((300, 512), 128, 0.25)[1] == Window(0, 384, 300, 128)


@pytest.mark.parametrize(
    ("shape", "fraction", "guard"), [((50, 40), 0.1, 0), ((50, 40), 0.9, 0), ((50, 40), 0.4, 28), ((9, 5), 0.5, 0)]
)
def test_a_split_that_leaves_less_than_a_tile_says_what_to_do(
    shape: tuple[int, int], fraction: float, guard: int
) -> None:
    with pytest.raises(InputError, match="a tile is 10 px; use a smaller tile, another fraction, or split by file"):
        regions_by_place(shape, 10, fraction, guard)


@pytest.mark.parametrize(
    ("fraction", "guard", "words"), [(1, 0, "validation fraction: 1"), (-0.1, 0, "not in"), (0.5, -1, "guard: -1")]
)
def test_impossible_splits_are_refused(fraction: float, guard: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        regions_by_place((50, 40), 10, fraction, guard)


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


def test_weights_are_a_raised_cosine() -> None:
    weights = blend_weights(8, 3)
    assert weights.dtype == np.float32
    ramp = [np.sin(np.pi * (i + 0.5) / 6) ** 2 for i in range(3)]
    np.testing.assert_allclose(weights, [*ramp, 1, 1, *ramp[::-1]], rtol=1e-6)
    np.testing.assert_array_equal(blend_weights(6, 0), 1)


@quick
@given(st.integers(1, 60), st.data())
def test_weights_are_positive_and_symmetric(length: int, data: st.DataObject) -> None:
    weights = blend_weights(length, data.draw(st.integers(0, length - 1)))
    assert weights.shape == (length,)
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-6)


@quick
@given(st.integers(2, 40), st.integers(1, 4), st.data())
def test_neighbours_weights_add_up_to_one(tile: int, steps: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile // 2))
    size = tile + steps * (tile - overlap)
    total = np.zeros(size)
    for start in starts(size, tile, overlap):
        total[start : start + tile] += blend_weights(tile, overlap)
    np.testing.assert_allclose(total[overlap : size - overlap], 1, atol=1e-6)


def test_weights_with_an_overlap_of_a_whole_tile_are_refused() -> None:
    with pytest.raises(InputError, match="overlap: 8 px do not fit a tile of 8 px; use 0 to 7"):
        blend_weights(8, 8)
