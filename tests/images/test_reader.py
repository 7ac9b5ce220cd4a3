"""The reader as MONAI calls it, through LoadImaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged

from pssr2_monai.images.reader import MicroscopyReader
from pssr2_monai.images.writer import write_image

SIZE = {"Z": 0.3, "Y": 0.1, "X": 0.09}


def ramp(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels that all differ."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("axes", "shape", "first", "pixdim"),
    [
        ("YX", (20, 30), (1, 20, 30), (0.1, 0.09)),
        ("ZYX", (4, 20, 30), (1, 4, 20, 30), (0.3, 0.1, 0.09)),
        ("TYX", (5, 20, 30), (5, 20, 30), (0.1, 0.09)),
        ("ZCYX", (4, 2, 20, 30), (2, 4, 20, 30), (0.3, 0.1, 0.09)),
        ("TZCYX", (3, 4, 2, 20, 30), (6, 4, 20, 30), (0.3, 0.1, 0.09)),
    ],
)
def test_load_imaged(
    tmp_path: Path, axes: str, shape: tuple[int, ...], first: tuple[int, ...], pixdim: tuple[float, ...]
) -> None:
    data = ramp(*shape)
    write_image(tmp_path / "a.ome.tif", data, axes=axes, pixel_size=SIZE)
    load = Compose([LoadImaged("image", reader=MicroscopyReader, ensure_channel_first=True)])
    image = load({"image": str(tmp_path / "a.ome.tif")})["image"]
    assert isinstance(image, MetaTensor)
    assert tuple(image.shape) == first
    order = "".join(axis for axis in "TCZYX" if axis in axes)
    expected = data.transpose([axes.index(axis) for axis in order]).reshape(first)
    np.testing.assert_array_equal(image.numpy(), expected)
    np.testing.assert_allclose(image.pixdim[: len(pixdim)], pixdim, rtol=1e-6)
    assert image.meta["pixel_size"] == pytest.approx({axis: SIZE[axis] for axis in "ZYX" if axis in axes})
    assert image.meta["original_axes"] == axes


def test_the_file_order_is_kept(tmp_path: Path) -> None:
    data = ramp(4, 2, 20, 30)
    write_image(tmp_path / "a.ome.tif", data, axes="ZCYX", pixel_size={})
    image, meta = LoadImage(reader=MicroscopyReader(), image_only=False)(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.numpy(), data)
    assert (meta["axes"], meta["original_channel_dim"], meta["pixel_size"]) == ("ZCYX", 1, {})


def test_files_become_channels(tmp_path: Path) -> None:
    data = ramp(2, 20, 30)
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.tif", data[i])
    files = [str(tmp_path / f"{i}.tif") for i in range(2)]
    image = LoadImaged("image", reader=MicroscopyReader, ensure_channel_first=True)({"image": files})["image"]
    np.testing.assert_array_equal(image.numpy(), data)


def test_by_name_and_with_axes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", ramp(5, 20, 30), photometric="minisblack")
    load = LoadImage(reader="pssr2_monai.images.reader.MicroscopyReader", axes="TYX", ensure_channel_first=True)
    assert tuple(load(tmp_path / "a.tif").shape) == (5, 20, 30)


def test_verify_suffix() -> None:
    reader = MicroscopyReader()
    assert reader.verify_suffix("a.OME.TIF")
    assert reader.verify_suffix(["a.tif", "b.czi", "c.nii.gz"])
    assert not reader.verify_suffix(["a.tif", "b.txt"])


@pytest.mark.shared_data
def test_real_stack(shared_data: Path) -> None:
    path = shared_data / "formats" / "ome_tiff" / "CellDivision_TZCYX_from_czi.ome.tif"
    image = LoadImaged("image", reader=MicroscopyReader, ensure_channel_first=True)({"image": str(path)})["image"]
    expected = tifffile.imread(path).transpose(0, 2, 1, 3, 4).reshape(6, 5, 170, 240)
    np.testing.assert_array_equal(image.numpy(), expected)
    np.testing.assert_allclose(image.pixdim, [0.32, 0.090576674, 0.090576674], rtol=1e-6)
