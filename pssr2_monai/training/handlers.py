"""Handlers that Ignite and MONAI lack: draws by epoch, a schedule by progress, progress lines, a profile.

Each has ``attach(trainer)``, as theirs have, and ``state_dict`` and ``load_state_dict`` where a resumed run needs them.
The config lists them in ``train#handlers``; handlers of one event run in the order of that list.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch.profiler import record_function
from tqdm import tqdm

from pssr2_monai.data.batches import TileLoader
from pssr2_monai.errors import InputError
from pssr2_monai.machine import ComputeThreads, profiled
from pssr2_monai.training.distributed import from_first

LINE_SECONDS = 30.0  # between two lines at most, without a terminal
UNLIMITED_EPOCHS = 1_000_000  # stands for no bound of epochs, for which Ignite wants a number


class HandlerList:
    """Attaches handlers in their order, without those that are disabled.

    For handlers with ids of their own in a config: MONAI takes a reference to a disabled one for None, which it cannot
    attach, and checks of bundles expect components, not references, in ``train#handlers``.

    Args:
        handlers: each has ``attach(engine)``, or is None.
    """

    def __init__(self, handlers: Sequence[Any]) -> None:
        self.handlers = [handler for handler in handlers if handler is not None]

    def attach(self, engine: Engine) -> None:
        for handler in self.handlers:
            handler.attach(engine)
        engine.add_event_handler(Events.EXCEPTION_RAISED, _raise)  # which Ignite leaves to the handlers


def _raise(_: Engine, error: BaseException) -> None:
    raise error


class EpochDraws:
    """Sets the epoch of the training dataset, so that each epoch draws new noise and places."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state = engine.state
        self.dataset.set_epoch(state.epoch)
        if isinstance(state.dataloader, TileLoader):
            state.dataloader.begin_epoch(state.epoch, state.iteration % state.epoch_length)  # as far as it was trained


