"""The window that fits the crappifier to real pairs, shows the fit, and saves it as a preset."""

from __future__ import annotations

import shutil
from typing import Any

from magicgui.widgets import FileEdit, PushButton, SpinBox
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from pssr2_monai.calibration.calibrate import calibrate, summary
from pssr2_monai.calibration.fitted_preset import Calibration, files_of
from pssr2_monai.described import described
from pssr2_monai.errors import InputError
from pssr2_monai.napari.form import Options
from pssr2_monai.napari.layers import ImageSource
from pssr2_monai.napari.panel import GOOD, Panel, chosen_path

WITHOUT_HR = "none: a rougher estimate"
WITHOUT_GOOD = "none: all texture counts as noise"
USED = "model calls seed spread downsample register intensity pair_pattern axes"
PICTURE_WIDTH_PX = 1000


class CalibratePanel(Panel):
    """Calibrates from two layers, or from two folders of images with the same names."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Calibrate")
        self.lr = ImageSource(napari_viewer, "Fast scans", tooltip="Real low-resolution (LR) images")
        tooltip = "High-resolution (HR) images of the same fields; in a folder, of the same names"
        self.hr = ImageSource(napari_viewer, "Slow scans", optional=WITHOUT_HR, within=False, tooltip=tooltip)
        tooltip = "Without slow scans: clean images of other fields, of the same kind of sample"
        self.good = ImageSource(
            napari_viewer, "Good images", optional=WITHOUT_GOOD, within=False, several=True, tooltip=tooltip
        )
        tooltip = "Pixels of a good image for each pixel of a scan, along Y and X"
        self.scale = SpinBox(label="Scale", min=1, max=16, value=1, tooltip=tooltip)
        self.preset = FileEdit(label="Save as", mode="w", filter="*.json", nullable=True)
        options = described(f"calibration.calibrate:calibrate {USED}")
        self.fill([self.lr, self.hr, self.good, self.scale, self.preset], Options(options, {"model": (), "calls": ()}))
        for source in (self.hr, self.good):
            source.changed.connect(self._show_scale)
        self._show_scale()
        self.save_button = PushButton(text="Save preset", enabled=False)
        self.save_button.clicked.connect(lambda *_: self.attempt(self.save))
        self.buttons.append(self.save_button)
        self.picture = FigureCanvasQTAgg(Figure(facecolor="white"))
        self.calibration: Calibration | None = None

    def begin(self) -> None:
        work = self.folder.path
        lr, hr = self.lr.source(work / "LR"), self.hr.source(work / "HR", self.lr)
        good, options = self.good.source(work / "good"), {"image": self.lr.number} | self.options.values
        if self.good.choice.value != WITHOUT_GOOD:
            options["scale"] = int(self.scale.value)

        def fit() -> Calibration:
            scans = lr()
            assert scans is not None
            return calibrate(scans, work / "calibrated.json", hr=hr(), good=good(), **options)

        self.save_button.enabled = False
        self.run(self.watched(fit), self._show)
        self.say("calibrating: some seconds to a minute …")

    def _show_scale(self, *_: Any) -> None:
        self.scale.enabled = self.good.choice.value != WITHOUT_GOOD  # that of pairs is found

    def save(self) -> None:
        """Save the preset, with its report and picture next to it, under the chosen name."""
        target = chosen_path(self.preset)
        if self.calibration is None or target is None:
            raise InputError("Save as: choose a file name, such as microscope.json")
        target = target.with_suffix(".json")
        for path, copy in zip(self.calibration.files, files_of(target), strict=True):
            shutil.copyfile(path, copy)
        self.say(f"Saved: {target}. To train with it, choose it as own preset in Train.", GOOD)

    def _show(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.save_button.enabled = True
        lines = [" ".join(line.split()) for line in summary(calibration).splitlines()]
        self.say("\n".join(f"• {line}" for line in lines[: len(lines) - len(calibration.files)]), GOOD)
        self.picture.figure.clear()
        axes = self.picture.figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        pixels = imread(calibration.files[2])
        axes.imshow(pixels)
        self.picture.draw_idle()
        if self.picture.parent() is None:
            dock = self.viewer.window.add_dock_widget(self.picture, name="Calibration", area="bottom")
            dock.setFloating(True)  # small print needs a window of its own
            dock.resize(PICTURE_WIDTH_PX, round(PICTURE_WIDTH_PX * pixels.shape[0] / pixels.shape[1]) + 30)
