"""How files are read, on images of known noise and known axes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.data.datalists import TileSettings
from pssr2_monai.data.info import describe
from pssr2_monai.errors import InputError
from pssr2_monai.images.writer import write_image


def test_a_stack_is_described(tmp_path: Path) -> None:
    slope = np.linspace(100, 3999, 90)
    stack = np.broadcast_to(slope, (2, 7, 100, 90)).astype(np.uint16)
    write_image(tmp_path / "s.ome.tif", stack, axes="TZYX", pixel_size={"Z": 0.3, "Y": 0.1, "X": 0.1})
    info = describe(tmp_path / "s.ome.tif", TileSettings(tile=64, n_frames=5))
    assert (info.axes, info.shape, info.dtype) == ("TZYX", (2, 7, 100, 90), "uint16")
    assert info.pixel_size == pytest.approx({"Z": 0.3, "Y": 0.1, "X": 0.1})
    assert (info.frames, info.run, info.tiles, info.samples) == (14, 7, 4, 4 * 2 * 3)
    assert (info.least, info.greatest) == ((100,), (3999,))
    blocks = slope[:88].reshape(11, 8).mean(axis=1)  # whose means are the levels
    assert (info.black, info.white) == (pytest.approx(blocks[:1], abs=5), pytest.approx(blocks[-1:], abs=5))
    assert "pixel size     Z 0.3, Y 0.1, X 0.1 (micrometres)" in str(info)
    with pytest.raises(InputError, match="n_frames asks for 9"):
        describe(tmp_path / "s.ome.tif", TileSettings(n_frames=9))


def test_all_images_of_a_file_are_listed(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for name, shape in (("Snapshot", (40, 50)), ("Scan", (3, 64, 70))):
            tif.write(
                np.ones(shape, "uint16"),
                photometric="minisblack",
                metadata={"axes": "ZYX"[-len(shape) :], "Name": name},
            )
    info = describe(tmp_path / "a.ome.tif", TileSettings(tile=32))
    assert (info.image, info.shape) == ("2 of 2 (Scan)", (3, 64, 70))
    assert info.images == ("1 Snapshot (40 x 50 uint16 YX)", "2 Scan (3 x 64 x 70 uint16 ZYX)")
    assert "image          2 of 2 (Scan)\nimages         1 Snapshot (40 x 50 uint16 YX)\n               2 Scan" in str(
        info
    )
    assert describe(tmp_path / "a.ome.tif", TileSettings(tile=32, image="snapshot")).shape == (40, 50)


def test_a_data_bar_is_told_and_left_out(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).integers(8000, 20000, (130, 128)).astype(np.uint16)
    bar = np.where(np.random.default_rng(1).random((20, 128)) > 0.9, 65535, 0).astype(np.uint16)
    fei = "[Scan]\r\nPixelWidth=1e-8\r\nPixelHeight=1e-8\r\n[Image]\r\nResolutionX=128\r\nResolutionY=130\r\n"
    tags = [(34682, 2, None, fei, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.vstack([scan, bar]), metadata=None, extratags=tags)
    info = describe(tmp_path / "a.tif", TileSettings(tile=64))
    assert (info.shape, info.bar_rows, info.tiles) == ((130, 128), 20, 3 * 2)
    assert max(info.greatest) < 20000
    assert max(info.white) < 20000
    assert info.pixel_size == pytest.approx({"Y": 0.01, "X": 0.01})
    assert "bar rows       20 (the data bar below the image, left out)" in str(info)


def test_describing_an_image_needs_neither_torch_nor_monai(hr_folder: Path) -> None:
    """They take seconds to load, which a question about a file must not cost."""
    code = (
        "import sys; from pssr2_monai.cli.main import main; from pssr2_monai.data.datalists import TileSettings\n"
        "from pssr2_monai.data.info import describe\n"
        f"describe({str(next(hr_folder.iterdir()))!r}, TileSettings(tile=32))\n"
        "assert not {'torch', 'monai', 'ignite'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
