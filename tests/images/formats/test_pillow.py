"""PNG, JPEG and BMP, against Pillow and imagecodecs read directly."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import create_writer, write_image

Ramp = Callable[..., np.ndarray]


def test_png_and_jpeg(ramp: Ramp, tmp_path: Path) -> None:
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


def test_png_of_16_bits_a_colour_keeps_them(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(20, 30, 3) * 30
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(data))
    image = open_image(tmp_path / "a.png")
    assert (image.axes, image.dtype) == ("YXC", np.uint16)
    np.testing.assert_array_equal(image.read(), data)


def test_a_truncated_png_is_refused_at_reading(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300), "uint8")).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.png: is damaged"):
        open_image(tmp_path / "a.png").read()


def test_black_and_white_and_coloured_palettes(ramp: Ramp, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("samples", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_opacity_is_none_of_the_channels(ramp: Ramp, tmp_path: Path, dtype: str, samples: int) -> None:
    data = ramp(20, 30, samples, dtype=dtype) * 13
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(data))
    image = open_image(tmp_path / "a.png")
    assert (image.axes, image.dtype) == ("YX" if samples == 2 else "YXC", dtype)
    np.testing.assert_array_equal(image.read(), data[..., 0] if samples == 2 else data[..., :3])
    np.testing.assert_array_equal(image.read_alpha().reshape(20, 30), data[..., -1])
    part = image.read_alpha([slice(3, 9), slice(4, 5), slice(None)][: len(image.axes)])
    np.testing.assert_array_equal(part.ravel(), data[3:9, 4, -1])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_a_transparent_value_of_a_png_is_opacity(ramp: Ramp, tmp_path: Path, mode: str) -> None:
    data = ramp(20, 30, dtype="uint16" if mode == "I;16" else "uint8") // 3
    picture = Image.fromarray(data)
    if mode == "P":
        picture = Image.fromarray(data, "P")
        picture.putpalette([(7 * i) % 256 for i in range(768)])
    elif mode != "I;16":
        picture = picture.convert(mode)
    value = (5, 5, 5) if mode == "RGB" else 255 if mode == "1" else 5
    picture.save(tmp_path / "a.png", transparency=value)
    with Image.open(tmp_path / "a.png") as saved:
        expected = np.asarray(saved.convert("RGBA"))
    image = open_image(tmp_path / "a.png")
    assert image.has_alpha
    top = 65535 if mode == "I;16" else 255
    clear = (data == 5) if mode == "I;16" else expected[..., 3] == 0
    assert clear.any()
    assert not clear.all()
    np.testing.assert_array_equal(image.read_alpha().reshape(20, 30), np.where(clear, 0, top))
    if mode != "I;16":
        np.testing.assert_array_equal(image.read(), expected[..., :3] if image.axes == "YXC" else expected[..., 0])


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("clear", [None, 1])
@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_pngs_of_few_bits_by_their_definition(tmp_path: Path, bits: int, palette: bool, clear: int | None) -> None:
    rng = np.random.default_rng(0)
    values, colours = rng.integers(0, 2**bits, (9, 33)), rng.integers(0, 256, (2**bits, 3)).astype("uint8")
    digits = ((values[..., None] >> np.arange(bits)[::-1]) & 1).reshape(9, -1).astype("uint8")
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(digits, axis=1))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 33, 9, bits, 3 if palette else 0, 0, 0, 0))
    header += _chunk(b"PLTE", colours.tobytes()) * palette
    if clear is not None:
        header += _chunk(b"tRNS", bytes([255, 0]) if palette else struct.pack(">H", clear))
    content = b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    image = open_image(tmp_path / "a.png")
    expected = colours[values] if palette else values * (255 // (2**bits - 1))
    np.testing.assert_array_equal(image.read(), expected)
    assert image.has_alpha == (clear is not None)
    if clear is not None:
        np.testing.assert_array_equal(image.read_alpha().reshape(9, 33), np.where(values == clear, 0, 255))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_orientation_of_exif_is_applied(ramp: Ramp, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.jpg"):
        Image.fromarray(ramp(16, 24, 3, dtype="uint8")).save(tmp_path / name, exif=exif)
        with Image.open(tmp_path / name) as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored))
        image = open_image(tmp_path / name)
        assert image.shape == expected.shape
        np.testing.assert_array_equal(image.read(np.s_[2:9, 3:, :]), expected[2:9, 3:])


def test_bmp_and_cmyk(ramp: Ramp, tmp_path: Path) -> None:
    for mode, samples in (("L", 1), ("RGB", 3)):
        picture = Image.fromarray(ramp(20, 30, 3, dtype="uint8")).convert(mode)
        picture.save(tmp_path / "a.bmp")
        np.testing.assert_array_equal(open_image(tmp_path / "a.bmp").read(), np.asarray(picture))
        assert len(open_image(tmp_path / "a.bmp").shape) == (2 if samples == 1 else 3)
    Image.fromarray(ramp(20, 30, 4, dtype="uint8"), "CMYK").save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as stored:
        np.testing.assert_array_equal(open_image(tmp_path / "a.jpg").read(), np.asarray(stored.convert("RGB")))


@pytest.mark.parametrize(("dtype", "colours"), [("uint8", 1), ("uint16", 1), ("uint8", 3), ("uint16", 3)])
def test_png_keeps_pixels_opacity_and_pixel_size(ramp: Ramp, tmp_path: Path, dtype: str, colours: int) -> None:
    size = {"Y": 0.1, "X": 0.09}
    axes = "YX" if colours == 1 else "YXC"
    data, alpha = ramp(20, 30, colours, dtype=dtype).squeeze(), ramp(20, 30, dtype=dtype)[::-1]
    write_image(tmp_path / "a.png", data, axes=axes, pixel_size=size)
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "a.png").read_bytes()), data)
    assert open_image(tmp_path / "a.png").pixel_size == pytest.approx(size, rel=1e-6)
    options: dict[str, Any] = {"shape": data.shape, "dtype": dtype, "axes": axes, "pixel_size": {}, "alpha": True}
    with create_writer(tmp_path / "b.png", **options) as writer:
        assert writer.holds_alpha
        writer.write([slice(None)] * len(axes), data)
        writer.write_alpha([slice(None)] * len(axes), alpha.reshape(alpha.shape + (1,) * (len(axes) - 2)))
    expected = np.dstack([data, alpha])
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "b.png").read_bytes()), expected)
    assert open_image(tmp_path / "b.png").pixel_size == {}


@pytest.mark.parametrize("samples", [2, 4])
def test_channels_that_are_no_colours_are_not_written_as_png(ramp: Ramp, tmp_path: Path, samples: int) -> None:
    with pytest.raises(InputError, match=r"a\.png: a PNG holds one 8- or 16-bit image or RGB"):
        write_image(tmp_path / "a.png", ramp(20, 30, samples, dtype="uint8"), axes="YXC", pixel_size={})


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["alpha/opaque_rgba.png", "alpha/grey_alpha_16.png", "png/basn4a16.png"])
def test_shared_files_with_opacity(shared_data: Path, name: str) -> None:
    stored = imagecodecs.png_decode((shared_data / "cases" / name).read_bytes())
    image = open_image(shared_data / "cases" / name)
    assert image.dtype == stored.dtype
    np.testing.assert_array_equal(image.read().reshape(*stored.shape[:2], -1), stored[..., :-1])
    np.testing.assert_array_equal(image.read_alpha().reshape(stored.shape[:2]), stored[..., -1])


@pytest.mark.parametrize("suffix", [".bmp", ".png"])
def test_palettes_of_colours(tmp_path: Path, suffix: str) -> None:
    pixels = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)
    image = Image.fromarray(pixels, "L").convert("P")
    image.putpalette([level for k in range(256) for level in (k, 255 - k, k // 2)])
    image.save(tmp_path / f"a{suffix}")
    opened = open_image(tmp_path / f"a{suffix}")
    assert opened.axes == "YXC"
    np.testing.assert_array_equal(opened.read(), np.stack([pixels, 255 - pixels, pixels // 2], -1))


@pytest.mark.parametrize("mode", ["L", "P", "1"])
@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_sizes_that_the_file_cannot_hold(tmp_path: Path, mode: str, suffix: str) -> None:
    Image.new(mode, (30, 20)).save(tmp_path / f"a{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    if suffix == ".png":
        header = content[12:16] + struct.pack(">2I", 50000, 50000) + content[24:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    else:
        content = content[:18] + struct.pack("<2i", 50000, 50000) + content[26:]
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"^a\{suffix}: (is cut short|\d+ bytes would expand)"):
        open_image(tmp_path / f"a{suffix}")


def test_a_png_whose_checksum_is_wrong_is_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48), np.uint8)
    content = imagecodecs.png_encode(pixels)
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with open_image(tmp_path / "a.png") as image, pytest.raises(InputError, match=r"^a\.png: is damaged \(broken PNG"):
        image.read()


def test_a_tiff_by_the_name_of_a_jpeg_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.jpg", np.arange(2 * 32 * 32, dtype=np.uint16).reshape(2, 32, 32))
    with pytest.raises(InputError, match=r"^a\.jpg: cannot be read as JPG .* is what its name says"):
        open_image(tmp_path / "a.jpg")
