"""What ends a training before its epochs or minutes: patience, Ctrl-C, and SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping

from pssr2_monai.errors import InputError
from pssr2_monai.machine import Terminated, terminate
from pssr2_monai.training.checkpoints import Checkpoints, score_of

logger = logging.getLogger(__name__)


class EarlyStop:
    """Ends a training that has not improved for some epochs, those before an interruption included.

    MONAI's handler cannot be saved; this is Ignite's, attached to the trainer like the others.

    Args:
        evaluator: whose metric decides.
        patience: validations without a better score, or None to train to the end.
        key_metric: the metric; greater is better, but for one whose name ends in ``loss``.
    """

    def __init__(self, evaluator: Engine, patience: int | None, key_metric: str = "val_ssim") -> None:
        self.evaluator = evaluator
        self.patience = patience
        self.key_metric = key_metric
        self._stop = EarlyStopping(
            patience or 1, lambda scored: score_of(scored.state.metrics, key_metric), trainer=evaluator
        )
        self._stop.logger.setLevel(logging.WARNING)  # it would report by its own name and format

    def attach(self, engine: Engine) -> None:
        self._stop.trainer = engine
        if self.patience is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._stop)
            engine.add_event_handler(Events.COMPLETED, self._report)

    def _report(self, engine: Engine) -> None:
        if self._stop.counter >= self._stop.patience:
            logger.info(
                "ended after epoch %d: no better %s in %d validations (patience)",
                engine.state.epoch,
                self.key_metric,
                self._stop.counter,
            )

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._stop.counter, "best_score": self._stop.best_score}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._stop.counter, self._stop.best_score = state["validations"], state["best_score"]
        if self.patience is not None and self._stop.counter >= self.patience:
            raise InputError(
                f"patience: {self.patience}: there were {self._stop.counter} validations without a better "
                f"{self.key_metric} already; set patience to more than that"
            )


class Interruption:
    """Ends a training for Ctrl-C or SIGTERM after the current step, or validation, and saves it; a second one at once.

    Several processes that train together end at once, since they would wait for each other.

    Args:
        checkpoints: what saves.
    """

    # Of each signal, the handlers that are replaced; one of another program stays.
    REPLACED: ClassVar = {signal.SIGINT: (signal.default_int_handler,), signal.SIGTERM: (signal.SIG_DFL, terminate)}

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.asked: BaseException | None = None
        self._before: dict[signal.Signals, Any] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        engine.add_event_handler(Events.EPOCH_STARTED, self._stop)
        engine.add_event_handler(Events.COMPLETED, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._end)

    def _begin(self, _: Engine) -> None:
        self.asked = None
        if threading.current_thread() is not threading.main_thread() or idist.get_world_size() > 1:
            return
        for number, replaced in self.REPLACED.items():
            if signal.getsignal(number) in replaced:
                self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, _: Any) -> None:
        error = KeyboardInterrupt() if number == signal.SIGINT else Terminated()
        if self.asked is not None:
            raise error
        self.asked = error
        again = "; press Ctrl-C again to stop at once" if number == signal.SIGINT else ""
        with suppress(RuntimeError):  # the signal came while another line was written
            logger.info("stopping after this step, or this validation%s", again)

    def _after_step(self, engine: Engine) -> None:
        if engine.state.iteration % engine.state.epoch_length:  # the last step is followed by the validation
            self._stop(engine)

    def _stop(self, engine: Engine) -> None:
        if self.asked is not None:
            self.checkpoints.save_state(engine)
            raise self.asked

    def _end(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
