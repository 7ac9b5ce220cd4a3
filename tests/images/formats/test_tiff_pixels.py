"""TIFFs of all kinds of pixels, against what Pillow shows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import LazyImage, open_image


def noise(*shape: int, top: int = 256, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, top, shape).astype(dtype)


def check(image: LazyImage, expected: np.ndarray) -> None:
    """The whole image and a window of it are as expected, sizes of 1 aside."""
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image.read(), expected)
    window = (slice(3, 11), slice(5, 20), slice(1, 3))[: expected.ndim]
    np.testing.assert_array_equal(image.read(window), expected[window])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_few_bits_and_white_as_zero(tmp_path: Path, bits: int, inverted: bool, compression: str | None) -> None:
    stored = noise(17, 31, top=2**bits, dtype="uint8" if bits <= 8 else "uint16")
    options: dict[str, Any] = {"photometric": "miniswhite" if inverted else "minisblack", "compression": compression}
    if bits in (2, 4, 12):  # which tifffile does not compress
        options |= {"bitspersample": bits, "compression": None}
    tifffile.imwrite(tmp_path / "a.tif", stored == 1 if bits == 1 else stored, **options)
    image = open_image(tmp_path / "a.tif")
    white = 2**bits - 1
    expected = white - stored if inverted else stored
    check(image, (expected * (255 // white)).astype("uint8") if bits < 8 else expected.astype(stored.dtype))
    if bits <= 8:
        with Image.open(tmp_path / "a.tif") as shown:
            np.testing.assert_array_equal(image.read(), np.asarray(shown.convert("L")))


def test_fax_compression_of_one_bit(tmp_path: Path) -> None:
    mask = noise(17, 31, top=2) == 1
    Image.fromarray(mask).save(tmp_path / "a.tif", compression="group4")
    check(open_image(tmp_path / "a.tif"), mask * np.uint8(255))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("int8", [-1, -128, 127]), ("int16", [-1, -32768, 32767]), ("uint32", [2**32 - 1, 0, 2**31]), ("float32", None)],
)
def test_white_as_zero_of_other_numbers(tmp_path: Path, dtype: str, expected: list[int] | None) -> None:
    """Integers keep their range; real numbers have no white level, and get a lookup table."""
    top = 1.0 if expected is None else np.iinfo(dtype).max
    stored = np.array([[0, top, (top + 1) * -1 if dtype[0] == "i" else top // 2]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    image = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.read(), stored if expected is None else [expected])
    assert [lut[:2] for lut in image.metadata.luts] == ([b"\xff\xfe"] if expected is None else [])


def test_without_the_tag_black_is_zero(tmp_path: Path) -> None:
    data = noise(17, 31)
    tifffile.imwrite(tmp_path / "a.tif", data, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset = tif.pages.first.tags["PhotometricInterpretation"].offset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offset : offset + 2] = (65000).to_bytes(2, "little")  # a private tag in its place
    (tmp_path / "a.tif").write_bytes(content)
    check(open_image(tmp_path / "a.tif"), data)


def test_white_as_zero_in_a_stack(tmp_path: Path) -> None:
    stack = noise(5, 17, 31, top=65536, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="miniswhite", metadata={"axes": "ZYX"})
    check(open_image(tmp_path / "a.tif"), 65535 - stack)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("grey", [False, True])
def test_palettes(tmp_path: Path, grey: bool, compression: str | None) -> None:
    entries = noise(256, 3)
    colours = entries[:, :1].repeat(3, 1) if grey else entries
    picture = Image.fromarray(noise(17, 31), "P")
    picture.putpalette(colours.tobytes())
    picture.save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as saved:
        check(open_image(tmp_path / "a.tif"), np.asarray(saved.convert("L" if grey else "RGB")))


def test_stacks_of_one_palette(tmp_path: Path) -> None:
    colours, stack = noise(256, 3), noise(3, 17, 31)
    planes = [Image.fromarray(plane, "P") for plane in stack]
    for plane in planes:
        plane.putpalette(colours.tobytes())
    planes[0].save(tmp_path / "a.tif", save_all=True, append_images=planes[1:])
    image = open_image(tmp_path / "a.tif")
    assert image.axes == "ZYXC"
    np.testing.assert_array_equal(image.read(np.s_[1:, 3:9, :5, 1:]), colours[stack][1:, 3:9, :5, 1:])
    planes[2].putpalette(colours[::-1].tobytes())
    planes[0].save(tmp_path / "b.tif", save_all=True, append_images=planes[1:])
    with pytest.raises(InputError, match=r"b\.tif: its planes have different palettes"):
        open_image(tmp_path / "b.tif")


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_palettes_of_8_and_of_16_bits_and_of_few_bits(tmp_path: Path, factor: int) -> None:
    entries = noise(16, 3, top=255, dtype="uint16")
    entries[3] = 255
    indices = noise(17, 31, top=16)
    colormap = entries.T * np.uint16(factor)
    wide = np.zeros((3, 256), "uint16")
    wide[:, :16] = colormap
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=wide)
    check(open_image(tmp_path / "a.tif"), entries[indices].astype("uint8"))
    tag = (320, "H", colormap.size, colormap.ravel().tolist(), True)
    tifffile.imwrite(tmp_path / "b.tif", indices, bitspersample=4, metadata=None, extratags=[tag])
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as tif:
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(3)
    check(open_image(tmp_path / "b.tif"), entries[indices].astype("uint8"))


def test_the_display_colours_of_a_measurement_are_no_pixels(tmp_path: Path) -> None:
    """Fiji writes the colours of an 8-bit image as a palette: what was measured is the index."""
    data = noise(17, 31)
    green = np.zeros((3, 256), "uint16")
    green[1] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="palette", colormap=green, description="ImageJ=1.54f\n")
    image = open_image(tmp_path / "a.tif")
    check(image, data)
    assert image.metadata.luts == ((green >> 8).astype("uint8").tobytes(),)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_colours_of_other_kinds_are_rgb(tmp_path: Path, mode: str, compression: str | None) -> None:
    stored = noise(17, 31, len(mode.replace("b", "").replace("r", "")))
    picture = Image.fromarray(stored, mode)
    picture.save(tmp_path / "a.tif", compression=compression)
    check(open_image(tmp_path / "a.tif"), np.asarray(picture.convert("RGB")))
    deep = stored.astype("uint16") * 257
    kind = {"CMYK": "separated", "YCbCr": "ycbcr"}[mode]
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric=kind, compression="zlib" if compression else None)
    image = open_image(tmp_path / "b.tif")
    assert image.dtype == np.uint16
    np.testing.assert_allclose(image.read() / 257, np.asarray(picture.convert("RGB")), atol=2)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_in_tiff_is_rgb(tmp_path: Path, subsampling: int) -> None:
    smooth = np.stack([*np.mgrid[:48, :64] * 3, np.full((48, 64), 90)], -1).astype("uint8")
    options: dict[str, Any] = {"subsampling": (2, 2) if subsampling else (1, 1), "compressionargs": {"level": 95}}
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="ycbcr", compression="jpeg", **options)
    with Image.open(tmp_path / "a.tif") as shown:
        np.testing.assert_allclose(open_image(tmp_path / "a.tif").read(), np.asarray(shown.convert("RGB")), atol=3.0)


def test_cielab_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(noise(17, 31, 3), "LAB").save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: the colours are CIELAB; save"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["grey", "palette", "rgba"])
def test_the_orientation_tag_is_applied(tmp_path: Path, kind: str, orientation: int) -> None:
    picture = Image.fromarray(noise(17, 31, 4) if kind == "rgba" else noise(17, 31))
    if kind == "palette":
        picture = Image.fromarray(noise(17, 31), "P")
        picture.putpalette(noise(256, 3).tobytes())
    picture.save(tmp_path / "a.tif", tiffinfo={274: orientation}, resolution=25400 / 0.1)
    expected = picture.convert("RGB") if kind != "grey" else picture
    expected.getexif()[274] = orientation
    image = open_image(tmp_path / "a.tif")
    check(image, np.asarray(ImageOps.exif_transpose(expected)))
    if kind == "rgba":
        alpha = picture.getchannel("A")
        alpha.getexif()[274] = orientation
        np.testing.assert_array_equal(image.read_alpha()[..., 0], np.asarray(ImageOps.exif_transpose(alpha)))


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_only_opacity_is_left_out(tmp_path: Path, kind: str) -> None:
    stored = noise(17, 31, 2, top=65536, dtype="uint16")
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [kind]}
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    image = open_image(tmp_path / "a.tif")
    assert image.has_alpha == (kind != "unspecified")
    if kind == "unspecified":
        check(image, stored)
    else:
        np.testing.assert_array_equal(image.read_alpha(), stored[..., 1])
        grey, alpha = np.moveaxis(stored.astype(int), -1, 0)
        divided = np.where(alpha > 0, np.minimum(grey * 65535 // np.maximum(alpha, 1), 65535), grey)
        check(image, (divided if kind == "assocalpha" else grey).astype("uint16"))


def test_rgb_without_the_tag_for_its_fourth_sample_has_opacity(tmp_path: Path) -> None:
    stored = noise(17, 31, 4)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tag = tif.pages.first.tags["ExtraSamples"]
        offset = tag.offset
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offset : offset + 2] = (65000).to_bytes(2, "little")  # a private tag in its place
    (tmp_path / "a.tif").write_bytes(content)
    image = open_image(tmp_path / "a.tif")
    check(image, stored[..., :3])
    np.testing.assert_array_equal(image.read_alpha()[..., 0], stored[..., 3])


def test_colours_beside_channels_are_channels(tmp_path: Path) -> None:
    data = noise(2, 17, 31, 3)
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="rgb", metadata={"axes": "CYXS"})
    image = open_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.shape) == ("CYX", (6, 17, 31))
    np.testing.assert_array_equal(image.read(), np.moveaxis(data, -1, 1).reshape(6, 17, 31))


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("min_is_white/white_is_zero.tif", "min_is_white/truth_shown.npy"),
        ("palette_tiff/grey64.tif", "palette_tiff/truth_grey64.npy"),
        ("palette_tiff/grey64.png", "palette_tiff/truth_grey64.npy"),
        ("few_bits/grey4.tif", "few_bits/truth_grey4.npy"),
    ],
)
def test_shared_cases(shared_data: Path, name: str, truth: str) -> None:
    check(open_image(shared_data / "cases" / name), np.load(shared_data / "cases" / truth))
