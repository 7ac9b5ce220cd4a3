"""What OME-XML and ImageJ's description state: read from files of tifffile, and read by tifffile in written ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pssr2_monai.images.image import open_image
from pssr2_monai.images.metadata import ImageMetadata, color_ramp
from pssr2_monai.images.writer import write_image

STACK = np.arange(3 * 2 * 2 * 20 * 30, dtype=np.uint16).reshape(3, 2, 2, 20, 30)  # TZCYX
SIZES = {"Z": 0.5, "Y": 0.2, "X": 0.1}


def imagej(path: Path, data: np.ndarray, axes: str, **metadata: Any) -> ImageMetadata:
    options = {"resolution": (10, 5), "metadata": {"axes": axes, "unit": "um", "spacing": 0.5} | metadata}
    tifffile.imwrite(path, data, imagej=True, **options)
    with open_image(path) as image:
        return image.metadata


def ome(path: Path, data: np.ndarray, axes: str, **metadata: Any) -> ImageMetadata:
    tifffile.imwrite(path, data, photometric="minisblack", metadata={"axes": axes} | metadata)
    with open_image(path) as image:
        return image.metadata


def written(path: Path, data: np.ndarray, axes: str, metadata: ImageMetadata, **options: Any) -> tifffile.TiffFile:
    write_image(path, data, axes=axes, pixel_size=SIZES, metadata=metadata, **options)
    return tifffile.TiffFile(path)


def test_imagej_is_read(tmp_path: Path) -> None:
    luts = [np.frombuffer(color_ramp(color), np.uint8).reshape(3, 256) for color in ("00FF00", "FF0000")]
    labels = [f"t{t} z{z} c{c}" for t in range(3) for z in range(2) for c in range(2)]
    stated = imagej(
        tmp_path / "a.tif",
        STACK,
        "TZCYX",
        finterval=2.5,
        xorigin=5,
        yorigin=-7.5,
        zorigin=1,
        Ranges=(0.0, 4000.0, 100.0, 3000.0),
        LUTs=luts,
        Labels=labels,
        Info="Detector = ETD\n",
    )
    assert stated.origin == pytest.approx({"X": -0.5, "Y": 1.5, "Z": -0.5})
    assert stated.time_step == 2.5
    assert stated.windows == ((0, 4000), (100, 3000))
    assert stated.lut_colors() == ("00FF00", "FF0000")
    assert stated.labels == tuple(labels)
    assert stated.notes == "Detector = ETD\n"


@pytest.mark.parametrize(("unit", "factor"), [("sec", 1), ("ms", 1e-3), ("min", 60), ("hours", 3600), ("px", None)])
def test_imagej_time_units(tmp_path: Path, unit: str, factor: float | None) -> None:
    stated = imagej(tmp_path / "a.tif", STACK[:, 0, 0], "TYX", finterval=4.0, tunit=unit)
    assert stated.time_step == (factor and pytest.approx(4.0 * factor))


def test_what_imagej_does_not_state_is_unknown(tmp_path: Path) -> None:
    stated = imagej(tmp_path / "a.tif", STACK[:, 0], "TCYX")
    assert stated == ImageMetadata()
    tifffile.imwrite(tmp_path / "b.tif", STACK[0, 0, 0], imagej=True, metadata={"xorigin": 5})
    assert open_image(tmp_path / "b.tif").metadata.origin == {}  # of pixels of unknown size


def test_ome_is_read(tmp_path: Path) -> None:
    positions = {
        f"Position{axis}": [start + k for k in range(12)] for axis, start in (("X", 60.9), ("Y", 52.1), ("Z", -3.0))
    }
    units = {"PositionXUnit": ["µm"] * 12, "PositionYUnit": ["mm"] * 12, "PositionZUnit": ["nm"] * 12}
    stated = ome(
        tmp_path / "a.ome.tif",
        STACK,
        "TZCYX",
        TimeIncrement=40,
        TimeIncrementUnit="ms",
        Channel={"Name": ["GFP", "RFP"], "Color": [16711935, -16776961]},
        Plane=positions | units,
        Description="first slide",
    )
    assert stated.origin == pytest.approx({"X": 60.9, "Y": 52100.0, "Z": -0.003})
    assert stated.time_step == pytest.approx(0.04)
    assert stated.colors == ("00FF00", "FF0000")
    assert stated.notes == "first slide"


@pytest.mark.parametrize(("times", "step"), [([0.5, 3.0, 5.5], 2.5), ([0.0, 2.5, 9.0], None)])
def test_times_of_planes_give_the_step(tmp_path: Path, times: list[float], step: float | None) -> None:
    planes = {"DeltaT": [time * 1000 + c for time in times for c in range(2)], "DeltaTUnit": ["ms"] * 2 * len(times)}
    assert ome(tmp_path / "a.ome.tif", STACK[:, 0], "TCYX", Plane=planes).time_step == step


def test_a_position_without_unit_is_kept_without(tmp_path: Path) -> None:
    stated = ome(tmp_path / "a.ome.tif", STACK[0, 0, 0], "YX", Plane={"PositionX": [4.0]})
    assert stated == ImageMetadata(origin={"X": 4.0}, framed=True)
    with written(tmp_path / "b.ome.tif", STACK[0, 0, 0], "YX", stated) as tif:
        plane = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]["Plane"]
    assert (plane["PositionX"], plane["PositionXUnit"]) == (4, "reference frame")
    with written(tmp_path / "b.tif", STACK[0, 0, 0], "YX", stated) as tif:
        assert "xorigin" not in tif.imagej_metadata


FULL = ImageMetadata(
    origin={"Z": 3.0, "Y": 1.0, "X": -2.0},
    time_step=2.5,
    colors=("00FF00", "FF0080"),
    windows=((0, 4000), (100, 3000)),
    labels=tuple(f"plane {i}" for i in range(12)),
    notes="Detector = ETD",
)


def test_imagej_is_written(tmp_path: Path) -> None:
    with written(tmp_path / "a.tif", STACK, "TZCYX", FULL) as tif:
        meta = tif.imagej_metadata
        np.testing.assert_array_equal(tif.asarray(), STACK)
    assert meta["finterval"] == 2.5
    assert [meta["xorigin"], meta["yorigin"], meta["zorigin"]] == pytest.approx([20, -5, -6])
    assert meta["Ranges"] == (0, 4000, 100, 3000)
    assert (meta["min"], meta["max"]) == (0, 4000)
    assert meta["Labels"] == list(FULL.labels)
    np.testing.assert_array_equal(meta["LUTs"][1][:, 255], [255, 0, 128])
    assert meta["Info"] == "Detector = ETD"


def test_ome_is_written(tmp_path: Path) -> None:
    with written(tmp_path / "a.ome.tif", STACK, "TZCYX", FULL, channel_names=["a", "b"]) as tif:
        image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
    pixels = image["Pixels"]
    assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (2.5, "s")
    assert [channel["Name"] for channel in pixels["Channel"]] == ["a", "b"]
    assert [channel["Color"] & 0xFFFFFFFF for channel in pixels["Channel"]] == [0x00FF00FF, 0xFF0080FF]
    assert len(pixels["Plane"]) == 12
    for plane in pixels["Plane"]:
        assert (plane["PositionX"], plane["PositionY"]) == (-2, 1)
        assert plane["PositionZ"] == pytest.approx(3 + 0.5 * plane["TheZ"])
        assert {plane[f"Position{axis}Unit"] for axis in "XYZ"} == {"µm"}
    assert image["Description"] == "Detector = ETD"


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, STACK, axes="TZCYX", pixel_size=SIZES, metadata=FULL)
    with open_image(tmp_path / name) as image:
        stated = image.metadata
    assert stated.origin == pytest.approx(FULL.origin)
    assert (stated.time_step, stated.lut_colors(), stated.notes) == (2.5, FULL.colors, FULL.notes)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_what_is_unknown_is_not_written(tmp_path: Path, name: str) -> None:
    with written(tmp_path / name, STACK, "TZCYX", ImageMetadata()) as tif:
        text = tif.pages.first.description
    words = ("origin", "finterval", "min=", "Position", "TimeIncrement", "Color", "Description", "c0")
    assert not [word for word in words if word in text]


def test_lists_of_other_lengths_are_left_out(tmp_path: Path) -> None:
    with written(tmp_path / "a.tif", STACK[0, 0, 0], "YX", FULL) as tif:
        assert not {"LUTs", "Ranges", "min", "Labels"} & set(tif.imagej_metadata)


@pytest.mark.parametrize("axes", ["YX", "ZYX"])
def test_the_lookup_table_of_one_channel_is_a_palette(tmp_path: Path, axes: str) -> None:
    """Which is all that ImageJ reads for 8 bits; the pixels stay what was measured."""
    pixels = STACK[0, :, 0].astype(np.uint8)
    pixels = pixels[0] if axes == "YX" else pixels
    with written(tmp_path / "a.tif", pixels, axes, ImageMetadata(colors=("FF8000",))) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.PALETTE
        np.testing.assert_array_equal(tif.pages.first.colormap[:, [0, 255]], [[0, 65535], [0, 128 * 257], [0, 0]])
        assert tif.imagej_metadata.get("slices", 1) == (2 if axes == "ZYX" else 1)
    with written(tmp_path / "grey.tif", pixels, axes, ImageMetadata(colors=("FFFFFF",))) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
    with open_image(tmp_path / "a.tif") as image:
        assert (image.axes, image.metadata.lut_colors()) == (axes, ("FF8000",))
        np.testing.assert_array_equal(image.read(), pixels)


def test_numbers_with_a_sign(tmp_path: Path) -> None:
    values = np.array([[-32768, -1, 0], [1, 32767, 1200]], np.int16)
    stored = (values.astype(np.int32) + 32768).astype(np.uint16)
    function = {"cf": 0, "c0": -32768, "c1": 1, "vunit": "Gray Value", "min": 32768.0, "max": 34000.0}
    tifffile.imwrite(tmp_path / "a.tif", stored, imagej=True, metadata=function)
    with open_image(tmp_path / "a.tif") as image:
        assert image.dtype == np.int16
        np.testing.assert_array_equal(image.read(), values)
        np.testing.assert_array_equal(image.read(np.s_[1:, :2]), values[1:, :2])
        assert image.metadata.windows == ((0, 1232),)
        assert image.metadata.calibration["vunit"] == "Gray Value"
        with written(tmp_path / "b.tif", image.read(), "YX", image.metadata) as tif:
            np.testing.assert_array_equal(tif.asarray(), stored)
            meta = tif.imagej_metadata
    assert [meta["cf"], meta["c0"], meta["c1"], meta["min"], meta["max"]] == [0, -32768, 1, 32768, 34000]
    with open_image(tmp_path / "b.tif") as image:
        np.testing.assert_array_equal(image.read(), values)
    # Elsewhere numbers have their sign for every reader.
    with written(tmp_path / "c.tif", values, "YX", ImageMetadata()) as tif:
        np.testing.assert_array_equal(tif.asarray(), values)


def test_other_functions_of_values_are_kept(tmp_path: Path) -> None:
    function = {"cf": 0, "c0": 10.5, "c1": -0.25, "vunit": "OD"}
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, 0, 0], imagej=True, metadata=function)
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(), STACK[0, 0, 0])
        with written(tmp_path / "b.tif", image.read(), "YX", image.metadata) as tif:
            assert {key: tif.imagej_metadata[key] for key in function} == function


@pytest.mark.shared_data
def test_cases_of_lost_metadata(shared_data: Path) -> None:
    with open_image(shared_data / "cases/lost_metadata/imagej.tif") as image:
        stated = image.metadata
        assert image.pixel_size == pytest.approx({"Y": 0.1, "X": 0.1})
    assert stated.origin == pytest.approx({"X": -0.5, "Y": -0.7})
    assert (stated.time_step, stated.windows) == (2.5, ((0, 4000), (100, 3000)))
    assert stated.labels[:2] == ("t0 cA", "t0 cB")
    with open_image(shared_data / "cases/lost_metadata/ome.ome.tif") as image:
        assert (image.metadata.time_step, image.metadata.colors) == (2.5, ("00FF00", "FF0000"))
    with open_image(shared_data / "cases/imagej_signed16/signed16.tif") as image:
        np.testing.assert_array_equal(image.read(), np.load(shared_data / "cases/imagej_signed16/truth_int16.npy"))
