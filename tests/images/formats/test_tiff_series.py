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

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import list_images, open_image

Writer = Callable[..., list[Path]]
OME = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'


def ramp(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels that all differ."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def ome_image(name: str, data: np.ndarray, planes: list[tuple[str, int]], size: float, channel: str) -> str:
    """The OME-XML of a ZYX image whose planes are (file, page)."""
    depth, height, width = data.shape
    places = "".join(
        f'<TiffData FirstZ="{z}" IFD="{page}" PlaneCount="1"><UUID FileName="{file}">urn:uuid:{file}</UUID></TiffData>'
        for z, (file, page) in enumerate(planes)
    )
    return (
        f'<Image ID="Image:{name}" Name="{name}"><Pixels ID="Pixels:{name}" DimensionOrder="XYZCT" Type="{data.dtype}" '
        f'SizeX="{width}" SizeY="{height}" SizeZ="{depth}" SizeC="1" SizeT="1" PhysicalSizeX="{size}" '
        f'PhysicalSizeY="{size}"><Channel ID="Channel:{name}" Name="{channel}" SamplesPerPixel="1"/>{places}'
        "</Pixels></Image>"
    )


def write_pages(path: Path, pages: Any, description: str, **options: Any) -> None:
    with tifffile.TiffWriter(path) as tif:
        for number, page in enumerate(pages):
            text = description if number == 0 else None
            tif.write(page, description=text, metadata=None, contiguous=False, **options)


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"compression": "lzw"},
    {"compression": "zlib", "tile": (16, 16)},
    {"rowsperstrip": 7},
]


def fields(folder: Path, layouts: list[dict[str, Any]]) -> list[np.ndarray]:
    """Write an OME-TIFF set of one field of view a file, of different sizes, and return the fields."""
    arrays = [ramp(2, 40 + 8 * i, 50 - i, dtype="uint16") + 1000 * i for i in range(len(layouts))]
    names = [f"Pos{i}.ome.tif" for i in range(len(layouts))]
    images = "".join(
        ome_image(f"Pos{i}", data, [(names[i], z) for z in range(2)], 0.1 * (i + 1), f"dye {i}")
        for i, data in enumerate(arrays)
    )
    for name, data, layout in zip(names, arrays, layouts, strict=True):
        xml = f'<?xml version="1.0" encoding="UTF-8"?><OME {OME} UUID="urn:uuid:{name}">{images}</OME>'
        write_pages(folder / name, data, xml, **layout)
    return arrays


@pytest.mark.parametrize("layouts", [[{}] * 3, [{"compression": "zlib"}] * 3, LAYOUTS, LAYOUTS[::-1]])
def test_a_file_of_a_set_of_fields_has_its_own(tmp_path: Path, layouts: list[dict[str, Any]]) -> None:
    arrays = fields(tmp_path, layouts)
    for i, data in enumerate(arrays):
        with open_image(tmp_path / f"Pos{i}.ome.tif") as image:
            assert (image.axes, image.shape, image.channel_names) == ("ZYX", data.shape, (f"dye {i}",))
            assert image.pixel_size == pytest.approx({"Y": 0.1 * (i + 1), "X": 0.1 * (i + 1)})
            assert image.place == f"image 1 of 1 (Pos{i})"
            np.testing.assert_array_equal(image.read(), data)
            np.testing.assert_array_equal(image.read(np.s_[1:, 7:20, 3:30]), data[1:, 7:20, 3:30])
        with pytest.raises(InputError, match="there is no image 'Pos9'"):
            open_image(tmp_path / f"Pos{i}.ome.tif", image="Pos9")


def test_a_renamed_or_moved_file_of_a_set_of_fields_reads(tmp_path: Path) -> None:
    arrays = fields(tmp_path, LAYOUTS)
    (tmp_path / "Pos0.ome.tif").unlink()
    (tmp_path / "Pos2.ome.tif").rename(tmp_path / "cell.ome.tif")
    np.testing.assert_array_equal(open_image(tmp_path / "cell.ome.tif").read(), arrays[2])
    image = open_image(tmp_path / "Pos3.ome.tif")
    assert (image.shape, image.channel_names) == (arrays[3].shape, ("dye 3",))


