"""Calibrating and evaluating in their windows give what the functions give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.crappify import GaussianNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.evaluation.evaluate import evaluate
from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.images.image import list_images, open_image
from pssr2_monai.napari.calibrate_panel import WITHOUT
from pssr2_monai.napari.evaluate_panel import CRAPPIFIED
from pssr2_monai.training.config import config_files


def test_two_layers_are_calibrated_and_the_preset_saved(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], tmp_path: Path
) -> None:
    y, x = np.mgrid[:512, :512]
    hr = 128 + 50 * np.sin(x / 19) * np.cos(y / 23) + 20 * np.sin(x / 7)
    crappify = Crappify(4, [GaussianNoise(sigma=12.0)]).set_random_state(seed=0)
    lr = crappify((hr[None] / 255).astype(np.float32))[0]
    viewer.add_image(hr.round().astype(np.uint8), name="slow")
    viewer.add_image((np.asarray(lr) * 255).round().astype(np.uint8), name="fast")
    panel = panel_of("Calibrate")
    panel.save_button.clicked.emit(True)
    assert "Save as: choose a name" in panel.words.text()
    panel.lr.choose(viewer.layers["fast"])
    assert panel.hr.choice.value == WITHOUT
    panel.hr.choose(viewer.layers["slow"])
    panel.model.value, panel.calls.value = "gaussian", 16
    panel.start_button.clicked.emit(True)
    done(panel, "gaussian sigma")
    assert abs(panel.found.values["gaussian"] - 12) < 1.0
    assert panel.picture.pixmap().width() > 100
    assert "Calibration" in viewer.window.dock_widgets
    panel.preset.value = tmp_path / "scope.json"
    panel.save_button.clicked.emit(True)
    assert "Saved" in panel.words.text()
    noises = json.loads((tmp_path / "scope.json").read_text())["crappifier#noises"]
    assert any("sigma" in each for each in noises)
    assert config_files("train", str(tmp_path / "scope.json"))[-1] == str(tmp_path / "scope.json")
    assert (tmp_path / "scope.png").is_file()


def test_a_folder_is_evaluated(
    viewer: Any,
    panel_of: Callable[[str], Any],
    done: Callable[..., None],
    hr_folder: Path,
    tiny_weights: Path,
    tmp_path: Path,
) -> None:
    panel = panel_of("Evaluate")
    panel.hr.choose(hr_folder)
    assert panel.lr.choice.value == CRAPPIFIED
    panel.weights.value, panel.out.value = tiny_weights, tiny_weights / "scores"
    panel.start_button.clicked.emit(True)
    done(panel, "choose another place")
    assert str(tiny_weights) in panel.words.text()
    panel.out.value = tmp_path / "scores"
    panel.start_button.clicked.emit(True)
    done(panel)
    expected = evaluate(hr_folder, tiny_weights, tmp_path / "expected", device="cpu")
    assert expected["verdict"]["headline"] in panel.words.text()
    for row, (name, metric) in enumerate(METRICS.items()):
        for column, method in enumerate(("bilinear", "bicubic", "model")):
            value = expected["mean"][method][name]
            shown = panel.table.item(row, column).text()
            assert shown == (f"{value:.{metric.digits}f}" if np.isfinite(value) else "–")
    assert sum(not box.isHidden() for box in panel.boxes) >= 3
    assert (tmp_path / "scores" / "report.html").is_file()
    assert panel.page_button.enabled
    assert viewer.layers[-1].name.startswith("evaluation: cell_")
    assert viewer.layers[-1].rgb


def test_layers_are_evaluated(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], hr_folder: Path, tiny_weights: Path
) -> None:
    with open_image(list_images(hr_folder)[0]) as image:
        viewer.add_image(image.read(), name="good")
    panel = panel_of("Evaluate")
    panel.weights.value = tiny_weights
    panel.start_button.clicked.emit(True)
    done(panel, "Box plots need 3 images")
    assert all(box.isHidden() for box in panel.boxes)
    assert panel.table.item(0, 2).text() != ""


def test_evaluating_and_calibrating_stop_when_asked(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], hr_folder: Path, tiny_weights: Path
) -> None:
    y, x = np.mgrid[:512, :512]
    hr = (128 + 50 * np.sin(x / 19) * np.cos(y / 23)).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 9, (128, 128))
    viewer.add_image(hr, name="slow")
    viewer.add_image((hr[::4, ::4] + noise).clip(0, 255).astype(np.uint8), name="fast")
    evaluating, calibrating = panel_of("Evaluate"), panel_of("Calibrate")
    evaluating.hr.choose(hr_folder)
    evaluating.weights.value = tiny_weights
    calibrating.lr.choose(viewer.layers["fast"])
    calibrating.hr.choose(viewer.layers["slow"])
    for panel in (evaluating, calibrating):
        panel.told.connect(lambda share, panel=panel: panel.stop())
        panel.start_button.clicked.emit(True)
        done(panel, "Stopped.")
        assert panel.start_button.enabled
    assert len(viewer.layers) == 2
    assert not calibrating.save_button.enabled
