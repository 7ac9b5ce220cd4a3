"""Faulty directories of TIFFs: what can be read is read, what was cut short is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

DATA = np.random.default_rng(0).integers(0, 9999, (40, 50)).astype("uint16")


def change_counts(path: Path, change: Callable[[list[int]], list[int]]) -> None:
    """Overwrite the tag StripByteCounts or TileByteCounts."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        tags = tif.pages.first.tags
        tag = tags["StripByteCounts"] if "StripByteCounts" in tags else tags["TileByteCounts"]
        tag.overwrite(change([int(count) for count in np.atleast_1d(tag.value)]))


COUNTS: dict[str, Callable[[list[int]], list[int]]] = {
    "none": lambda counts: [0] * len(counts),
    "the last beyond the end": lambda counts: [*counts[:-1], counts[-1] + 30000],
    "each a little too large": lambda counts: [count + 9 for count in counts],
    "one of none": lambda counts: [*counts[:-1], 0],
}


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 7}, {"rowsperstrip": 40}, {"tile": (16, 32)}])
def test_wrong_byte_counts(tmp_path: Path, layout: dict[str, Any], compression: str | None, counts: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DATA, compression=compression, **layout)
    change_counts(tmp_path / "a.tif", COUNTS[counts])
    image = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.read(), DATA)
    np.testing.assert_array_equal(image.read(np.s_[5:33, 20:]), DATA[5:33, 20:])


@pytest.mark.parametrize("bits", [1, 4, 12])
def test_wrong_byte_counts_of_packed_bits(tmp_path: Path, bits: int) -> None:
    data = (DATA[:, :47] % 2**bits).astype("uint8" if bits < 8 else "uint16")
    options: dict[str, Any] = {"rowsperstrip": 7} | ({} if bits == 1 else {"bitspersample": bits})
    tifffile.imwrite(tmp_path / "a.tif", data == 1 if bits == 1 else data, **options)
    expected = open_image(tmp_path / "a.tif").read()
    change_counts(tmp_path / "a.tif", COUNTS["none"])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), expected)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg"])
def test_a_file_that_was_cut_short_is_still_refused(tmp_path: Path, compression: str | None) -> None:
    data = DATA.astype("uint8")
    tifffile.imwrite(tmp_path / "a.tif", data, compression=compression, rowsperstrip=16, metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:-40])
    with pytest.raises(InputError, match=r"a\.tif: is cut short"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("planes", "target"), [(1, 0), (3, 0), (3, 2), (120, 0), (120, 100)])
