"""Windows: every pixel covered, no pixel shared across a split, padding as numpy pads, eight orientations."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pssr2_monai.errors import InputError
from pssr2_monai.images import windows
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity, IntensitySettings
from pssr2_monai.images.windows import (
    ORIENTATIONS,
    SheetReader,
    Window,
    fit_image_intensity,
    grid,
    inside,
    oriented,
    plane_size,
    read_bar,
    read_scaled,
    read_window,
    reflect_indices,
    regions_by_place,
    rounded_up,
    sample_pixels,
    scaled_window,
    spread_windows,
    starts,
    turned,
    widened,
    write_window,
)
from pssr2_monai.images.writer import create_writer, write_image

sides = st.integers(1, 90)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[tuple[int, int], int, int]:
    """Shape, tile and overlap."""
    tile = draw(st.integers(1, 40))
    return (draw(sides), draw(sides)), tile, draw(st.integers(0, tile - 1))


def painted(shape: tuple[int, int], windows: list[Window]) -> np.ndarray:
    """The number of windows that contain each pixel."""
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


@given(st.integers(1, 500), st.integers(1, 100), st.data())
def test_starts_cover_the_axis_with_at_least_the_overlap(size: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    firsts = starts(size, tile, overlap)
    assert firsts[0] == 0
    assert firsts[-1] == max(0, size - tile)
    steps = np.diff(firsts)
    assert np.all((steps > 0) & (steps <= tile - overlap))
    # No window too many: all but the last step are full.
    assert np.all(steps[:-1] == tile - overlap)


@given(tilings())
def test_grid_covers_every_pixel_and_leaves_the_image_only_where_it_is_small(
    tiling: tuple[tuple[int, int], int, int],
) -> None:
    shape, tile, overlap = tiling
    windows = grid(shape, tile, overlap)
    assert painted(shape, windows).min() >= 1
    assert len(set(windows)) == len(windows)
    assert windows == sorted(windows)
    for window in windows:
        assert (window.height, window.width) == (tile, tile)
        assert window.y + window.height <= max(shape[0], tile)
        assert window.x + window.width <= max(shape[1], tile)


def test_grid_goes_row_by_row() -> None:
    assert grid((5, 9), 4, 1) == [
        Window(0, 0, 4, 4),
        Window(0, 3, 4, 4),
        Window(0, 5, 4, 4),
        Window(1, 0, 4, 4),
        Window(1, 3, 4, 4),
        Window(1, 5, 4, 4),
    ]


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "words"),
    [
        (20, 4, 4, "overlap: 4 px do not fit a tile of 4 px; use 0 to 3"),
        (20, 4, 9, "overlap: 9 px"),
        (20, 4, -1, "overlap: -1 px"),
        (20, 0, 0, "tile: size 20 and tile 0"),
        (0, 4, 0, "tile: size 0 and tile 4"),
    ],
)
def test_impossible_tiles_are_refused(size: int, tile: int, overlap: int, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}"):
        starts(size, tile, overlap)


def test_windows_around_within_and_larger_than_others() -> None:
    window = Window(5, 0, 10, 20)
    assert widened(window, 3, (16, 40)) == Window(2, 0, 14, 23)
    assert widened(window, 1, (16, 40)) == Window(4, 0, 12, 21)
    assert widened(Window(2, 7, 5, 6), 4, (9, 12)) == Window(0, 3, 9, 9)
    assert inside(window, Window(2, -1, 30, 30)) == Window(3, 1, 10, 20)
    assert scaled_window(Window(5, 3, 10, 20), 2, 3) == Window(10, 9, 20, 60)


def test_spread_windows_visit_each_place_of_a_lattice_once() -> None:
    places = spread_windows(range(100, 104), (10, 16), (4, 4), 16)
    assert {window for _, window in places} == {Window(y, x, 4, 4) for y in (0, 2, 4, 6) for x in (0, 4, 8, 12)}
    assert [frame for frame, _ in places] == [100] * 3 + [101] * 5 + [102] * 5 + [103] * 3
    # Those that follow each other are no neighbours.
    assert all(abs(a.y - b.y) + abs(a.x - b.x) > 4 for (_, a), (_, b) in pairwise(places))
    assert spread_windows(range(100, 104), (10, 3), (20, 20), 3) == [
        (100, Window(0, 0, 10, 3)),
        (102, Window(0, 0, 10, 3)),
        (103, Window(0, 0, 10, 3)),
    ]


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
        ((50, 40), 0.4, 29, "tile of 1 px at most"),
        ((50, 40), 0.4, 30, "smaller guard"),
        ((9, 5), 0.5, 0, "tile of 4 px at most"),
    ],
)
def test_a_split_that_leaves_less_than_a_tile_says_what_to_do(
    shape: tuple[int, int], fraction: float, guard: int, smaller: str
) -> None:
    with pytest.raises(InputError, match=f"a tile is 10 px; use a {smaller}, another fraction, or split by file"):
        regions_by_place(shape, 10, fraction, guard)


@pytest.mark.parametrize(("guard", "left"), [(28, 2), (30, 0), (33, 0)])
def test_a_split_says_what_it_leaves(guard: int, left: int) -> None:
    with pytest.raises(InputError, match=f"leaves {left} px for training and 20 px for validation"):
        regions_by_place((50, 40), 10, 0.4, guard)


@pytest.mark.parametrize(
    ("fraction", "guard", "words"), [(1, 0, "validation fraction: 1"), (-0.1, 0, "not in"), (0.5, -1, "guard: -1")]
)
def test_impossible_splits_are_refused(fraction: float, guard: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        regions_by_place((50, 40), 10, fraction, guard)


@given(st.integers(1, 30), st.integers(0, 70), st.integers(0, 70))
def test_reflection_is_numpys(size: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(size), (before, after), mode="symmetric")
    np.testing.assert_array_equal(reflect_indices(-before, before + size + after, size), expected)


@given(st.integers(-50, 50), st.integers(0, 60), st.integers(1, 20))
def test_reflected_windows_agree_wherever_they_begin(start: int, length: int, size: int) -> None:
    expected = np.pad(np.arange(size), (50, 110), mode="symmetric")[start + 50 : start + 50 + length]
    np.testing.assert_array_equal(reflect_indices(start, length, size), expected)


def _eight(image: np.ndarray) -> list[np.ndarray]:
    """The orientations of the last two axes: quarter turns of the image and of its mirror image."""
    return [np.rot90(mirrored, k, axes=(-2, -1)) for mirrored in (image, image[..., ::-1]) for k in range(4)]


def _which(image: np.ndarray, candidate: np.ndarray) -> int:
    return next(i for i, expected in enumerate(_eight(image)) if np.array_equal(expected, candidate))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", "uint32"])
@pytest.mark.parametrize("shape", [(5, 5), (1, 37, 37), (2, 64, 48), (2, 3, 1, 70)])
def test_eight_numbers_give_eight_orientations(shape: tuple[int, ...], dtype: str) -> None:
    image = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)
    kept = image.copy()
    results = [oriented(image, number) for number in range(ORIENTATIONS)]
    np.testing.assert_array_equal(results[0], image)
    assert all(result.dtype == image.dtype and result.flags.c_contiguous for result in results)
    assert all(result.shape == shape for result in results[:4])
    np.testing.assert_array_equal(image, kept)
    distinct = {_which(image, result) for result in results}
    assert len(distinct) == (8 if min(shape[-2:]) > 1 else 4)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5)])
def test_orientations_of_tensors_are_those_of_arrays_and_can_be_undone(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    for number in range(ORIENTATIONS):
        result = turned(torch.from_numpy(image), number)
        np.testing.assert_array_equal(result.numpy(), oriented(image, number))
        np.testing.assert_array_equal(turned(result, number, back=True).numpy(), image)


@pytest.mark.parametrize(("size", "unit", "expected"), [(1, 4, 4), (4, 4, 4), (5, 4, 8), (0, 4, 0)])
def test_rounded_up(size: int, unit: int, expected: int) -> None:
    assert rounded_up(size, unit) == expected


@pytest.fixture
def stack(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A file of axes ZTXY and its pixels in the order TZYX."""
    pixels = np.random.default_rng(0).integers(0, 60000, (3, 2, 20, 30), "uint16")  # ZTXY
    path = tmp_path / "stack.zarr"
    zarr.create_array(str(path), data=pixels, dimension_names=["z", "t", "x", "y"], zarr_format=3)
    return path, pixels.transpose(1, 0, 3, 2)


