"""What a running training shows, and that it stops when asked and is resumed where it stopped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.live import LiveTraining, Snapshot
from pssr2_monai.training.train import train


def test_a_training_shows_its_loss_scores_and_the_same_tiles_restored_better_and_better(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    shown: list[Snapshot] = []
    live = LiveTraining(shown.append, seconds=0.0, tiles=3)
    weights = train(hr_folder, tmp_path / "run", epochs=3, lr=0.01, live=live, overlap=16, **tiny_options)
    assert [now.epochs for now in shown] == sorted(now.epochs for now in shown)
    assert (shown[0].epoch, shown[-1].epoch, shown[-1].epochs) == (1, 3, 3.0)
    assert 0 < shown[0].progress < shown[-1].progress == 1.0
    assert shown[0].scores == {}
    assert shown[-1].scores.keys() >= {"val_psnr", "val_ssim"}
    assert shown[-1].seconds_left == 0.0
    losses = np.array([now.loss for now in shown])
    assert losses[-20:].mean() < losses[:20].mean()
    images = [now.images for now in shown if now.images is not None]
    (lr, sr, hr), (_, first, _) = images[-1], images[0]
    assert lr.shape == (3, 1, 8, 8)
    assert sr.shape == hr.shape == (3, 1, 32, 32)
    np.testing.assert_array_equal(images[0][2], hr)
    assert np.abs(sr - hr).mean() < np.abs(first - hr).mean()
    # What is shown last is what the weights of the last state make of the tiles, in evaluation mode.
    network, _ = load_weights(weights)
    network.load_state_dict(torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"])
    with torch.inference_mode():
        np.testing.assert_allclose(network(torch.from_numpy(lr)).numpy(), sr, atol=1e-5)


@pytest.mark.parametrize("preset", ["noise2noise", "blind_spot"])
def test_without_clean_images_scores_and_images_are_not_taken_for_the_truth(
    preset: str, hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    shown: list[Snapshot] = []
    options = tiny_options | {"preset": preset, "contrast": [1, 1], "brightness": [0, 0]}
    if preset == "noise2noise":
        options["lr_dir"] = str(hr_folder)
        options["pair_pattern"] = "(cell)"
    train(hr_folder, tmp_path / "run", epochs=1, live=LiveTraining(shown.append), split="place", **options)
    assert shown[-1].scores.keys() == {"val_loss"}
    assert not shown[-1].clean
    assert shown[-1].images is not None
    assert all(np.isfinite(images).all() for images in shown[-1].images)
    noisy, _, target = shown[-1].images
    if preset == "blind_spot":  # the target is the noisy tile, of which the input lacks some pixels
        assert 0 < (noisy != target).mean() < 0.06


def test_watching_changes_nothing_that_is_learnt(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    live = LiveTraining(lambda now: None, seconds=0.0)
    watched = train(hr_folder, tmp_path / "watched", epochs=2, live=live, **tiny_options)
    alone = train(hr_folder, tmp_path / "alone", epochs=2, **tiny_options)
    ours, theirs = (torch.load(path, weights_only=True)["model"] for path in (watched, alone))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Ticks:
    """A clock that goes on by a second whenever it is read."""

    seconds = 0

    def __call__(self) -> float:
        self.seconds += 1
        return self.seconds


def test_snapshots_keep_their_distance(hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path) -> None:
    times: list[int] = []
    clock = Ticks()
    live = LiveTraining(lambda now: times.append(clock.seconds), seconds=5, clock=clock)
    train(hr_folder, tmp_path / "run", epochs=4, live=live, **tiny_options)
    # 24 steps, at each of which the clock is read once, and three times for a snapshot with images.
    assert len(times) >= 5
    assert min(np.diff(times)[:-1]) >= 5  # all but the last


def test_a_training_stops_when_asked_and_goes_on(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    shown: list[Snapshot] = []

    def show(now: Snapshot) -> None:
        shown.append(now)
        if now.epochs >= 1.5:
            asked = threading.Thread(target=live.stop)
            asked.start()
            asked.join()

    live = LiveTraining(show, seconds=0.0)
    train(hr_folder, tmp_path / "run", epochs=50, live=live, overlap=16, **tiny_options)
    assert live.stopped
    assert 1.5 <= shown[-1].epochs < 2
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    stopped_at = saved["trainer"]["iteration"]
    assert stopped_at == round(shown[-1].epochs * saved["trainer"]["epoch_length"])
    assert saved["best_score"] == shown[-1].scores["val_ssim"] > 0  # of the validation before it stopped

    again: list[Snapshot] = []
    train(hr_folder, tmp_path / "run", epochs=3, resume=True, live=LiveTraining(again.append, seconds=0.0))
    assert again[0].epochs > shown[-1].epochs
    assert again[-1].epochs == 3.0
    trainer = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["trainer"]
    assert trainer["iteration"] == 3 * trainer["epoch_length"]


@pytest.mark.parametrize("validated", [0, 1])
def test_a_validation_stops_after_its_batch_and_its_scores_do_not_count(
    validated: int, hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveTraining(lambda now: None, seconds=0.0)
    batches: list[int] = []

    def count(engine: Engine) -> None:
        batches.append(engine.state.iteration)
        if engine.state.epoch == validated + 1:
            live.stop()

    attach = live.attach

    def attach_first(trainer: Any, evaluator: Any, *others: Any) -> None:
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, count)
        attach(trainer, evaluator, *others)

    monkeypatch.setattr(live, "attach", attach_first)
    options = tiny_options | {"batch_size": 2}
    train(hr_folder, tmp_path / "run", epochs=5, live=live, **options)
    of_an_epoch = len(batches) - 1
    assert of_an_epoch > 1 if validated else of_an_epoch == 0
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert saved["trainer"]["iteration"] == (validated + 1) * saved["trainer"]["epoch_length"]
    assert (saved["best_score"] is None, saved["best_epoch"]) == (not validated, validated or None)
    again: list[Snapshot] = []
    train(hr_folder, tmp_path / "run", epochs=validated + 2, resume=True, live=LiveTraining(again.append))
    assert (again[-1].epochs, load_weights(tmp_path / "run" / "model.pt")[1].scale) == (validated + 2.0, 4)
