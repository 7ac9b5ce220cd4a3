"""The order of tiles in an epoch, from any step on, and the processes that load them."""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DistributedSampler

from pssr2_monai.data.batches import TileLoader, TileSampler, _needs_main

# Without `if __name__ == "__main__"`: a process that imported the script would start the loader again.
SCRIPT = """
import multiprocessing, sys
multiprocessing.set_start_method({method!r}, force=True)
from pssr2_monai.data.batches import TileLoader
from pssr2_monai.data.loading import TileDataset
print("begins", flush=True)
items = [dict(name=str(number)) for number in range(5)]
loader = TileLoader(TileDataset(items, transform=len), num_workers=1, batch_size=2, persistent_workers=True)
for epoch in range(2):
    print([batch.tolist() for batch in loader], flush=True)
"""
DEFINES = """
class Length:
    def __call__(self, item):
        return len(item)

if __name__ == "__main__":
"""


class Numbers(torch.utils.data.Dataset):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        return number


@pytest.mark.parametrize("count", [1, 7, 12])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("ranks", [1, 3, 5])
@pytest.mark.parametrize("even", [True, False])
def test_the_order_is_that_of_monai(count: int, shuffle: bool, ranks: int, even: bool) -> None:
    for rank in range(ranks):
        if count < ranks and not even:
            continue
        options = {"num_replicas": ranks, "rank": rank, "shuffle": shuffle, "even_divisible": even, "seed": 3}
        ours, theirs = TileSampler(Numbers(count), **options), DistributedSampler(Numbers(count), **options)
        for epoch in (0, 4):
            ours.set_epoch(epoch)
            theirs.set_epoch(epoch)
            assert (list(ours), len(ours)) == (list(theirs), len(theirs))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_may_begin_at_any_step(workers: int) -> None:
    dataset = Numbers(11)
    sampler = TileSampler(dataset, num_replicas=1, rank=0, seed=1)
    loader = TileLoader(dataset, num_workers=workers, batch_size=3, sampler=sampler)
    sampler.set_epoch(2)
    loader.begin_epoch(2)
    whole = [batch.tolist() for batch in loader]
    assert sorted(number for batch in whole for number in batch) == list(range(11))
    loader.begin_epoch(2, steps_done=2)
    assert [batch.tolist() for batch in loader] == whole[2:]
    assert len(loader) == 4, "the length of an epoch stays"


def test_loading_draws_nothing_from_the_generator_of_the_network() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for workers in (0, 1):
        list(TileLoader(Numbers(4), num_workers=workers))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("defines", [False, True])
def test_a_script_needs_no_guard_unless_workers_need_what_it_defines(
    method: str, defines: bool, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("the system has no such method")
    text = SCRIPT.format(method=method)
    if defines:
        text = DEFINES + "".join(f"    {line}\n" for line in text.replace("=len", "=Length()").splitlines())
    (tmp_path / "script.py").write_text(text)
    run = run_python(tmp_path / "script.py", cwd=tmp_path)
    assert run.end() == 0, run.stderr
    assert run.stdout.splitlines() == ["begins", *["[[1, 1], [1, 1], [1]]"] * 2]


def test_what_the_script_defines_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Crappifier:
        pass

    content = {"arrays": np.zeros(3), "tensors": [torch.zeros(3)], "functions": {"a": len}, "none": None}
    assert not _needs_main(content)
    monkeypatch.setattr(Crappifier, "__module__", "__main__")
    assert _needs_main({**content, "crappifier": [(Crappifier(),)]})


def test_workers_leave_ctrl_c_and_sigterm_to_the_training() -> None:
    loader = TileLoader(Numbers(6), num_workers=1, batch_size=2, persistent_workers=True)
    batches = iter(loader)
    first, worker = next(batches), batches._workers[0]
    for name in ("INT", "TERM"):  # a cluster sends the latter to all processes, from a process of its own
        subprocess.run(["kill", "-s", name, str(worker.pid)], check=True)
    assert [batch.tolist() for batch in [first, *batches]] == [[0, 1], [2, 3], [4, 5]]
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0
