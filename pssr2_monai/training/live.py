"""A training while it goes, for whoever shows it: its loss, scores and images now and then, and a way to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode

from pssr2_monai.images.axes import central
from pssr2_monai.training.handlers import ProgressSchedule

IMAGES_SHARE = 0.05
"""Restoring the images that are shown takes at most about this share of the training's time."""


@dataclass(frozen=True)
class Snapshot:
    """How a training stands.

    Attributes:
        epoch: the one under way, counted from 1.
        epochs: how many are done, with the part of this one.
        progress: how far the training has come, in [0, 1].
        seconds_left: until it ends, going by its progress so far; None while that is unknown.
        loss: mean since the last snapshot.
        scores: of the last validation, by the metric's name; empty before the first.
        images: LR, SR and HR tiles ``(tiles, frames, Y, X)`` in [0, 1], always of the same places; LR has the frames
            that SR is restored of. None where they are those of the last snapshot.
    """

    epoch: int
    epochs: float
    progress: float
    seconds_left: float | None
    loss: float
    scores: Mapping[str, float]
    images: tuple[np.ndarray, np.ndarray, np.ndarray] | None


class LiveTraining:
    """Shows a training while it goes, and stops it when asked; for the ``live`` argument of ``workflow.train``.

    Nothing of it changes what is learnt: the images are restored without gradients and without random draws.

    Args:
        show: takes each snapshot, in the thread that trains.
        seconds: between two snapshots, at least; the last is shown in any case.
        tiles: how many validation tiles are shown, spread over all there are.

    Example:
        >>> from pssr2_monai import train
        >>> seen = []
        >>> weights = train("images", "run", epochs=1, tile=96, live=LiveTraining(seen.append))
        >>> seen[-1].progress, sorted(seen[-1].scores)
        (1.0, ['val_loss', 'val_psnr', 'val_ssim'])
    """

    def __init__(self, show: Callable[[Snapshot], None], seconds: float = 0.5, tiles: int = 4) -> None:
        self.show = show
        self.seconds = seconds
        self.tiles = tiles
        self._stop = threading.Event()
        self._losses: list[torch.Tensor] = []
        self._loss = float("nan")
        self._scores: dict[str, float] = {}
        self._shown = self._images_due = 0.0
        self._inputs: torch.Tensor | None = None
        self._lr: np.ndarray = np.empty(0)
        self._targets: np.ndarray = np.empty(0)

    def stop(self) -> None:
        """Ends the training after the step under way, from any thread: it is validated and saved, to be resumed."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def attach(self, trainer: Any, evaluator: Any, schedule: ProgressSchedule) -> None:
        """To be called before the training begins.

        Args:
            trainer: MONAI's.
            evaluator: that validates, whose data set the images are taken from.
            schedule: knows how far the training has come.
        """

        def look(engine: Engine) -> None:
            self._losses.append(engine.state.output["loss"].detach())
            if time.monotonic() - self._shown >= self.seconds:
                self._look(engine, evaluator, schedule)

        def last_look(engine: Engine) -> None:
            self._images_due = 0.0
            self._look(engine, evaluator, schedule)

        trainer.add_event_handler(Events.STARTED, lambda _: self._choose_tiles(trainer, evaluator))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, look)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._end)
        trainer.add_event_handler(Events.COMPLETED, last_look)
        evaluator.add_event_handler(Events.COMPLETED, self._keep_scores)

    def _end_epoch(self, engine: Engine) -> None:
        if self.stopped:
            engine.terminate_epoch()

    def _end(self, engine: Engine) -> None:
        if self.stopped:
            engine.terminate()

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

    def _look(self, trainer: Engine, evaluator: Any, schedule: ProgressSchedule) -> None:
        now = time.monotonic()
        images = None
        if now >= self._images_due:
            images = self._images(evaluator)
            self._images_due = now + (time.monotonic() - now) / IMAGES_SHARE
        if self._losses:
            self._loss = float(torch.stack(self._losses).mean())
            self._losses.clear()
        state = trainer.state
        self._shown = time.monotonic()
        self.show(
            Snapshot(
                epoch=max(state.epoch, 1),
                epochs=state.iteration / (state.epoch_length or 1),
                progress=min(schedule.progress(trainer), 1.0),
                seconds_left=schedule.seconds_left(trainer),
                loss=self._loss,
                scores=dict(self._scores),
                images=images,
            )
        )

    def _images(self, evaluator: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        if self._inputs is None:
            return None
        with eval_mode(evaluator.network):
            # One by one, for what they take of a device's memory beside the training.
            outputs = [
                evaluator.inferer(each[None].to(evaluator.state.device), evaluator.network).float().cpu()
                for each in self._inputs
            ]
        return self._lr, torch.cat(outputs).numpy(), self._targets
