"""OME-Zarr of every version and plain Zarr, against zarr read directly; what is written, against ome-zarr-models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.omezarr import area_mean
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import create_writer, write_image

Ramp = Callable[..., np.ndarray]


def make(path: Path, zarr_format: int, arrays: dict[str, np.ndarray], attributes: dict[str, Any]) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format, attributes=attributes)
    for name, data in arrays.items():
        group.create_array(name, data=data, chunks=(1,) * (data.ndim - 2) + (16, 16))


def axis(name: str, unit: str | None = None) -> dict[str, str]:
    kind = {"t": "time", "c": "channel"}.get(name, "space")
    return {"name": name, "type": kind} | ({"unit": unit} if unit else {})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_versions_and_units(ramp: Ramp, tmp_path: Path, version: str) -> None:
    data = ramp(2, 3, 40, 30)
    multiscale = {
        "axes": [axis("c"), axis("z", "nanometer"), axis("y", "angstrom"), axis("x", "micrometer")],
        "datasets": [
            {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": [1, 300, 1000, 0.05]}]},
            {"path": "s1", "coordinateTransformations": [{"type": "scale", "scale": [1, 300, 2000, 0.1]}]},
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 2]}],
    }
    omero = {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP", "color": "00FF00"}]}
    inner = {"multiscales": [multiscale], "omero": omero}
    attributes = {"ome": {"version": "0.5", **inner}} if version == "0.5" else inner
    make(tmp_path / "a.zarr", 3 if version == "0.5" else 2, {"s0": data, "s1": data[..., ::2, ::2]}, attributes)
    with open_image(tmp_path / "a.zarr") as image:
        assert (image.axes, image.shape, image.dtype) == ("CZYX", data.shape, data.dtype)
        assert image.pixel_size == pytest.approx({"Z": 0.3, "Y": 0.1, "X": 0.1})
        assert image.channel_names == ("DAPI", "GFP")
        np.testing.assert_array_equal(image.read(np.s_[1:, :2, 10:35, 3:17]), data[1:, :2, 10:35, 3:17])


def test_units_left_out_are_unknown(ramp: Ramp, tmp_path: Path) -> None:
    multiscale = {
        "axes": [axis("y"), axis("x", "micrometer")],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.2]}]}],
    }
    make(tmp_path / "a.zarr", 2, {"0": ramp(40, 30)}, {"multiscales": [multiscale]})
    assert open_image(tmp_path / "a.zarr").pixel_size == {"X": 0.2}


def test_levels_listed_from_the_smallest(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(40, 30)
    levels = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [0.1 * 2**k, 0.1 * 2**k]}]}
        for k in (2, 1, 0)
    ]
    attributes = {"multiscales": [{"axes": [axis(name, "micrometer") for name in "yx"], "datasets": levels}]}
    make(tmp_path / "a.zarr", 2, {str(k): data[:: 2**k, :: 2**k] for k in range(3)}, attributes)
    image = open_image(tmp_path / "a.zarr")
    assert image.pixel_size == pytest.approx({"Y": 0.1, "X": 0.1})
    np.testing.assert_array_equal(image.read(), data)


def test_old_versions_have_five_axes(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(1, 2, 3, 40, 30)
    make(tmp_path / "a.zarr", 2, {"0": data}, {"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]})
    assert open_image(tmp_path / "a.zarr").axes == "CZYX"
    multiscale = {"version": "0.3", "axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}
    make(tmp_path / "b.zarr", 2, {"0": data[0, 0]}, {"multiscales": [multiscale]})
    assert open_image(tmp_path / "b.zarr").axes == "ZYX"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_plain_arrays(ramp: Ramp, tmp_path: Path, zarr_format: int, order: str) -> None:
    data = ramp(3, 40, 30).astype(f"{order}u2")
    zarr.create_array(str(tmp_path / "a.zarr"), data=data, chunks=(1, 16, 16), zarr_format=zarr_format)
    with open_image(tmp_path / "a.zarr") as image:
        assert (image.axes, image.shape, image.pixel_size) == ("ZYX", data.shape, {})
        assert image.dtype == np.dtype("=u2")
        assert image.read().dtype == np.dtype("=u2")
        np.testing.assert_array_equal(image.read(np.s_[:, 5:, :7]), data[:, 5:, :7])
    assert open_image(tmp_path / "a.zarr", axes="TYX").axes == "TYX"


def test_plain_arrays_with_names(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(3, 40, 30)
    zarr.create_array(str(tmp_path / "a.zarr"), data=data, dimension_names=["time", "y", "x"], zarr_format=3)
    assert open_image(tmp_path / "a.zarr").axes == "TYX"
    array = zarr.create_array(str(tmp_path / "b.zarr"), data=data, zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["c", "y", "x"]
    assert open_image(tmp_path / "b.zarr").axes == "CYX"
    make(tmp_path / "c.zarr", 3, {"only": data}, {})
    np.testing.assert_array_equal(open_image(tmp_path / "c.zarr").read(), data)
    np.testing.assert_array_equal(open_image(tmp_path / "c.zarr" / "only").read(), data)


@pytest.mark.parametrize("listed", ["series", "XML", "neither"])
def test_the_series_of_a_converted_file(ramp: Ramp, tmp_path: Path, listed: str) -> None:
    """In the layout of bioformats2raw, with the label image that many slide scanners add."""
    arrays = {"0": ramp(40, 30), "1": ramp(3, 60, 50), "10": ramp(999, 9), "2": ramp(3, 60, 50) + 5}
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    for path, data in arrays.items():
        axes = [axis(letter) for letter in "zyx"[-data.ndim :]]
        name = {"name": "label image"} if path == "10" else {}
        multiscale = {"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}], **name}
        levels = {"0": data, "1": data[..., ::2, ::2]}
        make(tmp_path / "a.zarr" / path, 2, levels, {"multiscales": [multiscale]})
        make(tmp_path / "a.zarr" / path / "labels" / "cells", 2, {"0": data}, {"multiscales": [multiscale]})
    order = ["2", "0", "1", "10"] if listed == "series" else ["0", "1", "2", "10"]
    names = ["", "", "", "label image"]
    if listed == "series":
        make(tmp_path / "a.zarr" / "OME", 2, {}, {"series": order})
    if listed == "XML":
        names = ["Snap", "Scan 1", "Scan 2", "Slide label"]
        images = "".join(f'<Image ID="Image:{name}" Name="{name}"/>' for name in names)
        (tmp_path / "a.zarr" / "OME").mkdir()
        xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>'
        (tmp_path / "a.zarr" / "OME" / "METADATA.ome.xml").write_text(xml, encoding="utf-8")
    for number, (path, name) in enumerate(zip(order, names, strict=True), 1):
        image = open_image(tmp_path / "a.zarr", image=number)
        assert image.place == f"image {number} of 4{f' ({name})' * bool(name)}"
        np.testing.assert_array_equal(image.read(), arrays[path])
        np.testing.assert_array_equal(open_image(tmp_path / "a.zarr", image=name or number).read(), arrays[path])
    largest = "2" if listed == "series" else "1"  # the first of two
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").read(), arrays[largest])


def test_the_fields_of_a_well_and_several_multiscales_of_a_group(ramp: Ramp, tmp_path: Path) -> None:
    arrays = {"3": ramp(40, 30), "1": ramp(40, 30) + 3}
    multiscale = {"axes": [axis("y"), axis("x")], "datasets": [{"path": "0"}]}
    well = {"well": {"images": [{"path": "3"}, {"path": "1"}]}}
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2, attributes=well)
    for path, data in arrays.items():
        make(tmp_path / "a.zarr" / path, 2, {"0": data}, {"multiscales": [multiscale]})
    for number, data in enumerate(arrays.values(), 1):
        np.testing.assert_array_equal(open_image(tmp_path / "a.zarr", image=number).read(), data)
    two = [{**multiscale, "name": name, "datasets": [{"path": path}]} for name, path in (("raw", "a"), ("clean", "b"))]
    make(tmp_path / "b.zarr", 2, {"a": arrays["3"], "b": arrays["1"]}, {"multiscales": two})
    np.testing.assert_array_equal(open_image(tmp_path / "b.zarr", image="clean").read(), arrays["1"])


def test_positions_in_an_array_are_images(ramp: Ramp, tmp_path: Path) -> None:
    data = ramp(2, 3, 40, 30)
    zarr.create_array(str(tmp_path / "a.zarr"), data=data, dimension_names=["position", "z", "y", "x"], zarr_format=3)
    for number in (1, 2):
        image = open_image(tmp_path / "a.zarr", image=f"position {number}")
        assert (image.place, image.axes) == (f"image {number} of 2 (position {number})", "ZYX")
        np.testing.assert_array_equal(image.read(np.s_[1:, 3:9, 5:]), data[number - 1, 1:, 3:9, 5:])


@pytest.mark.parametrize(
    ("arrays", "attributes", "message"),
    [
        (["a", "b"], {}, "is not an OME-Zarr image and holds a, b; open one"),
        ([], {}, "holds no array"),
        (
            [],
            {"plate": {"wells": [{"path": "A/1"}]}},
            "is a plate of many images; open one of them, such as x.zarr/A/1/0",
        ),
        (["0"], {"multiscales": [{"axes": ["y"], "datasets": [{"path": "0"}]}]}, "name 1 axes"),
        (["0"], {"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "7"}]}]}, "its level '7' is missing"),
    ],
)
def test_refusals(ramp: Ramp, tmp_path: Path, arrays: list[str], attributes: dict[str, Any], message: str) -> None:
    make(tmp_path / "x.zarr", 2, {name: ramp(20, 30) for name in arrays}, attributes)
    with pytest.raises(InputError, match=message) as caught:
        open_image(tmp_path / "x.zarr")
    assert str(caught.value).startswith("x.zarr: ")


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.zarr", np.random.default_rng(0).random((600, 700)), axes="YX", pixel_size={})
    chunk = tmp_path / "a.zarr" / "0" / "c" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:100])
    image = open_image(tmp_path / "a.zarr")
    image.read(np.s_[:512, :512])
    with pytest.raises(InputError, match=r"a\.zarr: a chunk has 100 bytes, but states \d+ for 2097152"):
        image.read(np.s_[500:, 500:])


@pytest.mark.parametrize("names", [(), ("DAPI", "GFP")])
@pytest.mark.parametrize("size", [{}, {"Z": 0.3, "Y": 0.1, "X": 0.1}])
def test_written_images_are_valid(tmp_path: Path, size: dict[str, float], names: tuple[str, ...]) -> None:
    models = pytest.importorskip("ome_zarr_models.v05")
    data = np.random.default_rng(0).integers(0, 65535, (2, 3, 1100, 515), "uint16")
    write_image(tmp_path / "a.ome.zarr", data, axes="CZYX", pixel_size=size, channel_names=names)
    image = models.Image.from_zarr(zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r"))
    (multiscale,) = image.ome_attributes.multiscales
    assert [str(axis.name) for axis in multiscale.axes] == ["c", "z", "y", "x"]
    assert [axis.unit for axis in multiscale.axes] == [None, *[("micrometer" if size else None)] * 3]
    assert [dataset.path for dataset in multiscale.datasets] == ["0", "1", "2", "3"]
    for k, dataset in enumerate(multiscale.datasets):
        scale, *shift = dataset.coordinateTransformations
        unit = [1.0, size.get("Z", 1.0), size.get("Y", 1.0), size.get("X", 1.0)]
        assert scale.scale == pytest.approx([unit[0], unit[1], unit[2] * 2**k, unit[3] * 2**k])
        if k:  # the centre of a wide pixel lies half its width from the corner that all levels share
            expected = [0, 0, unit[2] * (2**k - 1) / 2, unit[3] * (2**k - 1) / 2]
            assert shift[0].translation == pytest.approx(expected)
    if names:
        omero = pytest.importorskip("ome_zarr_models.common.omero").Omero
        stored = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r").attrs["ome"]["omero"]
        assert [channel.model_dump()["label"] for channel in omero.model_validate(stored).channels] == list(names)


def test_the_pyramid_holds_means(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 65535, (2, 1100, 1026), "uint16")
    write_image(tmp_path / "a.ome.zarr", data, axes="ZYX", pixel_size={})
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    shapes = [group[str(k)].shape for k in range(4)]
    assert shapes == [(2, 1100, 1026), (2, 550, 513), (2, 275, 257), (2, 138, 129)]
    expected = np.rint(data.reshape(2, 550, 2, 513, 2).mean((2, 4)))
    np.testing.assert_array_equal(group["1"][:], expected)
    last_column = np.rint(group["1"][:, :, 512].astype(float).reshape(2, 275, 2).mean(2))
    np.testing.assert_array_equal(group["2"][:, :, 256], last_column)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
def test_area_mean(dtype: str) -> None:
    pixels = np.array([[0, 1, 7], [2, 2, 9], [5, 6, 3]], dtype)
    expected = [[1.25, 8], [5.5, 3]]
    mean = area_mean(pixels)
    assert mean.dtype == dtype
    np.testing.assert_array_equal(mean, expected if "float" in dtype else np.rint(expected))


def test_what_a_killed_run_left_is_not_an_image_and_does_not_hinder_the_next(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"shape": (40, 30), "dtype": "uint8", "axes": "YX", "pixel_size": {}}
    create_writer(tmp_path / "a.ome.zarr", **settings).write(np.s_[:, :], np.ones((40, 30), "uint8"))
    with pytest.raises(InputError):
        open_image(tmp_path / "a.ome.zarr.part")
    with create_writer(tmp_path / "a.ome.zarr", **settings) as writer:
        writer.write(np.s_[:20, :], np.full((20, 30), 7, "uint8"))
    image = open_image(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(image.read(), np.repeat([7, 0], 20)[:, None] * np.ones((1, 30)))


@pytest.mark.shared_data
def test_real_file(shared_data: Path) -> None:
    path = shared_data / "formats" / "ome_zarr" / "CellDivision_tczyx.ome.zarr"
    expected = zarr.open_group(str(path), mode="r")["0"][:]
    with open_image(path) as image:
        assert (image.axes, image.shape, image.dtype) == ("TCZYX", (3, 2, 5, 170, 240), np.uint16)
        assert image.pixel_size == pytest.approx({"Z": 0.32, "Y": 0.090576674, "X": 0.090576674})
        np.testing.assert_array_equal(image.read(), expected)
        window = np.s_[1:3, 1:, 2:4, 30:90, 200:]
        np.testing.assert_array_equal(image.read(window), expected[window])
