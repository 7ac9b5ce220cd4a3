"""Averaged weights: the formula, what is validated and saved, and that a resumed training keeps both sets; norms that
freeze."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from pssr2_monai.errors import InputError
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.training.averaging import Averaging, FreezeNorm
from pssr2_monai.training.handlers import ProgressSchedule
from pssr2_monai.training.train import train, training_workflow

CONSTANT_RATE = {"schedule#warmup": 0.0, "schedule#floor": 1.0, "freeze_norm": None}


def _averaged(share: float, steps: int) -> tuple[Averaging, torch.nn.BatchNorm1d]:
    """The average over steps in which the weight is the square of the step, as the running mean is the step."""
    network = torch.nn.BatchNorm1d(1)

    def step(engine: Engine, _: int) -> None:
        with torch.no_grad():
            network.weight.fill_(engine.state.iteration**2)
            network.running_mean.fill_(engine.state.iteration)
            network.num_batches_tracked.fill_(engine.state.iteration)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)

    averaging, trainer = Averaging(network, share), Engine(step)
    trainer.register_events(*IterationEvents)
    averaging.attach(trainer)
    trainer.run(range(steps))
    return averaging, network


@pytest.mark.parametrize("share", [0.02, 0.1, 1.0])
def test_the_half_life_is_a_share_of_the_steps_so_far(share: float) -> None:
    averaging, network = _averaged(share, 200)
    expected = 1.0
    for step in range(1, 201):
        kept = 2.0 ** (-1 / (share * step))
        expected = kept * expected + (1 - kept) * step**2
    assert averaging.network.weight.item() == pytest.approx(expected, rel=1e-5)
    assert network.weight.item() == 200**2
    # Of a power of the step t the average is that of a density t**(p - 1), p = ln 2 / share, over the steps so far.
    power = torch.log(torch.tensor(2.0)).item() / share
    assert expected == pytest.approx(200**2 * power / (power + 2), rel=0.02)
    assert averaging.network.running_mean.item() == 200
    assert averaging.network.num_batches_tracked.item() == 200
    assert not averaging.network.training


def test_shares_out_of_range_are_refused(hr_folder: Path, tiny_options: dict[str, Any], tmp_path: Path) -> None:
    for share in (0, -0.1, 1.5, True):
        with pytest.raises(InputError, match=f"average: found {share}; give a share of the steps"):
            Averaging(torch.nn.Linear(1, 1), share)
    with pytest.raises(InputError, match="average: found 3"):
        train(hr_folder, tmp_path / "run", epochs=1, average=3, **tiny_options)


def test_the_average_is_validated_and_saved(hr_folder: Path, tiny_options: dict[str, Any], tmp_path: Path) -> None:
    """Of volumes, too, in bfloat16."""
    plain = training_workflow(hr_folder, tmp_path / "plain", **tiny_options)
    plain.initialize()
    parts = plain.parser.get_parsed_content
    assert parts("averaging") is None
    assert parts("validate#evaluator").network is parts("network")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "volume").symlink_to(hr_folder)
    options: dict[str, Any] = tiny_options | {"precision": "bfloat16", "preset": "volume", "batch_size": 2}
    options |= {"n_frames": 4, "network_def#network#channels": [8, 16], "average": 0.5, "val_fraction": 0.25}
    options = {
        name: value for name, value in options.items() if name not in ("network_def#channels", "network_def#depth")
    }
    workflow = training_workflow(tmp_path / "data", tmp_path / "run", epochs=2, **options)
    workflow.initialize()
    parts = workflow.parser.get_parsed_content
    workflow.run()
    average, network = parts("averaging").network, parts("network")
    assert parts("validate#evaluator").network is average
    weight = next(name for name, parameter in network.named_parameters() if parameter.ndim == 5)
    assert not torch.equal(average.get_parameter(weight), network.get_parameter(weight))
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    for name, saved in (("model", average), ("averaging", network)):
        torch.testing.assert_close(last[name], dict(saved.state_dict()), rtol=0, atol=0)
    best, _ = load_weights(tmp_path / "run" / "model.pt")
    assert (last["best_epoch"] < 2) or torch.equal(best.get_parameter(weight), average.get_parameter(weight))


def test_two_epochs_and_two_more_equal_four(hr_folder: Path, tiny_options: dict[str, Any], tmp_path: Path) -> None:
    options = {**tiny_options, **CONSTANT_RATE, "average": 0.2, "device": "cpu"}
    train(hr_folder, tmp_path / "four", epochs=4, **options)
    train(hr_folder, tmp_path / "two", epochs=2, **options)
    train(hr_folder, tmp_path / "two", epochs=4, resume=True)
    four, two = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("four", "two"))
    for part in ("model", "averaging"):
        torch.testing.assert_close(two[part], four[part], rtol=0, atol=0)
    assert not torch.equal(four["model"]["norm.weight"], four["averaging"]["norm.weight"])
    assert two["best_score"] == four["best_score"]


@pytest.mark.parametrize(("progress", "learnt"), [(0.0, 0), (0.5, 4), (1.0, 9)])
def test_norms_keep_their_statistics_from_a_progress_on(progress: float, learnt: int) -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Dropout())
    schedule = ProgressSchedule(torch.optim.SGD(network.parameters(), lr=1.0))
    means = []

    def step(_: Engine, level: int) -> None:
        network.train()  # as MONAI does before each step
        normalised = network[0](torch.full((1, 1, 2, 2), float(level)))
        means.append(network[0].running_mean.item())
        assert network[1].training
        assert (normalised.abs() < 1e-3).all() == (
            len(means) <= learnt
        )  # by the batch's own mean, or by that of all so far

    trainer = Engine(step)
    for handler in (schedule, FreezeNorm(network, schedule, progress)):
        handler.attach(trainer)
    trainer.run(range(1, 11))
    assert len(set(means)) == max(learnt, 1)
    assert means[learnt:] == [means[learnt - 1] if learnt else 0.0] * (10 - learnt)


@pytest.mark.parametrize("progress", [-0.1, 1.5, True])
def test_a_progress_out_of_range_is_refused(
    progress: float, hr_folder: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"freeze_norm: found {progress}; give a share of the training"):
        train(hr_folder, tmp_path / "run", epochs=1, freeze_norm=progress, **tiny_options)


def test_norms_of_weights_that_a_training_starts_from_stay(
    hr_folder: Path, tiny_options: dict[str, Any], tmp_path: Path
) -> None:
    weights = train(hr_folder, tmp_path / "first", epochs=1, **tiny_options)
    train(hr_folder, tmp_path / "second", epochs=1, start=weights, **tiny_options)
    first, second = (torch.load(tmp_path / run / "last.pt", weights_only=True)["model"] for run in ("first", "second"))
    norms = [name for name in first if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert norms
    for name in norms:
        assert torch.equal(first[name], second[name])
    assert not torch.equal(first["norm.weight"], second["norm.weight"])
