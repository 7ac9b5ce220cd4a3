"""The window that compares weights with what learns nothing: a table, box plots, and a page with the details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import FileEdit, PushButton
from napari.layers import Labels
from PIL import Image
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QBrush, QColor, QDesktopServices
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from pssr2_monai.described import described
from pssr2_monai.evaluation.evaluate import USED_OPTIONS, evaluate
from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.evaluation.report import MIN_BOX_IMAGES, NAMES, box_plots
from pssr2_monai.machine import devices
from pssr2_monai.napari.form import COMPUTING, Options
from pssr2_monai.napari.layers import RESULT, ImageSource, WeightsSource
from pssr2_monai.napari.panel import GOOD, MIN_WIDTH_PX, Panel, Plot, chosen_path
from pssr2_monai.napari.viewer import align_units, hide_layers, show_all_of

CRAPPIFIED, UNMASKED = "the HR images, crappified", "none: all pixels"
SCORING = "metrics blind_filter seed normalise pixel_size pair_pattern include exclude"
USED = " ".join(USED_OPTIONS)
BOX_PLOT_PX = (MIN_WIDTH_PX, 260)  # width and height


class EvaluatePanel(Panel):
    """Evaluates weights on layers or a folder of HR images."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Evaluate")
        self._page = Path()
        tooltip = "High-resolution (HR) images that the training has not seen"
        self.hr = ImageSource(napari_viewer, "Good images", several=True, tooltip=tooltip)
        tooltip = "Real low-resolution (LR) images of the same fields; in a folder, of the same names"
        self.lr = ImageSource(napari_viewer, "Scans", optional=CRAPPIFIED, within=False, tooltip=tooltip)
        self.weights = WeightsSource()
        self.out = FileEdit(label="Save to", mode="d", nullable=True, tooltip="Folder for the page; optional")
        tooltip = "Labels of what is scored, of the good images; all but 0"
        self.mask = ImageSource(
            napari_viewer, "Mask", several=True, optional=UNMASKED, within=False, tooltip=tooltip, kind=Labels
        )
        options = described(f"evaluation.evaluate:evaluate {SCORING}", f"restoration.options:RestoreOptions {USED}")
        shown: dict[str, Sequence[Any]] = {
            **COMPUTING,
            "device": devices(),
        }
        shown |= {"metrics": (), "blind_filter": ()}
        widgets = [self.hr, self.lr, self.weights, self.out]
        self.fill(widgets, Options(options, shown, above=[self.mask]))
        self.page_button = PushButton(text="Open the page", enabled=False)
        self.page_button.clicked.connect(lambda *_: QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._page))))
        self.buttons.append(self.page_button)
        self.table = QTableWidget(0, len(NAMES))
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.hide()
        self.outcome.addWidget(self.table)
        self.boxes: list[Plot] = []

    def begin(self) -> None:
        weights, folder = self.weights.file(), self.folder.path
        out, options = chosen_path(self.out) or folder / "evaluation", {"image": self.hr.number} | self.options.values
        hr, lr = self.hr.source(folder / "HR"), self.lr.source(folder / "LR", self.hr)
        mask = self.mask.source(folder / "masks", self.hr)

        def scored() -> dict[str, Any]:
            truth = hr()
            assert truth is not None
            assert weights is not None
            return evaluate(truth, weights, out, lr=lr(), masks=mask(), **options)

        self.run(self.watched(scored), lambda result: self._show(result, out))
        self.say("evaluating …")

    def _show(self, result: Mapping[str, Any], out: Path) -> None:
        self._page = out / "report.html"
        self.page_button.enabled = True
        enough = len(result["samples"] or result["images"]) >= MIN_BOX_IMAGES
        few = "" if enough else f"\nBox plots need {MIN_BOX_IMAGES} images or more."
        self.say(result["verdict"]["headline"] + few, GOOD)
        self._fill_table(result)
        self._show_worst(result, out)
        for plot in self.boxes:
            self.outcome.removeWidget(plot)
            plot.deleteLater()
        self.boxes = [Plot(figure) for figure in box_plots(result, *BOX_PLOT_PX)]
        for plot in self.boxes:
            self.outcome.addWidget(plot)

    def _fill_table(self, result: Mapping[str, Any]) -> None:
        methods = list(result["mean"])
        self.table.setColumnCount(len(methods))
        self.table.setHorizontalHeaderLabels([NAMES[method] for method in methods])
        chosen = {name: METRICS[name] for name in result["settings"]["metrics"]}
        self.table.setRowCount(len(chosen))
        labels = [f"{metric.label} ({metric.unit})".removesuffix(" ()") for metric in chosen.values()]
        self.table.setVerticalHeaderLabels(labels)
        for row, (name, metric) in enumerate(chosen.items()):
            means = [result["mean"][method][name] for method in methods]
            finite = [mean for mean in means if mean is not None and np.isfinite(mean)]
            best = (max if metric.higher_is_better else min)(finite) if finite else None
            for column, mean in enumerate(means):
                item = QTableWidgetItem(f"{mean:.{metric.digits}f}" if mean in finite else "–")
                item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
                if best is not None and mean == best:
                    item.setForeground(QBrush(QColor(GOOD)))
                self.table.setItem(row, column, item)
            self.table.verticalHeaderItem(row).setToolTip(metric.meaning)
        self.table.show()
        self.table.resizeRowsToContents()
        rows = sum(self.table.rowHeight(row) for row in range(self.table.rowCount()))
        self.table.setFixedHeight(rows + self.table.horizontalHeader().sizeHint().height() + 4)

    def _show_worst(self, result: Mapping[str, Any], out: Path) -> None:
        # The image that gained least over bicubic interpolation.
        images = result["images"]
        worst = min(images, key=lambda image: image["model"]["psnr_fitted"] - image["bicubic"]["psnr_fitted"])["name"]
        files = [out / "pictures" / f"{stem}.png" for stem in (Path(worst).stem, worst)]
        file = next((path for path in files if path.is_file()), None)
        if file is None:
            return
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        selected = set(self.viewer.layers.selection)  # may be what is evaluated
        hide_layers(self.viewer)
        layer = self.viewer.add_image(pixels, name=f"evaluation: {worst}", rgb=True, metadata=dict(RESULT))
        align_units(self.viewer)
        self.viewer.layers.selection = selected or {layer}
        show_all_of(self.viewer, [layer])
