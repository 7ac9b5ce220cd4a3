"""What the machine has, and how its cores and its memory are used."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["cores", "default_device", "devices", "keep_memory", "loader_workers"]

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
