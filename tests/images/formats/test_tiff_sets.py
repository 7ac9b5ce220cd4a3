"""Sets of TIFF files: one field of view a file, one plane a file, metadata in another file."""

from __future__ import annotations

import os
import re
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
Ramp = Callable[..., np.ndarray]


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"compression": "lzw"},
    {"compression": "zlib", "tile": (16, 16)},
    {"rowsperstrip": 7},
]


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


def fields(folder: Path, layouts: list[dict[str, Any]]) -> list[np.ndarray]:
    """Write an OME-TIFF set of one field of view a file, of different sizes, and return the fields."""
    arrays = [
        np.arange(1000 * i, 1000 * i + 2 * (40 + 8 * i) * (50 - i), dtype=np.uint16).reshape(2, 40 + 8 * i, 50 - i)
        for i in range(len(layouts))
    ]
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
    ramp: Ramp, tmp_path: Path, layouts: list[dict[str, Any]], write_ome_set: Writer
) -> None:
    data = ramp(4, 40, 50)
    for file in write_ome_set(tmp_path, data, layouts=layouts):
        with open_image(file) as image:
            assert image.axes == "ZYX"
            np.testing.assert_array_equal(image.read(), data)
            np.testing.assert_array_equal(image.read(np.s_[1:3, 11:30, 2:9]), data[1:3, 11:30, 2:9])


@pytest.mark.parametrize("metadata_file", ["set.companion.ome", "z0.ome.tif"])
def test_metadata_in_another_file(
    ramp: Ramp, tmp_path: Path, metadata_file: str, caplog: pytest.LogCaptureFixture
) -> None:
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
    with caplog.at_level("WARNING", "pssr2_monai"):
        np.testing.assert_array_equal(open_image(tmp_path / "z1.ome.tif").read(), data[1])
    assert f"z1.ome.tif: the metadata of its set are in {metadata_file}, which is missing" in caplog.text
    assert [path.name for path in list_images(tmp_path)][-1] == "z2.ome.tif"  # an image of its own


def test_a_set_of_one_image_is_listed_once(ramp: Ramp, tmp_path: Path, write_ome_set: Writer) -> None:
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


def test_a_folder_that_is_a_set_opens_as_its_image(ramp: Ramp, tmp_path: Path, write_ome_set: Writer) -> None:
    data = ramp(3, 40, 50)
    write_ome_set(tmp_path, data)
    image = open_image(tmp_path)
    assert (image.axes, image.path) == ("ZYX", tmp_path)
    np.testing.assert_array_equal(image.read(), data)


def test_a_set_whose_names_have_another_order(ramp: Ramp, tmp_path: Path, write_ome_set: Writer) -> None:
    data = ramp(3, 40, 50)
    write_ome_set(tmp_path, data, ["b.ome.tif", "c.ome.tif", "a.ome.tif"])
    assert [path.name for path in list_images(tmp_path)] == ["a.ome.tif"]
    np.testing.assert_array_equal(open_image(tmp_path / "a.ome.tif").read(), data)


def write_together(folder: Path, image: str, files: dict[str, np.ndarray], uuid: str) -> None:
    """Write the files of a set with the same OME-XML; ``uuid`` has ``{}`` for the name of a file."""
    for name, pages in files.items():
        xml = f'<?xml version="1.0" encoding="UTF-8"?><OME {OME} UUID="{uuid.format(name)}">{image}</OME>'
        write_pages(folder / name, pages, xml)


