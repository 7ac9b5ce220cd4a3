"""The window that fits the crappifier to real pairs, shows how well it does, and saves it as a preset."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from magicgui.widgets import FileEdit, LineEdit, PushButton, SpinBox
from PIL import Image

from pssr2_monai.calibration.calibrate import calibrate, summary
from pssr2_monai.calibration.fitted_preset import Calibration
from pssr2_monai.errors import InputError
from pssr2_monai.napari.panel import GOOD, Panel, Picture
from pssr2_monai.napari.source import ImageSource

WITHOUT = "none: a rougher estimate"
CALLS = 40
WIDTH = 1000
"""Of the window with the picture, screen pixels."""


class CalibratePanel(Panel):
    """Calibrates from two layers or two folders of partners with the same names."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Calibrate")
        self._folder = tempfile.TemporaryDirectory(prefix="pssr2_calibrate_")
        self.lr = ImageSource(napari_viewer, "Fast scans", tooltip="Real low-resolution (LR) images")
        self.hr = ImageSource(
            napari_viewer,
            "Slow scans",
            optional=WITHOUT,
            tooltip="Their partners of high resolution (HR); in a folder, of the same names",
        )
        self.model = LineEdit(
            label="Noises",
            value="poisson+gaussian",
            tooltip="In their order: poisson, gaussian, salt_pepper, blur, line, jitter",
        )
        self.calls = SpinBox(label="Trials", min=12, max=500, value=CALLS, tooltip="Of the search, at most")
        self.fill([self.lr, self.hr, self.model, self.calls])
        self.preset = FileEdit(label="Save as", mode="w", filter="*.json", nullable=True)
        self.save_button = PushButton(text="Save preset", enabled=False)
        self.save_button.clicked.connect(lambda *_: self.attempt(self.save))
        self.buttons.append(self.save_button)
        self.fill([self.preset])
        self.picture = Picture(whole=True)
        self.found: Calibration | None = None

    def begin(self) -> None:
        """Calibrates."""
        work = Path(self._folder.name)
        lr, hr = self.lr.files(work / "LR", "pair"), self.hr.files(work / "HR", "pair")
        assert lr is not None
        model, calls, target = self.model.value, int(self.calls.value), work / "calibrated.json"
        self.save_button.enabled = False
        self.run(self.watched(lambda: calibrate(lr, target, hr=hr, model=model, calls=calls)), self._show)
        self.say("calibrating: some seconds to a minute …")

    def save(self) -> None:
        """Saves the preset, and its report and picture beside it, under the name that is chosen."""
        target = self.preset.value
        if self.found is None or target is None or str(target) in ("", "."):
            raise InputError("Save as: choose a name for the file, such as microscope.json")
        target = Path(target).with_suffix(".json")
        ends = (".json", ".report.json", ".png")
        for path, end in zip(self.found.files, ends, strict=True):
            shutil.copyfile(path, target.with_name(target.stem + end))
        self.say(f"Saved: {target}. Choose it in Train as own preset.", GOOD)

    def _show(self, found: Calibration) -> None:
        self.found = found
        self.save_button.enabled = True
        lines = [" ".join(line.split()) for line in summary(found).splitlines()]
        self.say("\n".join(f"• {line}" for line in lines[: len(lines) - len(found.files)]), GOOD)
        with Image.open(found.files[2]) as picture:
            if self.picture.parent() is None:
                dock = self.viewer.window.add_dock_widget(self.picture, name="Calibration", area="bottom")
                dock.setFloating(True)  # a window of its own, which its small print needs
                dock.resize(WIDTH, round(WIDTH * picture.height / picture.width) + 30)
            self.picture.show_picture(picture)
