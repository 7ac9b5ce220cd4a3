"""What the machine has, how its cores and memory are used, and where the time of a run goes."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MOST_WORKERS = 8
# Options of glibc's mallopt, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_device() -> str:
    """A GPU where there is one, else the processor."""
    import torch  # takes seconds, which those who ask for the cores alone need not spend

    return "cuda" if torch.cuda.is_available() else "cpu"


def devices() -> list[str]:
    """What networks can run on here, the quickest first."""
    import torch

    found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [*found, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def loader_workers(device: torch.device, processes: int = 1) -> int:
    """Processes that prepare training tiles while the network computes.

    A network on a processor has no core to spare: one worker keeps it from waiting, and on a single core none does. One
    on a GPU needs tiles faster than one core makes them. Of ``processes`` that train side by side each has its share of
    the cores.
    """
    share = max(1, cores() // processes)
    if device.type == "cpu":
        return min(1, share - 1)
    return min(MOST_WORKERS, max(1, share - 1))


def keep_memory() -> None:
    """Lets this process keep the memory that it frees, where the C library is glibc; elsewhere it does nothing.

    A network on a processor asks for the same large blocks over and over, and by default each of them is given back to
    the system and fetched, page by page and zeroed, anew: a fifth to a third of the time of a forward pass. What is
    kept serves the process until its end.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


TABLE, TRACE = "profile.txt", "profile.json"


@contextmanager
def profiled(folder: str | Path, parts: Sequence[str], steps: int = 1, unit: str = "ms") -> Iterator[None]:
    """Profiles what is done within, and writes ``profile.txt`` and ``profile.json`` into a folder.

    The trace opens in Perfetto (ui.perfetto.dev) and in Chrome's ``about:tracing``. Parts of other threads count, too,
    so that those that overlap add up to more than the whole.

    Args:
        folder: where both are written; made if need be.
        parts: names of the parts that the table tells, in order; an indented one lies within the one before.
        steps: among which the times are divided.
        unit: what the column of times is called.
    """
    import torch
    from torch._C._profiler import _ExperimentalConfig
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    everywhere = _ExperimentalConfig(profile_all_threads=True)  # reading and writing have threads of their own
    with profile(activities=activities, experimental_config=everywhere) as running:
        started = time.perf_counter()
        yield
        whole = 1e3 * (time.perf_counter() - started)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    spent = {average.key: average.cpu_time_total / 1e3 for average in running.key_averages()}
    told = {name: spent[name.strip()] for name in parts if name.strip() in spent}
    told["everything else"] = max(0.0, whole - sum(each for name, each in told.items() if not name.startswith(" ")))
    told["whole"] = whole
    lines = [f"{'part':<22}{unit:>11}{'share':>8}"]
    lines += [f"{name:<22}{each / steps:11.2f}{each / whole:8.1%}" for name, each in told.items()]
    (folder / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    running.export_chrome_trace(str(folder / TRACE))
