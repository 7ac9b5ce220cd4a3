"""Leica LIF: small files of its binary layout, against liffile's own reading of the whole image."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

liffile = pytest.importorskip("liffile")

DIMENSIONS = {"X": 1, "Y": 2, "Z": 3, "T": 4, "M": 10}
STEPS = {"X": 1e-7, "Y": 2e-7, "Z": 5e-7, "T": 2.5}


def series(name: str, block: str, data: np.ndarray, axes: str, stated: str = "") -> str:
    """The XML of an image whose axes are in the order of the file, channels or colours ("C", "S") among them."""
    strides = dict(zip(axes, np.array(data.strides), strict=True))
    sizes = dict(zip(axes, data.shape, strict=True))
    channel_axis = "S" if "S" in axes else "C"
    bits = data.itemsize * 8
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{number + 1 if channel_axis == "S" else 0}" Resolution="{bits}" '
        f'NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="{("Green", "Red", "Gray", "Blue")[number]}" '
        f'IsLUTInverted="0" BytesInc="{number * strides.get(channel_axis, 0)}" BitInc="0"><ChannelProperty>'
        f"<Key>DyeName</Key><Value>dye {number}</Value></ChannelProperty></ChannelDescription>"
        for number in range(sizes.get(channel_axis, 1))
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{DIMENSIONS[axis]}" NumberOfElements="{sizes[axis]}" Origin="0" '
        f'Length="{STEPS.get(axis, 1) * (sizes[axis] - 1)}" Unit="m" BytesInc="{strides[axis]}" BitInc="0"/>'
        for axis in reversed(axes)
        if axis in DIMENSIONS
    )
    return (
        f'<Element Name="{name}" UniqueID="{name}"><Data><Image><ImageDescription><Channels>{channels}</Channels>'
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription>{stated}</Image></Data>"
        f'<Memory Size="{data.nbytes}" MemoryBlockID="{block}"/></Element>'
    )


def write(path: Path, images: dict[str, tuple[np.ndarray, *tuple[str, ...]]]) -> None:
    elements = "".join(series(name, f"Mem{i}", *image) for i, (name, image) in enumerate(images.items()))
    xml = f'<LMSDataContainerHeader Version="2"><Element Name="a"><Children>{elements}</Children></Element>'
    text = f"{xml}</LMSDataContainerHeader>".encode("utf-16-le")
    content = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(text) // 2) + text
    for i, (data, *_) in enumerate(images.values()):
        block = f"Mem{i}".encode("utf-16-le")
        content += struct.pack("<IIBQBI", 0x70, 0, 0x2A, data.nbytes, 0x2A, len(block) // 2) + block + data.tobytes()
    path.write_bytes(content)


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 255, shape).astype(dtype)


def test_series_of_a_file(tmp_path: Path) -> None:
    stack, plane = noise(2, 3, 4, 20, 30), noise(24, 31, dtype="uint8")
    write(tmp_path / "a.lif", {"Overview": (plane, "YX"), "Cells": (stack, "TZCYX")})
    image = open_image(tmp_path / "a.lif")
    assert (image.axes, image.shape, image.dtype) == ("TZCYX", stack.shape, np.uint16)
    assert [entry.name for entry in image.entries] == ["Overview", "Cells"]
    assert image.pixel_size == pytest.approx({"X": 0.1, "Y": 0.2, "Z": 0.5})
    assert image.metadata.time_step == pytest.approx(2.5)
    with liffile.LifFile(tmp_path / "a.lif") as document:
        np.testing.assert_array_equal(document.images[1].asarray(), stack)
        np.testing.assert_array_equal(image.read(), document.images[1].asarray())
    np.testing.assert_array_equal(image.read(np.s_[1:, 2:, 1:3, 3:9, 4:]), stack[1:, 2:, 1:3, 3:9, 4:])
    image.close()
    np.testing.assert_array_equal(image.read(np.s_[:1, :, :, 5:6, :]), stack[:1, :, :, 5:6])
    np.testing.assert_array_equal(open_image(tmp_path / "a.lif", image="Overview").read(), plane)


def test_dyes_and_colours_of_channels(tmp_path: Path) -> None:
    write(tmp_path / "a.lif", {"Cells": (noise(2, 20, 30), "CYX")})
    image = open_image(tmp_path / "a.lif")
    assert image.channel_names == ("dye 0", "dye 1")
    assert image.metadata.colors == ("00FF00", "FF0000")


@pytest.mark.parametrize("axes", ["YXS", "ZYXS"])
def test_colours(tmp_path: Path, axes: str) -> None:
    data = noise(*{"YXS": (20, 30, 3), "ZYXS": (2, 20, 30, 3)}[axes], dtype="uint8")
    write(tmp_path / "a.lif", {"Slide": (data, axes)})
    image = open_image(tmp_path / "a.lif")
    assert image.axes == axes.replace("S", "C")
    np.testing.assert_array_equal(image.read(), liffile.imread(tmp_path / "a.lif"))
    window = np.s_[:, 4:9, 3:, 1:2][-data.ndim :]
    np.testing.assert_array_equal(image.read(window), data[window])


def test_tiles_of_a_mosaic_are_images(tmp_path: Path) -> None:
    data = noise(3, 2, 20, 30)
    write(tmp_path / "a.lif", {"Mosaic": (data, "MZYX")})
    image = open_image(tmp_path / "a.lif", image=2)
    assert (image.axes, len(image.entries)) == ("ZYX", 3)
    np.testing.assert_array_equal(image.read(), data[1])


def test_positions_of_the_stage(tmp_path: Path) -> None:
    tiles = "".join(f'<Tile FieldX="{i}" FieldY="0" PosX="{0.01 * i}" PosY="-0.002"/>' for i in range(3))
    mosaic = f'<Attachment Name="TileScanInfo">{tiles}</Attachment>'
    setting = '<ATLConfocalSettingDefinition StagePosX="0.0125" StagePosY="0.003" ZPosition="-1.5E-05"/>'
    single = f'<Attachment Name="HardwareSetting">{setting}</Attachment>'
    data = noise(3, 20, 30)
    write(tmp_path / "a.lif", {"Mosaic": (data, "MYX", mosaic), "Stack": (data, "ZYX", single), "None": (data, "ZYX")})
    second = open_image(tmp_path / "a.lif", image="Mosaic position 3").metadata
    assert (dict(second.origin), second.framed) == (pytest.approx({"X": 20000.0, "Y": -2000.0}), True)
    stack = open_image(tmp_path / "a.lif", image="Stack").metadata
    assert stack.origin == pytest.approx({"X": 12500.0, "Y": 3000.0, "Z": -15.0})
    assert open_image(tmp_path / "a.lif", image="None").metadata.origin == {}


def test_damaged_files_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.lif").write_bytes(b"This is no image." * 99)
    with pytest.raises(InputError, match=r"b\.lif: cannot be read as LIF"):
        open_image(tmp_path / "b.lif")
    monkeypatch.setitem(sys.modules, "liffile", None)
    with pytest.raises(InputError, match=r'b\.lif: .*pip install "pssr2-monai\[lif\]"'):
        open_image(tmp_path / "b.lif")


def test_a_series_that_the_file_cannot_hold(tmp_path: Path) -> None:
    write(tmp_path / "a.lif", {"Cells": (noise(3, 20, 30), "ZYX")})
    content = (tmp_path / "a.lif").read_bytes()
    old, new = (f'DimID="3" NumberOfElements="{n}"'.encode("utf-16-le") for n in ("3", "7"))
    (tmp_path / "a.lif").write_bytes(content.replace(old, new))
    with pytest.raises(InputError, match=r"^a\.lif: is cut short"):
        open_image(tmp_path / "a.lif")
