"""The window that trains a network and shows what it learns meanwhile."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    LineEdit,
    PushButton,
)
from qtpy.QtCore import QTimer

from pssr2_monai.bundle import preset_names
from pssr2_monai.errors import InputError
from pssr2_monai.images.files import list_images
from pssr2_monai.images.pictures import BLUE, ORANGE, new_figure
from pssr2_monai.machine import devices
from pssr2_monai.napari.crappifier import CrappifierForm
from pssr2_monai.napari.layers import ImageSource, WeightsSource
from pssr2_monai.napari.panel import GOOD, MIN_WIDTH_PX, Panel, Plot, chosen_path
from pssr2_monai.napari.viewer import SideBySide
from pssr2_monai.training.checkpoints import LAST
from pssr2_monai.training.config import config_files
from pssr2_monai.training.handlers import minutes_and_seconds
from pssr2_monai.training.live import LiveTraining, Snapshot
from pssr2_monai.training.preview import preview
from pssr2_monai.training.train import train

DEFAULT = "default"  # the choice of no preset
WITHOUT_SCANS = "none: the noise of the preset"
FROM_NOTHING = "nothing: random weights"
MINUTES, EPOCHS = "minutes", "epochs"
PREVIEW_DELAY_MS = 400  # the preview is updated when the sliders have rested this long
CURVE_HEIGHT_PX = 180


class TrainPanel(Panel):
    """Trains on a folder of good images or on layers; shows LR, SR and HR tiles, the loss and scores meanwhile."""

    stopping_message = "stopping: validating and saving …"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Train")
        self._build_form()
        self.resume_button = PushButton(text="Resume", enabled=False, tooltip="Resumes the training in that folder")
        self.buttons.append(self.resume_button)
        self.loss = Curve("Training loss", BLUE)
        self.psnr = Curve("PSNR of validation images (dB)", ORANGE)
        for curve in (self.loss, self.psnr):
            self.outcome.addWidget(curve)
        self.tiles = SideBySide(napari_viewer, "training")
        self.previewed = SideBySide(napari_viewer, "crappifier")
        self._live: LiveTraining | None = None
        self._previewing = False
        self._timer = QTimer(self, singleShot=True, interval=PREVIEW_DELAY_MS)
        self._timer.timeout.connect(lambda: self.attempt(self._preview))
        self.resume_button.clicked.connect(lambda *_: self.attempt(lambda: self.begin(resume=True)))
        for widget in (self.task, self.network, self.own, self.start_weights):
            widget.changed.connect(lambda *_: self.attempt(self._read_presets))
        for changed in (self.crappifier.changed, self.adjust.changed, self.images.changed):
            changed.connect(lambda *_: self._timer.start())
        self.adjust.changed.connect(self._show_sliders)
        self.out.changed.connect(self._offer_resume)
        self.attempt(self._read_presets)

    def _build_form(self) -> None:
        tooltip = "High-resolution images of the kind you want to obtain"
        self.images = ImageSource(self.viewer, "Good images", several=True, tooltip=tooltip)
        tooltip = (
            "Noisy scans that are to be restored: the noise of the training is fitted to them; without, the preset's"
        )
        self.scans = ImageSource(
            self.viewer, "Scans to restore", optional=WITHOUT_SCANS, within=False, several=True, tooltip=tooltip
        )
        self.out = FileEdit(label="Save to", mode="d", nullable=True, tooltip="New folder for model.pt and other files")
        networks = [name for name in preset_names() if _sets(name, "network_def") and not _sets(name, "scale")]
        tasks = [name for name in preset_names() if name not in networks]
        self.task = ComboBox(label="Kind of images", choices=[DEFAULT, *tasks], value=DEFAULT, tooltip="A preset")
        small = "resunet_small" if "resunet_small" in networks else DEFAULT
        self.network = ComboBox(label="Network", choices=[DEFAULT, *networks], value=small)
        tooltip = "Weights to start from: network, scale and crappifier are then theirs"
        self.start_weights = WeightsSource("Start from", optional=FROM_NOTHING, tooltip=tooltip)
        tooltip = "For example one that Calibrate saved"
        self.own = FileEdit(label="Own preset", mode="r", filter="*.json", nullable=True, tooltip=tooltip)
        self.length = FloatSpinBox(value=15, min=0.05, max=1e6, step=5)
        self.unit = ComboBox(choices=[MINUTES, EPOCHS], value=MINUTES)
        duration = Container(widgets=[self.length, self.unit], layout="horizontal", labels=False, label="Train for")
        duration.margins = (0, 0, 0, 0)
        self.device = ComboBox(label="Device", choices=devices())
        self.more = LineEdit(label="More settings", tooltip="Ids of the training config: tile=192 lr=3e-4 seed=1")
        self.crappifier = CrappifierForm()
        tooltip = "On the middle of the first image; the settings stay when this is switched off"
        self.adjust = CheckBox(text="adjust the crappifier, and preview it", value=False, tooltip=tooltip)
        choices = [self.task, self.network, self.own, self.start_weights]
        self.fill([self.images, self.scans, self.out, *choices, duration, self.device, self.more])
        self.rows.insertWidget(2, self.adjust.native)
        self.rows.insertWidget(3, self.crappifier.native)
        self.crappifier.native.hide()

    @property
    def presets(self) -> list[str]:
        """In the order in which they are merged over the config."""
        network = DEFAULT if self.start is not None else self.network.value
        named = [name for name in (self.task.value, network) if name != DEFAULT]
        own = chosen_path(self.own)
        if own is None:
            return named
        if not own.is_file():
            raise InputError(f"Own preset: there is no file {own}; choose another, or leave it empty")
        return [*named, str(own)]

    @property
    def start(self) -> Path | None:
        """Weights to start from."""
        return self.start_weights.file()

    def overrides(self) -> dict[str, Any]:
        """Return the ids of the training config that the form sets."""
        chosen: dict[str, Any] = {"image": self.images.number, "start": self.start}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return self.crappifier.overrides | chosen | parsed_settings(self.more.value)

    def begin(self, resume: bool = False) -> None:
        """Train, or resume the training in the same folder."""
        out = chosen_path(self.out)
        if out is None:
            raise InputError("Save to: choose a new folder for the weights")
        if not resume and (out / LAST).exists():
            raise InputError("Save to: holds a training already; press Resume to resume it, or choose another folder")
        data = self.images.files(self.folder.path / "images")
        assert data is not None
        options: dict[str, Any] = {"minutes": float(self.length.value)}
        if self.unit.value == EPOCHS:
            options = {"epochs": round(self.length.value)}
        options |= {"device": self.device.value, "resume": resume}
        if self.device.value == "cpu":
            options["num_workers"] = 0  # a process of its own would occupy the only core that is left
        if not resume:
            options |= {"preset": self.presets, "scans": self.scans.files(self.folder.path / "scans")}
            options |= self.overrides()
            self.loss.clear()
            self.psnr.clear()
        self.adjust.value = False
        self._timer.stop()
        self.previewed.remove()
        live = self._live = LiveTraining(self.report)
        self.resume_button.enabled = False
        self.run(lambda: train(data, out, live=live, **options), self._done)
        self.say("preparing: reading the images …")

    def abandon(self) -> None:
        super().abandon()
        if self._live is not None:
            self._live.stop()

    def show_report(self, report: Snapshot) -> None:
        self.progress(report.progress)
        self.loss.add(report.epochs, report.loss)
        psnr = report.scores.get("val_psnr")  # none without clean images
        if psnr is not None and psnr not in self.psnr.points[1, -1:]:
            self.psnr.add(report.epochs, psnr)
        if not self.stopping:
            self.say(_summary(report))
        if report.images is not None:
            names = ("LR", "SR", "HR") if report.clean else ("noisy", "SR", "noisy target")
            self.tiles.show(dict(zip(names, report.images, strict=True)))

    def finish(self) -> None:
        super().finish()
        self._offer_resume()

    def _done(self, weights: Path) -> None:
        stopped = self._live is not None and self._live.stopped
        self.say(f"{'Stopped; press Resume to resume it.' if stopped else 'Done.'} Weights: {weights}", GOOD)

    def _offer_resume(self, *_: Any) -> None:
        out = chosen_path(self.out)
        self.resume_button.enabled = out is not None and (out / LAST).is_file() and not self.running

    def _show_sliders(self, shown: bool) -> None:
        self.crappifier.native.setVisible(shown)
        self.fit_width()

    def _read_presets(self) -> None:
        self.crappifier.read(self.presets, self.start)
        self.network.enabled = self.start is None
        self.clear_error()
        self._timer.start()

    def _preview(self) -> None:
        # The middle of the first image, and what the crappifier makes of it.
        if not self.adjust.value or self.running:
            self.previewed.remove()
            return
        if self._previewing:
            self._timer.start()
            return
        images = self.images.files(self.folder.path / "preview")
        assert images is not None
        first = list_images(images)[0] if images.is_dir() else images
        presets, overrides = self.presets, self.overrides()
        self._previewing = True
        self.in_thread(lambda: preview(first, preset=presets, **overrides), self._show_preview, self._preview_finished)

    def _show_preview(self, images: tuple[np.ndarray, np.ndarray]) -> None:
        if not self.running:
            self.clear_error()
            self.previewed.show(dict(zip(("crappified", "good image"), images, strict=True)))

    def _preview_finished(self) -> None:
        self._previewing = False


class Curve(Plot):
    """A value over the epochs of a training; hidden until there is one."""

    def __init__(self, title: str, colour: str) -> None:
        figure, (self.axes,) = new_figure(MIN_WIDTH_PX, CURVE_HEIGHT_PX)
        super().__init__(figure)
        (self.line,) = self.axes.plot([], [], color=colour, marker="o", markevery=[-1])
        self.axes.set(title=title, xlabel="epochs")
        self.hide()

    @property
    def points(self) -> np.ndarray:
        """Epochs and values: ``(2, points)``."""
        return np.array(self.line.get_data(), dtype=float)

    def clear(self) -> None:
        self.line.set_data([], [])

    def add(self, epochs: float, value: float) -> None:
        self.line.set_data(np.hstack([self.points, [[epochs], [value]]]))
        self.axes.set_xlim(0, 1.02 * epochs)
        self.axes.relim()
        self.axes.autoscale_view(scalex=False)
        self.show()
        self.draw_idle()


def parsed_settings(text: str) -> dict[str, Any]:
    """Parse ``name=value`` pairs, separated by spaces, as ids of the training config and their values."""
    settings: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"More settings: {word!r} is not a setting; write name=value, without spaces in the value")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


def _sets(preset: str, config_id: str) -> bool:
    """Whether a preset sets an id of the config, or a part of it."""
    file = config_files("train", preset)[-1]
    return any(key.split("#")[0] == config_id for key in json.loads(Path(file).read_text(encoding="utf-8")))


def _summary(report: Snapshot) -> str:
    parts = [f"epoch {report.epoch}", f"loss {report.loss:.4f}"]
    if "val_psnr" in report.scores:
        parts.append(f"PSNR {report.scores['val_psnr']:.2f} dB, SSIM {report.scores['val_ssim']:.3f}")
    elif report.scores:
        parts.append(f"{report.scores['val_loss']:.4f} against noisy pixels")
    if report.seconds_left is not None:
        parts.append(f"{minutes_and_seconds(report.seconds_left)} left")
    return " | ".join(parts)
