"""How the cores are shared out."""

from __future__ import annotations

import platform
import subprocess
import sys

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_kept() -> None:
    held = (
        "import numpy as np; from pssr2_monai.machine import keep_memory; keep_memory()\n"
        "block = np.ones(25_000_000); del block\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", held], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 200
