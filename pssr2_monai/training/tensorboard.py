"""What TensorBoard shows of a training: scalars, panels, noise, hyper-parameters and the config."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from PIL import Image

from pssr2_monai.calibration.picture import picture_of_noise
from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.data.blind_spot import shown_target
from pssr2_monai.images.axes import central
from pssr2_monai.images.pictures import grey_window, panel

NOISE_TILES = 16
logger = logging.getLogger(__name__)


class Writers:
    """The event files of one training in two runs, ``train`` and ``validation``: scalars of one name share a chart.

    Of several processes that train together, rank 0 writes.

    Args:
        log_dir: the folder of the runs' folders.
    """

    def __init__(self, log_dir: str | Path) -> None:
        self.train, self.validation = (_summary_writer(Path(log_dir) / run) for run in ("train", "validation"))

    def flush(self) -> None:
        self.train.flush()
        self.validation.flush()

    def close(self) -> None:
        self.train.close()
        self.validation.close()


class Scalars:
    """Writes scalars over the training's steps.

    The training's ``loss`` is the mean since its last point; its ``learning_rate``, its ``tiles_per_second`` and the
    metrics of the validation follow at the end of each epoch. MONAI's ``TensorBoardStatsHandler`` would write the loss
    of single steps, and the metrics by other names and steps, so that the losses would not share a chart. It stands
    after what validates and what measures the rate.

    Args:
        writer: both runs.
        evaluator: whose metrics are the validation's, written without the ``val_`` of their names.
        every: steps between two points of the loss, each of which waits for the device.
    """

    def __init__(self, writer: Writers, evaluator: Engine, every: int = 10) -> None:
        self.writer = writer
        self.evaluator = evaluator
        self.every = every
        self._losses: list[torch.Tensor] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def _step(self, engine: Engine) -> None:
        self._losses.append(engine.state.output["loss"].detach())
        if engine.state.iteration == 1 or engine.state.iteration % self.every == 0:
            self._write_loss(engine)

    def _write_loss(self, engine: Engine) -> None:
        self.writer.train.add_scalar("loss", float(torch.stack(self._losses).nanmean()), engine.state.iteration)
        self._losses.clear()

    def _end_epoch(self, engine: Engine) -> None:
        state = engine.state
        if self._losses:
            self._write_loss(engine)
        for name in ("learning_rate", "tiles_per_second"):
            if getattr(state, name, None) is not None:
                self.writer.train.add_scalar(name, getattr(state, name), state.iteration)
        if self.evaluator.state.epoch == state.epoch:
            for name, value in self.evaluator.state.metrics.items():
                self.writer.validation.add_scalar(name.removeprefix("val_"), float(value), state.iteration)
        self.writer.flush()


class PanelImages:
    """Writes panels LR | SR | HR of the first validation images to TensorBoard, all in one grey window.

    The window is that of the HR images, the same for every epoch and image. Pixels without a target, of blind spots,
    are those of the input.

    Args:
        writer: a ``SummaryWriter``.
        images: number of panels.
        interval: epochs between two panels of an image.
        name: of the panels.
    """

    def __init__(self, writer: Any, images: int = 4, interval: int = 1, name: str = "LR_SR_HR") -> None:
        self.writer = writer
        self.name = name
        self.images = images
        self.interval = interval
        self.grey_window: tuple[float, float] | None = None
        self._shown: list[list[np.ndarray]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._shown.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _keep(self, engine: Engine) -> None:
        for item in engine.state.output[: self.images - len(self._shown)]:
            lr, sr, hr = (item[key].detach().float().cpu().numpy() for key in ("image", "pred", "label"))
            # For volumes whose depth is restored: a cut along Z, which shows it.
            axis = 1 if hr.shape[0] > lr.shape[0] else 0
            hr = shown_target(hr, lr)
            self._shown.append([frames.take(frames.shape[axis] // 2, axis) for frames in (lr, sr, hr)])

    def _write(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if not self._shown or epoch % self.interval:
            return
        if self.grey_window is None:
            self.grey_window = grey_window(np.concatenate([planes[-1].ravel() for planes in self._shown]))
        for number, planes in enumerate(self._shown):
            self.writer.add_image(f"{self.name}/{number}", panel(planes, *self.grey_window)[None], epoch)
        self.writer.flush()


def show_noise(
    writer: Any,
    dataset: Sequence[Mapping[str, Any]],
    scale: int | Sequence[int],
    crappifier: Any = None,
    calibration: str | Path | None = None,
) -> None:
    """Write a picture of the noise that a training learns to remove, and the picture of its calibration.

    The tiles have ``image`` (LR) and ``label`` (HR), ``(frames, Y, X)`` in [0, 1]. Downsampling by the crappifier does
    not count as noise; for real pairs it is None.
    """
    if len(dataset):
        downsample = getattr(crappifier, "downsample", None) or Downsample(scale)
        items = [dataset[int(index)] for index in np.linspace(0, len(dataset) - 1, min(NOISE_TILES, len(dataset)))]
        pairs = [
            _planes(item, downsample)
            for item in items
            if "image" in item and np.isfinite(np.asarray(item["label"])).all()
        ]
        if pairs and all(clean.shape == lr.shape for clean, lr in pairs):
            clean, lr = (np.concatenate(images) * GREY_LEVELS for images in zip(*pairs, strict=True))
            name = "real LR" if crappifier is None else "crappified"
            picture = picture_of_noise(clean, lr, name)
            writer.add_image(f"noise/{name.replace(' ', '_')}", np.asarray(picture), 0, dataformats="HWC")
    if calibration is not None and Path(calibration).is_file():
        with Image.open(calibration) as picture:
            writer.add_image("noise/calibration", np.asarray(picture.convert("RGB")), 0, dataformats="HWC")
    elif calibration is not None:
        logger.warning("%s: the picture of the calibration is not there", calibration)
    writer.flush()


def _planes(item: Mapping[str, Any], downsample: Downsample) -> tuple[np.ndarray, np.ndarray]:
    """Return the downsampled HR frames of a sample and the LR frames of the same places."""
    clean, lr = (np.asarray(frames, dtype=np.float64) for frames in (downsample(item["label"]), item["image"]))
    return clean, lr[central(len(lr), len(clean))] if len(lr) > len(clean) else lr


class _SilentWriter:
    """Accepts the calls of a ``SummaryWriter`` and writes nothing."""

    file_writer = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def _summary_writer(folder: Path) -> Any:
    if idist.get_rank() > 0:
        return _SilentWriter()
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import, which other ranks need not

    return SummaryWriter(log_dir=str(folder))
