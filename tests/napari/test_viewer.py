"""What napari finds of the plugin: windows, sample data; and the command that opens it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest

from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.data import samples
from pssr2_monai.errors import InputError
from pssr2_monai.images import writer
from pssr2_monai.napari.layers import SIZE_UNKNOWN, pixel_size_of
from pssr2_monai.napari.viewer import PANELS, SideBySide, align_units, em_sections, open_viewer


def test_the_manifest_is_found_and_names_what_there_is() -> None:
    manifest = npe2.PluginManifest.from_distribution("pssr2-monai")
    manifest.validate_imports()
    assert [widget.display_name for widget in manifest.contributions.widgets] == list(PANELS)


def test_made_cells_are_sample_data(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(samples.generate_images, side=64)
    monkeypatch.setattr("pssr2_monai.napari.viewer.generate_images", small)
    viewer.open_sample("pssr2-monai", "made_cells")
    scan, left_out = viewer.layers["fast scan"], viewer.layers["left out"]
    np.testing.assert_allclose(scan.extent.world, left_out.extent.world, atol=1.5)  # middles of the outermost pixels
    clean = Downsample(2)(left_out.data[None].astype(np.float32))[0]
    assert abs((scan.data - clean).mean()) < 1
    assert 5 < (scan.data - clean).std() < 20
    assert [layer.name for layer in viewer.layers][:3] == ["cells 1", "cells 2", "cells 3"]


def test_em_sections_keep_their_pixel_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, count in (("train", 2), ("test", 1)):
        (tmp_path / "sample" / "sections" / kind).mkdir(parents=True)
        for number, image in enumerate(samples.generate_images(count, side=64)):
            path = tmp_path / "sample" / "sections" / kind / f"section_{number:02d}.tif"
            writer.write_image(path, image, axes="YX", pixel_size={"Y": 0.008, "X": 0.008})
    monkeypatch.setattr("pssr2_monai.napari.viewer.cache_dir", lambda: tmp_path)
    layers = em_sections()
    assert [shown["name"] for _, shown, _ in layers] == ["section_00", "section_01", "left out", "fast scan"]
    assert layers[2][1]["scale"] == [0.008, 0.008]
    np.testing.assert_allclose(layers[3][1]["scale"], [0.016, 0.016])


def test_files_are_opened_next_to_the_windows(
    make_napari_viewer: Callable[..., Any], qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write_image(
        tmp_path / "scan.ome.tif", np.zeros((3, 20, 30), np.uint8), axes="TYX", pixel_size={"Y": 0.02, "X": 0.02}
    )
    with pytest.raises(InputError, match="there is no such file"):
        open_viewer([tmp_path / "scan.ome.tif", tmp_path / "other.tif"])
    monkeypatch.setattr("napari.Viewer", make_napari_viewer)
    viewer = open_viewer([tmp_path / "scan.ome.tif"], show=False)
    assert viewer.title == "PSSR2"
    np.testing.assert_allclose(viewer.layers["scan"].scale, (1, 0.02, 0.02))
    assert viewer.layers["scan"].axis_labels == ("t", "y", "x")
    panels = viewer.window.dock_widgets
    assert {*panels} == {f"{name} (pssr2-monai)" for name in PANELS}
    assert [panels[f"{name} (pssr2-monai)"].start_button.text for name in PANELS] == list(PANELS)
    qtbot.wait(50)


def test_axes_have_one_unit_in_all_layers(viewer: Any) -> None:
    known = viewer.add_image(np.zeros((3, 8, 8), np.uint8), scale=(1, 0.02, 0.02), units=("pixel", "um", "um"))
    viewer.add_image(np.zeros((8, 8), np.uint8))
    viewer.add_image(np.zeros((4, 8, 8), np.uint8), units=("um", "um", "um"), scale=(0.05, 0.02, 0.02))
    viewer.add_points([(1, 2)])
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), rgb=True)
    assert viewer.layers.extent.units is None
    align_units(viewer)
    assert [str(unit) for unit in viewer.layers.extent.units] == ["micrometer"] * 3
    assert [pixel_size_of(layer) for layer in viewer.layers[:3]] == [
        {"Y": 0.02, "X": 0.02},
        {},
        {"Z": 0.05, "Y": 0.02, "X": 0.02},
    ]
    tiles = np.zeros((4, 1, 8, 8), np.float32)
    SideBySide(viewer, "training").show({"SR": tiles, "HR": tiles})
    assert viewer.layers.extent.units is not None
    assert known.metadata[SIZE_UNKNOWN] == "Z"


@pytest.mark.parametrize("shape", [(40, 8, 8), (3, 40, 8, 8)])
def test_the_first_tile_is_shown_where_a_stack_was_looked_at(viewer: Any, shape: tuple[int, ...]) -> None:
    viewer.add_image(np.zeros(shape, np.uint8))
    viewer.dims.set_point(len(shape) - 3, 20)
    tiles = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    selected = set(viewer.layers.selection)
    SideBySide(viewer, "training").show({"SR": tiles, "HR": tiles})
    assert set(viewer.layers.selection) == selected  # which may be trained on
    assert viewer.dims.point[-3] == 0
