"""What processes of one training share: nothing for one, and two of them by gloo.

Two are judged by what they write: a gloo process aborts at its exit now and then, plain torch's too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.training import distributed

TWO = """
import json, logging, os, sys
from pathlib import Path
import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from pssr2_monai.training import distributed
from pssr2_monai.training.finite_steps import FiniteSteps
from pssr2_monai.training.handlers import ProgressSchedule

# As in a job of SLURM with one task, whose number is not that of the process.
os.environ |= {"SLURM_JOB_ID": "1", "SLURM_LOCALID": "0"}
device = distributed.local_device()
distributed.begin(device)
rank, out = idist.get_rank(), Path(sys.argv[1])
results = {"ranks": idist.get_world_size(), "local": idist.get_local_rank(), "processes": idist.get_nproc_per_node()}
results |= {"slurm": os.environ["SLURM_JOB_ID"], "disabled": logging.root.manager.disable}
results |= {"sampled": list(distributed.validation_sampler(range(5)))}
results |= {"first": distributed.from_first(1 / 3 + rank)}
results |= {"any": [distributed.on_any(rank == 1), distributed.on_any(False)]}
try:
    distributed.validation_sampler(range(1))
except ValueError as error:
    results |= {"refused": str(error)}

network = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.BatchNorm1d(1))
parallel = distributed.in_parallel(network, device)
network[1].running_mean.fill_(rank + 5)
distributed.SameBuffers(network)(Engine(lambda engine, batch: None))
results |= {"mean": network[1].running_mean.item()}
network.eval()
torch.nn.init.ones_(network[0].weight)
parallel(torch.tensor([[1.0, 10.0]]) * (rank + 1)).sum().backward()
results |= {"gradient": network[0].weight.grad.tolist(), "same": parallel.module is network}

seconds = [0.0]
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
schedule = ProgressSchedule(optimizer, minutes=1, clock=lambda: seconds[0])
schedule.seconds_before = 1000.0 * rank  # rank 1 has trained for long, by its own clock
rates = []

def step(engine, batch):
    seconds[0] += 3 + 4 * rank
    rates.append(optimizer.param_groups[0]["lr"])

trainer = Engine(step)
schedule.attach(trainer)
trainer.run(range(50), max_epochs=100)
results |= {"steps": trainer.state.iteration, "rates": rates}

def step(engine, batch):
    engine.state.output = {"loss": torch.tensor(float("nan") if rank and batch > 2 else 1.0)}
    engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
    return engine.state.output

trainer = Engine(step)
trainer.register_events(*IterationEvents)
trainer.optimizer = optimizer
finite = FiniteSteps(network, limit=1, every=2)
finite.attach(trainer)
try:
    trainer.run(range(6), max_epochs=2)
except ValueError as error:
    results |= {"stopped": trainer.state.iteration, "error": str(error)}
(out / f"rank_{rank}.json").write_text(json.dumps(results))
distributed.end()
"""


def test_one_process_has_everything_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    distributed.begin(torch.device("cpu"))
    assert not torch.distributed.is_initialized()
    network = torch.nn.BatchNorm1d(3)
    assert distributed.in_parallel(network, torch.device("cuda")) is network
    assert distributed.from_first(0.1) == 0.1
    assert (distributed.on_any(True), distributed.on_any(False)) == (True, False)
    assert list(distributed.validation_sampler(range(3))) == [0, 1, 2]
    distributed.end()


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.local_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(InputError, match="--nproc_per_node 4: this machine has 2 GPUs; start as many processes"):
        distributed.local_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.local_device() == torch.device("cpu")


@pytest.mark.slow
def test_two_processes_agree(tmp_path: Path, run_two_ranks: Callable[..., list[Any]]) -> None:
    script = tmp_path / "two.py"
    script.write_text(TWO)
    ranks = run_two_ranks(script, tmp_path)
    for rank in ranks:
        rank.end()
    files = [tmp_path / f"rank_{rank}.json" for rank in (0, 1)]
    assert all(file.is_file() for file in files), "".join(rank.stderr for rank in ranks)
    first, second = (json.loads(file.read_text()) for file in files)
    assert (first["local"], second["local"]) == (0, 1)
    assert (first["disabled"], second["disabled"]) == (0, 20), "rank 1 logs warnings and errors only"
    assert (first["sampled"], second["sampled"]) == ([0, 2, 4], [1, 3])
    for results in (first, second):
        assert (results["ranks"], results["processes"], results["slurm"]) == (2, 2, "1")
        assert results["first"] == 1 / 3
        assert results["any"] == [True, False]
        assert "1 validation tiles for 2 processes: start fewer" in results["refused"]
        assert results["mean"] == 5
        assert results["gradient"] == [[pytest.approx(1.5, rel=1e-4), pytest.approx(15, rel=1e-4)]]
        assert results["same"]
        # By rank 0's clock: 60 s of steps of 3 s.
        assert results["steps"] == 20
        assert results["rates"] == first["rates"]
        # All look in step 4, where rank 1's loss is not finite.
        assert results["stopped"] == 4
        assert "not finite" in results["error"]
