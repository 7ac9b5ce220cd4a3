"""Handlers on small engines, against results worked out by hand; clocks are moved by the tests."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from pssr2_monai.errors import InputError
from pssr2_monai.machine import TABLE, TRACE
from pssr2_monai.training.handlers import (
    UNLIMITED_EPOCHS,
    EpochDraws,
    HandlerList,
    ProgressSchedule,
    StepProfile,
    TrainingProgress,
    minutes_and_seconds,
)
from pssr2_monai.training.train import train


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


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


def test_minutes_end_the_epoch_and_then_the_training() -> None:
    clock = Clock()
    schedule, engine, ended = ProgressSchedule(_optimizer(), minutes=1, clock=clock), _engine(), []

    def validate(running: Engine) -> None:
        clock.seconds += 5
        ended.append(running.state.iteration)

    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: setattr(clock, "seconds", clock.seconds + 1))
    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    schedule.attach(engine)
    engine.run(range(20), max_epochs=1000)
    # 20 s and 5 s, 20 s and 5 s, then 5 of the 20 steps, since the 5 s of the last validation are reserved.
    assert ended == [20, 40, 45]
    assert clock.seconds == 60


def test_the_rate_falls_with_the_minutes() -> None:
    clock, optimizer, rates = Clock(), _optimizer(), []
    schedule, engine = ProgressSchedule(optimizer, minutes=2, warmup=0, floor=0.01, clock=clock), _engine()
    schedule.attach(engine)

    def step(_: Engine) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        clock.seconds += 12

    engine.add_event_handler(Events.ITERATION_COMPLETED, step)
    engine.run(range(1000), max_epochs=1)
    progress = 12 * np.arange(len(rates)) / 120
    np.testing.assert_allclose(rates, 0.1 * (0.01 + 0.99 * (0.5 + 0.5 * np.cos(np.pi * progress))), rtol=0.01)
    assert len(rates) == 11


def test_a_resumed_schedule_counts_the_time_before() -> None:
    clock = Clock(100)
    schedule = ProgressSchedule(_optimizer(0.3), minutes=2, clock=clock)
    schedule.load_state_dict({"seconds": 30.0, "heights": [0.1]})
    clock.seconds += 15
    assert schedule.seconds() == 45
    assert schedule.state_dict() == {"seconds": 45.0, "heights": [0.1], "ended_after": None}


def test_the_time_left_follows_from_the_progress_of_this_run() -> None:
    clock, left = Clock(), []
    schedule, engine = ProgressSchedule(_optimizer(), clock=clock), _engine()
    schedule.attach(engine)

    def step(running: Engine) -> None:
        clock.seconds += 3
        left.append(schedule.seconds_left(running))

    assert schedule.seconds_left(engine) is None
    engine.add_event_handler(Events.ITERATION_COMPLETED, step)
    engine.run(range(5), max_epochs=2)
    assert left == pytest.approx([27, 24, 21, 18, 15, 12, 9, 6, 3, 0])
    assert minutes_and_seconds(75.9) == "1:15"


@pytest.mark.parametrize(
    ("minutes", "seconds", "ended_after", "over"),
    [(2, 118, 2, True), (2, 121, None, True), (3, 118, 2, False), (None, 118, 2, False), (2, 60, None, False)],
)
def test_minutes_that_are_over_cannot_be_resumed(
    minutes: float | None, seconds: float, ended_after: float | None, over: bool
) -> None:
    """The last minutes end before their time: that of the validation is reserved."""
    schedule = ProgressSchedule(_optimizer(), minutes=minutes)
    state = {"seconds": seconds, "heights": [0.1], "ended_after": ended_after}
    if over:
        with pytest.raises(
            InputError, match=r"minutes: the 2 minutes are over, after (1:58|2:01) of training; set minutes to more"
        ):
            schedule.load_state_dict(state)
    else:
        schedule.load_state_dict(state)


def test_handlers_are_attached_in_order_without_the_disabled_ones() -> None:
    calls: list[str] = []

    class Handler:
        def __init__(self, name: str) -> None:
            self.name = name

        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: calls.append(self.name))

    engine = _engine()
    HandlerList([Handler("a"), None, Handler("b")]).attach(engine)
    engine.run([0])
    assert calls == ["a", "b"]


def test_the_dataset_knows_each_epoch() -> None:
    class Dataset:
        epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    dataset, engine = Dataset(), _engine()
    EpochDraws(dataset).attach(engine)
    engine.run([0], max_epochs=3)
    assert dataset.epochs == [1, 2, 3]


def test_progress_is_one_line_an_epoch_off_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    schedule, engine, evaluator = ProgressSchedule(_optimizer()), _engine(0.25), Engine(lambda engine, batch: None)
    evaluator.state.metrics, evaluator.state.epoch = {"val_psnr": 20.0}, 1  # the second epoch is not validated
    TrainingProgress(schedule, evaluator, ["val_psnr", "val_ssim"], batch_size=4).attach(engine)
    schedule.attach(engine)
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        engine.run(range(5), max_epochs=2)
    lines = [record.message for record in caplog.records if record.name == "pssr2_monai"]
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2 | loss 0.2500 | val_psnr 20.0000 | ")
    assert "val_psnr" not in lines[1]
    assert lines[1].endswith("| 0:00 left")


def test_long_epochs_and_validations_have_a_line_twice_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Off a terminal; steps of 12 seconds, then a validation of 4 batches of 20 seconds."""
    clock = Clock()

    def passing(seconds: float) -> Any:
        return lambda _: setattr(clock, "seconds", clock.seconds + seconds)

    schedule, engine, evaluator = ProgressSchedule(_optimizer(), clock=clock), _engine(), Engine(lambda *_: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED, passing(12))
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, passing(20))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(range(4)))
    TrainingProgress(schedule, evaluator, [], clock=clock).attach(engine)
    schedule.attach(engine)
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        engine.run(range(10), max_epochs=2)
    lines = [record.message for record in caplog.records if record.name == "pssr2_monai"]
    assert [line.split(" | ")[:2] for line in lines[:6]] == [
        ["epoch 1", "step 3/10"],
        ["epoch 1", "step 6/10"],
        ["epoch 1", "step 9/10"],
        ["epoch 1", "validation 1/4"],
        ["epoch 1", "validation 3/4"],
        ["epoch 1/2", "loss 0.5000"],
    ]
    assert lines[1].split(" | ")[2:] == ["loss 0.5000", "2:48 left"]
    assert lines[6].startswith("epoch 2 | step 3/10")


