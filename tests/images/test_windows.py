"""Windows: every pixel covered, no pixel shared across a split, padding as numpy pads, eight orientations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pssr2_monai.errors import InputError
from pssr2_monai.images.windows import (
    ORIENTATIONS,
    Window,
    grid,
    oriented,
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


def test_split_by_hand() -> None:
    assert regions_by_place((8, 20), 4, 0.25, 2) == (Window(0, 0, 8, 13), Window(0, 15, 8, 5))
    assert regions_by_place((20, 30), 8, 0, guard=5) == (Window(0, 0, 20, 30), None)


def test_the_longer_side_is_split_and_rows_where_both_are_equal() -> None:
    assert regions_by_place((512, 512), 128, 0.25)[1] == Window(384, 0, 128, 512)
    assert regions_by_place((300, 512), 128, 0.25)[1] == Window(0, 384, 300, 128)


@pytest.mark.parametrize(
    ("shape", "fraction", "guard", "smaller"),
    [
        ((50, 40), 0.1, 0, "tile of 5 px at most"),
        ((50, 40), 0.9, 0, "tile of 5 px at most"),
        ((50, 40), 0.4, 28, "tile of 2 px at most"),
        ((50, 40), 0.4, 30, "smaller guard"),
        ((9, 5), 0.5, 0, "tile of 4 px at most"),
    ],
)
def test_a_split_that_leaves_less_than_a_tile_says_what_to_do(
    shape: tuple[int, int], fraction: float, guard: int, smaller: str
) -> None:
    with pytest.raises(InputError, match=f"a tile is 10 px; use a {smaller}, another fraction, or split by file"):
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


def _eight(image: np.ndarray) -> list[np.ndarray]:
    """The orientations of the last two axes: quarter turns of the image and of its mirror image."""
    return [np.rot90(each, turns, axes=(-2, -1)) for each in (image, image[..., ::-1]) for turns in range(4)]


def _which(image: np.ndarray, found: np.ndarray) -> int:
    return next(number for number, each in enumerate(_eight(image)) if np.array_equal(each, found))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", "uint32"])
@pytest.mark.parametrize("shape", [(5, 5), (1, 37, 37), (2, 64, 48), (2, 3, 1, 70)])
def test_eight_numbers_give_eight_orientations(shape: tuple[int, ...], dtype: str) -> None:
    image = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)
    kept = image.copy()
    turned = [oriented(image, number) for number in range(ORIENTATIONS)]
    np.testing.assert_array_equal(turned[0], image)
    assert all(each.dtype == image.dtype for each in turned)
    assert all(each.shape == shape for each in turned[:4])
    np.testing.assert_array_equal(image, kept)
    distinct = {_which(image, each) for each in turned}
    assert len(distinct) == (8 if min(shape[-2:]) > 1 else 4)
