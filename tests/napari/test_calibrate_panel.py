"""Calibrating in its window gives what `calibrate` gives, and saves it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.crappify import GaussianNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.napari.calibrate_panel import WITHOUT_GOOD, WITHOUT_HR
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
    assert "Save as: choose a file name" in panel.message.text()
    panel.lr.choose(viewer.layers["fast"])
    assert panel.hr.choice.value == WITHOUT_HR
    panel.hr.choose(viewer.layers["slow"])
    panel.options.widgets["model"].value, panel.options.widgets["calls"].value = "gaussian", "16"
    panel.start_button.clicked.emit(True)
    done(panel, "gaussian sigma")
    assert abs(panel.calibration.values["gaussian"] - 12) < 1.0
    assert panel.picture.figure.axes[0].images[0].get_array().shape[1] > 100
    assert "Calibration" in viewer.window.dock_widgets
    panel.preset.value = tmp_path / "scope.json"
    panel.save_button.clicked.emit(True)
    assert "Saved" in panel.message.text()
    noises = json.loads((tmp_path / "scope.json").read_text())["crappifier#noises"]
    assert any("sigma" in noise for noise in noises)
    assert config_files("train", str(tmp_path / "scope.json"))[-1] == str(tmp_path / "scope.json")
    assert (tmp_path / "scope.png").is_file()


def test_scans_without_partners_are_calibrated_by_good_images(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None]
) -> None:
    y, x = np.mgrid[:512, :512]
    good = 128 + 50 * np.sin(x / 19) * np.cos(y / 23)
    crappify = Crappify(2, [GaussianNoise(sigma=9.0)]).set_random_state(seed=0)
    scan = crappify((good.T[None] / 255).astype(np.float32))[0]
    viewer.add_image(good.round().astype(np.uint8), name="good")
    viewer.add_image((np.asarray(scan) * 255).round().astype(np.uint8), name="fast")
    panel = panel_of("Calibrate")
    panel.lr.choose(viewer.layers["fast"])
    assert (panel.good.choice.value, panel.scale.enabled) == (WITHOUT_GOOD, False)
    panel.good.choose(viewer.layers["good"])
    assert panel.scale.enabled
    panel.scale.value = 2
    panel.options.widgets["model"].value, panel.options.widgets["calls"].value = "gaussian", "12"
    panel.start_button.clicked.emit(True)
    done(panel, "gaussian sigma")
    assert abs(panel.calibration.values["gaussian"] - 9) < 1.0
    assert json.loads(panel.calibration.files[0].read_text())["scale"] == 2
    panel.hr.choose(viewer.layers["good"])
    panel.start_button.clicked.emit(True)
    done(panel, "give hr or good, not both")


def test_calibrating_stops_when_asked(viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None]) -> None:
    y, x = np.mgrid[:512, :512]
    hr = (128 + 50 * np.sin(x / 19) * np.cos(y / 23)).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 9, (128, 128))
    viewer.add_image(hr, name="slow")
    viewer.add_image((hr[::4, ::4] + noise).clip(0, 255).astype(np.uint8), name="fast")
    panel = panel_of("Calibrate")
    panel.lr.choose(viewer.layers["fast"])
    panel.hr.choose(viewer.layers["slow"])
    panel.reported.connect(lambda share: panel.stop())
    panel.start_button.clicked.emit(True)
    done(panel, "Stopped.")
    assert panel.start_button.enabled
    assert not panel.save_button.enabled