class FreeCores:
    """Sets the number of compute threads after steps, see ``ComputeThreads``.

    Args:
        threads: their number, or None for as many as other processes leave cores free.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = ComputeThreads(threads)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, _: Engine) -> None:
        self.threads.look()


@dataclass(eq=False)
class ProgressSchedule:
    """Sets the learning rate by the progress in epochs or minutes, and ends the training when the minutes are over.

    The rate rises over ``warmup`` of the training and falls along half a cosine to ``floor`` of its peak. Progress is
    the larger of iterations done over iterations planned and minutes spent over minutes allowed. When the minutes are
    over the epoch ends, is validated and saved, and the training ends: it stands after what validates and saves. Where
    several processes train together, rank 0's clock counts for all of them.

    Args:
        optimizer: its groups' learning rates are the peaks.
        minutes: time allowed, or None.
        warmup: share of the training over which the rate rises.
        floor: share of the rate that is left at the end.
        clock: returns seconds.
    """

    optimizer: torch.optim.Optimizer
    minutes: float | None = None
    warmup: float = 0.02
    floor: float = 0.01
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.seconds_before = 0.0
        self._started = self._last_step = self.clock()
        self._seconds_to_end_epoch = 0.0
        self._ended_after: float | None = None  # minutes
        self._progress_at_start = self._seconds_at_start = 0.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._set_rate)
        if self.minutes is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_in_time)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)

    def seconds(self) -> float:  # spent training, earlier runs included
        return self.seconds_before + self.clock() - self._started

    def rate(self, progress: float) -> float:  # as a share of the peak
        rising = min(1.0, progress / self.warmup) if self.warmup > 0 else 1.0
        return rising * (self.floor + (1 - self.floor) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))))

    def progress(self, engine: Engine) -> float:  # in [0, 1]
        planned = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 1)
        done = engine.state.iteration / planned
        return max(done, self.seconds() / (60 * self.minutes)) if self.minutes else done

    def seconds_left(self, engine: Engine) -> float | None:
        """Return the time until the training ends, by its progress in this run; None before there is any."""
        progress = self.progress(engine)
        gained = progress - self._progress_at_start
        if gained <= 0:
            return None
        return (self.seconds() - self._seconds_at_start) * max(0.0, 1 - progress) / gained

    def _start(self, engine: Engine) -> None:
        self._started = self.clock()
        self._progress_at_start = self.progress(engine)
        self._seconds_at_start = self.seconds()

    def _set_rate(self, engine: Engine) -> None:
        share = self.rate(self.progress(engine))
        if self.minutes is not None:
            share = from_first(share)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share
        engine.state.learning_rate = self.optimizer.param_groups[0]["lr"]

    def _stop_in_time(self, engine: Engine) -> None:
        self._last_step = self.clock()
        if from_first(self.seconds() + self._seconds_to_end_epoch) >= 60 * (self.minutes or math.inf):
            self._ended_after = self.minutes
            engine.terminate_epoch()

    def _end_epoch(self, engine: Engine) -> None:
        # The time that validating and saving took is reserved for the last epoch.
        self._seconds_to_end_epoch = max(self._seconds_to_end_epoch, self.clock() - self._last_step)
        if self._ended_after is not None:
            engine.terminate()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds(), "heights": self.peaks, "ended_after": self._ended_after}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds_before, self.peaks = state["seconds"], list(state["heights"])
        spent = max(self.seconds_before / 60, state.get("ended_after") or 0)
        if self.minutes is not None and spent >= self.minutes:
            raise InputError(
                f"minutes: the {self.minutes:g} minutes are over, after {minutes_and_seconds(self.seconds_before)} of "
                "training; set minutes to more in all, or set epochs"
            )


@dataclass(eq=False)
class TrainingProgress:
    """Shows the training: a bar on a terminal, and lines with the rate and the time left.

    There is a line after each epoch and, without a terminal, one every ``seconds`` while it trains or validates.

    Ignite's ``ProgressBar`` knows no time left by minutes and prints nothing readable where there is no terminal. Where
    several processes train together, rank 0 shows its part of the loss. The rate is stored in the trainer's state as
    ``tiles_per_second``, for TensorBoard.

    Args:
        schedule: gives the progress and the learning rate.
        evaluator: whose metrics are shown; this stands after what validates.
        metrics: names of the metrics to show.
        batch_size: tiles in a step of one process.
        every: steps between two readings of the loss, each of which waits for the device.
        seconds: time between two lines within an epoch.
        clock: returns seconds.
    """

    schedule: ProgressSchedule
    evaluator: Engine
    metrics: Sequence[str]
    batch_size: int = 1
    every: int = 1
    seconds: float = LINE_SECONDS
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.logger = logging.getLogger("pssr2_monai")
        self._bar: Any = None
        self._losses: list[torch.Tensor] = []
        self._epoch_started = self._last_step = self._last_line = 0.0

    def attach(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        self._last_line = self.clock()
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._validate, engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_and_raise)

    def _start_epoch(self, engine: Engine) -> None:
        self._epoch_started = self.clock()
        self._losses.clear()
        if sys.stderr.isatty():
            self._close()
            self._bar = tqdm(
                total=engine.state.epoch_length, desc=f"epoch {engine.state.epoch}", unit="step", leave=False
            )

    def _step(self, engine: Engine) -> None:
        self._losses.append(engine.state.output["loss"].detach())
        self._last_step = self.clock()
        if self._bar is not None:
            if engine.state.iteration % self.every == 0:
                self._bar.set_postfix_str(f"loss {self._losses[-1]:.4f}, {self.time_left(engine)} left", refresh=False)
            self._bar.update()
        elif self._last_step - self._last_line >= self.seconds:
            steps = f"step {engine.state.iteration - (engine.state.epoch - 1) * engine.state.epoch_length}"
            self._line(engine, f"{steps}/{engine.state.epoch_length}", f"loss {self._losses[-1]:.4f}")

    def _validate(self, evaluator: Engine, engine: Engine) -> None:
        if self._bar is None and self.clock() - self._last_line >= self.seconds:
            self._line(engine, f"validation {evaluator.state.iteration}/{evaluator.state.epoch_length}")

    def _line(self, engine: Engine, *words: str) -> None:
        self._last_line = self.clock()
        self.logger.info(" | ".join([f"epoch {engine.state.epoch}", *words, f"{self.time_left(engine)} left"]))

    def _end_epoch(self, engine: Engine) -> None:
        state = engine.state
        tiles = len(self._losses) * self.batch_size * idist.get_world_size()
        # Without the time that validating has taken since.
        state.tiles_per_second = rate = tiles / max(self._last_step - self._epoch_started, 1e-9)
        validated = self.evaluator.state.metrics if self.evaluator.state.epoch == state.epoch else {}
        shown = [f"{name} {validated[name]:.4f}" for name in self.metrics if name in validated]
        shown.append(f"lr {self.schedule.optimizer.param_groups[0]['lr']:.1e}")
        planned = f"/{state.max_epochs}" if (state.max_epochs or 0) < UNLIMITED_EPOCHS else ""
        words = [f"epoch {state.epoch}{planned}", f"loss {torch.stack(self._losses).nanmean():.4f}", *shown]
        self._close()
        self._last_line = self.clock()
        self.logger.info(" | ".join([*words, f"{rate:.1f} tiles/s", f"{self.time_left(engine)} left"]))

    def time_left(self, engine: Engine) -> str:
        seconds = self.schedule.seconds_left(engine)
        return "?" if seconds is None else minutes_and_seconds(seconds)

    def _close(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _close_and_raise(self, _: Engine, error: BaseException) -> None:
        self._close()
        raise error


def minutes_and_seconds(seconds: float) -> str:
    """Format seconds: ``75`` as ``1:15``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass(eq=False)