@pytest.mark.parametrize("layout", ["a channel a file", "a time a file", "two channels of two times a file"])
def test_other_divisions_into_files(ramp: Ramp, tmp_path: Path, layout: str) -> None:
    data = ramp(2, 2, 3, 20, 30)  # T, C, Z
    names = {"a channel a file": "c{c}", "a time a file": "t{t}"}.get(layout, "t{t}c{c}")
    files: dict[str, list[np.ndarray]] = {}
    places = ""
    for t, c, z in np.ndindex(2, 2, 3):
        name = names.format(t=t, c=c) + ".ome.tif"
        pages = files.setdefault(name, [])
        places += f'<TiffData FirstT="{t}" FirstC="{c}" FirstZ="{z}" IFD="{len(pages)}" PlaneCount="1">'
        places += f'<UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
        pages.append(data[t, c, z])
    image = (
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" '
        'SizeZ="3" SizeC="2" SizeT="2"><Channel ID="Channel:0" Name="a" SamplesPerPixel="1"/>'
        f'<Channel ID="Channel:1" Name="b" SamplesPerPixel="1"/>{places}</Pixels></Image>'
    )
    write_together(tmp_path, image, files, "urn:uuid:{}")
    assert len(list_images(tmp_path)) == 1
    for name in files:
        with open_image(tmp_path / name) as opened:
            assert (opened.axes, opened.channel_names) == ("TCZYX", ("a", "b"))
            np.testing.assert_array_equal(opened.read(), data)


@pytest.mark.parametrize("text", ["urn:uuid:same", ""])
def test_files_that_share_a_uuid_or_have_none(ramp: Ramp, tmp_path: Path, text: str) -> None:
    data = ramp(3, 20, 30)
    names = [f"z{z}.ome.tif" for z in range(3)]
    image = re.sub(r"urn:uuid:[^<]*", text, ome_image("stack", data, [(name, 0) for name in names], 0.1, "dye"))
    write_together(tmp_path, image, {name: data[z : z + 1] for z, name in enumerate(names)}, text or "urn:uuid:{}")
    for name in names:
        np.testing.assert_array_equal(open_image(tmp_path / name).read(), data)


def test_a_companion_file_opens_as_what_it_describes(ramp: Ramp, tmp_path: Path) -> None:
    arrays = [ramp(2, 20, 30), ramp(3, 40, 50)]
    images = ""
    for number, data in enumerate(arrays):
        names = [f"s{number}z{z}.tif" for z in range(len(data))]
        images += ome_image(f"s{number}", data, [(name, 0) for name in names], 0.1, "dye")
        for name, plane in zip(names, data, strict=True):
            tifffile.imwrite(tmp_path / name, plane, metadata=None)  # which say nothing of the set
    xml = f'<?xml version="1.0" encoding="UTF-8"?><OME {OME} UUID="urn:uuid:0">{images}</OME>'
    (tmp_path / "a.companion.ome").write_text(xml, encoding="utf-8")
    assert "a.companion.ome" not in [path.name for path in list_images(tmp_path)]
    for number, data in enumerate(arrays, 1):
        image = open_image(tmp_path / "a.companion.ome", image=number)
        assert image.place == f"image {number} of 2 (s{number - 1})"
        np.testing.assert_array_equal(image.read(), data)


@pytest.mark.shared_data
def test_the_sets_of_the_collection(shared_data: Path) -> None:
    folder = shared_data / "cases" / "ome_sets"
    for number, field in enumerate(np.load(folder / "fields.npy")):
        np.testing.assert_array_equal(open_image(folder / "fields_lzw" / f"Pos{number}.ome.tif").read(), field)
    (first,) = list_images(folder / "planes5")
    planes = [tifffile.TiffFile(path, is_ome=False).pages[0].asarray() for path in sorted(first.parent.iterdir())]
    for path in first.parent.iterdir():
        np.testing.assert_array_equal(open_image(path).read(), planes)


