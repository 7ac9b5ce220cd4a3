"""Whole trainings on small images: what they leave behind, and that a resumed one equals an undisturbed one."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pssr2_monai.errors import InputError
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.handlers import UNLIMITED_EPOCHS
from pssr2_monai.training.train import train, training_workflow


def _events(run: Path, part: str = "validation") -> EventAccumulator:
    folder = run / "tensorboard" / part
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_a_training_leaves_weights_with_their_record_and_what_tensorboard_shows(
    tiny_weights: Path, hr_folder: Path
) -> None:
    run = tiny_weights.parent
    assert {path.name for path in run.iterdir()} == {"model.pt", "last.pt", "config.json", "run.json", "tensorboard"}
    network, record = load_weights(tiny_weights)
    assert network(torch.rand(1, 1, 9, 11)).shape == (1, 1, 36, 44)
    assert record.network["channels"] == [8, 16]
    assert record.crappifier["noises"][0]["_target_"] == "PoissonNoise"
    # 48 tiles of 32 pixels, 8 a step: six steps an epoch. Scalars of one name in two runs share a chart.
    events = _events(run)
    assert {"ssim", "psnr", "loss"} == set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [6, 12]
    assert events.Scalars("psnr")[1].value > 10
    panels = [tag for tag in events.Tags()["images"] if tag.startswith("LR_SR_HR")]
    assert len(panels) == 4
    assert (events.Images(panels[0])[0].height, events.Images(panels[0])[0].width) == (32, 3 * 32 + 2 * 4)
    training = _events(run, "train")
    assert {"loss", "learning_rate", "tiles_per_second"} == set(training.Tags()["scalars"])
    assert [event.step for event in training.Scalars("loss")] == [1, 6, 10, 12]
    assert [event.step for event in training.Scalars("learning_rate")] == [6, 12]
    assert min(event.value for event in training.Scalars("tiles_per_second")) > 0
    assert training.Tags()["images"] == ["noise/crappified"]
    text = training.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    written = json.loads((run / "config.json").read_text())
    assert json.loads(text) == {name: each for name, each in written.items() if name != "_meta_"}


def test_an_interrupted_training_resumed_equals_an_undisturbed_one(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    # In processes of their own: other tests may have left this one with other threads, and so with other rounding.
    begin = ["-m", "pssr2_monai.cli.main", "train", hr_folder, "--out"]
    options = [word for key, value in tiny_options.items() for word in (f"--{key}", str(value))]
    # Enough steps in an epoch for the signal to come in the middle of the second.
    options += ["--epochs", "3", "--lr", "0.01", "--random_position", "True", "--overlap", "20"]
    run = run_python(*begin, tmp_path / "halted", *options)
    run.wait_for(lambda: "epoch 1/3" in run.stderr)
    time.sleep(0.1)
    run.interrupt()
    assert run.end() == 130, run.stderr
    assert "epoch 2/3" not in run.stderr
    assert "--resume" in run.stderr
    saved = torch.load(tmp_path / "halted" / "last.pt", weights_only=True)
    assert 1 < saved["trainer"]["iteration"] / saved["trainer"]["epoch_length"] < 2

    resumed = run_python(*begin, tmp_path / "halted", "--resume")
    undisturbed = run_python(*begin, tmp_path / "straight", *options)
    assert (resumed.end(), undisturbed.end()) == (0, 0), resumed.stderr + undisturbed.stderr
    for name in ("last.pt", "model.pt"):
        halted, straight = (
            torch.load(tmp_path / run / name, weights_only=True)["model"] for run in ("halted", "straight")
        )
        for key in straight:
            torch.testing.assert_close(halted[key], straight[key], rtol=0, atol=0)


def test_resuming_keeps_the_best_weights(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pssr2_monai")
    train(hr_folder, tmp_path / "run", epochs=1, **tiny_options)
    assert "model.pt: of epoch 1, val_ssim" in caplog.text
    best = tmp_path / "run" / "model.pt"
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    # A score that cannot be beaten: the weights that had it must stay.
    torch.save(last | {"best_score": 2.0}, tmp_path / "run" / "last.pt")
    before = best.read_bytes()
    train(hr_folder, tmp_path / "run", epochs=2, resume=True)
    assert best.read_bytes() == before
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (written["epochs"], written["resume"]) == (2, None), "what an interruption of this one resumes with"


def test_minutes_end_a_training_with_a_validation(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    # A clock that goes on by a second whenever it is read.
    clock = {"schedule#clock": "$__import__('itertools').count().__next__"}
    weights = train(hr_folder, tmp_path / "run", minutes=2, device="cpu", **clock, **tiny_options)
    assert load_weights(weights)
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert saved["trainer"]["max_epochs"] == UNLIMITED_EPOCHS
    assert 100 < saved["schedule"]["seconds"] <= 121, "saved in the second after the end"
    steps = saved["trainer"]["iteration"]
    assert [event.step for event in _events(tmp_path / "run").Scalars("ssim")][-1] == steps
    rates = [event.value for event in _events(tmp_path / "run", "train").Scalars("learning_rate")]
    assert rates[-1] < 0.1 * max(rates)
    with pytest.raises(InputError, match="minutes: the 2 minutes are over"):
        train(hr_folder, tmp_path / "run", resume=True, trust=True)
    parser = training_workflow(hr_folder, tmp_path / "run", resume=True, epochs=50, trust=True).parser
    assert (parser.get("epochs"), parser.get("minutes")) == (50, None)
    parser = training_workflow(hr_folder, tmp_path / "run", resume=True, minutes=3, trust=True).parser
    assert (parser.get("epochs"), parser.get("minutes")) == (UNLIMITED_EPOCHS, 3)


def test_one_image_smaller_than_a_tile_is_trained_on_without_validation(
    tiny_options: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "hr").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 40), np.uint8)).save(tmp_path / "hr" / "one.png")
    weights = train(tmp_path / "hr", tmp_path / "run", epochs=2, **tiny_options)
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert load_weights(weights)[0].state_dict().keys() == last["model"].keys()
    assert last["best_score"] is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"resume": True}, "holds no last.pt"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"preset": "denois"}, "did you mean 'denoise'"),
        ({"minutes": 0}, "more than 0 minutes"),
        ({"epochs": 0}, "at least 1 epoch"),
        ({"lr_dir": "slide #3"}, "lr_dir: slide #3: '#'"),
        ({"lr_dir": 2024}, "2024"),
        ({"device": "cuda:99"}, "device: cuda:99: this machine has no such device; it has .*cpu"),
        ({"patience": 0}, "patience 0: is not a whole number of at least 1"),
    ],
)
def test_wrong_options_are_refused_before_any_work(hr_folder: Path, options: dict, match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        train(hr_folder, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_devices_are_those_of_the_machine(hr_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cpu", "cuda", "cuda:1", torch.device("cuda:0")):
        workflow = training_workflow(hr_folder, tmp_path / "run", device=device)
        assert workflow.parser.get("device") == str(device)
    for device in ("cuda:2", "mps", "gpu"):
        with pytest.raises(InputError, match=f"device: {device}: this machine has no .* it has cuda:0, cuda:1, cpu"):
            training_workflow(hr_folder, tmp_path / "run", device=device)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_workflow(hr_folder, tmp_path / "run").parser.get_parsed_content("device") == "mps"


def test_a_training_is_not_overwritten_nor_resumed_otherwise_than_it_was_begun(
    hr_folder: Path, tiny_weights: Path
) -> None:
    run = tiny_weights.parent
    config = (run / "config.json").read_bytes()
    with pytest.raises(InputError, match="holds a training already"):
        train(hr_folder, run)
    for options in ({"preset": "fluorescence"}, {"lr": 0.5}, {"network_def#channels": [8, 32]}):
        with pytest.raises(InputError, match="keeps what it was started with"):
            train(hr_folder, run, resume=True, epochs=3, **options)
    with pytest.raises(InputError, match="2 epochs are done already"):
        train(hr_folder, run, resume=True)
    assert (run / "config.json").read_bytes() == config


def test_weights_of_another_network_are_not_taken_up(hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_weights.parent, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["network_def"]["channels"] = [8, 32]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="was trained with another network"):
        train(hr_folder, tmp_path / "run", resume=True, epochs=3)


def test_early_stopping_only_where_asked_and_a_checkpoint_every_so_many_epochs(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    # Without learning no epoch is better than the first.
    options = dict(tiny_options) | {"lr": 0.0, "checkpoint_every": 2}
    train(hr_folder, tmp_path / "patient", epochs=5, **options)
    assert len(_events(tmp_path / "patient").Scalars("ssim")) == 5
    kept = sorted(path.name for path in (tmp_path / "patient").glob("epoch_*.pt"))
    assert kept == ["epoch_0002.pt", "epoch_0004.pt"]
    assert load_weights(tmp_path / "patient" / "epoch_0004.pt")
    train(hr_folder, tmp_path / "hasty", epochs=50, patience=2, **options)
    assert len(_events(tmp_path / "hasty").Scalars("ssim")) == 3


def test_a_training_continues_on_other_images(
    hr_folder: Path, tiny_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(tiny_weights.parent, tmp_path / "run")
    shutil.copytree(hr_folder, tmp_path / "moved")
    (tmp_path / "others").mkdir()
    for path in sorted(hr_folder.iterdir())[:4]:  # of the same names, mirrored
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / "others" / path.name)
    caplog.set_level(logging.INFO, "pssr2_monai")
    train(tmp_path / "moved", tmp_path / "run", epochs=3, resume=True)
    assert "other images" not in caplog.text
    train(tmp_path / "others", tmp_path / "run", epochs=4, resume=True)
    assert "last.pt: of other images; the training continues on those given, and scores begin anew" in caplog.text
    assert "model.pt: of epoch 4, val_ssim" in caplog.text
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["dataset_dir"] == str(tmp_path / "others")


def test_a_third_image_reaches_the_loss(hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path) -> None:
    options = dict(tiny_options) | {"loss": "$lambda sr, to: (sr - to['label']).abs().mean() + 7 * to['extra'].mean()"}
    train(hr_folder, tmp_path / "run", epochs=1, extra_dir=hr_folder, **options)
    losses = [event.value for event in _events(tmp_path / "run", "train").Scalars("loss")]
    mean = np.mean([np.asarray(Image.open(path)).mean() / 255 for path in hr_folder.iterdir()])
    assert np.mean(losses) == pytest.approx(7 * mean, abs=0.4)


def test_slices_in_folders_are_trained_on_as_stacks(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vol").symlink_to(hr_folder)
    weights = train(tmp_path / "data", tmp_path / "run", epochs=1, n_frames=[5, 1], **tiny_options)
    assert load_weights(weights)[1].n_frames == (5, 1)


@pytest.mark.slow
def test_a_short_training_beats_interpolation(tmp_path: Path) -> None:
    """On images made of sharp discs, whose edges interpolation blurs."""
    from pssr2_monai.evaluation.evaluate import evaluate

    (tmp_path / "hr").mkdir()
    y, x = np.mgrid[:128, :128]
    for number in range(6):
        rng = np.random.default_rng(number)
        image = np.full((128, 128), 60.0)
        for _ in range(60):
            cy, cx, radius = (*rng.uniform(0, 128, 2), rng.uniform(3, 12))
            image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(90, 220)
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "hr" / f"{number}.png")
    options = {"network_def#channels": [16, 32], "num_workers": 0, "tile": 64, "overlap": 48, "seed": 1}
    weights = train(tmp_path / "hr", tmp_path / "run", epochs=12, **options)
    mean = evaluate(tmp_path / "hr", weights, tmp_path / "scores")["mean"]
    assert mean["model"]["psnr"] > mean["bicubic"]["psnr"] + 0.5
    assert mean["model"]["ssim"] > mean["bicubic"]["ssim"] + 0.05
