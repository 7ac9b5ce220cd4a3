"""What a file states holds for the restored image: position, time, colours; and its data bar is copied or cropped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors, is_volume
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.metadata import ImageMetadata, color_ramp
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.restore_file import FileRestorer

BAR = 20


class Repetition(torch.nn.Module):
    """A network that repeats pixels along Y and X, and for volumes along the frames."""

    def __init__(self, scale: int | Sequence[int]) -> None:
        super().__init__()
        self.factors, self.volume = factors(scale), is_volume(scale)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.volume:
            return F.interpolate(x[:, None], scale_factor=self.factors, mode="nearest")[:, 0]
        return F.interpolate(x, scale_factor=self.factors[1:], mode="nearest")


def restored(source: Path, target: Path, scale: int | Sequence[int] = 4) -> Path:
    record = Record(network={}, scale=scale, intensity=IntensitySettings("dtype"))
    inferer = SeamlessInferer(window=64, precision="float32", volume=is_volume(scale))
    FileRestorer(Repetition(scale), record, inferer).restore(open_image(source), target)
    return target


def barred(shape: Sequence[int], dtype: str = "uint8") -> np.ndarray:
    """Random pixels over a plain strip with random marks."""
    random = np.random.default_rng(0)
    pixels = random.integers(50, 200, shape).astype(dtype)
    pixels[..., -BAR:, :] = 0
    pixels[..., 5 - BAR : -5, 4:-4] = random.choice([0, 250], (*shape[:-2], BAR - 10, shape[-1] - 8))
    return pixels


@pytest.mark.parametrize("target", ["out.tif", "out.ome.tif", "out.ome.zarr", "out.png"])
@pytest.mark.parametrize("height", [90, 256])
def test_the_bar_is_copied_enlarged(tmp_path: Path, target: str, height: int) -> None:
    image = barred((height + BAR, 70))
    fei = f"[Scan]\r\nPixelWidth=1e-8\r\nPixelHeight=1e-8\r\n[Image]\r\nResolutionX=70\r\nResolutionY={height}\r\n"
    tifffile.imwrite(tmp_path / "in.tif", image, metadata=None, extratags=[(34682, 2, None, fei, True)])
    with open_image(restored(tmp_path / "in.tif", tmp_path / target)) as out:
        assert (out.shape, out.bar_rows) == ((height * 4, 280), BAR * 4)
        np.testing.assert_array_equal(out.read(with_bar=True), image.repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize("target", ["out.tif", "out.ome.zarr"])
@pytest.mark.parametrize("scale", [2, [2, 1, 1], [1, 2, 2]])
def test_the_bar_of_each_frame_is_copied(tmp_path: Path, target: str, scale: int | Sequence[int]) -> None:
    stack = barred((2, 5, 60 + BAR, 50))
    tifffile.imwrite(tmp_path / "in.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    along_z, along_y, along_x = factors(scale)
    with open_image(restored(tmp_path / "in.tif", tmp_path / target, scale)) as out:
        assert out.bar_rows == BAR * along_y
        expected = stack.repeat(along_z, 1).repeat(along_y, 2).repeat(along_x, 3)
        np.testing.assert_array_equal(out.read(with_bar=True), expected)


def test_the_bar_does_not_reach_the_network(tmp_path: Path) -> None:
    """Windows are continued by reflection of the image, as if the bar were not there."""

    class Blur(Repetition):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)

    record = Record(network={}, scale=1, intensity=IntensitySettings("dtype"))
    image = barred((100, 60))
    for name, pixels in (("with.tif", image), ("without.tif", image[:-BAR])):
        tifffile.imwrite(tmp_path / name, pixels)
        FileRestorer(Blur(1), record, SeamlessInferer(window=64)).restore(
            open_image(tmp_path / name), tmp_path / f"out_{name}"
        )
    out = tifffile.imread(tmp_path / "out_with.tif")
    np.testing.assert_array_equal(out[:-BAR], tifffile.imread(tmp_path / "out_without.tif"))
    np.testing.assert_array_equal(out[-BAR:], image[-BAR:])


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InputError, match="bar: 'kep' is unknown"):
        RestoreOptions(bar="kep")


STATED = ImageMetadata(
    origin={"Y": 52.1, "X": 60.9},
    time_step=2.5,
    colors=("00FF00", "FF0000"),
    windows=((0, 4000), (100, 3000)),
    luts=(color_ramp("00FF00"), color_ramp("FF0000")),
    labels=tuple(f"plane {i}" for i in range(6)),
)


@pytest.mark.parametrize("source", ["in.tif", "in.ome.tif", "in.ome.zarr"])
@pytest.mark.parametrize("target", ["out.tif", "out.ome.tif", "out.ome.zarr"])
def test_a_restored_image_lies_upon_its_scan(tmp_path: Path, source: str, target: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 4000, (3, 2, 40, 30)).astype(np.uint16)
    axes, sizes = "TCYX", {"Y": 0.1, "X": 0.1}
    write_image(tmp_path / source, pixels, axes=axes, pixel_size=sizes, metadata=STATED, channel_names=["GFP", "RFP"])
    with open_image(restored(tmp_path / source, tmp_path / target)) as out:
        stated = out.metadata
        assert out.pixel_size == pytest.approx({"Y": 0.025, "X": 0.025})
        if source != "in.tif" and target != "out.tif":  # whose labels are of planes
            assert out.channel_names == ("GFP", "RFP")
    assert stated.origin == pytest.approx({"Y": 52.0625, "X": 60.8625})
    assert (stated.time_step, stated.lut_colors()) == (2.5, STATED.colors)
    if "in.ome.tif" not in source and "ome.tif" not in target:  # which have no place for windows
        assert stated.windows == STATED.windows
    if (source, target) == ("in.tif", "out.tif"):
        assert stated.labels == STATED.labels


def test_numbers_with_a_sign_are_restored_as_imagej_shows_them(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 65536, (40, 30)).astype(np.uint16)
    function = {"cf": 0, "c0": -32768, "c1": 1, "vunit": "Gray Value"}
    tifffile.imwrite(tmp_path / "in.tif", stored, imagej=True, metadata=function)
    with tifffile.TiffFile(restored(tmp_path / "in.tif", tmp_path / "out.tif", 2)) as tif:
        np.testing.assert_array_equal(tif.asarray(), stored.repeat(2, 0).repeat(2, 1))
        assert {key: tif.imagej_metadata[key] for key in function} == function


@pytest.mark.parametrize("origin", [{}, {"Y": 5.0, "X": 6.0}])
def test_a_zarr_lies_upon_the_scan_that_it_was_made_of(tmp_path: Path, origin: dict[str, float]) -> None:
    """The centres of pixels are at the coordinates of an OME-Zarr; a scan without position begins at 0."""
    scan = np.random.default_rng(0).integers(0, 4000, (40, 30)).astype(np.uint16)
    metadata, sizes = ImageMetadata(origin=origin), {"Y": 0.4, "X": 0.8}
    write_image(tmp_path / "in.tif", scan, axes="YX", pixel_size=sizes, metadata=metadata)
    out = restored(tmp_path / "in.tif", tmp_path / "out.ome.zarr")
    ome = json.loads((out / "zarr.json").read_text())["attributes"]["ome"]
    scale, translation = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    first = [origin.get("Y", 0), origin.get("X", 0)]
    for k in range(2):  # the centre of four restored pixels is that of the first pixel of the scan
        assert translation["translation"][k] + 1.5 * scale["scale"][k] == pytest.approx(first[k])
