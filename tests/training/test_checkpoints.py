"""Checkpoints of a small engine: which files are written when, and what a resumed training takes over."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from pssr2_monai.errors import InputError
from pssr2_monai.networks.record import Record
from pssr2_monai.training.checkpoints import BEST, LAST, Checkpoints, TorchRandomState


def _state(channels: int = 8) -> dict[str, Any]:
    network = torch.nn.Linear(1, 1, bias=False)
    return {"model": network, "record": Record({"_target_": "ResUNet", "channels": [channels]}, scale=4)}


def _train(
    folder: Path, scores: list[float | None], state: dict[str, Any] | None = None, steps: int = 4, **options: Any
) -> Checkpoints:
    """A training whose weight is the epoch, scored with these numbers; None is an epoch without a validation."""
    state = state or _state()
    evaluator, trainer = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    checkpoints = Checkpoints(folder, state, evaluator, **options)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine: Engine) -> None:
        torch.nn.init.constant_(state["model"].weight, engine.state.epoch)
        score = scores[engine.state.epoch - 1]
        if score is not None:
            evaluator.state.epoch, evaluator.state.metrics = engine.state.epoch, {checkpoints.key_metric: score}

    checkpoints.attach(trainer)
    trainer.run(range(steps), max_epochs=len(scores))
    return checkpoints


def _weight(path: Path) -> float:
    return float(torch.load(path, weights_only=True)["model"]["weight"])


def test_the_best_weights_and_the_last_state_are_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pssr2_monai")
    _train(tmp_path / "new", [0.3, 0.7, math.nan, 0.7, 0.5, None], every=2)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        BEST,
        LAST,
        "epoch_0002.pt",
        "epoch_0004.pt",
        "epoch_0006.pt",
    }
    assert _weight(tmp_path / "new" / BEST) == 2, "an equal score is not better"
    assert _weight(tmp_path / "new" / "epoch_0004.pt") == 4
    last = torch.load(tmp_path / "new" / LAST, weights_only=True)
    assert (last["best_score"], last["best_epoch"]) == (0.7, 2)
    assert last["trainer"] == {"iteration": 24, "epoch_length": 4, "max_epochs": 6}
    assert "model.pt: of epoch 2, val_ssim 0.7000" in caplog.text


def test_the_least_loss_is_the_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pssr2_monai")
    _train(tmp_path, [0.3, 0.2, 0.25], key_metric="val_loss")
    assert _weight(tmp_path / BEST) == 2
    assert "model.pt: of epoch 2, val_loss 0.2000" in caplog.text


def test_without_a_score_the_last_weights_are_the_best(tmp_path: Path) -> None:
    _train(tmp_path, [None, None, None])
    assert _weight(tmp_path / BEST) == 3


@pytest.mark.parametrize(("steps", "iteration"), [(4, 16), (2, 8)])
def test_a_resumed_training_keeps_the_epochs_and_the_best_score(tmp_path: Path, steps: int, iteration: int) -> None:
    """With other batches or processes an epoch has another number of steps."""
    _train(tmp_path, [0.1, 0.9])
    _train(tmp_path, [0.1, 0.9, 0.5, 0.8], steps=steps, resume=tmp_path / LAST)
    last = torch.load(tmp_path / LAST, weights_only=True)
    assert last["trainer"] == {"iteration": iteration, "epoch_length": steps, "max_epochs": 4}
    assert (last["best_score"], last["best_epoch"]) == (0.9, 2)
    assert (_weight(tmp_path / BEST), _weight(tmp_path / LAST)) == (2, 4)


def test_states_are_saved_by_time_and_at_the_end(tmp_path: Path) -> None:
    """Steps of 40 seconds, seven an epoch, and a state after every 5 minutes."""
    seconds, saved = 0.0, []

    def pass_time(_: Engine) -> None:
        nonlocal seconds
        seconds += 40

    evaluator, trainer = Engine(lambda *_: None), Engine(lambda *_: None)
    checkpoints = Checkpoints(tmp_path, _state(), evaluator, clock=lambda: seconds)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, pass_time)
    checkpoints.attach(trainer)

    def look(engine: Engine) -> None:
        iteration = torch.load(tmp_path / LAST, weights_only=True)["trainer"]["iteration"]
        if not saved or iteration != saved[-1]:
            saved.append(iteration)

    trainer.add_event_handler(Events.ITERATION_COMPLETED(event_filter=lambda _, step: step > 7), look)
    trainer.add_event_handler(Events.EPOCH_COMPLETED | Events.COMPLETED, look)
    trainer.run(range(7), max_epochs=4)
    # After the first epoch; 8 steps later, within an epoch, again and again; and at the end.
    assert saved == [7, 15, 23, 28]


def test_scores_on_other_images_are_not_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pssr2_monai")
    _train(tmp_path, [0.1, 0.9], images="a")
    _train(tmp_path, [0.1, 0.9, 0.5], images="a", resume=tmp_path / LAST)
    assert (_weight(tmp_path / BEST), "other images" in caplog.text) == (2, False)
    _train(tmp_path, [0.1, 0.9, 0.5, 0.6], images="b", resume=tmp_path / LAST)
    assert _weight(tmp_path / BEST) == 4
    assert "last.pt: of other images; the training continues on those given, and scores begin anew" in caplog.text


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, [0.1, 0.9])
    last = tmp_path / LAST
    with pytest.raises(InputError, match=r"last\.pt: 2 epochs are done already; set epochs to more than that"):
        _train(tmp_path, [0.1, 0.9], resume=last)
    with pytest.raises(InputError, match=r"last\.pt: was trained with another network"):
        _train(tmp_path, [0.1] * 3, _state(channels=16), resume=last)
    with pytest.raises(InputError, match=r"model\.pt: holds weights but not the state of a training \(trainer is"):
        _train(tmp_path, [0.1] * 3, resume=tmp_path / BEST)
    with pytest.raises(InputError, match=r"gone\.pt"):
        _train(tmp_path, [0.1] * 3, resume=tmp_path / "gone.pt")


def test_the_random_state_is_taken_up_by_rank_0_and_differs_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = TorchRandomState().state_dict()
    numbers = torch.rand(3)
    TorchRandomState().load_state_dict(saved)
    assert torch.equal(torch.rand(3), numbers)
    draws = [numbers]
    for rank in (1, 2):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        TorchRandomState().load_state_dict(saved)
        draws.append(torch.rand(3))
    assert len({tuple(draw.tolist()) for draw in draws}) == 3
