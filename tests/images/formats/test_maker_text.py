"""Text files that electron microscopes write next to an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pssr2_monai.images.formats.maker_text import Statement, read_sidecar
from pssr2_monai.images.image import open_image

JEOL = (
    "$SEM_DATA_VERSION 1\r\n$CM_LABEL JEOL\r\n$CM_FORMAT JEOL/SEM\r\n$CM_VERSION 1.0\r\n$CM_MAG 1600\r\n"
    "$CM_STAGE_POS 18.6234 -19.6264 12.7350 0 0 0\r\n$CM_FULL_SIZE 128 96\r\n$$SM_WD 10.0\r\n$$SM_MICRON_BAR 91\r\n"
    "$$SM_MICRON_MARKER {marker}\r\n"
)
HITACHI = (
    "[SemImageFile]\r\nInstructName=SU8230\r\nSampleName=steel\r\nFormat=tif\r\nImageName=img.tif\r\n"
    "DataSize=128x96\r\nPixelSize=9.921875\r\nAcceleratingVoltage=15000 Volt\r\nWorkingDistance=8100 um\r\n"
)
TESCAN = "[MAIN]\r\nPixelSizeX=4.1e-008\r\nPixelSizeY=4.2e-008\r\nImageStripSize=20\r\n[SEM]\r\nHV=15000\r\n"


@pytest.mark.parametrize("marker", ["10um", "10µm", "10000nm", "0.01mm", "10.0 um"])
@pytest.mark.parametrize("suffix", [".txt", ".TXT"])
def test_jeol(tmp_path: Path, marker: str, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text(JEOL.format(marker=marker), encoding="latin-1")
    stated = read_sidecar(tmp_path / "a.tif", height=104, width=128)
    assert stated.pixel_size == pytest.approx({"Y": 10 / 91, "X": 10 / 91})
    assert stated.bar_rows == 8  # below the 96 rows of the scan


def test_the_text_of_a_part_or_a_reduced_copy_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(JEOL.format(marker="10um"))
    assert read_sidecar(tmp_path / "a.bmp", height=52, width=64) == Statement()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_hitachi(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(HITACHI.encode(encoding))
    stated = read_sidecar(tmp_path / "a.tif", height=96, width=128)
    assert stated == Statement(pytest.approx({"Y": 0.009921875, "X": 0.009921875}))


@pytest.mark.parametrize("name", ["a-png.hdr", "a.hdr"])
def test_tescan(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TESCAN)
    assert read_sidecar(tmp_path / "a.png", 96, 128) == Statement(pytest.approx({"X": 0.041, "Y": 0.042}), 20)


@pytest.mark.parametrize("text", ["", "a list of samples", "PixelSize=3", "$$SM_MICRON_BAR 0\n$$SM_MICRON_MARKER 1um"])
def test_other_text_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read_sidecar(tmp_path / "a.tif", 96, 128) == Statement()


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_images_of_these_formats_are_opened_with_it(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (104, 128), np.uint8)
    write = tifffile.imwrite if name.endswith("tif") else lambda path, data: Image.fromarray(data).save(path)
    write(tmp_path / name, pixels)
    (tmp_path / "a.txt").write_text(JEOL.format(marker="10um"))
    with open_image(tmp_path / name) as image:
        assert (image.shape, image.bar_rows) == ((96, 128), 8)
        assert image.pixel_size == pytest.approx({"Y": 10 / 91, "X": 10 / 91})