@pytest.mark.parametrize("cache_bytes", [0, 2**12, 2**29])
def test_windows_are_read_in_the_order_of_frames_and_reflected(
    stack: tuple[Path, np.ndarray], cache_bytes: int
) -> None:
    path, tzyx = stack
    reader = pickle.loads(pickle.dumps(SheetReader(cache_bytes)))
    with open_image(path) as image:
        assert image.axes == "ZTXY"
        assert plane_size(image) == (30, 20)
        padded = np.pad(tzyx, ((0, 0), (0, 0), (40, 40), (40, 40)), mode="symmetric")
        for order, frames in (("TZ", tzyx.reshape(6, 30, 20)), ("ZT", tzyx.swapaxes(0, 1).reshape(6, 30, 20))):
            np.testing.assert_array_equal(
                read_window(image, [5, 0, 0, 3], Window(2, 3, 10, 7), order), frames[[5, 0, 0, 3], 2:12, 3:10]
            )
        beyond = [Window(-3, 5, 9, 7), Window(25, 5, 12, 7), Window(5, 15, 7, 12), Window(25, 15, 12, 12)]
        for window in (Window(0, 0, 30, 20), *beyond, Window(-30, -35, 65, 70)):
            rows, columns = (slice(part.start + 40, part.stop + 40) for part in window.slices())
            expected = padded.reshape(6, 110, 100)[[4, 1], rows, columns]
            np.testing.assert_array_equal(read_window(image, [4, 1], window), expected)
            np.testing.assert_array_equal(reader.read(path, [4, 1], window), expected)


