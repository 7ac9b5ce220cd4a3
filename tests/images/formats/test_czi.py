"""CZI against pylibCZIrw called directly, and against the same pixels in OME-TIFF."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

UNIT = 0.09057667415221031
FORMATS = {
    "Al2O3_SE_020_sp.czi": ("YX", (1536, 2048), "uint8", {"Y": 0.02791, "X": 0.02791}, 0),
    "CellDivision_T3_Z5_CH2_X240_Y170.czi": (
        "TZCYX",
        (3, 5, 2, 170, 240),
        "uint16",
        {"Z": 0.32, "Y": UNIT, "X": UNIT},
        2,
    ),
    "CellDivision_T3_Z5_CH2_X240_Y170_comp1.czi": ("TZCYX", (3, 5, 2, 170, 240), "uint16", {}, 0),
    "LLS7_small.czi": ("TZCYX", (2, 3, 2, 64, 64), "uint16", dict.fromkeys("ZYX", 0.144992), 2),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", FORMATS)
def test_real_files(shared_data: Path, name: str) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = shared_data / "formats" / "czi" / name
    axes, shape, dtype, size, names = FORMATS[name]
    with open_image(path) as image, czi.open_czi(str(path)) as document:
        assert (image.axes, image.shape, image.dtype) == (axes, shape, np.dtype(dtype))
        assert image.pixel_size == pytest.approx(size)
        assert len(image.channel_names) == names
        pixels = image.read()
        if axes == "YX":
            np.testing.assert_array_equal(pixels, document.read()[..., 0])
            window = document.read(roi=(100, 200, 300, 40))[..., 0]
            np.testing.assert_array_equal(image.read(np.s_[200:240, 100:400]), window)
            return
        for t, z, c in np.ndindex(shape[:3]):
            plane = document.read(plane={"T": t, "Z": z, "C": c})[..., 0]
            np.testing.assert_array_equal(pixels[t, z, c], plane)
        np.testing.assert_array_equal(image.read(np.s_[1:, 2:3, :, 7:50, 60:]), pixels[1:, 2:3, :, 7:50, 60:])


@pytest.mark.shared_data
def test_plain_compressed_and_converted_files_hold_the_same_pixels(shared_data: Path) -> None:
    pytest.importorskip("pylibCZIrw")
    stem = "CellDivision_T3_Z5_CH2_X240_Y170"
    plain = open_image(shared_data / "formats" / "czi" / f"{stem}.czi").read()
    compressed = open_image(shared_data / "formats" / "czi" / f"{stem}_comp1.czi").read()
    converted = open_image(shared_data / "formats" / "ome_tiff" / "CellDivision_TZCYX_from_czi.ome.tif").read()
    np.testing.assert_array_equal(plain, compressed)
    np.testing.assert_array_equal(plain, converted)


def test_written_files(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    colours = np.random.default_rng(0).integers(0, 255, (40, 50, 3), "uint8")
    grey = np.random.default_rng(1).random((3, 40, 50)).astype("float32")
    with czi.create_czi(str(tmp_path / "colours.czi")) as document:
        document.write(colours)  # blue, green, red; the corner of the mosaic is not at 0, 0
    with czi.create_czi(str(tmp_path / "grey.czi")) as document:
        for z, plane in enumerate(grey):
            document.write(plane[..., None], plane={"Z": z}, location=(-30, 17))
        document.write_metadata("grey", scale_x=2e-7, scale_y=1e-7)
    image = open_image(tmp_path / "colours.czi")
    assert (image.axes, image.dtype) == ("YXC", np.uint8)
    np.testing.assert_array_equal(image.read(), colours[..., ::-1])
    np.testing.assert_array_equal(image.read(np.s_[3:9, 4:30, 1:2]), colours[3:9, 4:30, 1:2])
    image = open_image(tmp_path / "grey.czi")
    assert (image.axes, image.shape, image.dtype) == ("ZYX", (3, 40, 50), np.float32)
    assert image.pixel_size == pytest.approx({"Y": 0.1, "X": 0.2})
    np.testing.assert_array_equal(image.read(np.s_[1:, 5:30, 6:40]), grey[1:, 5:30, 6:40])


@pytest.mark.parametrize("first", [{"Z": 3, "C": 0, "T": 0}, {"Z": 2, "C": 1, "T": 5}])
def test_a_part_of_a_stack_whose_indices_do_not_begin_at_0(tmp_path: Path, first: dict[str, int]) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    data = np.random.default_rng(0).integers(0, 9999, (2, 3, 2, 40, 50)).astype("uint16")
    with czi.create_czi(str(tmp_path / "part.czi")) as document:
        for t, z, c in np.ndindex(2, 3, 2):
            plane = {"T": first["T"] + t, "Z": first["Z"] + z, "C": first["C"] + c}
            document.write(data[t, z, c][..., None], plane=plane)
    image = open_image(tmp_path / "part.czi")
    assert (image.axes, image.shape) == ("TZCYX", data.shape)
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(image.read(np.s_[1:, 2:, 1:, 5:30, 6:40]), data[1:, 2:, 1:, 5:30, 6:40])


def test_colours_beside_channels_are_channels(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    data = np.random.default_rng(0).integers(0, 255, (2, 40, 50, 3), "uint8")
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for channel, plane in enumerate(data):
            document.write(plane[..., ::-1], plane={"C": channel})  # blue, green, red
    image = open_image(tmp_path / "a.czi")
    assert (image.axes, image.shape) == ("CYX", (6, 40, 50))
    np.testing.assert_array_equal(image.read(), np.moveaxis(data, -1, 1).reshape(6, 40, 50))


def test_scenes_and_pixel_types_are_images_of_their_own(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    generator = np.random.default_rng(0)
    sizes = [(40, 50), (60, 70)]
    grey = [generator.integers(0, 60000, (*size, 1), "uint16") for size in sizes]
    colours = [generator.integers(0, 255, (*size, 3), "uint8") for size in sizes]
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for scene, (one, three) in enumerate(zip(grey, colours, strict=True)):
            document.write(one, plane={"C": 0}, scene=scene, location=(scene * 200, 30))
            document.write(three, plane={"C": 1}, scene=scene, location=(scene * 200, 30))
    image = open_image(tmp_path / "a.czi")
    assert (image.place, image.axes) == ("image 3 of 4 (scene 2 Gray16)", "YX")
    np.testing.assert_array_equal(image.read(), grey[1][..., 0])
    for scene in range(2):
        image = open_image(tmp_path / "a.czi", image=f"scene {scene + 1} Gray16")
        np.testing.assert_array_equal(image.read(np.s_[3:30, 5:40]), grey[scene][3:30, 5:40, 0])
        image = open_image(tmp_path / "a.czi", image=2 * scene + 2)
        np.testing.assert_array_equal(image.read(), colours[scene][..., ::-1])


def test_scenes_of_different_depth_and_channels(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    data = np.random.default_rng(0).integers(0, 60000, (2, 5, 40, 50), "uint16")
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for z in range(5):
            document.write(data[0, z][..., None], plane={"C": 1, "Z": z}, scene=0, location=(0, 0))
        for channel in range(2):
            document.write(data[1, channel][..., None], plane={"C": channel, "Z": 2}, scene=1, location=(100, 0))
        document.write_metadata("a", channel_names={0: "DAPI", 1: "GFP"})
    image = open_image(tmp_path / "a.czi")
    assert (image.place, image.axes, image.channel_names) == ("image 1 of 2 (scene 1)", "ZYX", ("GFP",))
    np.testing.assert_array_equal(image.read(), data[0])
    image = open_image(tmp_path / "a.czi", image=2)
    assert (image.axes, image.channel_names) == ("CYX", ("DAPI", "GFP"))
    np.testing.assert_array_equal(image.read(), data[1, :2])


@pytest.mark.shared_data
def test_the_scenes_of_a_file(shared_data: Path) -> None:
    pytest.importorskip("pylibCZIrw")
    scenes = np.load(shared_data / "cases" / "czi_scenes" / "scenes.npy")
    for number, scene in enumerate(scenes, 1):
        image = open_image(shared_data / "cases" / "czi_scenes" / "two_scenes.czi", image=number)
        assert (image.place, image.channel_names) == (f"image {number} of 2 (scene {number})", ("EGFP",))
        np.testing.assert_array_equal(image.read(), scene)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pylibCZIrw")
    (tmp_path / "a.czi").write_text("This is no image." * 100)
    with pytest.raises(InputError, match=r"a\.czi: cannot be read as CZI"):
        open_image(tmp_path / "a.czi")


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE")
    with pytest.raises(InputError, match=r'a\.czi: .*pip install "pssr2-monai\[czi\]"'):
        open_image(tmp_path / "a.czi")


@pytest.mark.shared_data
def test_colours_windows_and_times(shared_data: Path) -> None:
    """Against the XML of the file: LED555 and LED470, displayed up to shares of 65535, each 60.075 s."""
    with open_image(shared_data / "formats/czi/CellDivision_T3_Z5_CH2_X240_Y170.czi") as image:
        stated = image.metadata
    assert stated.colors == ("FF7E00", "00FF33")
    np.testing.assert_allclose(stated.windows, [(0, 0.059830624856946672 * 65535), (0, 0.24975967040512703 * 65535)])
    assert stated.time_step == pytest.approx(60.075)


@pytest.mark.shared_data
def test_where_the_stage_stood(shared_data: Path) -> None:
    """As czitools finds it in the subblocks of this file."""
    with open_image(shared_data / "formats/czi/CellDivision_T3_Z5_CH2_X240_Y170.czi") as image:
        assert image.metadata.origin == pytest.approx({"X": 16977.153, "Y": 18621.489, "Z": 1116.09})
        assert image.metadata.framed


def test_the_centres_of_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for scene in range(2):
            document.write(np.zeros((20, 30, 1), "uint8"), scene=scene, location=(100 * scene, 0))
    scenes = [{"@Index": "0", "CenterPosition": "51750,-42250.5"}, {"@Index": "1", "@Name": "B2"}]
    stage = {"@Id": "MTBStageAxisX", "Position": {"@Unit": "µm", "#text": "12.5"}}
    stated = {
        "Information": {"Image": {"Dimensions": {"S": {"Scenes": {"Scene": scenes}}}}},
        "HardwareSetting": {"ParameterCollection": stage},
    }
    monkeypatch.setattr("pssr2_monai.images.formats.czi._metadata", lambda document: stated)
    assert open_image(tmp_path / "a.czi", image=1).metadata.origin == {"X": 51750.0, "Y": -42250.5}
    assert open_image(tmp_path / "a.czi", image="B2").metadata.origin == {}  # the stage may have been elsewhere
