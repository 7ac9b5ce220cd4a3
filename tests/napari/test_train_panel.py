"""Training in the window: seen while it goes, stopped, resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pssr2_monai.images.files import list_images
from pssr2_monai.images.image import open_image
from pssr2_monai.images.pictures import grey_window
from pssr2_monai.napari.layers import SELECTED
from pssr2_monai.napari.train_panel import EPOCHS
from pssr2_monai.networks.weights import load_weights, weights_file
from pssr2_monai.training.checkpoints import BEST, LAST
from pssr2_monai.training.preview import preview

TINY = "tile=32 batch_size=8 precision=float32 overlap=16 network_def#channels=[8,16] network_def#depth=1"


def test_a_training_is_seen_stopped_and_resumed(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], qtbot: Any, hr_folder: Path, tmp_path: Path
) -> None:
    panel = panel_of("Train")
    panel.start_button.clicked.emit(True)
    assert "Save to: choose a new folder" in panel.message.text()
    panel.images.choose(hr_folder)
    panel.out.value = tmp_path / "run"
    panel.options.widgets["tile"].value = "50"
    panel.start_button.clicked.emit(True)
    done(panel, "tile: 50 does not divide by the scale 4")
    panel.options.others.value, panel.unit.value, panel.length.value = TINY, EPOCHS, 400
    panel.start_button.clicked.emit(True)
    assert panel.running
    assert panel.stop_button.enabled
    assert not panel.start_button.enabled
    qtbot.waitUntil(lambda: panel.loss.points.shape[1] >= 3 and panel.psnr.points.size > 0, timeout=120_000)
    seen = {name: layer.data.copy() for name, layer in panel.tiles.layers.items()}
    assert {name: image.shape for name, image in seen.items()} == {
        "LR": (4, 8, 8),
        "SR": (4, 32, 32),
        "HR": (4, 32, 32),
    }
    panel.stop_button.clicked.emit(True)
    done(panel, "Stopped; press Resume to resume it")

    lr, sr, hr = (panel.tiles.layers[name] for name in ("LR", "SR", "HR"))
    assert not np.array_equal(sr.data, seen["SR"]), "SR is shown as it gets better"
    np.testing.assert_array_equal(hr.data, seen["HR"])
    assert tuple(lr.contrast_limits) == tuple(sr.contrast_limits) == tuple(hr.contrast_limits) == grey_window(hr.data)
    sr.contrast_limits = (0.2, 0.4)
    assert tuple(hr.contrast_limits) == tuple(lr.contrast_limits) == (0.2, 0.4)
    np.testing.assert_allclose(
        lr.extent.world[1] - lr.extent.world[0], hr.extent.world[1] - hr.extent.world[0] - (0, 3, 3)
    )
    epochs, losses = panel.loss.points
    assert (np.diff(epochs) >= 0).all()
    assert panel.loss.axes.get_xlim()[0] == 0 < epochs[0] < epochs[-1] < panel.loss.axes.get_xlim()[1]
    low, high = panel.loss.axes.get_ylim()
    assert low < losses.min() < losses.max() < high
    assert (losses > 0).all()
    assert not panel.loss.isHidden()
    saved = torch.load(tmp_path / "run" / LAST, weights_only=True)["trainer"]
    assert saved["iteration"] < 400 * saved["epoch_length"]
    epochs = -(-saved["iteration"] // saved["epoch_length"]) + 1

    assert panel.resume_button.enabled
    panel.start_button.clicked.emit(True)
    assert "press Resume" in panel.message.text()
    panel.length.value = epochs
    panel.images.choose(viewer.add_image(np.zeros((96, 112), np.uint8), name="cell_0", visible=False))
    panel.resume_button.clicked.emit(True)
    done(panel, "label images missing: cell_0.png")
    panel.images.choose(hr_folder)
    panel.resume_button.clicked.emit(True)
    done(panel, f"Done. Weights: {tmp_path / 'run' / BEST}")
    resumed = torch.load(tmp_path / "run" / LAST, weights_only=True)["trainer"]
    assert resumed["iteration"] == epochs * saved["epoch_length"]
    network, record = load_weights(tmp_path / "run" / BEST)
    assert record.network["_target_"].endswith("ResUNet")
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 8, 8)).shape == (1, 1, 32, 32)


def test_layers_are_trained_on(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], hr_folder: Path, tmp_path: Path
) -> None:
    for number, path in enumerate(list_images(hr_folder)):
        with open_image(path) as image:
            viewer.add_image(image.read(), name=f"cell {number}", scale=(0.01, 0.01))
    viewer.layers.selection = set(viewer.layers[:4])
    panel = panel_of("Train")
    panel.images.choose(SELECTED)
    panel.out.value, panel.options.others.value = tmp_path / "run", TINY
    panel.unit.value, panel.length.value = EPOCHS, 1
    panel.crappifier.sliders["gaussian"].value = (2, 6)
    panel.crappifier.scale.value = 2
    panel.start_button.clicked.emit(True)
    done(panel, "Done.")
    _, record = load_weights(tmp_path / "run" / BEST)
    assert record.scale == 2
    assert record.pixel_size == {"Y": 0.01, "X": 0.01}
    assert [noise["_target_"].rsplit(".", 1)[-1] for noise in record.crappifier["noises"]] == [
        "PoissonNoise",
        "GaussianNoise",
    ]
    assert record.crappifier["noises"][1]["sigma"] == [2, 6]


def test_the_crappifier_is_previewed_as_its_sliders_move(
    viewer: Any, panel_of: Callable[[str], Any], qtbot: Any, hr_folder: Path
) -> None:
    panel = panel_of("Train")
    panel.images.choose(hr_folder)
    panel.adjust.value = True
    qtbot.waitUntil(lambda: "crappified" in panel.previewed.layers, timeout=60_000)
    lr, hr = (panel.previewed.layers[name] for name in ("crappified", "good image"))
    expected, target = preview(list_images(hr_folder)[0], preset="resunet_small")
    np.testing.assert_array_equal(lr.data, expected[0])
    np.testing.assert_array_equal(hr.data, target[0])
    assert tuple(lr.scale) == (4, 4)
    noise = lr.data.copy()
    panel.crappifier.sliders["poisson"].value = (0, 0)
    qtbot.waitUntil(lambda: not np.array_equal(lr.data, noise), timeout=60_000)
    clean, _ = preview(list_images(hr_folder)[0], **{"crappifier#noises": []})
    np.testing.assert_array_equal(lr.data, clean[0])
    panel.adjust.value = False
    qtbot.waitUntil(lambda: not len(viewer.layers), timeout=10_000)


def test_a_training_starts_from_weights(
    panel_of: Callable[[str], Any], done: Callable[..., None], hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    panel = panel_of("Train")
    panel.images.choose(hr_folder)
    panel.start_weights.choose("em")
    assert panel.start == weights_file("em")
    panel.start_weights.choose(tiny_weights)
    assert tuple(panel.crappifier.sliders["poisson"].value) == (0.8, 1.2)
    assert (panel.crappifier.scale.value, panel.network.enabled, panel.presets) == (4, False, [])
    panel.out.value, panel.unit.value, panel.length.value = tmp_path / "run", EPOCHS, 1
    panel.options.others.value = "tile=32 batch_size=8 precision=float32"
    panel.start_button.clicked.emit(True)
    done(panel, "Done.")
    _, record = load_weights(tmp_path / "run" / BEST)
    assert record.network["channels"] == [8, 16]
    assert record.started_from["weights"] == "run/model.pt"
    panel.start_weights.choose(tmp_path / "absent.pt")
    assert "there is no such file of weights" in panel.message.text()
    panel.start_weights.choose("")
    assert (panel.message.text(), panel.network.enabled) == ("", True)


def test_pairs_of_layers_are_trained_on_within_a_mask(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], hr_folder: Path, tmp_path: Path
) -> None:
    with open_image(list_images(hr_folder)[0]) as image:
        good = viewer.add_image(image.read(), name="good")
    fast = viewer.add_image(good.data[::2, ::2], name="fast")
    mask = viewer.add_labels(np.ones((96, 112), np.uint8), name="mask")
    panel = panel_of("Train")
    panel.task.value = "paired"
    assert "Partners: fast scans" in panel.hint.text()
    panel.images.choose(good)
    panel.out.value, panel.options.others.value = tmp_path / "run", f"{TINY} split=place"
    panel.unit.value, panel.length.value, panel.crappifier.scale.value = EPOCHS, 1, 2
    panel.start_button.clicked.emit(True)
    assert "Partners: choose" in panel.message.text()
    panel.partners.choose(fast)
    panel.mask.choose(mask)
    panel.start_button.clicked.emit(True)
    done(panel, "Done.")
    _, record = load_weights(tmp_path / "run" / BEST)
    assert (record.scale, record.crappifier) == (2, {})
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["config"]["masks"].endswith("masks")
    assert [*run["images"]["image"]] == [*run["images"]["label"]] == ["good.ome.tif"]
    # The same layers are taken for the same images, others are not.
    panel.length.value = 2
    panel.resume_button.clicked.emit(True)
    done(panel, "Done.")
    fast.data = fast.data[::-1]
    panel.length.value = 3
    panel.resume_button.clicked.emit(True)
    done(panel, "image images changed: good.ome.tif")
    panel.resume_button.clicked.emit(True)
    done(panel, "Done.")


def test_reading_the_images_stops_when_asked(
    panel_of: Callable[[str], Any], done: Callable[..., None], hr_folder: Path, tmp_path: Path
) -> None:
    panel = panel_of("Train")
    panel.images.choose(hr_folder)
    panel.out.value = tmp_path / "run"
    panel.reported.connect(lambda share: panel.stop())
    panel.start_button.clicked.emit(True)
    done(panel, "Stopped")  # while images are read, or where that is quicker than the window, after a step
