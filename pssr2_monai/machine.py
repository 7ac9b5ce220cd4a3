"""Devices, cores and memory of the machine, its signal to stop, and profiles of a run."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MAX_LOADER_WORKERS = 8
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # options of glibc's mallopt, from malloc.h


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_device() -> str:
    """A GPU if there is one, of NVIDIA or AMD (cuda) or of Apple (mps), else the processor."""
    import torch  # takes seconds, which `cores` does not need

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def devices() -> list[str]:
    """The devices that networks can run on, the fastest first."""
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def loader_workers(device: torch.device | str, processes: int = 1) -> int:
    """The number of processes that prepare training tiles while the network computes.

    With a network on the processor, one worker keeps it from waiting; on a single core there is none. A network on a
    GPU needs tiles faster than one core makes them. Each of ``processes`` that train at the same time uses its share of
    the cores.
    """
    spare = max(0, cores() // processes - 1)
    return min(1, spare) if str(device).startswith("cpu") else min(MAX_LOADER_WORKERS, max(1, spare))


class Terminated(SystemExit):
    """What SIGTERM raises, by which systems and clusters end a process; uncaught, the exit status is 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def terminate(*_: Any) -> None:
    raise Terminated


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise ``Terminated`` as Ctrl-C raises ``KeyboardInterrupt``; a handler of another program stays."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def keep_memory() -> None:
    """Let this process keep the memory that it frees, if the C library is glibc; otherwise do nothing.

    A network on a processor allocates large blocks of the same sizes again and again, and by default each is returned
    to the system and then mapped and zeroed page by page again: a fifth to a third of the time of a forward pass.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


TABLE, TRACE = "profile.txt", "profile.json"


@contextmanager
def profiled(folder: str | Path, parts: Sequence[str], steps: int = 1, unit: str = "ms") -> Iterator[None]:
    """Profile the work within the block, and write ``profile.txt`` and ``profile.json`` into a folder.

    The trace opens in Perfetto (ui.perfetto.dev) and in Chrome's ``about:tracing``. Parts of all threads count, so that
    parts that overlap add up to more than the whole. In the table, times in ``unit`` are divided by ``steps``; an
    indented name of ``parts`` is contained in the one before.
    """
    import torch
    from torch._C._profiler import _ExperimentalConfig
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    all_threads = _ExperimentalConfig(profile_all_threads=True)  # reading and writing have threads of their own
    with profile(activities=activities, experimental_config=all_threads) as running:
        started = time.perf_counter()
        yield
        whole = 1e3 * (time.perf_counter() - started)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    measured = {average.key: average.cpu_time_total / 1e3 for average in running.key_averages()}
    times = {name: measured[name.strip()] for name in parts if name.strip() in measured}
    times["everything else"] = max(0.0, whole - sum(ms for name, ms in times.items() if not name.startswith(" ")))
    times["whole"] = whole
    lines = [f"{'part':<22}{unit:>11}{'share':>8}"]
    lines += [f"{name:<22}{ms / steps:11.2f}{ms / whole:8.1%}" for name, ms in times.items()]
    (folder / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    running.export_chrome_trace(str(folder / TRACE))
