"""Shares of the cores, memory that is kept, and the table of a profile."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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
    assert machine.loader_workers(device) == workers


def test_processes_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(16), raising=False)
    assert [machine.loader_workers(torch.device("cuda"), processes) for processes in (1, 4, 8, 32)] == [8, 3, 1, 1]
    assert machine.loader_workers(torch.device("cpu"), 16) == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="keep_memory sets options of glibc")
def test_freed_memory_is_kept() -> None:
    def resident_mib(setup: str) -> float:
        code = (
            f"import numpy as np; from pssr2_monai.machine import keep_memory; {setup}\n"
            "block = np.ones(25_000_000); del block\n"  # 191 MiB
            "lines = open('/proc/self/status').read().splitlines()\n"
            "print(next(int(line.split()[1]) for line in lines if line.startswith('VmRSS')) / 1024)"
        )
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert resident_mib("keep_memory()") - resident_mib("") == pytest.approx(191, abs=10)


def test_a_profile_divides_the_time_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 10.4])  # the whole takes 400 ms
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(ticks))
    measured = {"long": 200_000, "inner": 100_000, "short": 100_000, "not listed": 7}  # microseconds
    averages = [SimpleNamespace(key=name, cpu_time_total=time) for name, time in measured.items()]
    monkeypatch.setattr(torch.profiler.profile, "key_averages", lambda *_: averages)
    with machine.profiled(tmp_path / "new", ["long", "  inner", "short", "absent"], steps=2, unit="ms a step"):
        pass
    assert (tmp_path / "new" / "profile.txt").read_text().splitlines() == [
        "part                    ms a step   share",
        "long                       100.00   50.0%",
        "  inner                     50.00   25.0%",
        "short                       50.00   25.0%",
        "everything else             50.00   25.0%",
        "whole                      200.00  100.0%",
    ]


def test_a_trace_names_the_parts(tmp_path: Path) -> None:
    with machine.profiled(tmp_path, ["forward"]), torch.profiler.record_function("forward"):
        torch.ones(3).sum()
    trace = json.loads((tmp_path / "profile.json").read_text())
    assert "forward" in {event.get("name") for event in trace["traceEvents"]}


def test_the_processor_is_the_last_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert machine.devices() == ["cuda:0", "cuda:1", "cpu"]
    for available, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=available: answer)
        assert machine.default_device() == device
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine.default_device() == "mps"
    assert machine.devices() == ["cuda:0", "cuda:1", "mps", "cpu"]
