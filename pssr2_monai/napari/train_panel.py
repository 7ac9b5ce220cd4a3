"""The window that trains a network and shows what it learns meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import (
    CheckBox,
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    PushButton,
)
from napari.layers import Labels
from qtpy.QtWidgets import QLabel

from pssr2_monai.bundle import preset_names
from pssr2_monai.errors import InputError
from pssr2_monai.images.files import list_images
from pssr2_monai.images.pictures import BLUE, ORANGE, new_figure
from pssr2_monai.machine import devices
from pssr2_monai.napari.crappifier import CrappifierForm
from pssr2_monai.napari.form import Options, described_ids
from pssr2_monai.napari.layers import ImageSource, WeightsSource, write_layer
from pssr2_monai.napari.panel import GOOD, MIN_WIDTH_PX, Panel, Plot, Preview, chosen_path
from pssr2_monai.napari.viewer import SideBySide
from pssr2_monai.training.checkpoints import LAST
from pssr2_monai.training.config import config_files
from pssr2_monai.training.handlers import minutes_and_seconds
from pssr2_monai.training.live import LiveTraining, Snapshot
from pssr2_monai.training.preview import preview
from pssr2_monai.training.run_record import image_differences, image_hashes, read_run
from pssr2_monai.training.train import train

DEFAULT = "default"  # the choice of no preset
WITHOUT_SCANS = "none: the noise of the preset"
FROM_NOTHING = "nothing: random weights"
MINUTES, EPOCHS = "minutes", "epochs"
WITHOUT_PARTNERS, UNMASKED = "none", "none: all pixels"
PAIRED = "paired"
GOOD_IMAGES = "Images: good ones of the kind that you want to obtain. The crappifier makes the scans from them."
HINTS = {  # what is to be chosen for the other kinds of supervision
    PAIRED: "Images: good ones. Partners: fast scans of the same fields. Or a folder that holds the folders HR and LR.",
    "noise2noise": "Images: noisy stacks whose neighbouring frames show the same. Or noisy scans; partners: others "
    "of the same fields.",
    "blind_spot": "Images: the noisy scans themselves, all of them.",
}
CURVE_HEIGHT_PX = 180


class TrainPanel(Panel):
    """Trains on a folder of good images or on layers; shows LR, SR and HR tiles, the loss and scores meanwhile."""

    stopping_message = "stopping: saving …"

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
        self._known_differences: list[str] = []
        self.preview = Preview(self, self.adjust, self._prepare_preview, self._show_preview, self.previewed.remove)
        self.resume_button.clicked.connect(lambda *_: self.attempt(lambda: self.begin(resume=True)))
        for widget in (self.task, self.network, self.own, self.start_weights):
            widget.changed.connect(lambda *_: self.attempt(self._read_presets))
        for changed in (self.crappifier.changed, self.crappifier.scale.changed, self.images.changed):
            changed.connect(lambda *_: self.preview.ask())
        self.adjust.changed.connect(self._show_sliders)
        self.out.changed.connect(self._offer_resume)
        self.attempt(self._read_presets)

    def _build_form(self) -> None:
        self.images = ImageSource(self.viewer, "Images", several=True, tooltip="What these are depends on the task")
        networks = [name for name in preset_names() if _sets(name, "network_def") and not _sets(name, "scale")]
        tasks = [name for name in preset_names() if name not in networks]
        self.task = ComboBox(label="Kind of images", choices=[DEFAULT, *tasks], value=DEFAULT, tooltip="A preset")
        tooltip = "Of the same names; real fast scans of the same fields (paired), or second noisy scans (noise2noise)"
        self.partners = ImageSource(
            self.viewer, "Partners", optional=WITHOUT_PARTNERS, within=False, several=True, tooltip=tooltip
        )
        tooltip = "Noisy scans that are to be restored: contrast and noise of the training are fitted to them"
        self.scans = ImageSource(
            self.viewer, "Scans to restore", optional=WITHOUT_SCANS, within=False, several=True, tooltip=tooltip
        )
        tooltip = "Weights to start from: network, scale and crappifier are then theirs"
        self.start_weights = WeightsSource("Start from", optional=FROM_NOTHING, tooltip=tooltip)
        small = "resunet_small" if "resunet_small" in networks else DEFAULT
        self.network = ComboBox(label="Network", choices=[DEFAULT, *networks], value=small)
        self.length = FloatSpinBox(value=15, min=0.05, max=1e6, step=5)
        self.unit = ComboBox(choices=[MINUTES, EPOCHS], value=MINUTES)
        duration = Container(widgets=[self.length, self.unit], layout="horizontal", labels=False, label="Train for")
        duration.margins = (0, 0, 0, 0)
        self.out = FileEdit(label="Save to", mode="d", nullable=True, tooltip="New folder for model.pt and other files")
        tooltip = "For example one that Calibrate saved"
        self.own = FileEdit(label="Own preset", mode="r", filter="*.json", nullable=True, tooltip=tooltip)
        tooltip = "Labels of what is trained on, of the images; all but 0"
        self.mask = ImageSource(
            self.viewer, "Mask", several=True, optional=UNMASKED, within=False, tooltip=tooltip, kind=Labels
        )
        self.crappifier = CrappifierForm()
        tooltip = "On the middle of the first image; the settings stay when this is switched off"
        self.adjust = CheckBox(text="adjust the crappifier, and preview it", value=False, tooltip=tooltip)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        sources = [self.task, self.images, self.partners, self.scans, self.start_weights]
        shown: dict[str, Sequence[Any]] = {
            "channels": ("each", "joint"),
            "n_frames": (),
            "tile": (),
            "device": devices(),
        }
        options = Options(described_ids(), shown, free=True, above=[self.own, self.mask])
        self.fill([*sources, self.crappifier.scale, self.network, duration, self.out], options)
        self.rows.insertWidget(0, self.hint)
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
        chosen = {"image": self.images.number, "start": self.start}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return self.crappifier.overrides | chosen | self.options.values

    def begin(self, resume: bool = False) -> None:
        """Train, or resume the training in the same folder."""
        out = chosen_path(self.out)
        if out is None:
            raise InputError("Save to: choose a new folder for the weights")
        if not resume and (out / LAST).exists():
            raise InputError("Save to: holds a training already; press Resume to resume it, or choose another folder")
        options: dict[str, Any] = {"minutes": float(self.length.value)}
        if self.unit.value == EPOCHS:
            options = {"epochs": round(self.length.value)}
        device = self.options.values["device"]
        options |= {"device": device, "resume": resume}
        if device == "cpu":
            options["num_workers"] = 0  # a process of its own would occupy the only core that is left
        if not resume:
            options |= {"preset": self.presets} | self.overrides()
            self.loss.clear()
            self.psnr.clear()
        folders = self._folders()
        live = self._live = LiveTraining(self.report)

        def work() -> Path:
            data, written = folders(scans=not resume)
            if resume:
                self._check_images(out, data, written.get("lr_dir"))
            return train(data, out, live=live, **written | options)

        self.preview.end()
        self.resume_button.enabled = False
        self.run(self.watched(work, in_network=False), self._done)
        self.say("preparing: reading the images …")

    def _folders(self) -> Callable[..., tuple[Path, dict[str, Path]]]:
        """Check what is chosen to train on; the function returns its folder, and those of what belongs to it by ids."""
        folder = self.folder.path
        images = self.images.source(folder / "images")
        others = {"lr_dir": self.partners.source(folder / "partners", self.images)}
        others |= {"masks": self.mask.source(folder / "masks", self.images)}
        others |= {"scans": self.scans.source(folder / "scans")}
        if self.task.value == PAIRED and self.images.layers and not self.partners.layers:
            raise InputError("Partners: choose the fast scans of the same fields, or the preset of another task")

        def written(scans: bool) -> tuple[Path, dict[str, Path]]:
            data = images()
            assert data is not None
            paths = {name: path() for name, path in others.items() if scans or name != "scans"}
            named = {name: path for name, path in paths.items() if path is not None}
            return data, named | ({"hr_dir": data} if "lr_dir" in named else {})

        return written

    def _check_images(self, out: Path, data: Path, partners: Path | None) -> None:
        """Refuse, once, to resume a training on other images than it began with."""
        inside = data / "HR" if partners is None and (data / "HR").is_dir() else data
        images = {key: path for key, path in (("label", inside), ("image", partners)) if path is not None}
        now = image_hashes({key: path} for key, folder in images.items() for path in list_images(folder))
        before = read_run(out, trust=True)["images"]
        lines = image_differences({key: before.get(key, {}) for key in now}, now)
        if lines and lines != self._known_differences:
            self._known_differences = lines
            raise InputError(
                f"The images are not those that this training began with: {'; '.join(lines)}. Choose those, or press "
                "Resume again to continue on these."
            )

    def abandon(self) -> None:
        super().abandon()
        if self._live is not None:
            self._live.stop()

    def show_report(self, report: Snapshot | float) -> None:
        if not isinstance(report, Snapshot):
            super().show_report(report)
            return
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
        self.hint.setText(HINTS.get(self.task.value, GOOD_IMAGES))
        self.crappifier.read(self.presets, self.start)
        self.network.enabled = self.start is None
        self.clear_error()
        self.preview.ask()

    def _prepare_preview(self) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        # The middle of the first image, and what the crappifier makes of it.
        folder, layers = self.folder.path / "preview", self.images.layers[:1]
        files = self.images.source(folder)
        presets, overrides = self.presets, self.overrides()

        def work() -> tuple[np.ndarray, np.ndarray]:
            if layers:
                first: Path | None = folder / "first.ome.tif"
                write_layer(layers[0], folder / "first.ome.tif")
            else:
                first = files()
            assert first is not None
            return preview(list_images(first)[0] if first.is_dir() else first, preset=presets, **overrides)

        return work

    def _show_preview(self, images: tuple[np.ndarray, np.ndarray]) -> None:
        self.previewed.show(dict(zip(("crappified", "good image"), images, strict=True)))


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
