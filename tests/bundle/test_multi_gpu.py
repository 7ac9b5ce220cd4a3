"""Trainings shared by two processes: by gloo, on the processor.

They are judged by what they write: a gloo process aborts at its exit now and then, plain torch's too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pssr2_monai.bundle import bundle_dir
from pssr2_monai.networks.weights import load_weights

CONFIGS = [str(bundle_dir() / "configs" / f"{name}.json") for name in ("train", "multi_gpu_train")]
BATCH = 4


def _options(hr_folder: Path, out: Path, tiny_options: dict[str, object], **others: object) -> dict[str, object]:
    # Without BatchNorm, whose figures of two half batches are not those of the whole one; and with an odd number of
    # validation tiles, so that the ranks' parts differ in size.
    options = tiny_options | {"network_def#norm": "", "val_tiles": 11, "epochs": 2, "device": "cpu", "average": 0.1}
    options |= {"dataset_dir": str(hr_folder)}
    return options | {"output_dir": str(out), "ckpt_dir": str(out), "bundle_root": str(bundle_dir())} | others


def _train_alone(configs: list[str], options: dict[str, object]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(configs)
    parser.update(options)
    for part in ("initialize", "training"):
        parser.get_parsed_content(part)
    return parser


def _scalars(folder: Path) -> EventAccumulator:
    (events,) = (folder / "tensorboard" / "validation").iterdir()
    return EventAccumulator(str(events)).Reload()


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path, run_two_ranks: Callable[..., list[Any]]
) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    options = _options(hr_folder, both, tiny_options, batch_size=BATCH)
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    ranks = run_two_ranks("-m", "monai.bundle", "run", "training", "--config_file", CONFIGS, *words)
    for rank in ranks:
        rank.end()
    messages = "".join(rank.stderr for rank in ranks)
    assert (both / "last.pt").is_file(), messages
    parser = _train_alone(CONFIGS[:1], _options(hr_folder, alone, tiny_options, batch_size=2 * BATCH))
    assert len(parser.get_parsed_content("lists").validation) == 11

    for epoch in (1, 2):  # one set of lines
        assert messages.count(f"epoch {epoch}/2 | ") == 1
    here, there = _scalars(both), _scalars(alone)  # and of TensorBoard files
    for name in ("ssim", "psnr", "loss"):
        pairs = list(zip(here.Scalars(name), there.Scalars(name), strict=True))
        assert [ours.step for ours, _ in pairs] == [theirs.step for _, theirs in pairs]
        assert len(pairs) == 2
        for ours, theirs in pairs:
            assert ours.value == pytest.approx(theirs.value, rel=0.01)
    lasts = [torch.load(folder / "last.pt", weights_only=True) for folder in (both, alone)]
    assert lasts[0]["best_score"] == pytest.approx(lasts[1]["best_score"], rel=0.01)
    assert lasts[0]["trainer"]["iteration"] == lasts[1]["trainer"]["iteration"]

    network, _ = load_weights(both / "model.pt")
    other, _ = load_weights(alone / "model.pt")
    assert network.state_dict().keys() == other.state_dict().keys()
    image = torch.rand(1, 1, 12, 9)
    torch.testing.assert_close(network(image), other(image), rtol=0.02, atol=0.01)

    # One process goes on where two stopped, with twice the steps an epoch.
    options = _options(hr_folder, both, tiny_options, batch_size=BATCH, epochs=3, resume=str(both / "last.pt"))
    _train_alone(CONFIGS, options)
    resumed = torch.load(both / "last.pt", weights_only=True)
    assert resumed["trainer"]["epoch_length"] in (2 * lasts[0]["trainer"]["epoch_length"] - n for n in (0, 1))
    assert resumed["trainer"]["iteration"] == 3 * resumed["trainer"]["epoch_length"]
    assert resumed["best_score"] >= lasts[0]["best_score"]
