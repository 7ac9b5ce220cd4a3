"""Checkpoints of a training: the best weights, a state to resume from now and then, and one every so many epochs.

MONAI's ``CheckpointSaver`` overwrites its files in place and forgets the best score on resuming, and Ignite's does not
write a file name twice; here each file is a temporary one until it is complete, and the score is part of the state.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from pssr2_monai.errors import InputError
from pssr2_monai.networks.record import same_training
from pssr2_monai.networks.weights import read_checkpoint, save_atomically

BEST, LAST = "model.pt", "last.pt"
logger = logging.getLogger(__name__)


def score_of(metrics: Mapping[str, float], name: str) -> float | None:
    """Return a metric as a score, of which more is better: a loss with the opposite sign; None where it is missing."""
    value = metrics.get(name)
    return -value if value is not None and name.endswith("loss") else value


class TorchRandomState:
    """The states of torch's generators, for a checkpoint; a network with dropout draws from them."""

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        torch.set_rng_state(state["cpu"].cpu())
        if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([generator.cpu() for generator in state["cuda"]])
        if idist.get_rank() > 0:
            # The state is rank 0's; the others must draw other numbers, and not those that they drew at first.
            torch.manual_seed(int(torch.randint(2**62, ())) + idist.get_rank())


@dataclass(eq=False)
class Checkpoints:
    """Saves now and then, and resumes.

    ``model.pt`` holds the weights with the best validation score and their record, or the last without a validation;
    ``last.pt`` all that a resumed run needs to continue as if it had not been interrupted. It is saved after the first
    epoch, when ``minutes`` are over since the last time, within an epoch too, and at the end. ``epoch_0010.pt`` and so
    on are kept. Of several processes that train together, rank 0 saves and all resume, whatever their number was
    before. It stands after what validates.

    Args:
        save_dir: folder of the files.
        state: what is saved, by name; ``model`` and ``record`` are what restoring needs. None is left out.
        evaluator: whose metric decides.
        key_metric: the metric; greater is better, but for one whose name ends in ``loss``.
        every: epochs between two checkpoints that are kept; 0 for none.
        resume: a ``last.pt`` to resume from, or None.
        images: identifies the images that are trained on; scores on others are not compared.
        minutes: time between two states to resume from.
        clock: returns seconds.
    """

    save_dir: str | Path
    state: Mapping[str, Any]
    evaluator: Engine
    key_metric: str = "val_ssim"
    every: int = 0
    resume: str | Path | None = None
    images: str = ""
    minutes: float = 5.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.state = {name: part for name, part in self.state.items() if part is not None}
        self._saved_at = self.clock()
        self._saved_iteration: int | None = None
        self.best_score: float | None = None
        self.best_epoch: int | None = None

    def attach(self, engine: Engine) -> None:
        if self.resume is not None:
            engine.add_event_handler(Events.STARTED, self.load)
        if idist.get_rank() > 0:
            return
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._save_in_time)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def _end(self, engine: Engine) -> None:
        if self._saved_iteration != engine.state.iteration:
            self.save_state(engine)
        if self.best_epoch is not None and self.best_score is not None:
            metric = score_of({self.key_metric: self.best_score}, self.key_metric)  # a loss with its own sign again
            logger.info("%s: of epoch %d, %s %.4f", BEST, self.best_epoch, self.key_metric, metric)

    def _due(self) -> bool:
        return self.clock() - self._saved_at >= 60 * self.minutes

    def _save_in_time(self, engine: Engine) -> None:
        # The last step of an epoch is followed by its validation.
        if self._due() and engine.state.iteration % engine.state.epoch_length:
            self.save_state(engine)

    def _weights(self) -> dict[str, Any]:
        Path(self.save_dir).mkdir(parents=True, exist_ok=True)
        return {name: self.state[name].state_dict() for name in ("model", "record")}

    def save(self, engine: Engine) -> None:
        """Save what the end of an epoch asks for."""
        validated = self.evaluator.state.epoch == engine.state.epoch
        score = score_of(self.evaluator.state.metrics, self.key_metric) if validated else None
        if score is not None and math.isfinite(score) and (self.best_score is None or score > self.best_score):
            self.best_score, self.best_epoch = float(score), engine.state.epoch
            save_atomically(self._weights(), Path(self.save_dir) / BEST)
        if self._saved_iteration is None or self._due():
            self.save_state(engine)
        if self.every and engine.state.epoch % self.every == 0:
            save_atomically(self._weights(), Path(self.save_dir) / f"epoch_{engine.state.epoch:04d}.pt")

    def save_state(self, engine: Engine) -> None:
        """Save all that a resumed run needs, after any step."""
        weights = self._weights()
        if self.best_score is None:
            save_atomically(weights, Path(self.save_dir) / BEST)
        rest = {name: part.state_dict() for name, part in self.state.items() if name not in weights}
        everything = weights | rest | {"trainer": engine.state_dict()}
        everything |= {"best_score": self.best_score, "best_epoch": self.best_epoch, "images": self.images}
        save_atomically(everything, Path(self.save_dir) / LAST)
        self._saved_at, self._saved_iteration = self.clock(), engine.state.iteration

    def load(self, engine: Engine) -> None:
        path = Path(str(self.resume))
        saved = read_checkpoint(path)
        missing = [name for name in (*self.state, "trainer") if name not in saved]
        if missing:
            raise InputError(
                f"{path}: holds weights but not the state of a training ({missing[0]} is missing); give last.pt"
            )
        if not same_training(saved["record"], self.state["record"].state_dict(), str(path)):
            raise InputError(
                f"{path}: was trained with another network, scale, intensity or crappifier; resume with the options "
                "that the training was started with"
            )
        other_images = saved.get("images", self.images) != self.images
        for name, part in self.state.items():
            if not (other_images and name == "early_stop"):
                part.load_state_dict(saved[name])
        planned, length = engine.state.max_epochs, engine.state.epoch_length
        trainer = dict(saved["trainer"])
        if length is not None and length != trainer["epoch_length"]:
            # More processes or larger batches: an epoch has fewer steps now. The number of epochs done stays the same.
            trainer |= {"iteration": trainer["iteration"] * length // trainer["epoch_length"], "epoch_length": length}
        engine.load_state_dict(trainer)
        engine.state.max_epochs = planned
        if other_images:
            logger.info("%s: of other images; the training continues on those given, and scores begin anew", path)
        else:
            self.best_score, self.best_epoch = saved["best_score"], saved.get("best_epoch")
        if planned is not None and engine.state.epoch >= planned:
            raise InputError(f"{path}: {engine.state.epoch} epochs are done already; set epochs to more than that")
