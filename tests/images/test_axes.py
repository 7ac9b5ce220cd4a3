"""Axes, frames and samples of frames, against numpy's own indexing."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import (
    Frames,
    central,
    check_axes,
    factors,
    frames_of,
    lr_hr_frames,
    sample_centres,
    scaled_pixel_size,
    scaled_shape,
)


@st.composite
def images(draw: st.DrawFn) -> tuple[str, tuple[int, ...]]:
    """Axes and the shape of an image, in any order of the file."""
    extra = draw(st.sets(st.sampled_from("TZC")))
    axes = "".join(draw(st.permutations(sorted(extra | {"Y", "X"}))))
    return axes, tuple(draw(st.integers(1, 5)) for _ in axes)


stacks = st.sampled_from(["TZ", "ZT"])


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        ("ZYX", (4, 5), "axes 'ZYX' name 3 dimensions, but the image has 2 (4 x 5); give one letter a dimension, such"),
        (
            "X",
            (4, 5),
            "axes 'X' name 1 dimension, but the image has 2 (4 x 5); give one letter a dimension, such as 'YX'",
        ),
        ("YX", (3, 4, 5), "such as 'ZYX'"),
        ("YX", (2, 3, 4, 5), "such as 'TZYX'"),
        ("YX", (1, 2, 3, 4, 5), "such as 'TZCYX'"),
        ("QYX", (3, 4, 5), "unknown letter 'Q'"),
        ("yx", (4, 5), "unknown letter 'y'"),
        ("ZZYX", (2, 3, 4, 5), "have 'Z' 2 times"),
        ("ZX", (4, 5), "lack Y"),
        ("TZ", (4, 5), "lack Y and X"),
        ("ZYX", (0, 4, 5), "axis Z has size 0"),
        ("X", (5,), "1-D data of shape (5) is not an image"),
    ],
)
def test_axes_that_do_not_fit_are_refused_with_the_file_name(axes: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InputError) as error:
        check_axes(axes, shape, "cell_07.tif")
    assert str(error.value).startswith("cell_07.tif: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_more_dimensions_than_any_image_has_get_no_example() -> None:
    with pytest.raises(InputError, match="give one letter a dimension$"):
        check_axes("YX", (1, 1, 1, 1, 4, 5), "cell_07.tif")
    with pytest.raises(InputError, match=r"^image: axes 'YX' name 2 dimensions"):
        frames_of("YX", (3, 4, 5))


@given(images())
def test_every_order_of_distinct_axes_is_accepted(image: tuple[str, tuple[int, ...]]) -> None:
    check_axes(*image, "cell_07.tif")


def test_frames_run_through_z_then_t_then_c() -> None:
    frames = frames_of("TZCYX", (2, 3, 2, 8, 9))
    assert (frames.order, frames.sizes, frames.count, frames.run) == ("CTZ", (2, 2, 3), 12, 3)
    assert frames.position(0) == {"C": 0, "T": 0, "Z": 0}
    assert frames.position(2) == {"C": 0, "T": 0, "Z": 2}
    assert frames.position(3) == {"C": 0, "T": 1, "Z": 0}
    assert frames.position(6) == {"C": 1, "T": 0, "Z": 0}


def test_stack_zt_runs_through_t_first() -> None:
    frames = frames_of("TZCYX", (2, 3, 2, 8, 9), stack="ZT")
    assert (frames.order, frames.sizes, frames.run) == ("CZT", (2, 3, 2), 2)
    assert frames.position(3) == {"C": 0, "Z": 1, "T": 1}


@pytest.mark.parametrize(
    ("axes", "shape", "count", "run"),
    [
        ("YX", (8, 9), 1, 1),
        ("TZYX", (5, 1, 8, 9), 5, 5),
        ("YXC", (8, 9, 3), 3, 1),
        ("CZYX", (2, 1, 8, 9), 2, 1),
        ("TCYX", (4, 2, 8, 9), 8, 4),
    ],
)
def test_count_and_run(axes: str, shape: tuple[int, ...], count: int, run: int) -> None:
    frames = frames_of(axes, shape)
    assert (frames.count, frames.run) == (count, run)


@given(images(), stacks)
def test_positions_are_a_bijection_in_the_order_of_a_transposed_array(
    image: tuple[str, tuple[int, ...]], stack: str
) -> None:
    axes, shape = image
    frames = frames_of(axes, shape, stack)
    pixels = np.arange(np.prod(shape)).reshape(shape)
    flat = pixels.transpose([axes.index(axis) for axis in "C" + stack + "YX" if axis in axes])
    flat = flat.reshape(-1, *flat.shape[-2:])
    assert frames.count == len(flat)
    seen = set()
    for i in range(frames.count):
        position = frames.position(i)
        seen.add(tuple(position.items()))
        frame = pixels[tuple(position.get(axis, slice(None)) for axis in axes)]
        np.testing.assert_array_equal(frame if axes.index("Y") < axes.index("X") else frame.T, flat[i])
    assert len(seen) == frames.count


@pytest.mark.parametrize("i", [-1, 6])
def test_a_frame_that_is_not_there_is_an_index_error(i: int) -> None:
    with pytest.raises(IndexError, match="6 frames"):
        frames_of("ZYX", (6, 8, 9)).position(i)
    with pytest.raises(IndexError, match="6 frames"):
        frames_of("ZYX", (6, 8, 9)).window(i, 3)


@pytest.mark.parametrize(
    ("centre", "n", "expected"),
    [
        (2, 3, [1, 2, 3]),
        (2, 4, [0, 1, 2, 3]),
        (0, 5, [0, 0, 0, 1, 2]),
        (4, 5, [2, 3, 4, 4, 4]),
        (5, 3, [5, 5, 6]),
        (9, 1, [9]),
        (1, 2, [0, 1]),
    ],
)
def test_windows_by_hand(centre: int, n: int, expected: list[int]) -> None:
    assert frames_of("TZYX", (2, 5, 8, 9)).window(centre, n) == expected


@given(images(), stacks, st.integers(1, 9), st.data())
def test_windows_stay_in_their_run(image: tuple[str, tuple[int, ...]], stack: str, n: int, data: st.DataObject) -> None:
    frames = frames_of(*image, stack)
    centre = data.draw(st.integers(0, frames.count - 1))
    window = frames.window(centre, n)
    assert len(window) == n
    assert window[n // 2] == centre
    assert window == sorted(window)
    assert {i // frames.run for i in window} == {centre // frames.run}
    # Only the ends of the run repeat, and frames of a run differ along one axis alone.
    inside = [i for i in window if 0 < i % frames.run < frames.run - 1]
    assert len(inside) == len(set(inside))
    different = [axis for axis in frames.order if len({frames.position(i)[axis] for i in window}) > 1]
    assert len(different) <= 1


@given(st.integers(1, 7), st.integers(0, 3), st.integers(1, 12), st.data())
def test_hr_frames_are_the_central_ones_of_the_lr_window(hr: int, pairs: int, depth: int, data: st.DataObject) -> None:
    lr = hr + 2 * pairs
    frames = frames_of("ZYX", (depth, 8, 9))
    centre = data.draw(st.integers(0, depth - 1))
    assert lr_hr_frames([lr, hr]) == (lr, hr)
    assert frames.window(centre, lr)[central(lr, hr)] == frames.window(centre, hr)


@given(images(), stacks, st.integers(1, 5), st.booleans())
def test_samples_cover_every_frame_without_leaving_their_run(
    image: tuple[str, tuple[int, ...]], stack: str, n: int, slide: bool
) -> None:
    frames = frames_of(*image, stack)
    if n > frames.run:
        with pytest.raises(InputError):
            sample_centres(frames, n, slide)
        return
    centres = sample_centres(frames, n, slide)
    windows = [frames.window(centre, n) for centre in centres]
    assert set(itertools.chain(*windows)) == set(range(frames.count))
    # No frame repeats inside a sample: the windows are whole.
    assert all(window == list(range(window[0], window[0] + n)) for window in windows)
    runs = frames.count // frames.run
    assert len(centres) == runs * (frames.run - n + 1 if slide else -(-frames.run // n))
    assert len(set(centres)) == len(centres)


@given(images(), stacks, st.integers(1, 9), st.booleans())
def test_with_edges_every_frame_is_a_centre(
    image: tuple[str, tuple[int, ...]], stack: str, n: int, slide: bool
) -> None:
    frames = frames_of(*image, stack)
    assert sample_centres(frames, n, slide, edges=True) == list(range(frames.count))


def test_sample_centres_by_hand() -> None:
    frames = frames_of("TZYX", (2, 7, 8, 9))
    assert sample_centres(frames, 5, slide=True) == [2, 3, 4, 9, 10, 11]
    assert sample_centres(frames, 3, slide=False) == [1, 4, 5, 8, 11, 12]
    assert sample_centres(frames, 7, slide=False) == [3, 10]


def test_too_many_frames_are_refused() -> None:
    with pytest.raises(InputError) as error:
        frames_of("YX", (8, 9)).check_n_frames(5, "cell_07.tif")
    assert str(error.value) == (
        "cell_07.tif: axes 'YX' hold 1 frame, but n_frames asks for 5; give a stack, or set n_frames to 1"
    )
    with pytest.raises(
        InputError, match=r"^image: .*hold 1 frame, but n_frames asks for 2; its 2 channels make no stack"
    ):
        sample_centres(frames_of("CYX", (2, 8, 9)), 2, slide=False)
    joint = frames_of("CYX", (1, 8, 9), stack="C")
    with pytest.raises(
        InputError, match=r"holds 1 channel \(axes 'CYX'\), but .* set n_frames to 1, or give images of 2"
    ):
        joint.check_n_frames(2, "cell_07.tif")
    joint.check_n_frames(1, "cell_07.tif")
    stack = frames_of("TZYX", (9, 3, 8, 9))
    stack.check_n_frames(3, "cell_07.tif")
    stack.check_n_frames(2, "cell_07.tif")
    with pytest.raises(InputError, match=r"'TZYX' hold 3 frames in a row \(along Z\).* set n_frames to 3 or fewer$"):
        stack.check_n_frames(5, "cell_07.tif")


def test_weights_take_a_number_of_frames_that_no_option_changes() -> None:
    for axes, shape, stack, message in [
        ("YX", (8, 9), "TZ", "hold 1 frame, but the weights take 5; give a stack, or use other weights"),
        (
            "ZYX",
            (3, 8, 9),
            "TZ",
            "hold 3 frames in a row (along Z), but the weights take 5; give a longer stack, or use other weights",
        ),
        ("CYX", (2, 8, 9), "C", "holds 2 channels (axes 'CYX'), but channels are joint and the weights take 5 of them"),
        ("CYX", (9, 8, 9), "C", "holds 9 channels (axes 'CYX'), but channels are joint and the weights take 5 of them"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)) as error:
            frames_of(axes, shape, stack).check_n_frames(5, "cell_07.tif", of_weights=True)
        assert "n_frames" not in str(error.value)
        assert str(error.value).endswith(("use other weights", "of 5 channels"))


def test_unknown_stack_is_refused() -> None:
    with pytest.raises(InputError, match="'XY' is unknown; use 'TZ'"):
        frames_of("YX", (8, 9), stack="XY")


@pytest.mark.parametrize(
    ("given_frames", "expected"), [(1, (1, 1)), (5, (5, 5)), ([5, 1], (5, 1)), ((4, 2), (4, 2)), (np.int64(3), (3, 3))]
)
def test_frames_per_sample(given_frames: object, expected: tuple[int, int]) -> None:
    assert lr_hr_frames(given_frames) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_frames", "words"),
    [
        (0, "not positive"),
        ([3, 0], "not positive"),
        ([1, 3], "more HR than LR"),
        ([5, 2], "use [5, 3]"),
        (2.5, "neither a whole number nor a pair"),
        ([5, 3, 1], "neither a whole number nor a pair"),
        ("5", "neither a whole number nor a pair"),
        (True, "not positive"),
    ],
)
def test_frames_per_sample_that_make_no_sense_are_refused(given_frames: object, words: str) -> None:
    with pytest.raises(InputError) as error:
        lr_hr_frames(given_frames)  # type: ignore[arg-type]
    assert str(error.value).startswith("n_frames: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("n_frames", "scale", "expected"),
    [(32, [4, 1, 1], (8, 32)), (16, [1, 4, 4], (16, 16)), ([8, 32], [4, 1, 1], (8, 32)), (5, 4, (5, 5))],
)
def test_frames_of_a_volume_follow_its_scale(
    n_frames: int | list[int], scale: int | list[int], expected: tuple[int, int]
) -> None:
    assert lr_hr_frames(n_frames, scale) == expected


@pytest.mark.parametrize("n_frames", [30, [5, 1], [8, 16]])
def test_frames_that_do_not_fit_a_volumes_scale_are_refused(n_frames: int | list[int]) -> None:
    with pytest.raises(InputError, match=r"n_frames: .* does not fit the scale \[4, 1, 1\]; give a multiple of 4"):
        lr_hr_frames(n_frames, [4, 1, 1])


def test_shape_and_pixel_size_of_the_output() -> None:
    scale = frames_of("ZYX", (5, 33, 20)).scale_by_axis(4)
    assert scaled_shape("ZYX", (5, 33, 20), scale) == (5, 132, 80)
    assert scaled_pixel_size({"Z": 0.3, "Y": 0.1, "X": 0.2}, scale) == {"Z": 0.3, "Y": 0.025, "X": 0.05}
    assert scaled_pixel_size({"X": 0.2}, scale) == {"X": 0.05}
    assert scaled_pixel_size({}, scale) == {}
    assert scaled_pixel_size({"Z": 0.3}, {"Y": 4}) == {"Z": 0.3}


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("XZY", (7, 5, 33), (14, 15, 132)),
        ("CZYX", (2, 5, 33, 7), (2, 15, 132, 14)),
        ("TZYX", (5, 1, 33, 7), (15, 1, 132, 14)),  # one Z: time is what runs
        ("YX", (33, 7), (132, 14)),
    ],
)
def test_a_volume_grows_along_its_run(axes: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    frames = frames_of(axes, shape)
    assert scaled_shape(axes, shape, frames.scale_by_axis([3, 4, 2])) == expected
    assert frames.scaled(3) == frames_of(axes, expected)


@pytest.mark.parametrize("scale", [0, 1.5, "4", [2, 2], [1, 0, 4], [1, 2, 3, 4], {"Z": 2}])
def test_impossible_scales_are_refused(scale: object) -> None:
    with pytest.raises(InputError, match="neither a whole number of at least 1 nor three of them"):
        factors(scale)  # type: ignore[arg-type]


def test_frames_are_values() -> None:
    assert frames_of("ZYX", (5, 8, 9)) == Frames("Z", (5,))


def test_neighbours_lie_in_the_run() -> None:
    frames = frames_of("TZYX", (2, 3, 8, 8))
    assert [frames.neighbour(i, after=True) for i in range(6)] == [1, 2, 1, 4, 5, 4]
    assert [frames.neighbour(i, after=False) for i in range(6)] == [1, 0, 1, 4, 3, 4]
    assert [frames_of("ZYX", (2, 8, 8)).neighbour(i, after=True) for i in range(2)] == [1, 0]
    with pytest.raises(IndexError, match="no neighbour"):
        frames_of("YX", (8, 8)).neighbour(0, after=True)


def test_frames_of_a_channel_follow_each_other_unless_channels_are_joint() -> None:
    apart, joint = (frames_of("TCYX", (3, 2, 8, 9), stack) for stack in ("TZ", "C"))
    assert [list(apart.of_channel(c)) for c in (0, 1)] == [[0, 1, 2], [3, 4, 5]]
    assert [list(joint.of_channel(c)) for c in (0, 1)] == [[0, 2, 4], [1, 3, 5]]
    assert frames_of("TYX", (3, 4, 5)).channel(2) == 0
    assert [apart.channel(i) for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [joint.channel(i) for i in range(6)] == [0, 1] * 3
    assert frames_of("ZYX", (3, 8, 9)).channels == 1
    assert (joint.run, joint.run_axis, frames_of("ZYX", (3, 8, 9), "C").run_axis) == (2, "C", None)