def test_epochs_without_a_bound_are_not_counted_down(caplog: pytest.LogCaptureFixture) -> None:
    schedule, engine = ProgressSchedule(_optimizer(), minutes=1e-9), _engine()
    TrainingProgress(schedule, Engine(lambda engine, batch: None), []).attach(engine)
    schedule.attach(engine)
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        engine.run(range(5), max_epochs=UNLIMITED_EPOCHS)
    assert [line.split(" | ")[0] for line in caplog.messages if line.startswith("epoch")] == ["epoch 1"]


def test_the_rate_leaves_out_the_validation(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    schedule, engine = ProgressSchedule(_optimizer(), clock=clock), _engine()
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: setattr(clock, "seconds", clock.seconds + 0.5))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: setattr(clock, "seconds", clock.seconds + 100))
    TrainingProgress(schedule, Engine(lambda engine, batch: None), [], batch_size=4, clock=clock).attach(engine)
    with caplog.at_level(logging.INFO, "pssr2_monai"):
        engine.run(range(5), max_epochs=1)
    assert engine.state.tiles_per_second == 5 * 4 / 2.5
    assert " | 8.0 tiles/s | " in caplog.text


def test_an_error_passes_through_the_progress_and_closes_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(engine: Engine, batch: Any) -> None:
        raise ValueError("broken")

    engine, bars = Engine(fail), []

    class Bar:
        closed = False

        def close(self) -> None:
            self.closed = True

    def open_bar(**options: Any) -> Bar:
        bars.append(Bar())
        return bars[-1]

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("pssr2_monai.training.handlers.tqdm", open_bar)
    TrainingProgress(ProgressSchedule(_optimizer()), Engine(fail), []).attach(engine)
    with pytest.raises(ValueError, match="broken"):
        engine.run([0])
    assert [bar.closed for bar in bars] == [True]


def test_a_training_is_profiled_on_demand(hr_folder: Path, tiny_options: dict[str, Any], tmp_path: Path) -> None:
    train(hr_folder, tmp_path / "run", epochs=2, profile=True, **tiny_options)
    rows = (line.rsplit(maxsplit=2) for line in (tmp_path / "run" / TABLE).read_text().splitlines()[1:])
    shares = {name.strip(): float(share.rstrip("%")) for name, _, share in rows}
    parts = [part.strip() for part in StepProfile.PARTS]
    assert list(shares) == [*parts, "everything else", "whole"]
    assert min(shares.values()) >= 0
    assert shares["crappify"] <= shares["load"], "a part of it"
    # Shares are rounded to a tenth.
    assert sum(shares.values()) - shares["crappify"] - shares["whole"] == pytest.approx(100, abs=1)
    events = json.loads((tmp_path / "run" / TRACE).read_text())["traceEvents"]
    counts = {part: sum(event.get("name") == part for event in events) for part in parts}
    # 12 steps, of which the first 5 warm up; validations after steps 6 and 12.
    assert [counts[part] for part in ("load", "forward", "loss", "backward", "optimizer")] == [7] * 5
    assert counts["validation"] == 2


def test_a_profile_ends_with_the_error_that_ends_the_training(tmp_path: Path) -> None:
    def fail(engine: Engine, batch: Any) -> Any:
        if engine.state.iteration == 4:
            raise ValueError("broken")
        return {"loss": torch.tensor(1.0)}

    engine = Engine(fail)
    engine.register_events(*IterationEvents)
    StepProfile(str(tmp_path / "run"), torch.device("cpu"), skip=1, steps=5).attach(engine)
    with pytest.raises(ValueError, match="broken"):
        engine.run(range(9))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {TABLE, TRACE}
