"""The images of TIFF files of many kinds, against the pages that tifffile reads on their own."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pssr2_monai.images.image import list_images, open_image

OME = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
Ramp = Callable[..., np.ndarray]


def test_series_of_one_ome_file(ramp: Ramp, tmp_path: Path) -> None:
    arrays = [ramp(20, 30), ramp(3, 40, 50), ramp(2, 44, 44) + 7, ramp(2, 44, 44) + 9]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for number, data in enumerate(arrays):
            options = {
                "PhysicalSizeX": number + 1.0,
                "PhysicalSizeY": 2.0,
                "Name": "twin" if number > 1 else f"s{number}",
            }
            tif.write(data, photometric="minisblack", metadata={"axes": "CZYX"[-data.ndim :], **options})
    for number, data in enumerate(arrays, 1):
        image = open_image(tmp_path / "a.ome.tif", image=number)
        assert (image.shape, image.pixel_size) == (data.shape, {"Y": 2.0, "X": float(number)})
        np.testing.assert_array_equal(image.read(), data)
    assert open_image(tmp_path / "a.ome.tif").place == "image 2 of 4 (s1)"
    assert open_image(tmp_path / "a.ome.tif", image="s0").shape == (20, 30)


@pytest.mark.parametrize(
    ("settings", "shape", "axes"),
    [
        (["hChannels.channelSave = [1;2]", "hStackManager.framesPerSlice = 6"], (6, 2), "TCYX"),
        (["hChannels.channelSave = 1", "hStackManager.framesPerSlice = Inf"], (12,), "TYX"),
        (["hStackManager.actualNumSlices = 3", "hStackManager.framesPerSlice = 4"], (3, 4), "ZTYX"),
        (["hStackManager.enable = true", "hStackManager.numSlices = 12"], (12,), "ZYX"),
        (["hStackManager.enable = false", "hStackManager.numSlices = 12"], (12,), "TYX"),
        (["hFastZ.enable = true", "hStackManager.numSlices = 3", "hChannels.channelSave = [2;4]"], (2, 3, 2), "TZCYX"),
        (["hStackManager.actualNumSlices = 5", "hChannels.channelSave = [1;2]"], (6, 2), "TCYX"),  # aborted
    ],
)
@pytest.mark.parametrize("big", [True, False])
def test_channels_frames_and_slices_of_scanimage(
    ramp: Ramp, tmp_path: Path, settings: list[str], shape: tuple[int, ...], axes: str, big: bool
) -> None:
    """By the manual of ScanImage, channels run fastest, then frames of a slice, slices, volumes."""
    data = ramp(12, 20, 30).astype("int16")
    software = "\n".join(["SI.VERSION_MAJOR = 2020", *(f"SI.{setting}" for setting in settings)])
    description = "frameNumbers = 1"
    tifffile.imwrite(tmp_path / "a.tif", data, metadata=None, software=software, description=description, bigtiff=big)
    image = open_image(tmp_path / "a.tif")
    assert image.axes == axes
    np.testing.assert_array_equal(image.read(), data.reshape(*shape, 20, 30))


@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize(
    "layouts", [[{}] * 9, [{}, {"compression": "lzw"}, {"compression": "zlib", "tile": (16, 16)}] * 3]
)
def test_pages_written_one_by_one_are_one_stack(
    ramp: Ramp, tmp_path: Path, layouts: list[dict[str, Any]], shaped: bool
) -> None:
    data = ramp(len(layouts), 40, 50)
    for plane, layout in zip(data, layouts, strict=True):
        tifffile.imwrite(tmp_path / "a.tif", plane, append=True, metadata={} if shaped else None, **layout)
    with open_image(tmp_path / "a.tif") as image:
        assert (image.axes, image.place) == ("ZYX", "image 1 of 1")
        np.testing.assert_array_equal(image.read(), data)
        np.testing.assert_array_equal(image.read(np.s_[3:8, 5:30, 7:9]), data[3:8, 5:30, 7:9])


@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize("order", ["snapshot first", "snapshot last", "between"])
def test_a_snapshot_is_an_image_of_its_own(ramp: Ramp, tmp_path: Path, order: str, shaped: bool) -> None:
    stack, snapshot = ramp(9, 40, 50), ramp(33, 44)
    pages = list(stack)
    pages.insert({"snapshot first": 0, "snapshot last": 9, "between": 4}[order], snapshot)
    for page in pages:
        tifffile.imwrite(tmp_path / "a.tif", page, append=True, metadata={} if shaped else None)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), stack)
    number = {"snapshot first": 1, "snapshot last": 2, "between": 2}[order]
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image=number).read(), snapshot)


def test_stacks_that_were_written_as_such_stay_apart(ramp: Ramp, tmp_path: Path) -> None:
    stacks = [ramp(3, 40, 50), ramp(3, 40, 50) + 5]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for stack in stacks:
            tif.write(stack, photometric="minisblack", metadata={"axes": "ZYX"})
    for number, stack in enumerate(stacks, 1):
        np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image=number).read(), stack)


@pytest.mark.parametrize("named_by", ["page name", "FEI"])
def test_detectors_are_images_of_their_own(ramp: Ramp, tmp_path: Path, named_by: str) -> None:
    pages, names = ramp(4, 20, 30), ["ETD", "TLD", "ETD", "TLD"]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page, name in zip(pages, names, strict=True):
            fei = f"[User]\r\nDate=1\r\n[Detectors]\r\nNumber=1\r\nName={name}\r\n"
            tag = (34682, 2, None, fei, True) if named_by == "FEI" else (285, 2, None, name, True)
            tif.write(page, metadata=None, contiguous=False, extratags=[tag])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), pages[::2])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image="TLD").read(), pages[1::2])


def test_pages_whose_names_only_count_are_a_stack(ramp: Ramp, tmp_path: Path) -> None:
    pages = ramp(3, 20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for number, page in enumerate(pages):
            tif.write(page, metadata=None, contiguous=False, extratags=[(285, 2, None, f"slice_{number:03}", True)])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), pages)


def test_a_thumbnail_is_never_the_default(ramp: Ramp, tmp_path: Path) -> None:
    scan, thumbnail = ramp(20, 30), ramp(111, 122, 3, dtype="uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(thumbnail, subfiletype=1, photometric="rgb", metadata=None)
        tif.write(scan, metadata=None)
    assert open_image(tmp_path / "a.tif").place == "image 2 of 2"
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), scan)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image=1).read(), thumbnail)


@pytest.mark.parametrize("in_chain", [True, False])
def test_levels_of_a_pyramid_are_no_images(ramp: Ramp, tmp_path: Path, in_chain: bool) -> None:
    data = ramp(256, 192)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(data, subifds=None if in_chain else 2, tile=(64, 64), metadata=None)
        for step in (2, 4):
            tif.write(data[::step, ::step], subfiletype=1, tile=(64, 64), metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.place == "image 1 of 1"
    np.testing.assert_array_equal(image.read(), data)


def test_a_loop_of_pyramids_is_one_stack(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(3, 64, 64)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in data:
            tif.write(plane, subifds=1, tile=(16, 16))
            tif.write(plane[::2, ::2], subfiletype=1, tile=(16, 16))
    image = open_image(tmp_path / "a.tif")
    assert image.place == "image 1 of 1"
    np.testing.assert_array_equal(image.read(), data)


def write_micromanager(path: Path, stacks: dict[int, np.ndarray], positions: int) -> None:
    """Write the ZYX stacks of some positions as a Micro-Manager stack file."""
    depth, height, width = next(iter(stacks.values())).shape
    summary = {
        "MicroManagerVersion": "2.0",
        "Prefix": path.name.split("_MMStack")[0],
        "Positions": positions,
        "Slices": depth,
        "Frames": 1,
        "Channels": 1,
        "StagePositions": [{"Label": "A1"}, {"Label": "A2"}],
    }
    text = json.dumps(summary).encode()
    content = bytearray(
        struct.pack("<2sHI", b"II", 42, 40 + len(text)) + bytes(24) + struct.pack("<II", 2355492, len(text)) + text
    )
    index, links = [], []
    for position, stack in stacks.items():
        for z, plane in enumerate(stack):
            start = len(content)
            index.append((0, z, 0, position, start))
            after = start + 162 + plane.nbytes
            tags = [
                *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1)),
                *((273, 4, 1, start + 162), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, plane.nbytes)),
                *(
                    (282, 5, 1, after),
                    (283, 5, 1, after),
                    (296, 3, 1, 1),
                    (51123, 2, 5, after + 8),
                ),
            ]
            content += struct.pack("<H", 13) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
            links.append(len(content))
            content += bytes(4) + plane.astype("<u2").tobytes() + struct.pack("<II", 1, 1) + b"{}   \0\0\0"
    for link, (*_, following) in zip(links[:-1], index[1:], strict=True):
        struct.pack_into("<I", content, link, following)
    struct.pack_into("<II", content, 8, 54773648, len(content))
    content += struct.pack("<II", 3453623, len(index)) + b"".join(struct.pack("<5I", *entry) for entry in index)
    path.write_bytes(content)


@pytest.mark.parametrize("files", [1, 3])
def test_positions_of_micromanager(ramp: Ramp, tmp_path: Path, files: int) -> None:
    stacks = [ramp(4, 20, 30) + 5000 * position for position in range(3)]
    names = [f"run_MMStack_Pos{position}.ome.tif" for position in range(3)]
    if files == 1:
        write_micromanager(tmp_path / names[0], dict(enumerate(stacks)), positions=3)
    for position, stack in enumerate(stacks):
        if files == 3:
            write_micromanager(tmp_path / names[position], {position: stack}, positions=3)
    with tifffile.TiffFile(tmp_path / names[0]) as tif:
        assert tif.series[0].kind == "mmstack"
    assert [path.name for path in list_images(tmp_path)] == names[:files]
    for position, stack in enumerate(stacks):
        number = None if files == 3 else position + 1
        image = open_image(tmp_path / names[position if files == 3 else 0], image=number)
        place = f"image {number or 1} of {3 // files} ({['A1', 'A2', 'position 3'][position]})"
        assert (image.axes, image.place) == ("ZYX", place)
        np.testing.assert_array_equal(image.read(), stack)
        np.testing.assert_array_equal(image.read(np.s_[2:3, 4:9, 7:]), stack[2:3, 4:9, 7:])


def test_a_slide_is_read_without_its_label_and_macro_image(ramp: Ramp, tmp_path: Path) -> None:
    slide, larger = ramp(512, 768, 3, dtype="uint8"), np.zeros((900, 999, 3), "uint8")
    name = "Aperio Image Library v11.2.1\r\n"
    options: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(slide, tile=(256, 256), description=f"{name}768x512 [0,0 768x512] (256x256)|AppMag = 20", **options)
        tif.write(slide[::4, ::4], description=f"{name}thumbnail", **options)
        tif.write(slide[::4, ::4], tile=(128, 128), description=f"{name}level", **options)
        tif.write(larger, description=f"{name}label 999x900", subfiletype=1, **options)
        tif.write(larger, description=f"{name}macro 999x900", subfiletype=9, **options)
    image = open_image(tmp_path / "a.tif")
    assert (image.place, [entry.name for entry in image.entries]) == (
        "image 1 of 4 (Baseline)",
        ["Baseline", "Thumbnail", "Label", "Macro"],
    )
    np.testing.assert_array_equal(image.read(), slide)


@pytest.mark.parametrize("layout", ["after each plane", "SubIFDs", "the scan in a SubIFD"])
def test_thumbnails_beside_planes(ramp: Ramp, tmp_path: Path, layout: str) -> None:
    planes = ramp(3, 60, 90)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in planes:
            pages = [(plane, 0), (plane[:40, :50], 1)][:: -1 if layout == "the scan in a SubIFD" else 1]
            within = 0 if layout == "after each plane" else 1
            for number, (page, kind) in enumerate(pages):
                tif.write(page, subfiletype=kind, subifds=within * (number == 0), contiguous=False, metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image.read(), planes)
    assert len(image.entries) == (1 if layout == "SubIFDs" else 2)
