"""The window that trains: what it learns is seen while it learns."""

from __future__ import annotations

import ast
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit, FloatSpinBox, LineEdit, PushButton
from qtpy.QtCore import QTimer

from pssr2_monai.bundle import preset_names
from pssr2_monai.errors import InputError
from pssr2_monai.images.charts import BLUE, ORANGE, Chart
from pssr2_monai.images.image import list_images
from pssr2_monai.machine import devices
from pssr2_monai.napari.crappifier_form import CrappifierForm
from pssr2_monai.napari.panel import GOOD, Panel, Picture
from pssr2_monai.napari.side_by_side import SideBySide
from pssr2_monai.napari.source import ImageSource
from pssr2_monai.training.checkpoints import LAST
from pssr2_monai.training.config import config_files
from pssr2_monai.training.handlers import minutes_and_seconds
from pssr2_monai.training.live import LiveTraining, Snapshot
from pssr2_monai.training.preview import preview
from pssr2_monai.training.train import train

PLAIN = "default"
MINUTES, EPOCHS = "minutes", "epochs"
DEBOUNCE = 400
"""Milliseconds that the crappifier's sliders must rest before the preview is made anew."""
CHART = (390, 180)


class TrainPanel(Panel):
    """Trains on a folder of good images or on layers, and shows LR, SR and HR tiles, loss and scores meanwhile."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Train")
        self._folder = tempfile.TemporaryDirectory(prefix="pssr2_train_")
        self.images = ImageSource(
            napari_viewer,
            "Good images",
            several=True,
            tooltip="High-resolution images of the kind you want to get back",
        )
        self.out = FileEdit(label="Save to", mode="d", nullable=True, tooltip="New folder for model.pt and the rest")
        networks = [name for name in preset_names() if _sets(name, "network_def") and not _sets(name, "scale")]
        tasks = [name for name in preset_names() if name not in networks]
        self.task = ComboBox(label="Kind of images", choices=[PLAIN, *tasks], value=PLAIN, tooltip="A preset")
        small = "resunet_small" if "resunet_small" in networks else PLAIN
        self.network = ComboBox(label="Network", choices=[PLAIN, *networks], value=small)
        self.own = FileEdit(
            label="Own preset", mode="r", filter="*.json", nullable=True, tooltip="Such as Calibrate saves"
        )
        self.time = FloatSpinBox(value=15, min=0.05, max=1e6, step=5)
        self.unit = ComboBox(choices=[MINUTES, EPOCHS], value=MINUTES)
        length = Container(widgets=[self.time, self.unit], layout="horizontal", labels=False, label="Train for")
        length.margins = (0, 0, 0, 0)
        self.device = ComboBox(label="Device", choices=devices())
        self.more = LineEdit(label="More settings", tooltip="Ids of the training config: tile=192 lr=3e-4 seed=1")
        self.crappifier = CrappifierForm()
        self.live = CheckBox(
            text="adjust the crappifier, and see what it makes",
            value=False,
            tooltip="Of the middle of the first image; what is set stays set when this is switched off",
        )
        self.fill([self.images, self.out, self.task, self.network, self.own, length, self.device, self.more])
        self.rows.insertWidget(1, self.live.native)
        self.rows.insertWidget(2, self.crappifier.native)
        self.crappifier.native.hide()
        self.resume_button = PushButton(
            text="Resume", enabled=False, tooltip="Goes on with the training in that folder"
        )
        self.buttons.append(self.resume_button)
        self.plot = Picture()
        self.scores = Picture()
        self.outcome.addWidget(self.plot)
        self.outcome.addWidget(self.scores)
        self.shown = SideBySide(napari_viewer, "training")
        self.previewed = SideBySide(napari_viewer, "crappifier")
        self._watch: LiveTraining | None = None
        self._previewing = False
        self._losses: list[tuple[float, float]] = []
        self._validated: list[tuple[float, float]] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DEBOUNCE)
        self._timer.timeout.connect(lambda: self.attempt(self._preview))
        self.resume_button.clicked.connect(lambda *_: self.attempt(lambda: self.begin(resume=True)))
        for each in (self.task, self.network, self.own):
            each.changed.connect(lambda *_: self.attempt(self._read_presets))
        for each in (self.crappifier.changed, self.live.changed, self.images.changed):
            each.connect(lambda *_: self._timer.start())
        self.live.changed.connect(self._show_sliders)
        self.out.changed.connect(lambda *_: self._offer_resume())
        self.attempt(self._read_presets)

    @property
    def presets(self) -> list[str]:
        """The presets that are chosen, in the order they are laid over the config."""
        named = [each for each in (self.task.value, self.network.value) if each != PLAIN]
        own = self.own.value
        if own is None or str(own) in ("", "."):
            return named
        if not Path(own).is_file():
            raise InputError(f"Own preset: there is no file {own}; choose another, or leave it empty")
        return [*named, str(own)]

    def overrides(self) -> dict[str, Any]:
        """What the form sets of the training config besides presets."""
        return self.crappifier.overrides | parsed_settings(self.more.value)

    def begin(self, resume: bool = False) -> None:
        """Trains, or goes on where a training in the same folder was stopped."""
        if self.out.value is None or str(self.out.value) in ("", "."):
            raise InputError("Save to: choose a new folder for the weights")
        out = Path(self.out.value)
        if not resume and (out / LAST).exists():
            raise InputError(
                "Save to: holds a training already; press Resume to go on with it, or choose another folder"
            )
        data = self.images.files(Path(self._folder.name) / "images")
        assert data is not None
        options: dict[str, Any] = {"minutes": float(self.time.value)}
        if self.unit.value == EPOCHS:
            options = {"epochs": round(self.time.value)}
        options |= {"device": f"$torch.device('{self.device.value}')", "resume": resume}
        if self.device.value == "cpu":
            options["num_workers"] = 0  # a process of its own would take the only core that is left
        if not resume:
            options |= {"preset": self.presets, **self.overrides()}
            self._losses, self._validated = [], []
        self.live.value = False
        self._timer.stop()
        self.previewed.remove()
        watch = self._watch = LiveTraining(self.tell)
        self.resume_button.enabled = False
        self.run(lambda: train(data, out, live=watch, **options), self._done)
        self.say("preparing: the images are read …")

    def stop(self) -> None:
        super().stop()
        if self.running and self._watch is not None:
            self._watch.stop()
            self.say("stopping: validates and saves …")

    def abandon(self) -> None:
        super().abandon()
        if self._watch is not None:
            self._watch.stop()

    def show_told(self, told: Snapshot) -> None:
        """Shows how the training stands."""
        self.progress(told.progress)
        self._losses.append((told.epochs, told.loss))
        if told.scores and (not self._validated or self._validated[-1][1] != told.scores["val_psnr"]):
            self._validated.append((told.epochs, told.scores["val_psnr"]))
        if not self.stopping:
            self.say(_words(told))
        self.plot.show_picture(_chart("Loss of training", "", self._losses, BLUE).image(sharp=True))
        if self._validated:
            chart = _chart("PSNR of images not trained on", "dB", self._validated, ORANGE)
            self.scores.show_picture(chart.image(sharp=True))
        if told.images is not None:
            self.shown.show(dict(zip(("LR", "SR", "HR"), told.images, strict=True)))

    def _done(self, weights: Path) -> None:
        stopped = self._watch is not None and self._watch.stopped
        how = "Stopped; Resume goes on with it. " if stopped else "Done. "
        self.say(f"{how}Weights: {weights}", GOOD)

    def _finished(self) -> None:
        super()._finished()
        self._offer_resume()

    def _offer_resume(self) -> None:
        there = self.out.value is not None and (Path(self.out.value) / LAST).is_file()
        self.resume_button.enabled = there and not self.running

    def _show_sliders(self, shown: bool) -> None:
        self.crappifier.native.setVisible(shown)
        self._make_room()

    def _read_presets(self) -> None:
        config_files("train", self.presets)
        self.crappifier.read(self.presets)
        self.clear_error()
        self._timer.start()

    def _preview(self) -> None:
        """Shows the middle of the first image crappified and as it is."""
        if not self.live.value or self.running:
            self.previewed.remove()
            return
        if self._previewing:
            self._timer.start()
            return
        folder = self.images.files(Path(self._folder.name) / "preview")
        assert folder is not None
        first = list_images(folder)[0] if folder.is_dir() else folder
        presets, overrides = self.presets, self.overrides()
        self._previewing = True
        self.in_thread(lambda: preview(first, preset=presets, **overrides), self._show_preview, self._preview_finished)

    def _show_preview(self, images: tuple[np.ndarray, np.ndarray]) -> None:
        if not self.running:
            self.clear_error()
            self.previewed.show(dict(zip(("crappified", "good image"), images, strict=True)))

    def _preview_finished(self) -> None:
        self._previewing = False


def parsed_settings(text: str) -> dict[str, Any]:
    """``name=value`` pairs, divided by spaces, as ids of the training config and their values.

    Raises:
        InputError: something that is no such pair.

    Example:
        >>> parsed_settings("tile=96 network_def#channels=[8,16] split=file")
        {'tile': 96, 'network_def#channels': [8, 16], 'split': 'file'}
    """
    settings: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"More settings: {word!r} is no setting; write name=value, without spaces in the value")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


def _sets(preset: str, config_id: str) -> bool:
    """Whether a preset sets something."""
    file = config_files("train", preset)[-1]
    return any(key.split("#")[0] == config_id for key in json.loads(Path(file).read_text(encoding="utf-8")))


def _words(now: Snapshot) -> str:
    words = [f"epoch {now.epoch}", f"loss {now.loss:.4f}"]
    words += [f"PSNR {now.scores['val_psnr']:.2f} dB, SSIM {now.scores['val_ssim']:.3f}"] if now.scores else []
    if now.seconds_left is not None:
        words.append(f"{minutes_and_seconds(now.seconds_left)} left")
    return " | ".join(words)


def _chart(title: str, unit: str, points: Sequence[tuple[float, float]], colour: str) -> Chart:
    """A curve over epochs."""
    x, y = np.array(points).T
    chart = Chart(title, "epochs", unit, CHART)
    low, high = float(y.min()), float(y.max())
    room = 0.08 * (high - low) or 0.05 * abs(high) or 0.1
    chart.y_range = (low - room, high + room)
    chart.x_range = (0.0, max(float(x.max()), 1e-6))
    chart.line(x, y, colour)
    chart.dots(x[-1:], y[-1:], colour)
    return chart
