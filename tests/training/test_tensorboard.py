"""What TensorBoard's own reader finds in the files of a training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from pssr2_monai.calibration.picture import picture_of_noise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.training.config import hyper_parameters
from pssr2_monai.training.tensorboard import PanelImages, Scalars, Writers, show_noise
from pssr2_monai.training.train import train


@pytest.fixture(autouse=True)
def _noise_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other trainings of the tests show one picture of noise."""
    monkeypatch.setattr("pssr2_monai.training.tensorboard.picture_of_noise", picture_of_noise)


def _read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def _image(events: EventAccumulator, tag: str) -> np.ndarray:
    (found,) = events.Images(tag)
    return np.asarray(Image.open(io.BytesIO(found.encoded_image_string)))


def _points(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in events.Scalars(tag)]


def test_losses_of_training_and_validation_share_a_name_and_the_steps(tmp_path: Path) -> None:
    losses = iter(range(1, 13))
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(float(next(losses)))})
    evaluator = Engine(lambda engine, batch: None)
    writer = Writers(tmp_path)

    @engine.on(Events.EPOCH_COMPLETED)
    def validate(running: Engine) -> None:
        running.state.learning_rate, running.state.tiles_per_second = 0.1, 50.0
        if running.state.epoch != 2:  # which is not validated
            evaluator.state.epoch = running.state.epoch
            evaluator.state.metrics = {"val_loss": 10.0 + running.state.epoch, "val_psnr": 30.0}

    Scalars(writer, evaluator, every=3).attach(engine)
    engine.run(range(4), max_epochs=3)
    writer.close()
    training, validation = _read(tmp_path / "train"), _read(tmp_path / "validation")
    # Means of what came since the last point: of steps 1; 2, 3; 4; 5, 6; 7, 8; 9; 10 to 12.
    expected = [(1, 1), (3, 2.5), (4, 4), (6, 5.5), (8, 7.5), (9, 9), (12, 11)]
    assert [(event.step, event.value) for event in training.Scalars("loss")] == expected
    assert _points(training, "learning_rate") == [(4, 0.1), (8, 0.1), (12, 0.1)]
    assert _points(training, "tiles_per_second") == [(4, 50), (8, 50), (12, 50)]
    assert _points(validation, "loss") == [(4, 11), (12, 13)]
    assert _points(validation, "psnr") == [(4, 30), (12, 30)]


def test_panels_are_written_with_the_epoch_of_the_evaluator(tmp_path: Path) -> None:
    item = {
        "image": torch.zeros(3, 4, 4),
        "pred": torch.ones(1, 8, 8),
        "label": torch.linspace(0, 1, 64).reshape(1, 8, 8),
    }
    writer, engine = Writers(tmp_path), Engine(lambda engine, batch: [item, item])
    PanelImages(writer.validation, images=3, interval=2).attach(engine)
    for epoch in (1, 2):
        engine.state.epoch = epoch - 1
        engine.run([0, 1], max_epochs=epoch)
    events = _read(tmp_path / "validation")
    assert events.Tags()["images"] == [f"LR_SR_HR/{n}" for n in range(3)]
    assert [event.step for event in events.Images("LR_SR_HR/0")] == [2]
    shown = _image(events, "LR_SR_HR/0")[..., 0]
    assert shown.shape == (8, 3 * 8 + 2 * 4)
    assert (shown[:, :8].max(), shown[:, 12:20].min()) == (0, 255)