@pytest.mark.parametrize("layouts", [[{}] * 4, LAYOUTS])
def test_planes_in_files_that_are_stored_differently(
    tmp_path: Path, layouts: list[dict[str, Any]], write_ome_set: Writer
) -> None:
    data = ramp(4, 40, 50)
    for file in write_ome_set(tmp_path, data, layouts=layouts):
        with open_image(file) as image:
            assert image.axes == "ZYX"
            np.testing.assert_array_equal(image.read(), data)
            np.testing.assert_array_equal(image.read(np.s_[1:3, 11:30, 2:9]), data[1:3, 11:30, 2:9])


@pytest.mark.parametrize("metadata_file", ["set.companion.ome", "z0.ome.tif"])
def test_metadata_in_another_file(tmp_path: Path, metadata_file: str) -> None:
    data = ramp(3, 20, 30)
    names = [f"z{z}.ome.tif" for z in range(3)]
    image = ome_image("stack", data, [(name, 0) for name in names], 0.2, "dye")
    xml = f'<?xml version="1.0" encoding="UTF-8"?><OME {OME} UUID="urn:uuid:{metadata_file}">{image}</OME>'
    for name, plane in zip(names, data, strict=True):
        only = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME {OME} UUID="urn:uuid:{name}">'
            f'<BinaryOnly MetadataFile="{metadata_file}" UUID="urn:uuid:{metadata_file}"/></OME>'
        )
        write_pages(tmp_path / name, [plane], xml if name == metadata_file else only)
    if metadata_file not in names:
        (tmp_path / metadata_file).write_text(xml, encoding="utf-8")
    with open_image(tmp_path / "z1.ome.tif") as image_:
        assert (image_.axes, image_.channel_names, image_.pixel_size) == ("ZYX", ("dye",), {"Y": 0.2, "X": 0.2})
        np.testing.assert_array_equal(image_.read(), data)
    (tmp_path / metadata_file).unlink()
    with pytest.raises(InputError, match=rf"z1\.ome\.tif: .*{metadata_file}, which is missing"):
        open_image(tmp_path / "z1.ome.tif")


def test_series_of_one_ome_file(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize("layouts", [[{}] * 9, LAYOUTS * 3])
def test_pages_written_one_by_one_are_one_stack(tmp_path: Path, layouts: list[dict[str, Any]], shaped: bool) -> None:
    data = ramp(len(layouts), 40, 50)
    for plane, layout in zip(data, layouts, strict=True):
        tifffile.imwrite(tmp_path / "a.tif", plane, append=True, metadata={} if shaped else None, **layout)
    with open_image(tmp_path / "a.tif") as image:
        assert (image.axes, image.place) == ("ZYX", "image 1 of 1")
        np.testing.assert_array_equal(image.read(), data)
        np.testing.assert_array_equal(image.read(np.s_[3:8, 5:30, 7:9]), data[3:8, 5:30, 7:9])


@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize("order", ["snapshot first", "snapshot last", "between"])
def test_a_snapshot_is_an_image_of_its_own(tmp_path: Path, order: str, shaped: bool) -> None:
    stack, snapshot = ramp(9, 40, 50), ramp(33, 44)
    pages = list(stack)
    pages.insert({"snapshot first": 0, "snapshot last": 9, "between": 4}[order], snapshot)
    for page in pages:
        tifffile.imwrite(tmp_path / "a.tif", page, append=True, metadata={} if shaped else None)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), stack)
    number = {"snapshot first": 1, "snapshot last": 2, "between": 2}[order]
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image=number).read(), snapshot)


def test_stacks_that_were_written_as_such_stay_apart(tmp_path: Path) -> None:
    stacks = [ramp(3, 40, 50), ramp(3, 40, 50) + 5]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for stack in stacks:
            tif.write(stack, photometric="minisblack", metadata={"axes": "ZYX"})
    for number, stack in enumerate(stacks, 1):
        np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image=number).read(), stack)


