"""Orientation, opacity and colours beside channels, on arrays in memory."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pssr2_monai.images.formats.shown import oriented, with_joined_samples, without_alpha
from pssr2_monai.images.image import LazyImage


def lazy(pixels: np.ndarray, axes: str, **sizes: float) -> LazyImage:
    return LazyImage(Path("a"), pixels.shape, pixels.dtype, axes, sizes, lambda region: pixels[region].copy())


def windows(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Windows that begin and end at all kinds of places along each axis."""
    parts = [[slice(0, n), slice(n // 3, n), slice(n // 2, n // 2 + 1), slice(0, n // 2)] for n in shape]
    return list(product(*parts))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(orientation: int) -> None:
    pixels = np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    image = oriented(lazy(pixels, "YXS", Y=0.2, X=0.1), orientation)
    assert image.shape == expected.shape
    assert dict(image.pixel_size) == ({"Y": 0.2, "X": 0.1} if orientation < 5 else {"Y": 0.1, "X": 0.2})
    for window in windows(expected.shape):
        np.testing.assert_array_equal(image.read(window), expected[window])


def test_orientation_turns_a_stack_plane_by_plane_and_the_opacity_with_it() -> None:
    pixels = np.arange(2 * 4 * 5 * 2).reshape(2, 4, 5, 2)
    image = oriented(without_alpha(lazy(pixels, "ZYXS", X=0.1), 1), 6)
    assert dict(image.pixel_size) == {"Y": 0.1}
    expected = np.rot90(pixels, -1, axes=(1, 2))
    np.testing.assert_array_equal(image.read(), expected[..., :1])
    np.testing.assert_array_equal(image.read_alpha(np.s_[1:, 1:3, 2:, :]), expected[1:, 1:3, 2:, 1:])


@pytest.mark.parametrize("sample", [0, 2, 3])
@pytest.mark.parametrize("axes", ["SYX", "YXS"])
def test_alpha_is_none_of_the_samples(axes: str, sample: int) -> None:
    axis = axes.index("S")
    pixels = np.moveaxis(np.arange(4 * 6 * 4).reshape(4, 6, 4), -1, axis)
    image = without_alpha(lazy(pixels, axes), sample)
    assert image.has_alpha
    expected, alpha = np.delete(pixels, sample, axis), np.take(pixels, [sample], axis)
    for window in windows(expected.shape):
        np.testing.assert_array_equal(image.read(window), expected[window])
        whole = tuple(slice(None) if i == axis else part for i, part in enumerate(window))
        np.testing.assert_array_equal(image.alpha_reader(window), alpha[whole])  # type: ignore[misc]


def test_premultiplied_colours_are_those_of_pillow() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 16, 4), "uint8")
    pixels[:4, :4, 3], pixels[4:8, :, 3] = 0, 255
    stored = np.asarray(Image.frombytes("RGBa", (16, 16), pixels.tobytes()).convert("RGBA"))
    image = without_alpha(lazy(pixels, "YXS"), 3, associated=True)
    np.testing.assert_array_equal(image.read(), stored[..., :3])
    floats = without_alpha(lazy(pixels / 255, "YXS"), 3, associated=True).read(np.s_[4:8, :, 1:2])
    np.testing.assert_allclose(floats[..., 0], pixels[4:8, :, 1] / 255)


@pytest.mark.parametrize("axes", ["CZYXS", "CSZYX", "ZCYXS"])
def test_colours_of_channels_are_channels(axes: str) -> None:
    sizes = {"C": 2, "Z": 3, "Y": 4, "X": 5, "S": 3}
    shape = tuple(sizes[axis] for axis in axes)
    pixels = np.arange(np.prod(shape)).reshape(shape)
    image = with_joined_samples(lazy(pixels, axes))
    assert (image.axes, len(image.shape)) == (axes.replace("S", ""), 4)
    expected = np.empty(image.shape, pixels.dtype)
    for channel, sample in np.ndindex(2, 3):
        index = tuple({"C": channel, "S": sample}.get(axis, slice(None)) for axis in axes)
        expected[(slice(None),) * image.axes.index("C") + (3 * channel + sample,)] = pixels[index]
    for window in windows(expected.shape):
        np.testing.assert_array_equal(image.read(window), expected[window])
