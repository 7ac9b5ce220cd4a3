"""Trainings that end before their time: without a gain, or by a signal, after which they resume where they were."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from pssr2_monai.errors import InputError
from pssr2_monai.machine import Terminated
from pssr2_monai.training.checkpoints import BEST, LAST, Checkpoints
from pssr2_monai.training.endings import EarlyStop, Interruption
from pssr2_monai.training.handlers import HandlerList


def _engine() -> Engine:
    return Engine(lambda engine, batch: None)


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (None, 8)])
def test_a_training_without_a_gain_ends_after_its_patience(patience: int | None, epochs: int) -> None:
    scores = iter([0.1, 0.5, 0.3, 0.5, 0.4, 0.6, 0.7, 0.8])
    evaluator, trainer = Engine(lambda engine, batch: None), _engine()

    @evaluator.on(Events.EPOCH_COMPLETED)
    def score(engine: Engine) -> None:
        engine.state.metrics["val_ssim"] = next(scores)

    EarlyStop(evaluator, patience).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    trainer.run([0], max_epochs=8)
    # An equal score is no gain.
    assert trainer.state.epoch == epochs


def test_a_loss_that_falls_is_a_gain() -> None:
    losses = iter([0.5, 0.4, 0.3, 0.35, 0.31, 0.2])
    evaluator, trainer = Engine(lambda engine, batch: None), _engine()

    @evaluator.on(Events.EPOCH_COMPLETED)
    def score(engine: Engine) -> None:
        engine.state.metrics["val_loss"] = next(losses)

    EarlyStop(evaluator, 2, "val_loss").attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    trainer.run([0], max_epochs=6)
    assert trainer.state.epoch == 5


def test_early_stopping_keeps_its_patience_over_a_resumption_and_reports(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def run(scores: list[float], state: dict[str, Any] | None = None) -> tuple[EarlyStop, int]:
        values = iter(scores)
        evaluator, trainer = Engine(lambda engine, batch: None), _engine()

        @evaluator.on(Events.EPOCH_COMPLETED)
        def score(engine: Engine) -> None:
            engine.state.metrics["val_ssim"] = next(values)

        stop = EarlyStop(evaluator, patience=3)
        if state is not None:
            stop.load_state_dict(state)
        stop.attach(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
        trainer.run([0], max_epochs=len(scores))
        return stop, trainer.state.epoch

    stop, epochs = run([0.1, 0.5, 0.3, 0.4])
    assert epochs == 4
    assert not [message for message in caplog.messages if "ended" in message]
    stop, epochs = run([0.4, 0.4, 0.4], stop.state_dict())
    assert epochs == 1, "the third validation that is not better than 0.5"
    (line,) = [record for record in caplog.records if "ended" in record.message]
    assert line.message == "ended after epoch 1: no better val_ssim in 3 validations (patience)"
    assert line.name.startswith("pssr2_monai")
    assert not [record for record in caplog.records if "early_stopping" in record.name]
    with pytest.raises(InputError, match="patience: 3: there were 3 validations .* set patience to more"):
        run([0.4], stop.state_dict())


class Part:
    """Something that is saved."""

    def state_dict(self) -> dict[str, Any]:
        return {}


def _interrupted(
    folder: Path,
    steps: list[int],
    event: Events = Events.ITERATION_STARTED,
    number: signal.Signals = signal.SIGINT,
) -> tuple[Engine, list[str]]:
    """Run three epochs of four steps, in which a signal comes at some steps; return what happened."""
    checkpoints = Checkpoints(folder, {"model": Part(), "record": Part()}, Engine(lambda *_: None))
    trainer, happened = _engine(), []

    @trainer.on(event)
    def press(engine: Engine) -> None:
        for _ in range(steps.count(engine.state.iteration)):
            os.kill(os.getpid(), number)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: happened.append(f"{engine.state.iteration}"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: happened.append("validated"))
    HandlerList([checkpoints, Interruption(checkpoints)]).attach(trainer)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Terminated):
        trainer.run(range(4), max_epochs=3)
    return trainer, happened


@pytest.mark.parametrize(
    ("step", "happened", "iteration"),
    [(2, ["1", "2"], 2), (4, ["1", "2", "3", "4", "validated"], 4), (5, ["1", "2", "3", "4", "validated", "5"], 5)],
)
def test_ctrl_c_ends_a_training_after_its_step_and_saves_it_there(
    step: int, happened: list[str], iteration: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pssr2_monai")
    assert _interrupted(tmp_path, [step])[1] == happened
    assert torch.load(tmp_path / LAST, weights_only=True)["trainer"]["iteration"] == iteration
    assert (tmp_path / BEST).exists()
    assert "stopping after this step, or this validation; press Ctrl-C again" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_ends_it_like_ctrl_c_with_a_status_of_its_own(tmp_path: Path) -> None:
    assert _interrupted(tmp_path, [2], number=signal.SIGTERM)[1] == ["1", "2"]
    assert torch.load(tmp_path / LAST, weights_only=True)["trainer"]["iteration"] == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert Terminated().code == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once_without_half_a_step(number: signal.Signals, tmp_path: Path) -> None:
    assert _interrupted(tmp_path, [2, 2], number=number)[1] == ["1"]
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_a_validation_waits_for_it(tmp_path: Path) -> None:
    assert _interrupted(tmp_path, [4], Events.EPOCH_COMPLETED)[1][-1] == "validated"
    assert torch.load(tmp_path / LAST, weights_only=True)["trainer"]["iteration"] == 4


def test_the_handler_of_another_program_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        trainer = _engine()
        checkpoints = Checkpoints(tmp_path, {"model": Part(), "record": Part()}, Engine(lambda *_: None))
        HandlerList([checkpoints, Interruption(checkpoints)]).attach(trainer)
        trainer.add_event_handler(Events.ITERATION_STARTED(once=2), lambda _: os.kill(os.getpid(), signal.SIGINT))
        trainer.run(range(4), max_epochs=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]
