"""Layers written as files, restored ones put in their place, and the widgets that choose images and weights."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.napari.layers import (
    FILES,
    MADE_BY,
    RESULT,
    SELECTED,
    SIZE_UNKNOWN,
    ImageSource,
    WeightsSource,
    axes_of,
    layer_of_file,
    lazy_image,
    pixel_size_of,
    placement,
    write_layer,
)
from pssr2_monai.napari.panel import TemporaryFolder
from pssr2_monai.napari.viewer import made_cells
from pssr2_monai.networks.weights import BUNDLED, weights_file


@pytest.mark.parametrize(
    ("shape", "labels", "axes"),
    [((8, 9), None, "YX"), ((3, 8, 9), None, "ZYX"), ((2, 3, 8, 9), None, "TZYX"), ((3, 8, 9), ("c", "y", "x"), "CYX")],
)
def test_axes_are_those_that_the_layer_names_or_else_the_usual_ones(
    shape: tuple[int, ...], labels: tuple[str, ...] | None, axes: str
) -> None:
    assert axes_of(Image(np.zeros(shape), axis_labels=labels)) == axes


def test_an_rgb_layer_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="cell: is an RGB picture"):
        axes_of(Image(np.zeros((8, 9, 3), np.uint8), rgb=True, name="cell"))


def test_pixel_sizes_are_in_micrometres_and_unknown_ones_stay_unknown() -> None:
    plane = np.zeros((8, 9))
    assert pixel_size_of(Image(plane)) == {}
    assert pixel_size_of(Image(plane, scale=(0.5, 0.25))) == {"Y": 0.5, "X": 0.25}
    assert pixel_size_of(Image(plane, scale=(4, 4), units="nm")) == pytest.approx({"Y": 0.004, "X": 0.004})
    assert pixel_size_of(Image(plane, scale=(1, 1), units="um")) == {"Y": 1.0, "X": 1.0}


def test_a_part_of_a_layer_is_written_with_its_axes_and_pixel_size(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 65536, (2, 5, 20, 30)).astype(np.uint16)
    layer = Image(stack, scale=(1, 0.05, 0.01, 0.01), units=("pixel", "um", "um", "um"), name="my stack")
    part = (slice(1, 2), slice(1, 4), slice(2, 20), slice(0, 17))
    assert write_layer(layer, tmp_path / "part.ome.tif", part) == "TZYX"
    with open_image(tmp_path / "part.ome.tif") as image:
        assert image.axes == "ZYX"  # a single time point is no axis of a file
        assert image.pixel_size == pytest.approx({"Z": 0.05, "Y": 0.01, "X": 0.01})
        np.testing.assert_array_equal(image.read(), stack[1, 1:4, 2:20, :17])


def test_a_file_is_shown_at_its_size_with_its_axes(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 20, 30)).astype(np.uint8)
    write_image(tmp_path / "cell.ome.tif", stack, axes="TYX", pixel_size={"Y": 0.02, "X": 0.02})
    pixels, shown = layer_of_file(tmp_path / "cell.ome.tif")
    layer = Image(pixels, **shown)
    assert (layer.name, axes_of(layer)) == ("cell", "TYX")
    assert pixel_size_of(layer) == {"Y": 0.02, "X": 0.02}
    np.testing.assert_array_equal(layer.data, stack)
    lazy, _ = layer_of_file(tmp_path / "cell.ome.tif", in_memory_bytes=100)
    assert lazy.chunksize == (1, 20, 30)
    np.testing.assert_array_equal(np.asarray(lazy[1, 3:5]), stack[1, 3:5])


def test_a_larger_image_covers_the_same_place_of_a_turned_layer() -> None:
    layer = Image(np.zeros((4, 20, 30)), scale=(2, 0.5, 0.25), translate=(1, 2, 3), rotate=(10, 20, 30))
    part = (slice(1, 3), slice(4, 20), slice(0, 16))
    sr = Image(np.zeros((2, 64, 64)), **placement(layer, (2, 64, 64), part))
    # The corners of pixels, not their middles, coincide.
    for lr_corner, sr_corner in (((1, 3.5, -0.5), (0, -0.5, -0.5)), ((2, 19.5, 15.5), (1, 63.5, 63.5))):
        np.testing.assert_allclose(layer.data_to_world(lr_corner), sr.data_to_world(sr_corner), atol=1e-9)
    np.testing.assert_allclose(sr.scale, (2, 0.125, 0.0625))


def test_a_layer_laid_over_one_of_unknown_size_has_none() -> None:
    step = {"scale": (0.25, 0.25)}
    assert pixel_size_of(Image(np.zeros((8, 8)), **step)) == {"Y": 0.25, "X": 0.25}
    assert pixel_size_of(Image(np.zeros((8, 8)), metadata={SIZE_UNKNOWN: "YX"}, **step)) == {}
    scan = next(shown for _, shown, _ in made_cells() if shown["name"] == "fast scan")
    assert pixel_size_of(Image(np.zeros((8, 8)), **scan)) == {}


def test_a_temporary_folder_lives_as_long_as_pixels_read_from_it() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 20, 30)).astype(np.uint8)
    folder = TemporaryFolder()
    path = folder.path / "cell.ome.tif"
    write_image(path, stack, axes="TYX", pixel_size={})
    pixels, _ = layer_of_file(path, in_memory_bytes=100, keep=folder)
    del folder
    gc.collect()
    np.testing.assert_array_equal(np.asarray(pixels.reshape(1, 3, 20, 30)[0]), stack)
    del pixels
    gc.collect()
    assert not path.exists()


def test_a_layer_that_comes_is_chosen_unless_something_else_was(
    viewer: Any, panel_of: Callable[[str], Any], tmp_path: Path
) -> None:
    restore, train = panel_of("Restore"), panel_of("Train")
    train.images.choose(tmp_path)
    assert restore.image.layers == []
    layer = viewer.add_image(np.zeros((20, 30), np.uint8), name="scan")
    assert restore.image.layers == [layer]
    assert train.images.source(tmp_path / "unused")() == tmp_path
    viewer.layers.clear()
    assert restore.image.layers == []


def test_results_and_rgb_layers_are_not_offered(viewer: Any) -> None:
    plane = np.zeros((20, 30), np.uint8)
    scan = viewer.add_image(plane, name="scan")
    viewer.add_image(plane, name="map", metadata=RESULT)
    viewer.add_image(np.zeros((20, 30, 3), np.uint8), rgb=True, name="colours")
    source = ImageSource(viewer, "Scan", several=True, optional="none")
    assert list(source.choice.choices) == ["none", scan, SELECTED, FILES]


def test_layers_are_written_in_place_of_earlier_ones(viewer: Any, tmp_path: Path) -> None:
    for number in range(3):
        viewer.add_image(np.full((20, 30), number, np.uint8), name=f"scan {number}")
    viewer.layers.selection = set(viewer.layers[1:])
    source = ImageSource(viewer, "Scans", several=True)
    source.choose(SELECTED)
    assert source.source(tmp_path / "in")() == tmp_path / "in"
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["scan_1.ome.tif", "scan_2.ome.tif"]
    source.choose(viewer.layers[0])
    source.source(tmp_path / "in")()
    (path,) = (tmp_path / "in").iterdir()
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read(), np.zeros((20, 30)))
    for layer in viewer.layers:
        layer.name = "Scan"
    viewer.layers.selection = set(viewer.layers[:2])
    source.choose(SELECTED)
    source.source(tmp_path / "in")()
    names = sorted(path.name for path in (tmp_path / "in").iterdir())
    assert len(names) == 2


def test_partners_and_masks_have_the_names_of_the_images(viewer: Any, tmp_path: Path) -> None:
    good = [viewer.add_image(np.zeros((8, 9), np.uint8), name=f"good {number}") for number in range(2)]
    viewer.add_labels(np.eye(8, 9, dtype=np.int64) * 70_000, name="cells")
    images, masks = ImageSource(viewer, "Images", several=True), ImageSource(viewer, "Mask", several=True, kind=Labels)
    viewer.layers.selection = {*good, viewer.layers["cells"]}
    images.choose(SELECTED)
    masks.choose(viewer.layers["cells"])
    masks.source(tmp_path / "masks", images)()
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["good_0.ome.tif", "good_1.ome.tif"]
    with open_image(tmp_path / "masks" / "good_1.ome.tif") as image:
        np.testing.assert_array_equal(image.read(), np.eye(8, 9) * 70_000)
    viewer.layers.selection = {*good, viewer.layers["cells"], viewer.add_labels(np.eye(8, 9, dtype=np.uint8))}
    images.choose(good[0])
    masks.choose(SELECTED)
    with pytest.raises(InputError, match="Mask: 2 layers for the 1 of Images; select one for each"):
        masks.source(tmp_path / "masks", images)


def test_the_active_scan_is_chosen_until_the_user_chooses(viewer: Any) -> None:
    first, second = (viewer.add_image(np.zeros((8, 9), np.uint8), name=name) for name in ("first", "second"))
    source = ImageSource(viewer, "Scan")
    assert source.layers == [second]
    viewer.layers.selection.active = first
    assert source.layers == [first]
    viewer.layers.selection.active = viewer.add_image(np.zeros((8, 9)), metadata={MADE_BY: {}})
    assert source.layers == [first]
    source.choice.native.activated.emit(0)
    viewer.layers.selection.active = second
    assert source.layers == [first]


def test_a_layer_is_an_image_without_a_copy() -> None:
    pixels = np.arange(2 * 8 * 9, dtype=">u2").reshape(2, 8, 9)
    image = lazy_image(Image(pixels, axis_labels=("c", "y", "x"), scale=(1, 0.5, 0.5), name="cell"))
    assert (image.axes, image.shape, image.dtype, image.pixel_size) == ("CYX", (2, 8, 9), "u2", {"Y": 0.5, "X": 0.5})
    np.testing.assert_array_equal(image.read([slice(1, 2), slice(2, 4), slice(0, 3)]), pixels[1:2, 2:4, :3])


def test_nothing_chosen_is_an_error_unless_it_is_optional(viewer: Any, tmp_path: Path) -> None:
    required, optional = ImageSource(viewer, "Scan", several=True), ImageSource(viewer, "Scan", optional="none")
    required.choice.value = FILES
    with pytest.raises(InputError, match="Scan: choose a file or folder"):
        required.source(tmp_path / "in")
    required.choose(SELECTED)
    with pytest.raises(InputError, match="Scan: no layer is selected"):
        required.source(tmp_path / "in")
    assert optional.choice.value == "none"
    assert optional.source(tmp_path / "in")() is None


def test_weights_are_bundled_ones_a_file_or_none(qtbot: Any, tiny_weights: Path) -> None:
    weights = WeightsSource("Weights", optional="none")
    offered = [weights.choice.native.itemText(row) for row in range(weights.choice.native.count())]
    assert offered[:2] == ["none", "em: electron micrographs, 4x"]
    assert [text.partition(":")[0] for text in offered[1:-1]] == list(BUNDLED)
    assert weights.file() is None
    weights.choose("em")
    assert weights.file() == weights_file("em")
    assert not weights.path.visible
    weights.choice.value = FILES
    with pytest.raises(InputError, match=r"Weights: choose a model\.pt"):
        weights.file()
    weights.choose(tiny_weights)
    assert weights.file() == tiny_weights
    assert WeightsSource().file() == weights_file("em")


def test_one_of_several_images_of_a_file_is_chosen(tmp_path: Path, viewer: Any) -> None:
    pages = [np.zeros((8, 9), np.uint8), np.ones((12, 14), np.uint8)]
    for page in pages:
        tifffile.imwrite(tmp_path / "a.tif", page, append=True)
    pixels, shown = layer_of_file(tmp_path / "a.tif")
    assert (shown["name"], pixels.shape) == ("a image 2 of 2", (12, 14))
    pixels, shown = layer_of_file(tmp_path / "a.tif", number=1)
    assert (shown["name"], pixels.shape) == ("a image 1 of 2", (8, 9))
    source = ImageSource(viewer, "Images")
    source.choose(tmp_path / "a.tif")
    assert source.number is None
    source.within.value = " 1 "
    assert source.number == "1"
    source.choose(viewer.add_image(pages[1]))
    assert source.number is None  # of a layer
