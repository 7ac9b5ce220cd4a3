"""Restoring in the window gives what `restore` gives, where the scan lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.napari.layers import FILES, pixel_size_of
from pssr2_monai.restoration.restore import restore


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    """Three frames of 40 x 52 pixels with structure."""
    y, x = np.mgrid[:40, :52]
    waves = [np.sin(x / (3 + n)) + np.cos(y / (4 + n)) for n in range(3)]
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 40, 52))
    return (128 + 40 * (np.stack(waves) + noise)).clip(0, 255).astype(np.uint8)


def _restored(stack: np.ndarray, weights: Path, folder: Path, axes: str = "ZYX") -> np.ndarray:
    write_image(folder / "in.tif", stack, axes=axes, pixel_size={}, overwrite=True)
    restore(folder / "in.tif", folder / "expected.tif", weights, device="cpu", overwrite=True)
    with open_image(folder / "expected.tif") as image:
        return image.read()


def test_a_stack_is_restored_where_it_lies(
    viewer: Any,
    panel_of: Callable[[str], Any],
    done: Callable[..., None],
    stack: np.ndarray,
    tiny_weights: Path,
    tmp_path: Path,
) -> None:
    scan = viewer.add_image(
        stack, name="scan", scale=(0.1, 0.02, 0.02), units="um", translate=(0, 5, 7), contrast_limits=(20, 200)
    )
    panel = panel_of("Restore")
    assert "ResUNet, scale 4" in panel.description.text()  # the weights that come along
    panel.weights.choice.value = FILES
    panel.start_button.clicked.emit(True)
    assert "Weights: choose a model.pt" in panel.message.text()
    panel.weights.choose("em_denoise")
    assert "scale 1" in panel.description.text()
    panel.weights.choose(tmp_path / "absent.pt")
    assert "there is no such file of weights" in panel.message.text()
    panel.weights.choose(tiny_weights)
    assert "ResUNet, scale 4" in panel.description.text()
    assert not panel.message.text(), "the message of a corrected error is removed"
    shares: list[float] = []
    panel.reported.connect(shares.append)
    panel.start_button.clicked.emit(True)
    done(panel, "Restored.")
    restored = viewer.layers["scan restored"]
    np.testing.assert_array_equal(restored.data, _restored(stack, tiny_weights, tmp_path))
    np.testing.assert_allclose(restored.scale, (0.1, 0.005, 0.005))
    np.testing.assert_allclose(restored.translate, (0, 5 - 0.0075, 7 - 0.0075))
    assert pixel_size_of(restored) == pytest.approx({"Z": 0.1, "Y": 0.005, "X": 0.005})
    assert tuple(restored.contrast_limits) == (20, 200)
    assert restored.metadata["pssr2"]["record"]["scale"] == 4
    assert restored.metadata["pssr2"]["weights"] == str(tiny_weights)
    assert shares[-1] == 1.0
    # The map lies on the scan's pixels.
    fidelity = viewer.layers["scan fidelity"]
    assert fidelity.data.shape == stack.shape
    np.testing.assert_allclose(fidelity.scale, scan.scale)
    np.testing.assert_allclose(fidelity.translate, scan.translate)
    assert "the data" in panel.message.text() or "training" in panel.message.text()
    assert viewer.dims.range[0].stop == pytest.approx(0.2)  # a slider for the three frames


def test_a_drawn_part_of_the_frame_that_is_shown(
    viewer: Any,
    panel_of: Callable[[str], Any],
    done: Callable[..., None],
    stack: np.ndarray,
    tiny_weights: Path,
    tmp_path: Path,
) -> None:
    viewer.add_image(stack, name="scan", scale=(1, 0.5, 0.5))
    shapes = viewer.add_shapes(ndim=2, name="here")
    viewer.dims.set_point(0, 2)
    panel = panel_of("Restore")
    panel.weights.choose(tiny_weights)
    panel.check.value, panel.frame.value = False, True
    panel.image.choose(viewer.layers["scan"])
    panel.part.value = shapes
    panel.start_button.clicked.emit(True)
    assert "Part: nothing is drawn in here" in panel.message.text()
    # Drawn from the middle of pixel (4, 6) to that of pixel (23, 33).
    shapes.add_rectangles([[2, 3], [2, 16.5], [11.5, 16.5], [11.5, 3]])
    panel.start_button.clicked.emit(True)
    done(panel, "Restored.")
    panel.compared.remove()
    restored = viewer.layers["scan restored"]
    expected = _restored(stack[2, 4:24, 6:34], tiny_weights, tmp_path, axes="YX")
    np.testing.assert_array_equal(restored.data, expected[None])
    np.testing.assert_allclose(restored.data_to_world((0, -0.5, -0.5)), (2, 1.75, 2.75))
    shapes.data = [[[100, 100], [100, 120], [120, 120], [120, 100]]]
    panel.reset_choices()
    panel.part.value = shapes
    panel.start_button.clicked.emit(True)
    assert "Part: lies outside scan" in panel.message.text()


def test_a_file_is_restored_into_a_file_and_shown(
    viewer: Any,
    panel_of: Callable[[str], Any],
    done: Callable[..., None],
    stack: np.ndarray,
    tiny_weights: Path,
    tmp_path: Path,
) -> None:
    write_image(tmp_path / "scan.ome.tif", stack, axes="TYX", pixel_size={"Y": 0.02, "X": 0.02})
    panel = panel_of("Restore")
    panel.weights.choose(tiny_weights)
    panel.image.choose(tmp_path / "scan.ome.tif")
    panel.start_button.clicked.emit(True)
    assert "Save to: choose a file" in panel.message.text()
    panel.target.value = tmp_path / "restored.ome.tif"
    panel.start_button.clicked.emit(True)
    done(panel, str(tmp_path / "restored.ome.tif"))
    names = {"scan", "scan restored", "scan | result", "scan fidelity", "scan z-scores"}
    assert names == {layer.name for layer in viewer.layers}
    with open_image(tmp_path / "restored.ome.tif") as image:
        assert image.axes == "TYX"
        np.testing.assert_array_equal(image.read(), viewer.layers["scan restored"].data)
    np.testing.assert_allclose(viewer.layers["scan restored"].scale, (1, 0.005, 0.005))
    panel.start_button.clicked.emit(True)
    done(panel, "exists already")


def test_restoring_stops_when_asked(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], tiny_weights: Path
) -> None:
    viewer.add_image(np.random.default_rng(0).integers(0, 256, (40, 64, 64)).astype(np.uint8), name="scan")
    panel = panel_of("Restore")
    panel.weights.choose(tiny_weights)
    panel.check.value = False
    panel.reported.connect(lambda share: panel.stop())
    panel.start_button.clicked.emit(True)
    done(panel, "Stopped.")
    assert len(viewer.layers) == 1
    assert panel.start_button.enabled


def test_a_preview_follows_the_form_until_restoring_begins(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], qtbot: Any, tiny_weights: Path
) -> None:
    scan = viewer.add_image(np.random.default_rng(0).integers(0, 256, (2, 40, 52)).astype(np.uint8), name="scan")
    panel = panel_of("Restore")
    panel.live.value = True
    panel.weights.choose(tiny_weights)
    qtbot.waitUntil(lambda: "scan preview" in viewer.layers, timeout=60_000)
    assert viewer.layers["scan preview"].data.shape == (1, 160, 208)
    assert viewer.layers["scan | result"].data.shape == (1, 40, 26)
    assert viewer.layers.selection.active == scan
    panel.weights.choose("em_denoise")
    qtbot.waitUntil(
        lambda: "scan preview" in viewer.layers and viewer.layers["scan preview"].data.shape == (1, 40, 52),
        timeout=60_000,
    )
    panel.options.others.value = "axes"
    qtbot.waitUntil(lambda: "write name=value" in panel.message.text(), timeout=60_000)
    panel.options.others.value = ""
    panel.weights.choose(tiny_weights)
    panel.check.value = False
    panel.start_button.clicked.emit(True)
    done(panel, "Restored.")
    assert not panel.live.value
    assert [layer.name for layer in viewer.layers] == ["scan", "scan restored", "scan | result"]
    assert panel.image.layers == [scan]


def test_a_file_has_no_preview(panel_of: Callable[[str], Any], qtbot: Any, tmp_path: Path) -> None:
    panel = panel_of("Restore")
    panel.image.choose(tmp_path / "scan.tif")
    panel.live.value = True
    qtbot.waitUntil(lambda: "Preview: is of layers" in panel.message.text(), timeout=60_000)
