"""The window that scores weights beside interpolation: a table, box plots, and the page that tells more."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, FileEdit, PushButton
from PIL import Image
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QBrush, QColor, QDesktopServices
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from pssr2_monai.evaluation.evaluate import evaluate
from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.evaluation.report import MIN_BOX_IMAGES, NAMES, box_plots
from pssr2_monai.images.charts import to_image
from pssr2_monai.machine import devices
from pssr2_monai.napari.panel import GOOD, Panel, Picture
from pssr2_monai.napari.source import ImageSource, chosen_weights

CRAPPIFIED = "the HR images, crappified"
CHART = (390, 260)


class EvaluatePanel(Panel):
    """Evaluates on layers or a folder of images whose answer is known."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Evaluate")
        self._page = Path()
        self._folder = tempfile.TemporaryDirectory(prefix="pssr2_evaluate_")
        self.hr = ImageSource(
            napari_viewer,
            "Good images",
            several=True,
            tooltip="High-resolution (HR) images that the training has not seen",
        )
        self.lr = ImageSource(
            napari_viewer,
            "Scans",
            optional=CRAPPIFIED,
            tooltip="Their real low-resolution (LR) partners; in a folder, of the same names",
        )
        self.weights = FileEdit(
            label="Weights",
            mode="r",
            filter="*.pt *.pth",
            nullable=True,
            tooltip="model.pt of a training, or em or em_denoise, which come along",
        )
        self.out = FileEdit(label="Save to", mode="d", nullable=True, tooltip="Folder for the page, as you like")
        self.device = ComboBox(label="Device", choices=devices())
        self.fill([self.hr, self.lr, self.weights, self.out, self.device])
        self.page_button = PushButton(text="Open the page", enabled=False)
        self.page_button.clicked.connect(lambda *_: QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._page))))
        self.buttons.append(self.page_button)
        self.table = QTableWidget(len(METRICS), len(NAMES))
        self.table.setHorizontalHeaderLabels(list(NAMES.values()))
        self.table.setVerticalHeaderLabels(
            [f"{each.label} ({each.unit})".removesuffix(" ()") for each in METRICS.values()]
        )
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.hide()
        self.outcome.addWidget(self.table)
        self.boxes = [Picture() for _ in range(4)]
        for each in self.boxes:
            self.outcome.addWidget(each)

    def begin(self) -> None:
        """Evaluates."""
        weights = chosen_weights(self.weights)
        work = Path(self._folder.name)
        alone = len(self.hr.layers) == 1
        hr = self.hr.files(work / "HR", "image" if alone else None)
        lr = self.lr.files(work / "LR", "image" if alone else None)
        chosen = self.out.value
        out = work / "evaluation" if chosen is None or str(chosen) in ("", ".") else Path(chosen)
        device = self.device.value
        assert hr is not None
        self.run(self.watched(lambda: (evaluate(hr, weights, out, lr=lr, device=device), out)), self._show)
        self.say("evaluating …")

    def _show(self, found: tuple[Mapping[str, Any], Path]) -> None:
        result, out = found
        self._page = out / "report.html"
        self.page_button.enabled = True
        enough = len(result["samples"] or result["images"]) >= MIN_BOX_IMAGES
        few = "" if enough else f"\nBox plots need {MIN_BOX_IMAGES} images or more."
        self.say(result["verdict"]["headline"] + few, GOOD)
        self._fill_table(result)
        charts = box_plots(result, *CHART)
        for number, box in enumerate(self.boxes):
            box.setVisible(number < len(charts))
            if number < len(charts):
                box.show_picture(to_image(charts[number], sharp=True))
        self._show_worst(result, out)

    def _fill_table(self, result: Mapping[str, Any]) -> None:
        for row, (name, metric) in enumerate(METRICS.items()):
            means = {method: result["mean"][method][name] for method in NAMES}
            known = [each for each in means.values() if each is not None and np.isfinite(each)]
            best = (max if metric.higher_is_better else min)(known) if known else None
            for column, value in enumerate(means.values()):
                told = "–" if value is None or not np.isfinite(value) else f"{value:.{metric.digits}f}"
                item = QTableWidgetItem(told)
                item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
                if value == best:
                    item.setForeground(QBrush(QColor(GOOD)))
                self.table.setItem(row, column, item)
            self.table.verticalHeaderItem(row).setToolTip(metric.meaning)
        self.table.show()
        self.table.resizeRowsToContents()
        rows = sum(self.table.rowHeight(row) for row in range(self.table.rowCount()))
        self.table.setFixedHeight(rows + self.table.horizontalHeader().sizeHint().height() + 4)

    def _show_worst(self, result: Mapping[str, Any], out: Path) -> None:
        """The picture of the image that gained least, beside the other layers."""
        gains = {
            image["name"]: image["model"]["psnr_fitted"] - image["bicubic"]["psnr_fitted"] for image in result["images"]
        }
        worst = min(gains, key=lambda name: gains[name])
        files = [out / "pictures" / f"{each}.png" for each in (Path(worst).stem, worst)]
        file = next((each for each in files if each.is_file()), None)
        if file is None:
            return
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        for layer in self.viewer.layers:
            layer.visible = False
        self.viewer.add_image(pixels, name=f"evaluation: {worst}", rgb=True, metadata={"pssr2_shown": True})
        self.viewer.reset_view()
