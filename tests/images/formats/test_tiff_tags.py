"""Pixel sizes and data bars by the tags of microscopes, in small files with the tags that their makers write."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from pssr2_monai.images.formats.tiff_tags import METAMORPH_CALIBRATION, METAMORPH_PLANES
from pssr2_monai.images.image import open_image

SCAN = np.random.default_rng(0).integers(60, 200, (96, 128), dtype=np.uint8)


def with_tags(path: Path, *tags: tuple[int, Any], image: np.ndarray = SCAN, **options: Any) -> Path:
    """A file with private tags: text, bytes, a float or several integers."""
    extratags = []
    for code, value in tags:
        if isinstance(value, str):
            extratags.append((code, 2, None, value, True))
        elif isinstance(value, bytes):
            extratags.append((code, 7, len(value), value, True))
        else:
            extratags.append((code, 12, 1, value, True))
    tifffile.imwrite(path, image, **{"metadata": None, "resolution": (72, 72)} | options, extratags=extratags)
    return path


def size_and_bar(path: Path) -> tuple[dict[str, float], int]:
    with open_image(path) as image:
        return dict(image.pixel_size), image.bar_rows


def square(size: float) -> Any:
    return pytest.approx({"Y": size, "X": size}, rel=1e-6)


def zeiss(*lines: str, unnamed: float = 0.0) -> str:
    return "\r\n".join(["0", "0", "0", str(unnamed), "0", "0", *lines, ""])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        # The size of a pixel on the screen of 1024 columns is not that in a file of another width.
        (zeiss("AP_PIXEL_SIZE", "Pixel Size = 5.825 nm", "AP_WIDTH", "Width = 2.56 µm"), 0.02),
        (zeiss("AP_WIDTH", "Width = 1.280 mm", "AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 10.0 µm"), 10.0),
        (zeiss("AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 558.2 pm", "AP_PIXEL_SIZE", "Pixel Size = 4.1 nm"), 5.582e-4),
        (zeiss("AP_PIXEL_SIZE", "Pixel Size = 5.000 nm"), 0.04),
        (zeiss("AP_MAG", "Mag = 100.00 K X", unnamed=5e-9), 0.04),
    ],
)
def test_zeiss(tmp_path: Path, text: str, size: float) -> None:
    assert size_and_bar(with_tags(tmp_path / "a.tif", (34118, text.encode("cp1252")))) == (square(size), 0)


def test_zeiss_states_the_size_of_the_stored_image(tmp_path: Path) -> None:
    text = zeiss("DP_IMAGE_STORE", "Store resolution = 128 * 90", "AP_WIDTH", "Width = 12.80 nm")
    assert size_and_bar(with_tags(tmp_path / "a.tif", (34118, text))) == (square(1e-4), 6)


FEI = (
    "[User]\r\nDate=03/14/2022\r\nUser=user\r\n[System]\r\nType=DualBeam\r\n[Beam]\r\nHV=5000\r\n"
    "[Scan]\r\nPixelWidth=2.0345e-009\r\nPixelHeight=3e-009\r\nHorFieldsize=2.0833e-006\r\n"
    "[Image]\r\nDigitalGamma=1\r\nResolutionX={columns}\r\nResolutionY={rows}\r\n"
    "[PrivateFei]\r\nBitShift=0\r\nDatabarHeight={bar}\r\n"
)


@pytest.mark.parametrize("code", [34682, 34680])
@pytest.mark.parametrize(
    ("columns", "rows", "bar", "below"),
    [(128, 84, 12, 12), (128, 84, "", 12), (128, 96, 0, 0), (128, 96, 12, 0), ("", "", 12, 12), (1024, 884, 59, 0)],
)
def test_fei(tmp_path: Path, code: int, columns: object, rows: object, bar: object, below: int) -> None:
    path = with_tags(tmp_path / "a.tif", (code, FEI.format(columns=columns, rows=rows, bar=bar)))
    assert size_and_bar(path) == (pytest.approx({"X": 0.0020345, "Y": 0.003}), below)


def test_phenom(tmp_path: Path) -> None:
    xml = (
        '<?xml version="1.0"?><FeiImage><databarHeight>16</databarHeight><pixelWidth unit="um">0.694952</pixelWidth>'
        '<pixelHeight unit="nm">700.5</pixelHeight><instrument><edition>Phenom ProX</edition></instrument></FeiImage>'
    )
    assert size_and_bar(with_tags(tmp_path / "a.tif", (34683, xml))) == (
        pytest.approx({"X": 0.694952, "Y": 0.7005}),
        16,
    )


def test_tescan(tmp_path: Path) -> None:
    text = (
        b"\x40\x01\0\0AccFrames=1\r\nDevice=MIRA3 LMH\r\nImageStripSize=14\r\nMagnification=5000.0\r\n"
        b"PixelSizeX=4.1e-008\r\nPixelSizeY=4.2e-008\r\nSign=\0\xff\r\nHV=15000.0\r\nStageX=0.01\r\n"
    )
    assert size_and_bar(with_tags(tmp_path / "a.tif", (50431, text))) == (pytest.approx({"X": 0.041, "Y": 0.042}), 14)


@pytest.mark.parametrize("unit", ["nm", "n\0m\0", b"nm\0"])
def test_gatan(tmp_path: Path, unit: str | bytes) -> None:
    tags = [(65003, unit), (65004, unit), (65006, 0.0), (65007, 0.0), (65009, 1.5), (65010, 2.5)]
    assert size_and_bar(with_tags(tmp_path / "a.tif", *tags)) == (pytest.approx({"X": 0.0015, "Y": 0.0025}), 0)


def test_gatan_stack(tmp_path: Path) -> None:
    tags = [(65003, b"\xb5m"), (65004, b"\xb5m"), (65005, "nm"), (65009, 0.01), (65010, 0.01), (65011, 40.0)]
    path = with_tags(tmp_path / "a.tif", *tags, image=np.stack([SCAN] * 3), photometric="minisblack")
    assert size_and_bar(path)[0] == pytest.approx({"X": 0.01, "Y": 0.01, "Z": 0.04})


def test_tags_that_others_use_without_units_are_unknown(tmp_path: Path) -> None:
    assert size_and_bar(with_tags(tmp_path / "a.tif", (65006, 1.0), (65009, 1.5), (65010, 2.5)))[0] == {}


def test_olympus_sis(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    header = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 5, 10, 2, 3, 119, b"image", 1)
    general = struct.pack("<10xhdd8xd2x34s32s", -6, 0.016, 0.017, 20000.0, b"Megaview", b"Normal")
    with_tags(path, (33560, header + struct.pack("<hhI", 1, 1, 0) + general))
    content = path.read_bytes()
    place = content.index(header) + len(header)
    path.write_bytes(content[: place + 4] + struct.pack("<I", place + 8) + content[place + 8 :])
    assert size_and_bar(path)[0] == pytest.approx({"X": 0.016, "Y": 0.017})


def test_metamorph_stack(tmp_path: Path) -> None:
    """UIC1 and UIC2 tags of three planes; the calibration is stored as places of fractions in the file."""
    path = tmp_path / "a.stk.tif"
    fractions = struct.pack("<4I", 645, 10000, 650, 10000)
    unit = struct.pack("<I", 3) + b"um\0"
    payload = fractions + unit
    with_tags(path, (65500, payload), (METAMORPH_PLANES, b"\0" * 24 * 3), (METAMORPH_CALIBRATION, b"\0" * 8 * 4))
    content = bytearray(path.read_bytes())
    place = content.index(payload)
    pairs = struct.pack("<8I", 4, place, 5, place + 8, 6, place + 16, 7, 1)
    planes = struct.pack("<6I", 3, 10, 2451545, 0, 2451545, 0) * 3
    layout = {METAMORPH_PLANES: (5, 3, planes), METAMORPH_CALIBRATION: (4, 4, pairs)}
    for code, (kind, count, value) in layout.items():
        entry = content.index(struct.pack("<HHI", code, 7, len(value)))
        (offset,) = struct.unpack_from("<I", content, entry + 8)
        struct.pack_into("<HHI", content, entry, code, kind, count)
        content[offset : offset + len(value)] = value
    path.write_bytes(content + SCAN.tobytes() * 2)  # the planes follow one another
    with tifffile.TiffFile(path) as tif:
        assert tif.is_stk
        meta = tif.pages.first.tags.valueof(METAMORPH_CALIBRATION)
    assert meta["XCalibration"] == pytest.approx(0.0645)
    assert size_and_bar(path)[0] == pytest.approx({"X": 0.0645, "Y": 0.065, "Z": 0.3})


@pytest.mark.parametrize(("state", "size"), [("on", {"X": 0.3417, "Y": 0.35}), ("off", {})])
def test_metamorph_xml(tmp_path: Path, state: str, size: dict[str, float]) -> None:
    values = {
        "spatial-calibration-state": ("bool", state),
        "spatial-calibration-x": ("float", "0.3417"),
        "spatial-calibration-y": ("float", "0.35"),
        "spatial-calibration-units": ("string", "um"),
        "stage-position-x": ("float", "73296.5"),
    }
    lines = [f'<prop id="{key}" type="{kind}" value="{value}"/>' for key, (kind, value) in values.items()]
    xml = "<MetaData>\r\n<PlaneInfo>\r\n" + "\r\n".join(lines) + "\r\n</PlaneInfo>\r\n</MetaData>"
    assert size_and_bar(with_tags(tmp_path / "xml.tif", description=xml))[0] == pytest.approx(size)
    text = "\r\n".join(f"{key}: {value}" for key, (_, value) in values.items())
    assert size_and_bar(with_tags(tmp_path / "text.tif", description=text))[0] == pytest.approx(size)


@pytest.mark.parametrize("shaped", [True, False])
def test_openfibsem(tmp_path: Path, shaped: bool) -> None:
    meta = {
        "image": {"resolution": [128, 96], "dwell_time": 1e-6, "hfw": 1.5e-4, "beam_type": "ELECTRON"},
        "version": "v3",
        "pixel_size": {"x": 1.17e-6, "y": 1.2e-6},
        "microscope_state": {"stage_position": {"x": 0.0, "y": 0.001, "name": "µ"}},
    }
    options: dict[str, Any] = {"metadata": meta} if shaped else {"description": json.dumps(meta)}
    path = with_tags(tmp_path / "a.tif", **options)
    assert size_and_bar(path)[0] == pytest.approx({"X": 1.17, "Y": 1.2})


def test_what_is_no_metadata_is_unknown(tmp_path: Path) -> None:
    tags = [
        (34682, "[Scan]\r\nPixelWidth=\r\n"),
        (50431, b"\xff\xfe\0PixelSizeX=0\r\nImageStripSize=95"),
        (34683, "<a>"),
    ]
    path = with_tags(tmp_path / "a.tif", *tags, description='{"pixel_size": 3}')
    assert size_and_bar(path) == ({}, 0)


def test_a_description_by_imagej_outweighs_the_tags(tmp_path: Path) -> None:
    """Fiji keeps no private tags, but other programs do when they rescale."""
    fei = FEI.format(columns=128, rows=84, bar=12)
    options: dict[str, Any] = {"metadata": {"unit": "nm"}, "imagej": True, "resolution": (0.5, 0.5)}
    path = with_tags(tmp_path / "a.tif", (34682, fei), **options)
    assert size_and_bar(path) == (square(0.002), 12)


@pytest.mark.shared_data
def test_a_zeiss_file_of_512_columns(shared_data: Path) -> None:
    assert size_and_bar(shared_data / "cases/sem_pixel_sizes/zeiss_512.tif")[0] == pytest.approx(
        {"Y": 0.01165, "X": 0.01165}, rel=1e-3
    )
