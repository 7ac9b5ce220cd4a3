"""NRRD, MetaImage and NIfTI against files whose bytes are written by the test."""

from __future__ import annotations

import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

pytest.importorskip("itk")

DATA = np.random.default_rng(0).integers(0, 60000, (4, 5, 6)).astype("<u2")


def nrrd(data: np.ndarray, *lines: str) -> bytes:
    kinds = {"uint16": "ushort", "int8": "signed char", "uint8": "uchar", "float32": "float", "int64": "longlong"}
    header = [
        "NRRD0004",
        f"type: {kinds[data.dtype.name]}",
        f"dimension: {data.ndim}",
        f"sizes: {' '.join(str(size) for size in reversed(data.shape))}",
        "endian: little",
        "encoding: raw",
        *lines,
    ]
    return "\n".join(header).encode() + b"\n\n" + data.tobytes()


def mha(data: np.ndarray, *lines: str) -> bytes:
    header = [
        "ObjectType = Image",
        f"NDims = {data.ndim}",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        *lines,
        f"DimSize = {' '.join(str(size) for size in reversed(data.shape))}",
        "ElementType = MET_USHORT",
        "ElementDataFile = LOCAL",
    ]
    return "\n".join(header).encode() + b"\n" + data.tobytes()


def nifti(data: np.ndarray, spacing: tuple[float, ...], units: int) -> bytes:
    dims = (data.ndim, *reversed(data.shape), *[1] * (7 - data.ndim))
    header = struct.pack("<i36x8h14x2h2x8f", 348, *dims, 512, 16, 1.0, *spacing, *[1.0] * (7 - len(spacing)))
    header += struct.pack("<fffhBB", 352.0, 0.0, 0.0, 0, 0, units)
    return header.ljust(344, b"\0") + b"n+1\0" + bytes(4) + data.tobytes()


@pytest.mark.parametrize(
    ("lines", "position"),
    [
        (["Offset = 5 6 -7", "ElementSpacing = 0.001 0.002 0.003"], {"X": 5000, "Y": 6000, "Z": -7000}),
        (["Offset = 0 0 0", "ElementSpacing = 0.001 0.002 0.003"], {}),
        (["Offset = 5 6 7"], {}),  # of pixels of unknown size
        (["Offset = 5 6 7", "ElementSpacing = 0.1 0.1 0.1", "TransformMatrix = -1 0 0 0 -1 0 0 0 1"], {}),
    ],
)
def test_positions(tmp_path: Path, lines: list[str], position: dict[str, float]) -> None:
    (tmp_path / "a.mha").write_bytes(mha(DATA, *lines))
    assert open_image(tmp_path / "a.mha").metadata.origin == pytest.approx(position)


