"""Evaluating in its window gives what `evaluate` gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.evaluation.evaluate import evaluate
from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.images.files import list_images
from pssr2_monai.images.image import open_image
from pssr2_monai.napari.evaluate_panel import CRAPPIFIED


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
    panel.weights.choose(tiny_weights)
    panel.out.value = tiny_weights / "scores"
    panel.start_button.clicked.emit(True)
    done(panel, "move it, or give another folder")
    assert str(tiny_weights) in panel.message.text()
    panel.out.value = tmp_path / "scores"
    panel.start_button.clicked.emit(True)
    done(panel)
    expected = evaluate(hr_folder, tiny_weights, tmp_path / "expected", device="cpu")
    assert expected["verdict"]["headline"] in panel.message.text()
    for row, (name, metric) in enumerate((name, METRICS[name]) for name in expected["settings"]["metrics"]):
        for column, method in enumerate(("bilinear", "bicubic", "filter", "model")):
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
        good = viewer.add_image(image.read(), name="good")
    panel = panel_of("Evaluate")
    panel.weights.choose(tiny_weights)
    for filtered, names in (
        (True, ["bilinear", "bicubic", "filter", "restored"]),
        (False, ["bilinear", "bicubic", "restored"]),
    ):
        panel.options.widgets["blind_filter"].value = filtered
        panel.start_button.clicked.emit(True)
        done(panel, "Box plots need 3 images")
        assert panel.boxes == []
        columns = range(panel.table.columnCount())
        assert [panel.table.horizontalHeaderItem(column).text() for column in columns] == names
        assert all(panel.table.item(0, column).text() != "" for column in columns)
    unmasked = panel.table.item(0, 0).text()
    panel.mask.choose(viewer.add_labels(np.eye(96, 112, dtype=np.uint8)[::-1].cumsum(0)[::-1], name="lower left"))
    panel.hr.choose(good)
    panel.start_button.clicked.emit(True)
    done(panel, "Box plots need 3 images")
    assert panel.table.item(0, 0).text() != unmasked


def test_evaluating_stops_when_asked(
    viewer: Any, panel_of: Callable[[str], Any], done: Callable[..., None], hr_folder: Path, tiny_weights: Path
) -> None:
    panel = panel_of("Evaluate")
    panel.hr.choose(hr_folder)
    panel.weights.choose(tiny_weights)
    panel.reported.connect(lambda share: panel.stop())
    panel.start_button.clicked.emit(True)
    done(panel, "Stopped.")
    assert panel.start_button.enabled
    assert len(viewer.layers) == 0
    assert not panel.page_button.enabled
