"""Handlers on small engines, against what they should do worked out by hand."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from pssr2_monai.errors import InputError
from pssr2_monai.training.handlers import (
    UNLIMITED_EPOCHS,
    ClipGradients,
    EpochDraws,
    FiniteLoss,
    Progress,
    ProgressSchedule,
)


def _optimizer(lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(3))], lr=lr)


def _engine(loss: float = 0.5) -> Engine:
    return Engine(lambda engine, batch: {"loss": torch.tensor(loss)})


def test_the_rate_follows_warmup_and_cosine_by_iterations() -> None:
    optimizer, rates = _optimizer(), []
    schedule = ProgressSchedule(optimizer, warmup=0.1, floor=0.01)
    engine = _engine()
    schedule.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: rates.append(optimizer.param_groups[0]["lr"]))
    engine.run(range(10), max_epochs=10)
    progress = np.arange(1, 101) / 100
    cosine = 0.01 + 0.99 * (0.5 + 0.5 * np.cos(np.pi * progress))
    np.testing.assert_allclose(rates, 0.1 * cosine * np.minimum(1, progress / 0.1), rtol=1e-6)


def test_minutes_end_the_epoch_and_then_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("pssr2_monai.training.handlers.time.monotonic", lambda: clock[0])
    schedule, engine, ended = ProgressSchedule(_optimizer(), minutes=1), _engine(), []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: clock.__setitem__(0, clock[0] + 1))

    def validate(running: Engine) -> None:
        clock[0] += 5
        ended.append(running.state.iteration)

    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    schedule.attach(engine)
    engine.run(range(20), max_epochs=1000)
    # 20 s and 5 s, 20 s and 5 s, then 5 of the 20 steps, since the 5 s of the last validation are kept back.
    assert ended == [20, 40, 45]
    assert clock[0] == 60


def test_a_resumed_schedule_counts_the_time_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("pssr2_monai.training.handlers.time.monotonic", lambda: clock[0])
    schedule = ProgressSchedule(_optimizer(0.3), minutes=2)
    schedule.load_state_dict({"seconds": 30.0, "heights": [0.1]})
    clock[0] += 15
    assert schedule.seconds() == 45
    assert schedule.state_dict() == {"seconds": 45.0, "heights": [0.1]}


def test_each_epoch_is_told_to_the_dataset() -> None:
    class Dataset:
        epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    dataset, engine = Dataset(), _engine()
    EpochDraws(dataset).attach(engine)
    engine.run([0], max_epochs=3)
    assert dataset.epochs == [1, 2, 3]


def test_gradients_are_clipped_to_their_norm() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    ClipGradients([parameter], max_norm=1.0)(_engine())
    torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]), rtol=1e-4, atol=0)


def test_progress_is_one_line_an_epoch_off_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    schedule, engine, evaluator = ProgressSchedule(_optimizer()), _engine(0.25), Engine(lambda engine, batch: None)
    evaluator.state.metrics, evaluator.state.epoch = {"val_psnr": 20.0}, 1  # the second epoch is not validated
    Progress(schedule, evaluator, ["val_psnr", "val_ssim"], batch_size=4).attach(engine)
    schedule.attach(engine)
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        engine.run(range(5), max_epochs=2)
    lines = [record.message for record in caplog.records if record.name == "pssr2_monai"]
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2 | loss 0.2500 | val_psnr 20.0000 | ")
    assert "val_psnr" not in lines[1]
    assert lines[1].endswith("| 0:00 left")


def test_epochs_without_a_bound_are_not_counted_down(caplog: pytest.LogCaptureFixture) -> None:
    schedule, engine = ProgressSchedule(_optimizer(), minutes=1e-9), _engine()
    Progress(schedule, Engine(lambda engine, batch: None), []).attach(engine)
    schedule.attach(engine)
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        engine.run(range(5), max_epochs=UNLIMITED_EPOCHS)
    assert [line.split(" | ")[0] for line in caplog.messages if line.startswith("epoch")] == ["epoch 1"]


def test_the_rate_leaves_out_the_validation(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    monkeypatch.setattr("pssr2_monai.training.handlers.time.monotonic", lambda: clock[0])
    schedule, engine = ProgressSchedule(_optimizer()), _engine()
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: clock.__setitem__(0, clock[0] + 0.5))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: clock.__setitem__(0, clock[0] + 100))
    Progress(schedule, Engine(lambda engine, batch: None), [], batch_size=4).attach(engine)
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        engine.run(range(5), max_epochs=1)
    assert engine.state.tiles_per_second == 5 * 4 / 2.5
    assert " | 8.0 tiles/s | " in caplog.text


def test_an_error_passes_through_the_progress() -> None:
    def fail(engine: Engine, batch: Any) -> None:
        raise ValueError("broken")

    engine = Engine(fail)
    schedule = ProgressSchedule(_optimizer())
    Progress(schedule, Engine(fail), []).attach(engine)
    with pytest.raises(ValueError, match="broken"):
        engine.run([0])
    assert math.isfinite(schedule.seconds())


def test_a_training_without_a_finite_loss_stops() -> None:
    engine = _engine(math.nan)
    FiniteLoss().attach(engine)
    with pytest.raises(InputError, match="epoch 1: the loss is not finite; use a smaller lr"):
        engine.run(range(3), max_epochs=2)
    assert engine.state.iteration == 1
