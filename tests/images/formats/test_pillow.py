"""PNG and JPEG, against Pillow and imagecodecs read directly."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image


def ramp(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels that all differ."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def test_png_and_jpeg(tmp_path: Path) -> None:
    grey, deep, colour = ramp(20, 30, dtype="uint8"), ramp(20, 30) * 100, ramp(20, 30, 3, dtype="uint8")
    Image.fromarray(grey).save(tmp_path / "grey.png", dpi=(72, 72))
    Image.fromarray(deep).save(tmp_path / "deep.png", dpi=(25400 / 0.09, 25400 / 0.18))
    Image.fromarray(colour).save(tmp_path / "colour.PNG")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(colour).save(tmp_path / "photo.jpg")
    for name, data, axes in (
        ("grey", grey, "YX"),
        ("deep", deep, "YX"),
        ("colour", colour, "YXC"),
        ("palette", grey, "YX"),
    ):
        path = tmp_path / f"{name}.{'PNG' if name == 'colour' else 'png'}"
        with open_image(path) as image:
            assert (image.axes, image.shape, image.dtype) == (axes, data.shape, data.dtype)
            np.testing.assert_array_equal(image.read(), data)
            window = image.read([slice(3, 9)] * 2 + [slice(None)] * (data.ndim - 2))
            np.testing.assert_array_equal(window, data[3:9, 3:9])
    assert open_image(tmp_path / "grey.png").pixel_size == {}
    assert open_image(tmp_path / "deep.png").pixel_size == pytest.approx({"X": 0.09, "Y": 0.18}, rel=1e-6)
    with open_image(tmp_path / "photo.jpg") as image:
        np.testing.assert_array_equal(image.read(), np.asarray(Image.open(tmp_path / "photo.jpg")))


def test_png_of_16_bits_a_colour_keeps_them(tmp_path: Path) -> None:
    data = ramp(20, 30, 3) * 30
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(data))
    image = open_image(tmp_path / "a.png")
    assert (image.axes, image.dtype) == ("YXC", np.uint16)
    np.testing.assert_array_equal(image.read(), data)


def test_a_truncated_png_is_refused_at_reading(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300), "uint8")).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.png: pixels cannot be read"):
        open_image(tmp_path / "a.png").read()


def test_black_and_white_and_coloured_palettes(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    Image.fromarray(mask).save(tmp_path / "mask.png")
    indices = Image.fromarray(ramp(2, 3, dtype="uint8"), "P")
    indices.putpalette([255, 0, 0] + [0, 0, 0] * 4 + [1, 2, 3])
    indices.save(tmp_path / "palette.png")
    with open_image(tmp_path / "mask.png") as image:
        assert (image.axes, image.dtype) == ("YX", np.uint8)
        np.testing.assert_array_equal(image.read(), mask * 255)
    with open_image(tmp_path / "palette.png") as image:
        assert image.axes == "YXC"
        pixels = image.read()
    np.testing.assert_array_equal(pixels[0, 0], [255, 0, 0])
    np.testing.assert_array_equal(pixels[1, 2], [1, 2, 3])


def test_png_keeps_pixels_and_pixel_size(tmp_path: Path) -> None:
    kinds = [("uint8", (20, 30)), ("uint16", (20, 30)), *(("uint8", (20, 30, samples)) for samples in (2, 3, 4))]
    for dtype, shape in kinds:
        axes = "YXC"[: len(shape)]
        data = ramp(*shape, dtype=dtype)
        write_image(tmp_path / "a.png", data, axes=axes, pixel_size={"Y": 0.1, "X": 0.09}, overwrite=True)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), data)
        assert open_image(tmp_path / "a.png").pixel_size == pytest.approx({"Y": 0.1, "X": 0.09}, rel=1e-6)
    write_image(tmp_path / "b.png", data, axes=axes, pixel_size={})
    assert open_image(tmp_path / "b.png").pixel_size == {}
