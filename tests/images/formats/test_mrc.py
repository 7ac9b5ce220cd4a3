"""MRC against mrcfile read directly."""

from __future__ import annotations

import bz2
import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

mrcfile = pytest.importorskip("mrcfile")


def write(path: Path, data: np.ndarray, voxel: float | tuple[float, ...], stack: bool = False) -> None:
    with mrcfile.new(path) as mrc:
        mrc.set_data(data)
        if stack:
            mrc.set_image_stack()
        mrc.voxel_size = voxel


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32", "float16"])
def test_modes(tmp_path: Path, dtype: str) -> None:
    data = np.random.default_rng(0).integers(-90, 90, (4, 30, 20)).astype(dtype)
    write(tmp_path / "a.mrc", data, (40.0, 50.0, 300.0))
    with open_image(tmp_path / "a.mrc") as image:
        assert (image.axes, image.shape, image.dtype) == ("ZYX", data.shape, np.dtype(dtype))
        assert image.pixel_size == pytest.approx({"X": 0.004, "Y": 0.005, "Z": 0.03})
        np.testing.assert_array_equal(image.read(np.s_[1:3, 5:25, :7]), data[1:3, 5:25, :7])


def test_stacks_planes_and_unknown_sizes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((4, 30, 20)).astype("float32")
    write(tmp_path / "stack.mrc", data, 40.0, stack=True)
    image = open_image(tmp_path / "stack.mrc")
    assert image.axes == "ZYX"
    assert image.pixel_size == pytest.approx({"X": 0.004, "Y": 0.004})  # images of a stack have no distance
    write(tmp_path / "plane.rec", data[0], 40.0)
    image = open_image(tmp_path / "plane.rec")
    assert (image.axes, image.pixel_size) == ("YX", pytest.approx({"X": 0.004, "Y": 0.004}))
    for name, voxel in (("none.mrc", 0.0), ("one.mrc", 1.0)):
        write(tmp_path / name, data, voxel)
        assert open_image(tmp_path / name).pixel_size == {}


@pytest.mark.parametrize(
    ("origin", "start", "position"),
    [
        ((100.0, -20.0, 0.0), (0, 0, 0), {"X": 0.01, "Y": -0.002, "Z": 0.0}),
        ((0.0, 0.0, 0.0), (-2, 3, 0), {"X": -0.008, "Y": 0.015, "Z": 0.0}),
        ((100.0, 0.0, 0.0), (7, 7, 7), {"X": 0.01, "Y": 0.0, "Z": 0.0}),
        ((0.0, 0.0, 0.0), (0, 0, 0), {}),
    ],
)
def test_positions(
    tmp_path: Path, origin: tuple[float, ...], start: tuple[int, ...], position: dict[str, float]
) -> None:
    write(tmp_path / "a.mrc", np.zeros((4, 30, 20), "float32"), (40.0, 50.0, 300.0))
    with mrcfile.mmap(tmp_path / "a.mrc", mode="r+") as mrc:
        mrc.header.origin = origin
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = start
    assert open_image(tmp_path / "a.mrc").metadata.origin == pytest.approx(position)


def test_axes_follow_the_header(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((4, 30, 20)).astype("float32")
    write(tmp_path / "a.map", data, 10.0)
    with mrcfile.mmap(tmp_path / "a.map", mode="r+") as mrc:
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 1, 2
    image = open_image(tmp_path / "a.map")
    assert (image.axes, image.shape) == ("YXZ", data.shape)
    np.testing.assert_array_equal(image.read(), data)


@pytest.mark.parametrize(
    ("stamp", "flags", "dtype"), [(1146047817, 0, "uint8"), (1146047817, 1, "int8"), (0, 0, "int8")]
)
def test_bytes_of_imod(tmp_path: Path, stamp: int, flags: int, dtype: str) -> None:
    data = np.arange(256, dtype="uint8").reshape(1, 16, 16).repeat(2, 0)
    write(tmp_path / "a.mrc", data.view("int8"), 40.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[152:160] = struct.pack("<ii", stamp, flags)
    (tmp_path / "a.mrc").write_bytes(raw)
    image = open_image(tmp_path / "a.mrc")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image.read(), data.view(dtype))


def test_extended_headers_and_byte_order(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 9999, (4, 30, 20)).astype("int16")
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(data)
        mrc.set_extended_header(np.zeros(384, "uint8"))
    np.testing.assert_array_equal(open_image(tmp_path / "a.mrc").read(), data)
    with mrcfile.open(tmp_path / "a.mrc") as mrc:
        raw = mrc.header.astype(mrc.header.dtype.newbyteorder(">"))
        raw["machst"], raw["nsymbt"] = (0x11, 0x11, 0, 0), 0
        (tmp_path / "b.mrc").write_bytes(raw.tobytes() + data.astype(">i2").tobytes())
    image = open_image(tmp_path / "b.mrc")
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.read(np.s_[1:, 3:9, :]), data[1:, 3:9])


