"""A running training for those who show it: its loss, scores and images now and then, and a way to stop it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode

from pssr2_monai.data.blind_spot import shown_target
from pssr2_monai.images.axes import central
from pssr2_monai.training.handlers import ProgressSchedule

IMAGES_SHARE = 0.05  # of the training's time that restoring the shown images takes, at most about


@dataclass(frozen=True)
class Snapshot:
    """The state of a training, with LR, SR and HR tiles ``(tiles, frames, Y, X)`` in [0, 1] of the same places."""

    epoch: int  # current one, counted from 1
    epochs: float  # done, with the part of the current one
    progress: float  # in [0, 1]
    seconds_left: float | None  # by the progress so far; None while that is unknown
    loss: float  # mean since the last snapshot
    scores: Mapping[str, float]  # of the last validation; empty before the first
    images: tuple[np.ndarray, np.ndarray, np.ndarray] | None  # LR has the frames of SR; None: as last shown
    clean: bool = True  # whether HR is a good image, and not another noisy one


@dataclass(eq=False)
class LiveTraining:
    """Shows a running training, and stops it when asked; for the ``live`` argument of ``train``.

    It does not change what is learnt: the images are restored without gradients and without random draws.

    Args:
        show: takes each snapshot, in the thread that trains.
        seconds: shortest time between two snapshots; the last is shown in any case.
        tiles: number of validation tiles that are shown, which are spread evenly over all.
        clock: returns seconds.

    Example:
        >>> from pssr2_monai import train
        >>> seen = []
        >>> weights = train("images", "run", epochs=1, tile=96, live=LiveTraining(seen.append))
        >>> seen[-1].progress, sorted(seen[-1].scores)
        (1.0, ['val_loss', 'val_psnr', 'val_ssim'])
    """

    show: Callable[[Snapshot], None]
    seconds: float = 0.5
    tiles: int = 4
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._losses: list[torch.Tensor] = []
        self._loss = float("nan")
        self._scores: dict[str, float] = {}
        self._shown = self._images_due = -math.inf
        self._inputs: torch.Tensor | None = None
        self._lr: np.ndarray = np.empty(0)
        self._targets: np.ndarray = np.empty(0)
        self._clean = True

    def stop(self) -> None:
        """End the training after the current step, or validation batch, from any thread: saved, to be resumed."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def attach(self, trainer: Any, evaluator: Any, schedule: ProgressSchedule, supervision: str = "clean") -> None:
        """Attach to MONAI's engines before the training starts; the images are taken from the evaluator's data set."""
        self._clean = supervision == "clean"

        def step(engine: Engine) -> None:
            self._losses.append(engine.state.output["loss"].detach())
            if self.clock() - self._shown >= self.seconds:
                self._show_snapshot(engine, evaluator, schedule)
            if self.stopped:
                engine.terminate()

        def validation_step(engine: Engine) -> None:
            # Its scores stay those of the validation before.
            if self.stopped:
                engine.terminate()
                trainer.terminate()

        def show_last(engine: Engine) -> None:
            self._images_due = -math.inf
            self._show_snapshot(engine, evaluator, schedule)

        trainer.add_event_handler(Events.STARTED, lambda _: self._choose_tiles(trainer, evaluator))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, step)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, validation_step)
        trainer.add_event_handler(Events.COMPLETED, show_last)
        evaluator.add_event_handler(Events.COMPLETED, self._keep_scores)

    def _keep_scores(self, engine: Engine) -> None:
        self._scores = {name: float(value) for name, value in engine.state.metrics.items()}

    def _choose_tiles(self, trainer: Any, evaluator: Any) -> None:
        dataset = evaluator.data_loader.dataset
        if not len(dataset):
            dataset = trainer.data_loader.dataset
        count = min(self.tiles, len(dataset))
        items = [dataset[int(index)] for index in np.linspace(0, len(dataset) - 1, count).round()]
        if all("image" in item for item in items):  # training tiles that are crappified on the device have none yet
            self._inputs = torch.stack([item["image"] for item in items]).float()
            self._targets = torch.stack([item["label"] for item in items]).float().numpy()
            self._lr = self._inputs.numpy()
            if self._lr.shape[1] > self._targets.shape[1]:
                self._lr = self._lr[:, central(self._lr.shape[1], self._targets.shape[1])]
            self._targets = shown_target(self._targets, self._lr)

    def _show_snapshot(self, trainer: Engine, evaluator: Any, schedule: ProgressSchedule) -> None:
        now = self.clock()
        images = None
        if now >= self._images_due:
            images = self._images(evaluator)
            self._images_due = now + (self.clock() - now) / IMAGES_SHARE
        if self._losses:
            self._loss = float(torch.stack(self._losses).nanmean())
            self._losses.clear()
        state = trainer.state
        self._shown = self.clock()
        self.show(
            Snapshot(
                epoch=max(state.epoch, 1),
                epochs=state.iteration / (state.epoch_length or 1),
                progress=min(schedule.progress(trainer), 1.0),
                seconds_left=schedule.seconds_left(trainer),
                loss=self._loss,
                scores=dict(self._scores),
                images=images,
                clean=self._clean,
            )
        )

    def _images(self, evaluator: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        if self._inputs is None:
            return None
        with eval_mode(evaluator.network):
            # One by one: the training needs the device's memory, too.
            outputs = [
                evaluator.inferer(lr[None].to(evaluator.state.device), evaluator.network).float().cpu()
                for lr in self._inputs
            ]
        return self._lr, torch.cat(outputs).numpy(), self._targets
