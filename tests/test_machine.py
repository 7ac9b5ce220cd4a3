"""How the cores are shared out."""

from __future__ import annotations

import pytest
import torch

from pssr2_monai import machine


@pytest.mark.parametrize(
    ("cores", "device", "workers"),
    [(1, "cpu", 0), (2, "cpu", 1), (64, "cpu", 1), (1, "cuda", 1), (4, "cuda", 3), (64, "cuda", 8)],
)
def test_loader_workers(cores: int, device: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(cores), raising=False)
    assert machine.loader_workers(torch.device(device)) == workers


def test_processes_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(16), raising=False)
    assert [machine.loader_workers(torch.device("cuda"), processes) for processes in (1, 4, 8, 32)] == [8, 3, 1, 1]
    assert machine.loader_workers(torch.device("cpu"), 16) == 0
