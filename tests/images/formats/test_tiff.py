"""TIFF in its dialects, against tifffile read directly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.tiff import _reader
from pssr2_monai.images.image import open_image

Ramp = Callable[..., np.ndarray]


LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip a plane": {},
    "many strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "zlib strips": {"compression": "zlib", "rowsperstrip": 7},
    "zlib tiles with predictor": {"compression": "zlib", "tile": (32, 16), "predictor": True},
    "LZW": {"compression": "lzw"},
    "zstd": {"compression": "zstd"},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "big-endian LZW tiles": {"byteorder": ">", "compression": "lzw", "tile": (16, 16)},
    "ImageJ": {"imagej": True},
    "ImageJ, one directory": {"imagej": True, "truncate": True},
    "one directory": {"truncate": True},
    "OME": {"ome": True},
    "no description": {"metadata": None},
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(ramp: Ramp, tmp_path: Path, layout: str, dtype: str) -> None:
    data = ramp(4, 70, 50, dtype=dtype)
    options = {"metadata": {"axes": "ZYX"}, "photometric": "minisblack", **LAYOUTS[layout]}
    file_options = {key: options.pop(key) for key in ("bigtiff", "byteorder", "imagej", "ome") if key in options}
    with tifffile.TiffWriter(tmp_path / "a.tif", **file_options) as tif:
        tif.write(data, **options)
    with open_image(tmp_path / "a.tif") as image:
        assert (image.axes, image.shape, image.dtype.str) == ("ZYX", data.shape, np.dtype(dtype).str)
        window = image.read(np.s_[1:3, 20:41, 5:49])
        assert window.dtype.isnative
        np.testing.assert_array_equal(window, data[1:3, 20:41, 5:49])
        np.testing.assert_array_equal(image.read(), tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize("layout", ["tiles", "zlib tiles with predictor", "big-endian LZW tiles", "many strips"])
@pytest.mark.parametrize(("depth", "height", "width"), [(1, 1, 40), (3, 1, 40), (3, 40, 1), (3, 1, 5)])
def test_planes_of_one_row_or_column(
    ramp: Ramp, tmp_path: Path, depth: int, height: int, width: int, layout: str, ome: bool
) -> None:
    data, options = ramp(depth, height, width, dtype="uint16"), LAYOUTS[layout].copy()
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=ome, byteorder=options.pop("byteorder", None)) as tif:
        tif.write(data, metadata={"axes": "ZYX"} if ome else None, photometric="minisblack", **options)
    with open_image(tmp_path / "a.tif") as image:
        shown = data if depth > 1 else data[0]
        assert image.shape == shown.shape
        np.testing.assert_array_equal(image.read(), shown)
        region = tuple(slice(min(3, size - 1), size) for size in shown.shape)
        np.testing.assert_array_equal(image.read(region), shown[region])


@pytest.mark.parametrize("layout", ["zlib strips", "zlib tiles with predictor", "LZW"])
def test_large_strips_are_decoded_once(
    ramp: Ramp, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, decoded = ramp(3, 70, 50, dtype="uint16"), []
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", **LAYOUTS[layout])
    read = zarr.Array.get_block_selection
    monkeypatch.setattr(
        zarr.Array, "get_block_selection", lambda self, place: decoded.append(place) or read(self, place)
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        reader = _reader(tif.series[0], large=1)
        for window in (
            np.s_[0:3, 0:70, 0:50],
            np.s_[1:3, 20:41, 5:49],
            np.s_[2:3, 69:70, 49:50],
            np.s_[0:1, 6:8, 0:17],
        ):
            np.testing.assert_array_equal(reader(window), data[window])
    assert len(decoded) == len(set(decoded))


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "int32", "float64", "float16", "uint64"])
def test_dtypes(ramp: Ramp, tmp_path: Path, dtype: str) -> None:
    data = ramp(30, 40, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", data)
    image = open_image(tmp_path / "a.tif")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image.read(), data)


def test_planes_written_one_by_one_are_mapped(ramp: Ramp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ramp(5, 64, 48)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in data:
            tif.write(plane, metadata=None, contiguous=False, software="a text between the planes")
    monkeypatch.delattr("zarr.open_array")  # what decodes whole strips
    image = open_image(tmp_path / "a.tif")
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.read(np.s_[1:4, 10:20, 30:48]), data[1:4, 10:20, 30:48])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_are_channels_and_opacity_is_not(
    ramp: Ramp, tmp_path: Path, alpha: bool, planar: str, compression: str | None
) -> None:
    data = ramp(20, 30, 3 + alpha, dtype="uint8")
    contig = planar == "contig"

    def stored(data: np.ndarray) -> np.ndarray:
        return data if contig else np.moveaxis(data, -1, -3)

    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": planar, "compression": compression}
    for name, pixels, axes in (("a.tif", data, "YX"), ("b.tif", np.stack([data, data[::-1]]), "ZYX")):
        tifffile.imwrite(tmp_path / name, stored(pixels), **options)
        image = open_image(tmp_path / name)
        assert image.axes == (axes + "C" if contig else axes[:-2] + "CYX")
        np.testing.assert_array_equal(image.read(), stored(pixels[..., :3]))
        assert image.has_alpha == alpha
        if alpha:
            np.testing.assert_array_equal(image.read_alpha(), stored(pixels[..., 3:]))
    first, window = (slice(1, 2),), (slice(0, 9), slice(2, 7))
    region = (*first, *window, slice(1, 3)) if contig else (*first, slice(1, 3), *window)
    np.testing.assert_array_equal(image.read(region), stored(pixels[..., :3])[region])


def test_imagej_hyperstack(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(3, 4, 2, 20, 30)
    metadata = {"axes": "TZCYX", "unit": "um", "spacing": -0.5, "finterval": 2.0}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(1 / 0.1, 1 / 0.2), metadata=metadata)
    image = open_image(tmp_path / "a.tif")
    assert (image.axes, image.shape) == ("TZCYX", data.shape)
    assert image.pixel_size == pytest.approx({"X": 0.1, "Y": 0.2, "Z": 0.5}, rel=1e-6)
    np.testing.assert_array_equal(image.read(np.s_[1:2, 3:4, :, 5:9, :]), data[1:2, 3:4, :, 5:9, :])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_pyramid_gives_its_full_resolution(ramp: Ramp, tmp_path: Path, compression: str | None) -> None:
    data = ramp(2, 256, 192)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        options: dict[str, Any] = {"tile": (64, 64), "compression": compression, "photometric": "minisblack"}
        tif.write(data, subifds=2, metadata={"axes": "CYX"}, **options)
        tif.write(data[:, ::2, ::2], subfiletype=1, **options)
        tif.write(data[:, ::4, ::4], subfiletype=1, **options)
    image = open_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.shape) == ("CYX", data.shape)
    np.testing.assert_array_equal(image.read(np.s_[:, 100:200, 50:150]), data[:, 100:200, 50:150])


def test_ome_channel_names_and_units(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(2, 3, 20, 30)
    metadata = {
        "axes": "CZYX",
        "Channel": {"Name": ["DAPI", "GFP"]},
        "PhysicalSizeX": 65.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.065,
        "PhysicalSizeZ": 0.0003,
        "PhysicalSizeZUnit": "mm",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", data, metadata=metadata)
    image = open_image(tmp_path / "a.ome.tif")
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_size == pytest.approx({"X": 0.065, "Y": 0.065, "Z": 0.3})


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_ome_sizes_in_no_length_are_unknown(ramp: Ramp, tmp_path: Path, unit: str) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 1.0, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", ramp(20, 30), metadata=metadata)
    assert open_image(tmp_path / "a.ome.tif").pixel_size == {}


@pytest.mark.parametrize(
    ("resolution", "unit", "size"),
    [
        ((72, 72), "INCH", {}),
        ((300, 300), "INCH", {}),
        ((1, 1), "CENTIMETER", {}),
        ((1e6, 5e5), "CENTIMETER", {"X": 0.01, "Y": 0.02}),  # 10 and 20 nm
        ((254000, 254000), "INCH", {"X": 0.1, "Y": 0.1}),
        ((1e6, 1e6), "NONE", {}),
    ],
)
def test_resolution_tags(
    ramp: Ramp, tmp_path: Path, resolution: tuple[float, float], unit: str, size: dict[str, float]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(20, 30), resolution=resolution, resolutionunit=unit)
    assert open_image(tmp_path / "a.tif").pixel_size == pytest.approx(size)


@pytest.mark.parametrize(
    ("unit", "per_unit", "size"),
    [
        ("micron", 10.0, 0.1),
        ("\\u00B5m", 10.0, 0.1),
        ("nm", 0.25, 0.004),
        ("mm", 1e4, 0.1),
        ("cm", 1e5, 0.1),
        ("pixel", 1.0, None),
        ("inch", 72.0, None),
        ("cm", 28.3, None),
    ],
)
def test_imagej_units(ramp: Ramp, tmp_path: Path, unit: str, per_unit: float, size: float | None) -> None:
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2 / per_unit}
    tifffile.imwrite(tmp_path / "a.tif", ramp(3, 20, 30), imagej=True, resolution=(per_unit,) * 2, metadata=metadata)
    expected = {} if size is None else {"X": size, "Y": size, "Z": 2 * size}
    assert open_image(tmp_path / "a.tif").pixel_size == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_cut_short_is_refused(tmp_path: Path, layout: str) -> None:
    options = {"metadata": {"axes": "ZYX"}, "photometric": "minisblack", **LAYOUTS[layout]}
    file_options = {key: options.pop(key) for key in ("bigtiff", "byteorder", "imagej", "ome") if key in options}
    data = np.random.default_rng(0).integers(0, 60000, (6, 70, 50), "uint16")
    with tifffile.TiffWriter(tmp_path / "a.tif", **file_options) as tif:
        tif.write(data, **options)
    whole = (tmp_path / "a.tif").read_bytes()
    for cut in range(1, len(whole), len(whole) // 37):
        (tmp_path / "cut.tif").write_bytes(whole[:-cut])
        try:
            image = open_image(tmp_path / "cut.tif")
        except InputError:
            continue
        # Only padding, or the unused end of a list, may be missing from a file that opens.
        np.testing.assert_array_equal(image.read(), data)
        assert cut == 1


def test_a_set_of_files_is_read_whole_or_refused(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(3, 20, 30)
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(3)
    )
    for z in range(3):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{z}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeZ="3" SizeC="1" '
            f'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"{z}.ome.tif", data[z], description=xml, metadata=None)
    with open_image(tmp_path / "0.ome.tif") as image:
        assert (image.axes, image.shape) == ("ZYX", data.shape)
        np.testing.assert_array_equal(image.read(), data)
    (tmp_path / "1.ome.tif").unlink()
    with pytest.raises(InputError, match=r"0\.ome\.tif: 1 of the 3 planes .* are missing"):
        open_image(tmp_path / "0.ome.tif")


FORMATS = {
    "ome_tiff/CellDivision_TZCYX_from_czi.ome.tif": ("TZCYX", {"Z": 0.32, "Y": 0.090576674, "X": 0.090576674}),
    "ome_tiff/FOV7_HV110_P0500510000.ome.tiff": ("YX", {}),
    "ome_tiff/ome_artificial_multi-channel.ome.tif": ("CYX", {}),
    "tiff_stacks/HeLa_zstack_Z15.tif": ("ZYX", {}),
    "tiff_stacks/fly_embryo_histoneGFP_timelapse_T15.tif": ("TYX", {}),
    "tiff_stacks/membrane_2d_timelapse_T5.tif": ("ZYX", {}),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", FORMATS)
def test_real_files(shared_data: Path, name: str) -> None:
    path = shared_data / "formats" / name
    axes, size = FORMATS[name]
    expected = tifffile.imread(path)
    with open_image(path) as image:
        assert (image.axes, image.shape, image.dtype) == (axes, expected.shape, expected.dtype.newbyteorder("="))
        assert image.pixel_size == pytest.approx(size)
        np.testing.assert_array_equal(image.read(), expected)
        window = tuple(slice(n // 3, n // 3 + 17) for n in image.shape)
        np.testing.assert_array_equal(image.read(window), expected[window])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lsm(ramp: Ramp, tmp_path: Path, channels: int) -> None:
    """Zeiss LSM: pages of planes, each followed by its thumbnail, and a tag with sizes in metres."""
    data = ramp(3, channels, 20, 30)
    fields = {"magic": 0x00400494C, "bytes": 500, "x": 30, "y": 20, "z": 3, "channels": channels, "t": 1, "type": 2}
    head = np.array([*fields.values(), 8, 8], "<u4").tobytes() + np.array([1e-7, 2e-7, 5e-7], "<f8").tobytes()
    with tifffile.TiffWriter(tmp_path / "a.lsm") as tif:
        for z, plane in enumerate(data):
            tag = (34412, "B", 500, head.ljust(500, b"\0"), True)
            options: dict[str, Any] = {"metadata": None, "contiguous": False, "photometric": "minisblack"}
            options |= {"planarconfig": "separate"} if channels > 1 else {}
            tif.write(plane.squeeze(), extratags=[tag] * (z == 0), **options)
            tif.write(np.zeros((channels, 8, 8), "uint8").squeeze(), subfiletype=1, **options)
    image = open_image(tmp_path / "a.lsm")
    assert image.axes == ("ZCYX" if channels > 1 else "ZYX")
    assert image.pixel_size == pytest.approx({"X": 0.1, "Y": 0.2, "Z": 0.5})
    np.testing.assert_array_equal(image.read(), data.squeeze())
    assert [entry.is_preview for entry in image.entries] == [False, True]
