"""Steps that are not finite are left out: weights and statistics are those of a training without them."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer

from pssr2_monai.errors import InputError
from pssr2_monai.training.checkpoints import BEST, LAST, Checkpoints
from pssr2_monai.training.finite_steps import ClipGradients, FiniteSteps


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Conv2d(2, 1, 1))


def _batch(number: int, value: float = 1.0) -> dict[str, Any]:
    image = torch.rand((2, 1, 4, 4), generator=torch.Generator().manual_seed(number))
    return {"image": image * value, "label": image, "name": [f"cell_{number}.tif frame 0 y 0 x {x}" for x in (0, 4)]}


def _train(network: torch.nn.Module, batches: list[dict[str, Any]], fused: bool = True, **options: Any) -> FiniteSteps:
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=fused)
    steps = FiniteSteps(network, **options)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.L1Loss(),
        train_handlers=[ClipGradients(network.parameters(), 1.0), steps],
        decollate=False,
    )
    trainer.logger.disabled = True
    trainer.run()
    return steps


def test_gradients_are_clipped_to_their_norm() -> None:
    parameter, engine = torch.nn.Parameter(torch.zeros(2)), Engine(lambda *_: None)
    parameter.grad = torch.tensor([3.0, 4.0])
    ClipGradients([parameter], max_norm=1.0)(engine)
    torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]), rtol=1e-4, atol=0)
    assert float(engine.state.gradient_norm) == 5


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])  # the last overflows in the statistics
@pytest.mark.parametrize("every", [1, 3])
def test_steps_that_are_not_finite_leave_no_trace(
    fused: bool, value: float, every: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pssr2_monai")
    disturbed, straight = _network(), _network()
    batches = [_batch(number, value if number in (1, 2, 5) else 1.0) for number in range(7)]
    steps = _train(disturbed, batches, fused, every=every)
    _train(straight, [batches[number] for number in (0, 3, 4, 6)], fused)
    for name, tensor in straight.state_dict().items():
        if name != "1.num_batches_tracked":
            torch.testing.assert_close(disturbed.state_dict()[name], tensor, rtol=0, atol=0)
    assert steps.count == 3
    assert "left out" in caplog.text
    assert "(tiles of cell_1.tif" in caplog.text
    assert caplog.messages[-1].endswith("not finite (tiles of cell_5.tif); 3 so far")


class Record:
    def state_dict(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("good", [0, 2])
def test_too_many_in_a_row_end_the_training_with_the_last_good_state(good: int, tmp_path: Path) -> None:
    network = _network()
    checkpoints = Checkpoints(tmp_path, {"model": network, "record": Record()}, Engine(lambda *_: None))
    batches = [_batch(number, 1.0 if number < good else math.nan) for number in range(8)]
    with pytest.raises(InputError, match=r"1: .* not finite in 3 steps in a row \(tiles of cell_\d.tif\)") as raised:
        _train(network, batches, checkpoints=checkpoints, limit=3)
    assert "use a smaller lr, or precision 'float32'" in str(raised.value)
    assert ("the last good state is saved" in str(raised.value)) == bool(good)
    assert sorted(path.name for path in tmp_path.iterdir()) == ([LAST, BEST] if good else [])
    if good:
        weights = torch.load(tmp_path / BEST, weights_only=True)["model"]
        assert all(tensor.isfinite().all() for tensor in weights.values())