class _Tiles(list[dict[str, Any]]):
    """Tiles of 32 x 32 HR pixels whose LR images are 20 grey levels of 255 too bright in their left half."""

    def __init__(self, frames: int = 1) -> None:
        super().__init__()
        for number in range(3):
            hr = np.random.default_rng(number).integers(40, 200, (1, 32, 32)).astype(np.float32) / 255
            planes = [
                np.asarray(Image.fromarray(plane).resize((8, 8), Image.Resampling.BILINEAR)) for plane in hr * 255
            ]
            lr = np.repeat(np.stack(planes), frames, axis=0)
            lr[frames // 2, :, :4] += 20
            self.append({"label": torch.from_numpy(hr), "image": torch.from_numpy(lr / 255)})


@pytest.mark.parametrize("frames", [1, 3])
def test_the_noise_is_what_lr_images_have_over_downsampled_ones(frames: int, tmp_path: Path) -> None:
    writer = Writers(tmp_path)
    tiles = _Tiles(frames)
    show_noise(writer.train, tiles, 4, Crappify(4))
    writer.close()
    shown = _image(_read(tmp_path / "train"), "noise/crappified")
    lr = np.stack([item["image"][frames // 2].numpy() for item in tiles]) * 255
    clean = lr.copy()
    clean[:, :, :4] -= 20
    expected = np.asarray(picture_of_noise(clean, lr, "crappified"))
    assert np.abs(shown.astype(int) - expected).mean() < 1
    # The third picture of the row is the noise: its left half bright, its right half the grey of no noise.
    noise = shown[70:480, 2 * shown.shape[1] // 3 + 20 : -20, 0]
    assert (np.median(noise[:, :150]), np.median(noise[:, -150:])) == (
        pytest.approx(191, abs=2),
        pytest.approx(128, abs=1),
    )


def test_real_pairs_and_a_calibration_are_shown_as_such(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibration = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(calibration).save(tmp_path / "scope.png")
    writer = Writers(tmp_path)
    show_noise(writer.train, _Tiles(), 4, None, tmp_path / "scope.png")
    show_noise(writer.train, [], 4, None, tmp_path / "gone.png")
    writer.close()
    events = _read(tmp_path / "train")
    assert events.Tags()["images"] == ["noise/real_LR", "noise/calibration"]
    np.testing.assert_array_equal(_image(events, "noise/calibration"), calibration)
    assert "gone.png: the picture of the calibration is not there" in caplog.text


def test_a_training_with_a_calibrated_preset_shows_the_calibration_and_its_hyper_parameters(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "scope.json").write_text('{"crappifier#noises#0#intensity": [0.3, 0.4], "lr": 0.003}')
    (tmp_path / "scope.report.json").write_text("{}")
    Image.new("RGB", (20, 10), "red").save(tmp_path / "scope.png")
    train(hr_folder, tmp_path / "run", preset=str(tmp_path / "scope.json"), epochs=1, **tiny_options)
    folder = tmp_path / "run" / "tensorboard"
    assert _image(_read(folder / "train"), "noise/calibration").shape == (10, 20, 3)
    plugin = _read(folder / "validation").summary_metadata
    (session,) = [
        plugin_data_pb2.HParamsPluginData.FromString(each.plugin_data.content).session_start_info
        for tag, each in plugin.items()
        if tag.endswith("session_start_info")
    ]
    values = {name: each.string_value or each.number_value for name, each in session.hparams.items()}
    assert (values["lr"], values["tile"], values["network_def"]) == (0.003, 32, "ResUNet")
    assert values["crappifier#noises#0#intensity"] == "[0.3, 0.4]"
    assert not [name for name in values if name.endswith("_dir") or name == "calibration"]


def test_hyper_parameters_are_plain_values_by_their_ids() -> None:
    config = {
        "imports": ["$import torch"],
        "seed": 0,
        "slide": False,
        "compile": False,
        "precision": "auto",
        "scale": [1, 4, 4],
        "device": "$torch.device('cpu')",
        "minutes": None,
        "hr_dir": "/data",
        "crappifier": {
            "_target_": "pssr2_monai.crappify.crappify.Crappify",
            "scale": "@scale",
            "noises": [{"_target_": "a.B"}],
        },
        "train": {"lr": 3},
    }
    assert hyper_parameters(config) == {
        "seed": 0,
        "slide": "False",
        "precision": "auto",
        "scale": "[1, 4, 4]",
        "crappifier": "crappify.crappify.Crappify",
        "crappifier#noises#0": "a.B",
    }


def test_pixels_without_target_are_shown_as_in_the_input(tmp_path: Path) -> None:
    target = torch.full((1, 4, 4), float("nan"))
    target[0, 0, 0] = 1
    item = {"image": torch.zeros(3, 4, 4), "pred": torch.ones(1, 4, 4), "label": target}
    writer, engine = Writers(tmp_path), Engine(lambda engine, batch: [item])
    PanelImages(writer.validation, images=1, name="noisy_SR_noisy").attach(engine)
    engine.run([0], max_epochs=1)
    pixels = _image(_read(tmp_path / "validation"), "noisy_SR_noisy/0")[..., 0]
    assert pixels[0, -4] == 255
    assert pixels[0, -3:].max() == 0