@pytest.mark.parametrize("uuid", ["", ' UUID="urn:uuid:0"'])
def test_a_renamed_file_without_a_known_uuid_reads_its_own_pixels(ramp: Ramp, tmp_path: Path, uuid: str) -> None:
    """Neither those of the file that has its former name, nor those of the others of its set."""
    arrays = [ramp(2, 20, 30) + 1000 * number for number in range(3)]
    images = [
        ome_image(f"Pos{n}", data, [(f"{n}.ome.tif", z) for z in range(2)], 0.1, "dye") for n, data in enumerate(arrays)
    ]
    start = f'<?xml version="1.0" encoding="UTF-8"?><OME {OME}{uuid}>'
    write_pages(tmp_path / "0.ome.tif", arrays[0], f"{start}{''.join(images)}</OME>")
    write_pages(tmp_path / "2.ome.tif", arrays[2], f"{start}{''.join(images)}</OME>")
    write_pages(tmp_path / "of a set.ome.tif", arrays[1], f"{start}{''.join(images)}</OME>")
    write_pages(tmp_path / "alone.ome.tif", arrays[1], f"{start}{images[0]}</OME>")
    for name in ("of a set.ome.tif", "alone.ome.tif"):
        image = open_image(tmp_path / name)
        assert (image.axes, len(image.entries)) == ("ZYX", 1)
        np.testing.assert_array_equal(image.read(), arrays[1])
    assert image.channel_names == ("dye",)
    assert len(list_images(tmp_path)) == 4


def test_a_renamed_set_is_found_by_its_uuids(ramp: Ramp, tmp_path: Path, write_ome_set: Writer) -> None:
    data = ramp(3, 20, 30)
    for file in write_ome_set(tmp_path, data):
        file.rename(file.with_name(f"cell {file.name}"))
    assert [path.name for path in list_images(tmp_path)] == ["cell z0.ome.tif"]
    for z in range(3):
        image = open_image(tmp_path / f"cell z{z}.ome.tif")
        assert image.axes == "ZYX"
        np.testing.assert_array_equal(image.read(), data)


def test_a_file_of_a_set_whose_others_are_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ramp: Ramp
) -> None:
    """Three times of two channels and four depths, of which one file holds the second time of the second channel."""
    data = ramp(3, 2, 4, 20, 30)
    names = [f"T{t}_C{c}.ome.tif" for t in range(3) for c in range(2)]
    places = "".join(
        f'<TiffData FirstT="{i // 2}" FirstC="{i % 2}" IFD="0" PlaneCount="4"><UUID FileName="{name}">urn:{name}</UUID>'
        "</TiffData>"
        for i, name in enumerate(names)
    )
    planes = "".join(
        f'<Plane TheT="{t}" TheC="{c}" TheZ="{z}" PositionX="{100 * t + c}" PositionXUnit="µm"/>'
        for t, c, z in np.ndindex(3, 2, 4)
    )
    xml = (
        f'<?xml version="1.0" encoding="UTF-8"?><OME {OME} UUID="urn:T1_C1.ome.tif"><Image ID="Image:0"><Pixels '
        'ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeZ="4" SizeC="2" SizeT="3" '
        'PhysicalSizeX="0.5"><Channel ID="Channel:0" Name="DAPI"/><Channel ID="Channel:1" Name="GFP"/>'
        f"{places}{planes}</Pixels></Image></OME>"
    )
    write_pages(tmp_path / "T1_C1.ome.tif", data[1, 1], xml.encode())
    image = open_image(tmp_path / "T1_C1.ome.tif")
    assert (image.axes, image.channel_names, image.pixel_size["X"]) == ("ZYX", ("GFP",), 0.5)
    assert image.metadata.origin == {"X": 101.0}
    np.testing.assert_array_equal(image.read(), data[1, 1])
    assert "holds 4 of the 24 planes of its set" in caplog.text