def test_a_list_of_planes_that_returns(
    tmp_path: Path, planes: int, target: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = np.random.default_rng(0).integers(0, 9999, (planes, 8, 9)).astype("uint16")
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for plane in data:
            writer.write(plane, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        offsets = [page.offset for page in tif.pages]
    content = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from("<H", content, offsets[-1])
    struct.pack_into("<I", content, offsets[-1] + 2 + 12 * tags, offsets[target])
    path.write_bytes(content)
    np.testing.assert_array_equal(open_image(path).read(), data.squeeze())
    assert "returns to its beginning" in caplog.text


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("planes", "announced"), [(1, 10), (4, 10), (4, 3), (4, 1)])
def test_planes_that_an_imagej_description_counts_wrongly(
    tmp_path: Path, planes: int, announced: int, compression: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    data = np.random.default_rng(0).integers(0, 9999, (planes, 40, 50)).astype("uint16")
    description = f"ImageJ=1.11a\nimages={announced}\nslices={announced}\nunit=um\nspacing=0.5\n"
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in data:
            writer.write(
                plane, description=description, metadata=None, contiguous=False, compression=compression, software=""
            )
            description = ""
    image = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.read(), data.squeeze())
    assert (f"counts {announced} planes, but it holds {planes}" in caplog.text) == (announced > 1)


def test_planes_that_an_imagej_description_of_one_piece_counts_wrongly(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 9999, (12, 20, 30)).astype("uint16")
    for announced in (24, 6):
        description = f"ImageJ=1.53\nimages={announced}\nslices={announced}\n"
        tifffile.imwrite(tmp_path / f"{announced}.tif", data, description=description, metadata=None)
        np.testing.assert_array_equal(open_image(tmp_path / f"{announced}.tif").read(), data)


@pytest.mark.parametrize(("planes", "steps"), [(6, 3), (7, 3), (2, 1)])
def test_a_time_lapse_that_was_stopped(
    tmp_path: Path, planes: int, steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    """OME-XML written before the acquisition announces frames that never came."""
    data = np.random.default_rng(0).integers(0, 9999, (planes, 40, 50)).astype("uint16")
    sizes = 'SizeX="50" SizeY="40" SizeZ="2" SizeC="1" SizeT="9" DimensionOrder="XYZCT" Type="uint16"'
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" {sizes}><Channel ID="Channel:0:0" '
        'SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for number, plane in enumerate(data):
            description = xml.encode() if number == 0 else None
            writer.write(plane, description=description, metadata=None, contiguous=False)
    image = open_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.pixel_size) == ("TZYX" if steps > 1 else "ZYX", {"X": 0.5})
    np.testing.assert_array_equal(image.read(), data[: 2 * steps].reshape(steps, 2, 40, 50).squeeze())
    assert f"announce 18 planes, but it holds {planes}" in caplog.text


def test_an_imagej_stack_of_one_directory_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 9999, (6, 40, 50)).astype("uint16")
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), stack)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:-5000])
    with pytest.raises(InputError, match=r"a\.tif: holds 1 of the 6 planes that its ImageJ description announces"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize("unit", ["µm", "\\u00B5m"])
def test_units_of_imagej_in_latin_1(tmp_path: Path, unit: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DATA, imagej=True, resolution=(8, 4), metadata={"unit": "micro"})
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(
        content.replace(b"unit=micro\n", f"unit={unit}\n".encode("latin-1").ljust(11, b"\n"))
    )
    assert open_image(tmp_path / "a.tif").pixel_size == pytest.approx({"X": 1 / 8, "Y": 1 / 4})


@pytest.mark.shared_data
def test_a_plane_whose_description_counts_ten(shared_data: Path) -> None:
    folder = shared_data / "cases" / "imagej_count"
    np.testing.assert_array_equal(open_image(folder / "plane3.tif").read(), np.load(folder / "truth.npy"))


@pytest.mark.parametrize(
    ("tag", "value"),
    [("ImageWidth", 2**31 - 1), ("ImageLength", 2**31 - 1), ("ImageLength", 10**5), ("ImageWidth", 31)],
)
@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 8}, {"tile": (16, 16)}])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_sizes_that_the_strips_do_not_hold(
    tmp_path: Path, tag: str, value: int, layout: dict[str, Any], compression: str | None
) -> None:
    data = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    tifffile.imwrite(tmp_path / "a.tif", data, compression=compression, metadata=None, **layout)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages.first.tags[tag].overwrite(value)
    if layout == {"tile": (16, 16)} and value == 31:  # within the tiles, which are larger
        assert open_image(tmp_path / "a.tif").shape == (20, 31)
        return
    with pytest.raises(InputError, match=r"^a\.tif: "):
        open_image(tmp_path / "a.tif").read()


def test_tiles_that_are_not_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GDAL leaves out tiles without data; a file without any tile was never written."""
    data = np.full((32, 32), 7, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, compression="zlib", tile=(16, 16), metadata=None)
    for holes, pixels in ((1, 3 * 256 * 7), (4, None)):
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
            tags = tif.pages.first.tags
            for code in (324, 325):
                tags[code].overwrite([0] * holes + list(tags[code].value)[holes:])
        if pixels is None:
            with pytest.raises(InputError, match="none of its pixels is stored"):
                open_image(tmp_path / "a.tif")
        else:
            assert open_image(tmp_path / "a.tif").read().sum() == pixels
            assert "1 of its strips or tiles are not stored" in caplog.text
