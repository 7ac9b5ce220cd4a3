"""Shares of the cores, memory that is kept, and the table of a profile."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
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


def write_times(proc: Path, cores: list[tuple[int, int]], own: int) -> None:
    """What Linux reports: ticks of each core in use and idle, and those of this process."""
    lines = [
        "cpu  0 0 0 0 0 0 0 0 0 0",
        *(f"cpu{n} {busy} 0 0 {idle} 0 0 0 0 0 0" for n, (busy, idle) in enumerate(cores)),
    ]
    (proc / "stat").write_text("\n".join([*lines, "intr 1"]))
    (proc / "self").mkdir(exist_ok=True)
    (proc / "self" / "stat").write_text(f"7 (python (3) x) R {' '.join(['0'] * 10)} {own} 0 0 0")


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(machine.os, "sysconf", lambda _: 100, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_cores")
def test_compute_threads_leave_the_cores_that_others_use(tmp_path: Path) -> None:
    now = 0.0
    write_times(tmp_path, [(0, 0), (0, 0), (0, 0)], own=0)
    threads = machine.ComputeThreads(seconds=1, proc=tmp_path, clock=lambda: now)

    def after(seconds: float, cores: list[tuple[int, int]], own: int) -> int:
        nonlocal now
        now += seconds
        write_times(tmp_path, cores, own)
        threads.look()
        return torch.get_num_threads()

    assert after(2, [(200, 0), (195, 5), (200, 0)], own=390) == 2  # the third core is not this process's
    assert after(0.5, [(250, 0), (245, 5), (200, 0)], own=390) == 2  # too early to tell
    assert after(1.5, [(400, 0), (395, 5), (200, 0)], own=590) == 1
    assert after(2, [(600, 0), (595, 5), (200, 0)], own=780) == 1
    assert after(2, [(800, 0), (795, 5), (200, 0)], own=1090) == 2  # others used 0.45 cores
    assert after(2, [(1000, 0), (995, 5), (200, 0)], own=1090) == 1  # never none


@pytest.mark.usefixtures("two_cores")
def test_a_given_number_of_threads_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = machine.ComputeThreads(1, proc=tmp_path)
    threads.look()
    assert (torch.get_num_threads(), threads.fixed) == (1, True)
    assert machine.ComputeThreads(proc=tmp_path / "not Linux").fixed
    write_times(tmp_path, [(0, 0)], own=0)
    assert not machine.ComputeThreads(proc=tmp_path).fixed
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.ComputeThreads(proc=tmp_path).fixed


def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform_name, expected in (("linux", {"GOMP_SPINCOUNT": "20000"}), ("darwin", {"OMP_WAIT_POLICY": "passive"})):
        environment: dict[str, str] = {}
        monkeypatch.setattr(machine.os, "environ", environment)
        monkeypatch.setattr(machine.sys, "platform", platform_name)
        machine.wait_briefly()
        assert environment == expected
    environment = {"OMP_WAIT_POLICY": "active"}
    monkeypatch.setattr(machine.os, "environ", environment)
    machine.wait_briefly()
    assert environment == {"OMP_WAIT_POLICY": "active"}