def test_nrrd(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(nrrd(DATA, "spacings: 0.001 0.002 0.003"))
    with open_image(tmp_path / "a.nrrd") as image:
        assert (image.axes, image.shape, image.dtype) == ("ZYX", (4, 5, 6), np.uint16)
        assert image.pixel_size == pytest.approx({"X": 1, "Y": 2, "Z": 3})
        np.testing.assert_array_equal(image.read(np.s_[1:3, :, 2:5]), DATA[1:3, :, 2:5])
        window = image.read()
        window[...] = 0
        np.testing.assert_array_equal(image.read(), DATA)


def test_nrrd_states_its_units(tmp_path: Path) -> None:
    units = 'space units: "microns" "microns" "microns"'
    directions = "space directions: (0.5,0,0) (0,0.5,0) (0,0,1)"
    (tmp_path / "a.nrrd").write_bytes(nrrd(DATA, "space dimension: 3", directions, units))
    assert open_image(tmp_path / "a.nrrd").pixel_size == pytest.approx({"X": 0.5, "Y": 0.5, "Z": 1.0})
    (tmp_path / "b.nrrd").write_bytes(nrrd(DATA))
    assert open_image(tmp_path / "b.nrrd").pixel_size == {}


def test_nrrd_dtypes_and_dimensions(tmp_path: Path) -> None:
    for data, axes in (
        (DATA[0], "YX"),
        (np.arange(-128, 128).astype("int8").reshape(16, 16), "YX"),
        (np.random.default_rng(0).random((2, 3, 4, 5)).astype("float32"), "TZYX"),
    ):
        (tmp_path / "a.nrrd").write_bytes(nrrd(data))
        image = open_image(tmp_path / "a.nrrd")
        assert (image.axes, image.dtype) == (axes, data.dtype)
        np.testing.assert_array_equal(image.read(), data)
    colours = np.arange(5 * 6 * 3).astype("uint8").reshape(5, 6, 3)
    (tmp_path / "a.nrrd").write_bytes(nrrd(colours, "kinds: RGB-color domain domain"))
    image = open_image(tmp_path / "a.nrrd")
    assert image.axes == "YXC"
    np.testing.assert_array_equal(image.read(), colours)
    (tmp_path / "a.nrrd").write_bytes(nrrd(np.zeros((4, 5), "int64")))
    with pytest.raises(InputError, match=r"a\.nrrd: 2-D scalar pixels of type long_long are not read"):
        open_image(tmp_path / "a.nrrd")


def test_metaimage(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_bytes(mha(DATA, "ElementSpacing = 0.001 0.002 0.003"))
    image = open_image(tmp_path / "a.mha")
    assert (image.axes, image.dtype) == ("ZYX", np.uint16)
    assert image.pixel_size == pytest.approx({"X": 1, "Y": 2, "Z": 3})
    np.testing.assert_array_equal(image.read(), DATA)
    (tmp_path / "b.mha").write_bytes(mha(DATA))
    assert open_image(tmp_path / "b.mha").pixel_size == {}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, suffix: str) -> None:
    data = np.random.default_rng(0).random((4, 5, 6)).astype("<f4")
    path = tmp_path / f"a{suffix}"
    pack = gzip.compress if suffix.endswith("gz") else bytes
    # What is left of the header after its data type and bits: float32, 32 bits.
    raw = bytearray(nifti(data, (0.5, 0.6, 0.7), 3))
    raw[70:74] = struct.pack("<2h", 16, 32)
    path.write_bytes(pack(bytes(raw)))
    image = open_image(path)
    assert (image.axes, image.dtype) == ("ZYX", np.float32)
    assert image.pixel_size == pytest.approx({"X": 0.5, "Y": 0.6, "Z": 0.7}, rel=1e-5)  # the header says micrometres
    np.testing.assert_array_equal(image.read(np.s_[:, 1:4, :]), data[:, 1:4])


@pytest.mark.parametrize(
    ("units", "size", "step"),
    [(0, {}, None), (2, {"X": 500.0, "Y": 500.0, "Z": 700.0}, None), (3 + 16, {"X": 0.5, "Y": 0.5, "Z": 0.7}, 0.25)],
)
def test_units_of_nifti(tmp_path: Path, units: int, size: dict[str, float], step: float | None) -> None:
    """Space: 0 unknown, 2 millimetres, 3 micrometres; time: 0 unknown, 16 milliseconds."""
    (tmp_path / "a.nii").write_bytes(nifti(np.stack([DATA] * 2), (0.5, 0.5, 0.7, 250.0), units))
    image = open_image(tmp_path / "a.nii")
    assert (image.axes, image.pixel_size) == ("TZYX", pytest.approx(size, rel=1e-5))
    assert image.metadata.time_step == (None if step is None else pytest.approx(step))


def test_the_time_step_of_a_nrrd(tmp_path: Path) -> None:
    lines = ["spacings: 200 200 500 1.5", 'units: "nm" "nm" "nm" "min"']
    (tmp_path / "a.nrrd").write_bytes(nrrd(np.stack([DATA] * 2), *lines))
    image = open_image(tmp_path / "a.nrrd")
    assert image.pixel_size == pytest.approx({"X": 0.2, "Y": 0.2, "Z": 0.5})
    assert image.metadata.time_step == pytest.approx(90.0)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    for suffix in (".nrrd", ".mha", ".nii"):
        (tmp_path / f"a{suffix}").write_text("This is no image. " * 100)
        with pytest.raises(InputError, match=rf"a\{suffix}: "):
            open_image(tmp_path / f"a{suffix}")
    (tmp_path / "b.nrrd").write_bytes(nrrd(DATA)[:-100])
    with pytest.raises(InputError, match=r"b\.nrrd: "):
        open_image(tmp_path / "b.nrrd").read()


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("detached", [False, True])
def test_nrrd_of_bzip2(tmp_path: Path, detached: bool, endian: str) -> None:
    order = DATA.astype("<u2" if endian == "little" else ">u2")
    header = nrrd(DATA[:0]).split(b"\n\n")[0].replace(b"sizes: 6 5 0", b"sizes: 6 5 4").replace(b"raw", b"bzip2")
    header = header.replace(b"little", endian.encode())
    pixels = bz2.compress(order.tobytes())
    if detached:
        (tmp_path / "a.nhdr").write_bytes(header + b"\ndata file: a.raw.bz2\n")
        (tmp_path / "a.raw.bz2").write_bytes(pixels)
    else:
        (tmp_path / "a.nrrd").write_bytes(header + b"\n\n" + pixels)
    image = open_image(tmp_path / ("a.nhdr" if detached else "a.nrrd"))
    assert (image.axes, image.dtype) == ("ZYX", np.uint16)
    np.testing.assert_array_equal(image.read(np.s_[1:, 2:4, :]), DATA[1:, 2:4])
