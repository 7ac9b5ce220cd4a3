"""The widgets that choose images and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from magicgui.widgets import FileEdit

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.napari.layers import RESULT
from pssr2_monai.napari.source import FILES, SELECTED, ImageSource, chosen_weights


def test_a_layer_that_comes_is_chosen_unless_something_else_was(
    viewer: Any, panel_of: Callable[[str], Any], tmp_path: Path
) -> None:
    restore, train = panel_of("Restore"), panel_of("Train")
    train.images.choose(tmp_path)
    assert restore.image.layers == []
    layer = viewer.add_image(np.zeros((20, 30), np.uint8), name="scan")
    assert restore.image.layers == [layer]
    assert train.images.files(tmp_path / "unused") == tmp_path
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
    assert source.files(tmp_path / "in") == tmp_path / "in"
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["000_scan_1.ome.tif", "001_scan_2.ome.tif"]
    source.choose(viewer.layers[0])
    source.files(tmp_path / "in", "pair")
    (path,) = (tmp_path / "in").iterdir()
    assert path.name == "pair.ome.tif"
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read(), np.zeros((20, 30)))


def test_nothing_chosen_is_an_error_unless_it_is_optional(viewer: Any, tmp_path: Path) -> None:
    required, optional = ImageSource(viewer, "Scan", several=True), ImageSource(viewer, "Scan", optional="none")
    required.choice.value = FILES
    with pytest.raises(InputError, match="Scan: choose a file or folder"):
        required.files(tmp_path / "in")
    required.choose(SELECTED)
    with pytest.raises(InputError, match="Scan: no image layer is selected"):
        required.files(tmp_path / "in")
    assert optional.choice.value == "none"
    assert optional.files(tmp_path / "in") is None


def test_weights_are_a_file_or_the_name_of_bundled_ones(tiny_weights: Path) -> None:
    edit = FileEdit(nullable=True)
    with pytest.raises(InputError, match=r"Weights: choose a model\.pt"):
        chosen_weights(edit)
    edit.value = "em"
    assert chosen_weights(edit).name == "model.pt"
    edit.value = tiny_weights
    assert chosen_weights(edit) == tiny_weights