def test_a_reader_keeps_at_most_so_many_files_open(tmp_path: Path) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (3, 16, 16), "uint8")
    for number, plane in enumerate(planes):
        write_image(tmp_path / f"{number}.tif", plane, axes="YX", pixel_size={})
    reader = SheetReader(cache_bytes=4 * 256, open_files=2)
    for number in (0, 1, 0, 2, 1):
        tile = reader.read(tmp_path / f"{number}.tif", [0], Window(4, 2, 8, 8))
        np.testing.assert_array_equal(tile[0], planes[number, 4:12, 2:10])
    assert [Path(path).name for path in reader._images] == ["2.tif", "1.tif"]
    for name in ("2.tif", "0.tif"):
        reader.image(tmp_path / name)
    assert [Path(path).name for path in reader._images] == ["2.tif", "0.tif"], "that of the longest ago is closed"


def test_a_reader_decodes_again_what_was_not_needed_for_the_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = np.random.default_rng(0).integers(0, 60000, (5, 8, 16), "uint16")
    write_image(tmp_path / "a.tif", planes, axes="ZYX", pixel_size={})
    decoded = []
    decode = windows._read_plane
    monkeypatch.setattr(windows, "_read_plane", lambda *given: (decoded.append(given[2]), decode(*given))[1])
    reader = SheetReader(cache_bytes=4 * 256)
    window = Window(0, 0, 8, 16)
    for frame in (0, 1, 2, 3, 0, 4, 0, 1):
        np.testing.assert_array_equal(reader.read(tmp_path / "a.tif", [frame], window)[0], planes[frame])
    assert decoded == [0, 1, 2, 3, 4, 1]
    other = pickle.loads(pickle.dumps(reader))
    for frame in (0, 1, 2, 3, 0, 1):
        other.read(tmp_path / "a.tif", [frame], window)
    assert decoded[6:] == [0, 1, 2, 3], "a copy for another process begins with nothing"
    assert len(pickle.dumps(reader)) < 1000
    small = SheetReader(cache_bytes=4 * 256 - 1)
    for _ in range(2):
        np.testing.assert_array_equal(small.read(tmp_path / "a.tif", [1], window)[0], planes[1])
    assert decoded[10:] == [1, 1], "a frame above a quarter of the bound is not kept"