@pytest.mark.parametrize("suffix", [".mrcs", ".ali", ".st"])
def test_an_extended_header_that_is_announced_but_not_there(tmp_path: Path, suffix: str) -> None:
    data = np.random.default_rng(0).integers(0, 9999, (4, 30, 20)).astype("int16")
    write(tmp_path / "a.mrc", data, 40.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[92:96] = struct.pack("<i", 768)
    (tmp_path / f"b{suffix}").write_bytes(raw)
    np.testing.assert_array_equal(open_image(tmp_path / f"b{suffix}").read(), data)
    (tmp_path / "c.mrc").write_bytes(raw[:-1])
    with pytest.raises(InputError, match=r"c\.mrc: is cut short: .* 769 are missing"):
        open_image(tmp_path / "c.mrc")


@pytest.mark.parametrize(("name", "compress"), [("a.map.gz", gzip.compress), ("a.MRC.bz2", bz2.compress)])
def test_compressed_maps(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    data = np.random.default_rng(0).random((4, 30, 20)).astype("float32")
    write(tmp_path / "plain.mrc", data, 40.0)
    content = (tmp_path / "plain.mrc").read_bytes()
    (tmp_path / name).write_bytes(compress(content))
    image = open_image(tmp_path / name)
    assert image.pixel_size == open_image(tmp_path / "plain.mrc").pixel_size
    np.testing.assert_array_equal(image.read(np.s_[1:, 3:9, :]), data[1:, 3:9])
    (tmp_path / f"short{name}").write_bytes(compress(content[:-7]))
    with pytest.raises(InputError, match="is cut short"):
        open_image(tmp_path / f"short{name}").read()


@pytest.mark.shared_data
def test_a_map_of_cryocare(shared_data: Path) -> None:
    folder = shared_data / "cases" / "mrc_odd"
    np.testing.assert_array_equal(open_image(folder / "cryocare.mrc").read(), np.load(folder / "truth.npy"))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.mrc", np.zeros((4, 30, 20), "float32"), 40.0)
    whole = (tmp_path / "a.mrc").read_bytes()
    for cut in (1, 2000, len(whole) - 1024, len(whole) - 500):
        (tmp_path / "b.mrc").write_bytes(whole[:-cut])
        with pytest.raises(InputError, match=r"b\.mrc: "):
            open_image(tmp_path / "b.mrc")
    (tmp_path / "c.mrc").write_text("This is no image. " * 100)
    with pytest.raises(InputError, match=r"c\.mrc: "):
        open_image(tmp_path / "c.mrc")
    write(tmp_path / "d.mrc", np.zeros((4, 30, 20), "complex64"), 40.0)
    with pytest.raises(InputError, match=r"d\.mrc: the pixels are complex"):
        open_image(tmp_path / "d.mrc")


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.mrc", np.zeros((4, 30, 20), "float32"), 40.0)
    monkeypatch.setitem(sys.modules, "mrcfile", None)
    with pytest.raises(InputError, match=r'a\.mrc: .*pip install "pssr2-monai\[mrc\]"'):
        open_image(tmp_path / "a.mrc")


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "axes", "shape", "size"),
    [
        ("EMD-3001.map", "YXZ", (25, 43, 73), {"X": 4.4825e-5, "Y": 3.925e-5, "Z": 4.5875e-5}),
        ("EMD-3197.map", "ZYX", (20, 20, 20), {"X": 1.14e-3, "Y": 1.14e-3, "Z": 1.14e-3}),
    ],
)
def test_real_files(shared_data: Path, name: str, axes: str, shape: tuple[int, ...], size: dict[str, float]) -> None:
    path = shared_data / "formats" / "mrc" / name
    expected = mrcfile.read(path)
    with open_image(path) as image:
        assert (image.axes, image.shape, image.dtype) == (axes, shape, np.float32)
        assert image.pixel_size == pytest.approx(size, rel=1e-5)
        np.testing.assert_array_equal(image.read(), expected)
        np.testing.assert_array_equal(image.read(np.s_[3:9, 10:, 2:4]), expected[3:9, 10:, 2:4])


@pytest.mark.parametrize("extended", [2**31 - 1, -4096])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_extended_header_that_no_file_holds(tmp_path: Path, extended: int, pack: Callable[[bytes], bytes]) -> None:
    write(tmp_path / "a.mrc", np.zeros((2, 30, 20), np.int16), 40.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[92:96] = struct.pack("<i", extended)
    name = "b.mrc" if pack is bytes else "b.mrc.gz"
    (tmp_path / name).write_bytes(pack(bytes(raw)))
    with pytest.raises(InputError, match=rf"^{name}: its extended header would take {extended} bytes"):
        open_image(tmp_path / name)
