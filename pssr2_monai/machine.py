"""Devices, cores and memory of the machine, its signal to stop, and profiles of a run."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MAX_LOADER_WORKERS = 8
SPINS = "20000"  # tens of microseconds; threads that sleep at once take a fifth longer for a step, for being woken up
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


def wait_briefly() -> None:
    """Let threads that wait for each other spin for a moment, and then sleep; to be called before torch is loaded.

    Variables of OpenMP that the user has set stay as they are.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ.update({"GOMP_SPINCOUNT": SPINS} if sys.platform == "linux" else {"OMP_WAIT_POLICY": "passive"})


class ComputeThreads:
    """Keeps as many compute threads as other processes leave cores free, of which loader workers are some.

    The gradient of weights has threads that wait for each other at barriers: one whose core is shared makes all others
    wait, and two threads on two cores, one of them busy, take longer than one thread. Their number changes the order of
    sums, and so the last bits of a result. Elsewhere than on Linux it stays what it is.

    Args:
        number: of threads, which then stays; None for the free cores, unless ``OMP_NUM_THREADS`` gives a number.
        seconds: between two looks at the machine.
        proc: the folder of the system's times.
        clock: returns seconds.
    """

    def __init__(
        self,
        number: int | None = None,
        seconds: float = 1.0,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import torch

        if number is not None:
            torch.set_num_threads(number)
        self.most = torch.get_num_threads()
        self.fixed = number is not None or "OMP_NUM_THREADS" in os.environ or not (proc / "self" / "stat").is_file()
        self._seconds, self._proc, self._clock = seconds, proc, clock
        self._before = (0.0, 0.0) if self.fixed else self._times()

    def look(self) -> None:
        """Set the number of threads by what other processes used since the last look, if that was long ago."""
        if self.fixed or self._clock() - self._before[0] < self._seconds:
            return
        import torch

        (then, used), (now, used_now) = self._before, self._times()
        self._before = now, used_now
        free = cores() - (used_now - used) / (now - then)
        threads = min(self.most, max(1, math.floor(free + 0.5)))
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)

    def _times(self) -> tuple[float, float]:
        """The time, and the seconds that other processes have used of the cores of this one so far."""
        own = (self._proc / "self" / "stat").read_text().rpartition(")")[2].split()
        seconds = (int(own[11]) + int(own[12])) / os.sysconf("SC_CLK_TCK")
        return self._clock(), busy_seconds(self._proc) - seconds


def busy_seconds(proc: Path = Path("/proc")) -> float:
    """The seconds for which all programs have used the cores of this process since the system began, on Linux."""
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in (proc / "stat").read_text().splitlines())
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = sum(sum(map(int, (*times[:3], *times[5:8]))) for name, *times in lines if name in ours)
    return ticks / os.sysconf("SC_CLK_TCK")


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