@pytest.mark.parametrize("named_by", ["page name", "FEI"])
def test_detectors_are_images_of_their_own(tmp_path: Path, named_by: str) -> None:
    pages, names = ramp(4, 20, 30), ["ETD", "TLD", "ETD", "TLD"]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page, name in zip(pages, names, strict=True):
            fei = f"[User]\r\nDate=1\r\n[Detectors]\r\nNumber=1\r\nName={name}\r\n"
            tag = (34682, 2, None, fei, True) if named_by == "FEI" else (285, 2, None, name, True)
            tif.write(page, metadata=None, contiguous=False, extratags=[tag])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), pages[::2])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image="TLD").read(), pages[1::2])


def test_pages_whose_names_only_count_are_a_stack(tmp_path: Path) -> None:
    pages = ramp(3, 20, 30)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for number, page in enumerate(pages):
            tif.write(page, metadata=None, contiguous=False, extratags=[(285, 2, None, f"slice_{number:03}", True)])
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), pages)


def test_a_thumbnail_is_never_the_default(tmp_path: Path) -> None:
    scan, thumbnail = ramp(20, 30), ramp(111, 122, 3, dtype="uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(thumbnail, subfiletype=1, photometric="rgb", metadata=None)
        tif.write(scan, metadata=None)
    assert open_image(tmp_path / "a.tif").place == "image 2 of 2"
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), scan)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", image=1).read(), thumbnail)


@pytest.mark.parametrize("in_chain", [True, False])
def test_levels_of_a_pyramid_are_no_images(tmp_path: Path, in_chain: bool) -> None:
    data = ramp(256, 192)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(data, subifds=None if in_chain else 2, tile=(64, 64), metadata=None)
        for step in (2, 4):
            tif.write(data[::step, ::step], subfiletype=1, tile=(64, 64), metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.place == "image 1 of 1"
    np.testing.assert_array_equal(image.read(), data)


def test_a_loop_of_pyramids_is_one_stack(tmp_path: Path) -> None:
    data = ramp(3, 64, 64)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in data:
            tif.write(plane, subifds=1, tile=(16, 16))
            tif.write(plane[::2, ::2], subfiletype=1, tile=(16, 16))
    image = open_image(tmp_path / "a.tif")
    assert image.place == "image 1 of 1"
    np.testing.assert_array_equal(image.read(), data)


def test_a_set_of_one_image_is_listed_once(tmp_path: Path, write_ome_set: Writer) -> None:
    fields(tmp_path, [{}, {}])
    write_ome_set(tmp_path, ramp(3, 40, 50))
    tifffile.imwrite(tmp_path / "alone.tif", ramp(20, 30))
    tifffile.imwrite(tmp_path / "whole.ome.tif", ramp(4, 20, 30))
    (tmp_path / "damaged.tif").write_bytes(b"II*\0")
    (tmp_path / "copy of z1.ome.tif").write_bytes((tmp_path / "z1.ome.tif").read_bytes())
    names = [path.name for path in list_images(tmp_path)]
    assert names == [
        "alone.tif",
        "damaged.tif",
        "Pos0.ome.tif",
        "Pos1.ome.tif",
        "whole.ome.tif",
        "z0.ome.tif",
    ]
    for name in ("copy of z1.ome.tif", "z0.ome.tif"):
        (tmp_path / name).unlink()
    assert [path.name for path in list_images(tmp_path)][-1] == "z1.ome.tif"  # which tells what is missing
    with pytest.raises(InputError, match=r"z1\.ome\.tif: 1 of the 3 planes"):
        open_image(tmp_path / "z1.ome.tif")


def test_a_folder_that_is_a_set_opens_as_its_image(tmp_path: Path, write_ome_set: Writer) -> None:
    data = ramp(3, 40, 50)
    write_ome_set(tmp_path, data)
    image = open_image(tmp_path)
    assert (image.axes, image.path) == ("ZYX", tmp_path)
    np.testing.assert_array_equal(image.read(), data)


def test_a_set_whose_names_have_another_order(tmp_path: Path, write_ome_set: Writer) -> None:
    data = ramp(3, 40, 50)
    write_ome_set(tmp_path, data, ["b.ome.tif", "c.ome.tif", "a.ome.tif"])
    assert [path.name for path in list_images(tmp_path)] == ["a.ome.tif"]
    np.testing.assert_array_equal(open_image(tmp_path / "a.ome.tif").read(), data)


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
def test_positions_of_micromanager(tmp_path: Path, files: int) -> None:
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
