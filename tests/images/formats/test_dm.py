"""Gatan DM3 and DM4: small files of tags written here; DM4 also against the package dm4."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

TAG_TYPES = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "u1": 8, "i1": 9, "u8": 12}
PIXEL_TYPES = {"i2": 1, "f4": 2, "u1": 6, "i4": 7, "i1": 9, "u2": 10, "u4": 11, "f8": 12}


def dm(version: int, tags: dict[str, Any], order: str = "<") -> bytes:
    """A file of tags: dictionaries are groups, lists groups without names, texts and arrays are arrays."""
    word = ">I" if version == 3 else ">Q"

    def words(*numbers: int) -> bytes:
        return b"".join(struct.pack(word, number) for number in numbers)

    def group(items: list[tuple[str, Any]]) -> bytes:
        return b"\1\0" + words(len(items)) + b"".join(entry(*item) for item in items)

    def entry(name: str, value: Any) -> bytes:
        kind = 20 if isinstance(value, dict | list) else 21
        if isinstance(value, dict | list):
            body = group(list(value.items()) if isinstance(value, dict) else [("", item) for item in value])
        elif isinstance(value, tuple):  # a structure of two numbers
            body = b"%%%%" + words(7, 15, 0, 2, 0, 3, 0, 3) + np.array(value, f"{order}i4").tobytes()
        else:
            text = value.encode("utf-16-le") if isinstance(value, str) else None
            array = np.asarray(value) if text is None else np.frombuffer(text, "<u2")
            if array.ndim == 0:
                array = array.astype("u4" if array.dtype.kind in "iu" else "f4")
            tag_type = TAG_TYPES[array.dtype.str[1:]]
            info = (tag_type,) if array.ndim == 0 else (20, tag_type, array.size)
            body = b"%%%%" + words(len(info), *info) + array.astype(array.dtype.newbyteorder(order)).tobytes()
        size = struct.pack(">Q", len(body)) * (version == 4)
        return struct.pack(">BH", kind, len(name)) + name.encode() + size + body

    root = group(list(tags.items()))
    return struct.pack(">I", version) + words(len(root)) + struct.pack(">I", order == "<") + root + bytes(8)


def stored(data: np.ndarray, name: str = "", steps: tuple[Any, ...] = (), pixel_type: int | None = None) -> Any:
    """The tags of an image; a step is a scale and a unit, along X, Y and so on."""
    dimensions = [{"Origin": 0.0, "Scale": scale, "Units": unit} for scale, unit in steps]
    code = PIXEL_TYPES[data.dtype.str[1:]] if pixel_type is None else pixel_type
    content = {"Data": data.ravel(), "DataType": code, "Dimensions": [int(size) for size in reversed(data.shape)]}
    return {"ImageData": {"Calibrations": {"Dimension": dimensions}, **content}, "Name": name, "UniqueID": (1, 2)}


def noise(*shape: int, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize(("version", "order"), [(3, "<"), (4, "<"), (3, ">")])
def test_planes(tmp_path: Path, version: int, order: str, dtype: str) -> None:
    data = noise(20, 30, dtype=dtype)
    path = tmp_path / f"a.dm{version}"
    path.write_bytes(dm(version, {"ImageList": [stored(data, "Plane", ((0.5, "nm"), (0.25, "nm")))]}, order))
    image = open_image(path)
    assert (image.axes, image.dtype, image.dtype.isnative) == ("YX", np.dtype(dtype), True)
    assert image.pixel_size == pytest.approx({"X": 0.0005, "Y": 0.00025})
    np.testing.assert_array_equal(image.read(), data)
    np.testing.assert_array_equal(image.read(np.s_[3:9, 5:28]), data[3:9, 5:28])


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours(tmp_path: Path, order: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint32")
    packed = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    (tmp_path / "a.dm3").write_bytes(dm(3, {"ImageList": [stored(packed, pixel_type=23)]}, order))
    image = open_image(tmp_path / "a.dm3")
    assert (image.axes, image.dtype) == ("YXC", np.uint8)
    np.testing.assert_array_equal(image.read(np.s_[3:9, 5:, 1:]), colours[3:9, 5:, 1:])


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    ("step", "axes"), [((2.0, "nm"), "ZYX"), ((2.0, "s"), "TYX"), ((1.0, "eV"), "ZYX"), ((1.0, ""), "ZYX")]
)
def test_stacks_beside_a_thumbnail(tmp_path: Path, version: int, step: tuple[float, str], axes: str) -> None:
    thumbnail, stack = np.arange(256, dtype="uint32").reshape(16, 16), noise(3, 20, 30)
    images = [stored(thumbnail, pixel_type=23), stored(stack, "Stack", ((0.5, "µm"), (0.5, "µm"), step))]
    path = tmp_path / f"a.dm{version}"
    path.write_bytes(dm(version, {"Before": {"a": 1}, "ImageList": images, "Thumbnails": [{"ImageIndex": 0}]}))
    image = open_image(path)
    assert (image.axes, image.number, image.entries[0].is_preview) == (axes, 2, True)
    sizes = {"X": 0.5, "Y": 0.5} | ({"Z": 0.002} if step[1] == "nm" else {})
    assert image.pixel_size == pytest.approx(sizes)
    assert image.metadata.time_step == (2.0 if step[1] == "s" else None)
    np.testing.assert_array_equal(image.read(), stack)
    colours = open_image(path, image=1)
    assert colours.axes == "YXC"
    np.testing.assert_array_equal(colours.read()[..., 2], thumbnail)  # the lowest byte is blue
    assert open_image(path, image="Stack").number == 2


def test_as_the_package_dm4_reads_it(tmp_path: Path) -> None:
    dm4 = pytest.importorskip("dm4")
    data = noise(20, 30, dtype="uint16")
    (tmp_path / "a.dm4").write_bytes(dm(4, {"ImageList": [stored(data, "Plane", ((0.5, "nm"), (0.5, "nm")))]}))
    with dm4.DM4File.open(str(tmp_path / "a.dm4")) as file:
        tags = file.read_directory().named_subdirs["ImageList"].unnamed_subdirs[0].named_subdirs["ImageData"]
        expected = np.array(file.read_tag_data(tags.named_tags["Data"]), "uint16").reshape(20, 30)
    np.testing.assert_array_equal(open_image(tmp_path / "a.dm4").read(), expected)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = dm(4, {"ImageList": [stored(noise(20, 30))]})
    (tmp_path / "a.dm4").write_bytes(whole[:-300])
    with pytest.raises(InputError, match=r"a\.dm4: "):
        open_image(tmp_path / "a.dm4")
    (tmp_path / "b.dm3").write_bytes(b"This is no image." * 99)
    with pytest.raises(InputError, match=r"b\.dm3: cannot be read as DM3 \(version"):
        open_image(tmp_path / "b.dm3")
    (tmp_path / "c.dm3").write_bytes(dm(3, {"ImageList": [], "Other": "text"}))
    with pytest.raises(InputError, match=r"c\.dm3: holds no image"):
        open_image(tmp_path / "c.dm3")