class StepProfile:
    """Profiles some steps of a training; see ``profiled``.

    Crappifying is measured apart from loading where the loader has no workers, or where it is done on the device. It
    stands last in the list, so that the time of the other handlers is theirs. Rank 0 alone is profiled.

    Args:
        folder: where table and trace are written.
        device: what the network runs on; each part waits for a GPU, so that it is charged the time it takes.
        evaluator: whose validation is a part, too.
        skip: steps before, which warm up.
        steps: number of steps to profile; fewer where the training ends before.
    """

    PARTS: ClassVar = ("load", "  crappify", "forward", "loss", "backward", "optimizer", "handlers", "validation")
    BEGINNINGS: ClassVar = (
        (Events.GET_BATCH_STARTED, "load"),
        (Events.GET_BATCH_COMPLETED, "handlers"),
        (Events.ITERATION_STARTED, "forward"),
        (IterationEvents.FORWARD_COMPLETED, "loss"),
        (IterationEvents.LOSS_COMPLETED, "backward"),
        (IterationEvents.BACKWARD_COMPLETED, "optimizer"),
        (IterationEvents.MODEL_COMPLETED, "handlers"),
    )

    folder: str
    device: torch.device | str
    evaluator: Engine | None = None
    skip: int = 5
    steps: int = 20

    def __post_init__(self) -> None:
        self._device = torch.device(self.device)
        self._steps_done = 0
        self._profile = ExitStack()
        self._part = ExitStack()

    def attach(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        for event, part in self.BEGINNINGS:
            engine.add_event_handler(event, self._enter, part)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.STARTED, self._enter, "validation")
            self.evaluator.add_event_handler(Events.COMPLETED, self._enter, "handlers")
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.COMPLETED, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._end)

    def _begin(self, engine: Engine) -> None:
        if self._steps_done == self.skip:
            self._profile.enter_context(profiled(self.folder, self.PARTS, self.steps, "ms a step"))

    def _enter(self, engine: Engine, part: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._part.close()
        if self.skip <= self._steps_done < self.skip + self.steps:
            self._part.enter_context(record_function(part))

    def _count(self, engine: Engine) -> None:
        self._steps_done += 1
        if self._steps_done == self.skip + self.steps:
            self._end(engine)

    def _end(self, engine: Engine, error: BaseException | None = None) -> None:
        self._part.close()
        self._profile.close()
        if error is not None:
            raise error
