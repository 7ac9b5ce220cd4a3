"""Nikon ND2 against nd2's own reading of the whole file, which no library can write."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

nd2 = pytest.importorskip("nd2")


@pytest.mark.shared_data
def test_real_file(shared_data: Path) -> None:
    path = shared_data / "formats" / "nd2" / "cluster.nd2"
    expected = nd2.imread(path)
    with open_image(path) as image:
        assert (image.axes, image.shape, image.dtype) == ("TZCYX", (3, 10, 2, 31, 38), np.uint16)
        np.testing.assert_array_equal(image.read(), expected)
        window = np.s_[1:3, 4:9, 1:2, 3:20, 5:38]
        np.testing.assert_array_equal(image.read(window), expected[window])
        assert image.pixel_size == pytest.approx({"X": 0.16780898, "Y": 0.16780898, "Z": 0.5})
        assert image.channel_names == ("5-FAM/pH 9.0", "FM 4-64/2% CHAPS")
        assert image.metadata.colors == ("78E90F", "FE0100")
        assert image.metadata.origin == pytest.approx({"X": -26056.951209, "Y": -4155.462733, "Z": 3912.3375})
    np.testing.assert_array_equal(image.read(window), expected[window])  # opened again
    image.close()


class _Document:
    """An ND2 file as nd2 presents it, made of an array."""

    def __init__(self, data: np.ndarray, axes: str, calibrated: bool) -> None:
        self.sizes: Mapping[str, int] = dict(zip(axes, data.shape, strict=True))
        self.dtype = data.dtype
        frame_axes = [i for i, axis in enumerate(axes) if axis in "CYXS"]
        self._frames = data.reshape(-1, *(data.shape[i] for i in frame_axes))
        channel = SimpleNamespace(name="dye", color=(0, 255, 0, 1.0))
        volume = SimpleNamespace(axesCalibrated=(calibrated,) * 3)
        channels = [SimpleNamespace(channel=channel, volume=volume)] * self.sizes.get("C", 1)
        self.metadata = SimpleNamespace(channels=channels)
        loop = SimpleNamespace(type="TimeLoop", parameters=SimpleNamespace(periodMs=2500.0))
        self.experiment = [loop]

    def voxel_size(self) -> Any:
        return SimpleNamespace(x=0.1, y=0.2, z=0.5)

    def frame_metadata(self, number: int) -> Any:
        frame = np.unravel_index(number, [n for axis, n in self.sizes.items() if axis not in "CYXS"] or [1])
        index = [axis for axis in self.sizes if axis not in "CYXS"].index("P") if "P" in self.sizes else 0
        stage = SimpleNamespace(x=100.0 * int(frame[index]), y=-5.0, z=0.5)
        channel = SimpleNamespace(position=SimpleNamespace(stagePositionUm=stage))
        return SimpleNamespace(channels=[channel])

    def read_frame(self, number: int) -> np.ndarray:
        return self._frames[number].squeeze()

    def close(self) -> None:
        pass


@pytest.mark.parametrize("axes", ["YX", "TYX", "ZCYX", "TZYXS", "CYXS"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: str, calibrated: bool) -> None:
    sizes = {"T": 2, "Z": 4, "C": 2, "Y": 20, "X": 30, "S": 3}
    shape = tuple(sizes[axis] for axis in axes)
    data = np.arange(np.prod(shape)).reshape(shape).astype("uint16")
    (tmp_path / "a.nd2").write_bytes(b"x")
    monkeypatch.setattr(nd2, "ND2File", lambda path: _Document(data, axes, calibrated))
    image = open_image(tmp_path / "a.nd2")
    joined = axes == "CYXS"
    assert image.axes == ("CYX" if joined else axes.replace("S", "C"))
    np.testing.assert_array_equal(image.read(), np.moveaxis(data, -1, 1).reshape(6, 20, 30) if joined else data)
    known = {axis: size for axis, size in {"Z": 0.5, "Y": 0.2, "X": 0.1}.items() if axis in axes}
    assert image.pixel_size == (pytest.approx(known) if calibrated else {})
    assert image.metadata.time_step == 2.5
    assert image.metadata.origin == {"X": 0.0, "Y": -5.0, "Z": 0.5}


def test_positions_are_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 9999, (2, 3, 4, 20, 30)).astype("uint16")
    (tmp_path / "a.nd2").write_bytes(b"x")
    monkeypatch.setattr(nd2, "ND2File", lambda path: _Document(data, "TPZYX", True))
    image = open_image(tmp_path / "a.nd2", image=3)
    assert (image.axes, len(image.entries)) == ("TZYX", 3)
    np.testing.assert_array_equal(image.read(), data[:, 2])
    np.testing.assert_array_equal(image.read(np.s_[1:, 2:, 3:9, :5]), data[1:, 2, 2:, 3:9, :5])
    assert (image.metadata.origin, image.metadata.framed) == ({"X": 200.0, "Y": -5.0, "Z": 0.5}, True)


def test_damaged_files_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.nd2").write_bytes(b"\xda\xce\xbe\n This is no image." * 99)
    with pytest.raises(InputError, match=r"b\.nd2: cannot be read as ND2"):
        open_image(tmp_path / "b.nd2")
    monkeypatch.setitem(sys.modules, "nd2", None)
    with pytest.raises(InputError, match=r'b\.nd2: .*pip install "pssr2-monai\[nd2\]"'):
        open_image(tmp_path / "b.nd2")
