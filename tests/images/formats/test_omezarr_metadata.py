"""The metadata of OME-Zarr images, written by hand as the specification gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.metadata import ImageMetadata
from pssr2_monai.images.writer import write_image

CHANNELS = [
    {"label": "GFP", "color": "00FF00", "window": {"min": 0, "max": 4095, "start": 100, "end": 3000}},
    {"label": "RFP", "color": "ff0000", "window": {"min": 0, "max": 4095, "start": 50, "end": 2000}},
]


def image_of(path: Path, transforms: list[Any], outer: list[Any] | None = None, **omero: Any) -> LazyImage:
    """An image TCYX with these transformations of its only level, and of the whole."""
    axes = [{"name": "t", "type": "time", "unit": "millisecond"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": unit} for name, unit in (("y", "nanometer"), ("x", "micrometer"))]
    multiscale: dict[str, Any] = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}
    if outer:
        multiscale["coordinateTransformations"] = outer
    group = zarr.create_group(str(path), zarr_format=3, attributes={"ome": {"multiscales": [multiscale], **omero}})
    group.create_array("0", shape=(3, 2, 8, 8), dtype="uint16", fill_value=7)
    return open_image(path)


def scale(*factors: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(factors)}


def translation(*shifts: float) -> dict[str, Any]:
    return {"type": "translation", "translation": list(shifts)}


def test_metadata_are_read(tmp_path: Path) -> None:
    transforms = [scale(2500, 1, 100, 0.1), translation(0, 0, 52100, 60.9)]
    image = image_of(tmp_path / "a.zarr", transforms, omero={"channels": CHANNELS})
    assert image.pixel_size == pytest.approx({"Y": 0.1, "X": 0.1})
    assert image.metadata.origin == pytest.approx({"Y": 52.1, "X": 60.9})
    assert image.metadata.time_step == pytest.approx(2.5)
    assert image.metadata.colors == ("00FF00", "FF0000")
    assert image.metadata.windows == ((100, 3000), (50, 2000))
    assert image.channel_names == ("GFP", "RFP")


def test_transformations_apply_one_after_the_other(tmp_path: Path) -> None:
    inner, outer = [scale(1, 1, 1, 1), translation(0, 0, 3, 4)], [scale(1, 1, 100, 0.5), translation(0, 0, 1000, -1)]
    image = image_of(tmp_path / "a.zarr", inner, outer)
    assert image.pixel_size == pytest.approx({"Y": 0.1, "X": 0.5})
    assert image.metadata.origin == pytest.approx({"Y": 1.3, "X": 1.0})


def test_the_first_pixel_lies_at_0_by_default(tmp_path: Path) -> None:
    image = image_of(tmp_path / "a.zarr", [scale(1, 1, 100, 0.1)])
    assert image.metadata == ImageMetadata(origin={"Y": 0.0, "X": 0.0}, time_step=pytest.approx(1e-3))


def written(path: Path, metadata: ImageMetadata, **options: Any) -> Any:
    pixels = np.arange(3 * 2 * 300 * 8, dtype=np.uint16).reshape(3, 2, 300, 8)
    write_image(path, pixels, axes="TCYX", pixel_size={"Y": 0.2, "X": 0.1}, metadata=metadata, **options)
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


def test_metadata_are_written(tmp_path: Path) -> None:
    metadata = ImageMetadata(
        origin={"Y": 5.0, "X": -1.0, "Z": 9.0}, time_step=2.5, colors=("00FF00", "FF0000"), windows=((1, 9), (0, 70000))
    )
    ome = written(tmp_path / "a.ome.zarr", metadata, channel_names=["a", "b"])
    (multiscale,) = ome["multiscales"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == ["second", None, "micrometer", "micrometer"]
    first, second = (level["coordinateTransformations"] for level in multiscale["datasets"])
    assert first[0]["scale"] == pytest.approx([2.5, 1, 0.2, 0.1])
    assert first[1]["translation"] == pytest.approx([0, 0, 5, -1])
    assert second[1]["translation"] == pytest.approx([0, 0, 5.1, -0.95])  # of pixels twice as wide
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["a", "b"]
    assert [channel["color"] for channel in ome["omero"]["channels"]] == ["00FF00", "FF0000"]
    windows = [channel["window"] for channel in ome["omero"]["channels"]]
    assert [(window["start"], window["end"]) for window in windows] == [(1, 9), (0, 70000)]
    assert windows[1]["max"] == 70000


def test_what_is_unknown_is_not_written(tmp_path: Path) -> None:
    ome = written(tmp_path / "a.ome.zarr", ImageMetadata())
    assert "omero" not in ome
    assert ome["multiscales"][0]["datasets"][0]["coordinateTransformations"] == [scale(1, 1, 0.2, 0.1)]
    assert "unit" not in ome["multiscales"][0]["axes"][0]


@pytest.mark.parametrize("origin", [{}, {"Y": 7.0, "X": 8.0}])
def test_a_restored_image_lies_upon_its_scan(tmp_path: Path, origin: dict[str, float]) -> None:
    """Where the position of the scan is unknown, its first pixel is at 0, as in every OME-Zarr without translation."""
    restored = ImageMetadata(origin=origin).scaled({"Y": 0.8, "X": 0.4}, {"Y": 4, "X": 4})
    ome = written(tmp_path / "a.ome.zarr", restored)
    shift = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][1]["translation"]
    assert shift == pytest.approx([0, 0, origin.get("Y", 0) - 0.3, origin.get("X", 0) - 0.15])


@pytest.mark.shared_data
def test_the_case_of_lost_metadata(shared_data: Path) -> None:
    with open_image(shared_data / "cases/lost_metadata/img.ome.zarr") as image:
        restored = image.metadata.scaled(image.pixel_size, {"Y": 4, "X": 4})
    assert restored.origin == pytest.approx({"Y": 52.0625, "X": 60.8625})
    assert (restored.time_step, restored.colors) == (2.5, ("00FF00", "FF0000"))
    assert restored.windows == ((100, 3000), (50, 2000))