@pytest.mark.parametrize("axes", ["YX", "TZYX", "ZTYX", "YXC"])
def test_windows_of_frames_are_written_where_they_belong(tmp_path: Path, axes: str) -> None:
    sizes = {"T": 2, "Z": 3, "C": 3, "Y": 20, "X": 30}
    shape = tuple(sizes[axis] for axis in axes)
    order = frames_of(axes, shape)
    frames = np.random.default_rng(0).integers(0, 255, (order.count, 20, 30), "uint8")
    with create_writer(tmp_path / "a.tif", shape=shape, dtype="uint8", axes=axes, pixel_size={}) as writer:
        for number in range(order.count):
            for window in grid((20, 30), 8, 0):
                write_window(writer, order, number, window, frames[(number, *window.slices())])
    with create_writer(tmp_path / "b.tif", shape=shape, dtype="uint8", axes=axes, pixel_size={}) as writer:
        for first in range(0, order.count, order.run):
            run = frames[first : first + order.run]
            write_window(writer, order, first, Window(0, 0, 20, 30), run if order.run > 1 else run[0])
    for name in ("a.tif", "b.tif"):
        with open_image(tmp_path / name) as image:
            assert image.axes == axes
            read = read_window(image, range(order.count), Window(0, 0, 20, 30))
        np.testing.assert_array_equal(read, frames)


def test_the_intensity_of_a_large_stack_comes_from_a_sample_of_bounded_size(tmp_path: Path) -> None:
    slope = np.linspace(1000, 5000, 1100)[:, None] * np.ones((4, 1, 900))
    stack = (slope + np.random.default_rng(0).normal(0, 400, slope.shape)).astype(np.uint16)
    stack[0, 0, 0], stack[3, 1099, 899] = 0, 65535  # single hot and dark pixels do not move the range
    write_image(tmp_path / "a.tif", stack, axes="ZYX", pixel_size={})
    with open_image(tmp_path / "a.tif") as image:
        windows = list(sample_pixels(image))
        (intensity,) = fit_image_intensity(image, IntensitySettings())
        assert fit_image_intensity(image, IntensitySettings("fixed", 5, 9)) == (Intensity(5, 9),)
    assert len(windows) == 16
    assert {window.shape for window in windows} == {(512, 512)}
    seen = np.unique(np.concatenate([window.ravel() for window in windows]))
    assert set(seen) <= set(np.unique(stack))
    assert (intensity.low, intensity.high) == (pytest.approx(1000, abs=150), pytest.approx(5000, abs=150))


def test_a_small_image_is_its_own_sample(tmp_path: Path) -> None:
    plane = np.arange(30, dtype=np.uint16).reshape(5, 6)
    write_image(tmp_path / "a.tif", plane, axes="YX", pixel_size={})
    with open_image(tmp_path / "a.tif") as image:
        (window,) = sample_pixels(image)
        np.testing.assert_array_equal(window, plane)


def test_pixels_are_read_on_the_scales_of_their_channels_without_outliers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal([[[1000]], [[3000]]], 20, (2, 40, 50)).astype(np.uint16)
    pixels[0, 12, 20] = pixels[1, 20, 9] = 60000  # within the window, and next to it
    write_image(tmp_path / "a.tif", pixels, axes="CYX", pixel_size={})
    scales = (Intensity(900, 1100, outlier=200), Intensity(2900, 3100, outlier=200))
    window = Window(10, 10, 20, 30)
    with open_image(tmp_path / "a.tif") as image:
        found = read_scaled(image, [1, 0, 1], window, scales)
        np.testing.assert_array_equal(read_scaled(image, [1], window, scales), found[:1])
        edge = read_scaled(image, [0], Window(-2, 0, 8, 8), scales)
    rows, columns = window.slices()
    for plane, channel in zip(found, (1, 0, 1), strict=True):
        expected = (pixels[channel, rows, columns].astype(float) - scales[channel].low) / 200
        if channel == 0:
            assert 0 < plane[2, 10] < 1
            expected[2, 10] = plane[2, 10]
        np.testing.assert_allclose(plane, expected, atol=1e-6)
    mirrored = np.pad(pixels[0].astype(float), 2, mode="symmetric")[:8, 2:10]
    np.testing.assert_allclose(edge[0], (mirrored - 900) / 200, atol=1e-6)


def test_the_rows_of_a_bar_are_read_below_the_image() -> None:
    stored = np.arange(2 * 13 * 20, dtype=np.uint16).reshape(2, 13, 20)
    image = LazyImage(Path("a.tif"), (2, 10, 20), stored.dtype, "ZYX", {}, lambda region: stored[region], bar_rows=3)
    np.testing.assert_array_equal(read_bar(image, [1, 0], range(4, 9)), stored[::-1, 10:, 4:9])
