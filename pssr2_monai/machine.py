"""What the machine has, and how its cores are shared out."""

from __future__ import annotations

import os

import torch

__all__ = ["cores", "loader_workers"]

MOST_WORKERS = 8


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def loader_workers(device: torch.device) -> int:
    """Processes that prepare training tiles while the network computes.

    A network on a processor has no core to spare: one worker keeps it from waiting, and on a single core none does. One
    on a GPU needs tiles faster than one core makes them.
    """
    if device.type == "cpu":
        return min(1, cores() - 1)
    return min(MOST_WORKERS, max(1, cores() - 1))