def test_images_whose_xml_does_not_say_where_their_planes_are(tmp_path: Path, ramp: Ramp) -> None:
    """By the OME model their pages follow one another, in the order of dimensions that it states."""
    data = ramp(2, 3, 4, 20, 30)  # T, Z, C
    sizes = 'SizeX="30" SizeY="20" SizeZ="3" SizeC="4"'
    images = "".join(
        f'<Image ID="Image:{i}" Name="{name}"><Pixels ID="Pixels:{i}" DimensionOrder="XYCZT" Type="uint16" {sizes} '
        f'SizeT="{times}" PhysicalSizeX="200" PhysicalSizeXUnit="nm"/></Image>'
        for i, (name, times) in enumerate([("first", 1), ("second", 2)])
    )
    pages = np.concatenate([data[1], *data]).reshape(-1, 20, 30)
    write_pages(tmp_path / "a.ome.tif", pages, f'<?xml version="1.0"?><OME {OME}>{images}</OME>')
    image = open_image(tmp_path / "a.ome.tif")
    assert (image.axes, image.place, image.pixel_size) == ("TZCYX", "image 2 of 2 (second)", {"X": 0.2})
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(open_image(tmp_path / "a.ome.tif", image="first").read(), data[1])


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path.name}: ")


@pytest.mark.parametrize("name", ["../b.ome.tif", "/dev/zero", "sub/../../b.ome.tif"])
def test_files_outside_of_the_folder_are_not_read(tmp_path: Path, ramp: Ramp, name: str) -> None:
    data = ramp(3, 20, 30)
    (tmp_path / "in").mkdir()
    image = ome_image("a", data, [("a.ome.tif", 0), (name, 1), (name, 2)], 0.1, "dye")
    write_pages(tmp_path / "in" / "a.ome.tif", data, f"<OME {OME}>{image}</OME>")
    write_pages(tmp_path / "b.ome.tif", data + 1, f"<OME {OME}>{image}</OME>")
    refused(tmp_path / "in" / "a.ome.tif", "is not in its folder")
    (tmp_path / "in" / "a.companion.ome").write_text(f"<OME {OME}>{image}</OME>")
    refused(tmp_path / "in" / "a.companion.ome", "is not in its folder")
    elsewhere = f'<OME {OME}><BinaryOnly MetadataFile="{name}" UUID="urn:uuid:1"/></OME>'
    write_pages(tmp_path / "in" / "c.ome.tif", data, elsewhere)
    refused(tmp_path / "in" / "c.ome.tif", "is not in its folder")


def test_pipes_among_the_files_of_a_set(tmp_path: Path, ramp: Ramp) -> None:
    data = ramp(2, 20, 30)
    image = ome_image("a", data, [("a.ome.tif", 0), ("b.ome.tif", 1)], 0.1, "dye")
    write_pages(tmp_path / "a.ome.tif", data, f"<OME {OME}>{image}</OME>")
    os.mkfifo(tmp_path / "b.ome.tif")
    refused(tmp_path / "a.ome.tif", "b.ome.tif: is a pipe")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('SizeZ="3"', f'SizeZ="{10**9}"'),
        ('SizeT="1"', f'SizeT="{10**9}"'),
        ('SizeX="30"', f'SizeX="{10**9}"'),
        ('PlaneCount="1"', f'PlaneCount="{10**9}"'),
        ('SizeZ="3"', 'SizeZ="-3"'),
    ],
)
def test_metadata_that_announce_what_no_file_holds(tmp_path: Path, ramp: Ramp, old: str, new: str) -> None:
    data = ramp(3, 20, 30)
    image = ome_image("a", data, [("a.ome.tif", z) for z in range(3)], 0.1, "dye")
    write_pages(tmp_path / "a.ome.tif", data, f"<OME {OME}>{image.replace(old, new)}</OME>")
    refused(tmp_path / "a.ome.tif", "its OME-XML announces")


def test_entities_in_metadata(tmp_path: Path, ramp: Ramp) -> None:
    image = ome_image("&x;", ramp(1, 20, 30), [("a.ome.tif", 0)], 0.1, "dye")
    text = f'<!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/hostname">]><OME {OME}>{image}</OME>'
    write_pages(tmp_path / "a.ome.tif", ramp(1, 20, 30), text)
    refused(tmp_path / "a.ome.tif", "its XML declares entities")
