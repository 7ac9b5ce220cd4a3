"""A training shared by the processes that ``torchrun`` starts: one a GPU, or several on processors.

Without ``torchrun`` there is one process, rank 0 of 1, and everything here does nothing.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Sized
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import DistributedSampler

from pssr2_monai.errors import InputError


def rank() -> int:
    """This process's number; rank 0 writes the files and the lines."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes train, on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_processes() -> int:
    """How many of them share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def local_device() -> torch.device:
    """The GPU of this process, or the processor where there is none.

    Raises:
        InputError: more processes were started than the machine has GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    index, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if index >= gpus:
        raise InputError(
            f"--nproc_per_node {local_processes()}: this machine has {gpus} GPUs; start as many processes at most"
        )
    return torch.device("cuda", index)


def begin(device: torch.device) -> None:
    """Joins the processes that ``torchrun`` started: by nccl on GPUs, by gloo on processors.

    From here on, ranks above 0 log warnings and errors only.
    """
    if dist.is_initialized() or "RANK" not in os.environ:
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    # Ignite would join when a metric first asks, which all ranks must do at once; and on SLURM it sets LOCAL_RANK anew,
    # to the task's number, which is not the process's where torchrun is the task.
    local_rank = os.environ.get("LOCAL_RANK", "0")
    idist.sync()
    os.environ["LOCAL_RANK"] = local_rank
    if rank() > 0:
        logging.disable(logging.INFO)


def end() -> None:
    """Parts from the other processes when all have come so far: rank 0 may still be writing the last checkpoint."""
    if not dist.is_initialized():
        return
    gloo = dist.get_backend() == "gloo"
    dist.barrier(_processors())
    idist.finalize()
    _processors.cache_clear()
    if gloo:
        # gloo's threads outlive the group for a moment; a process that ends meanwhile aborts now and then.
        time.sleep(1)


@functools.cache
def _processors() -> Any:
    """A group that talks from processor to processor, so that a few numbers need not wait for the GPUs."""
    return dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def from_first(value: float) -> float:
    """Rank 0's value, on every rank; all ranks must call it."""
    if ranks() == 1:
        return value
    told = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(told, 0, group=_processors())
    return float(told)


def on_any(flag: bool) -> bool:
    """Whether it holds on any rank; all ranks must call it."""
    if ranks() == 1:
        return flag
    told = torch.tensor([int(flag)])
    dist.all_reduce(told, dist.ReduceOp.MAX, group=_processors())
    return bool(told)


def same_norms(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The network, its BatchNorm over the batches of all GPUs; on processors torch has none such, and it stays."""
    if ranks() == 1 or device.type != "cuda":
        return network
    converted: torch.nn.Module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return converted


def in_parallel(network: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """What the trainer calls: the network, whose gradients become the mean over the ranks.

    The network itself keeps its parameters, so that what saves, loads or validates it knows nothing of this.
    """
    if ranks() == 1:
        return network
    # Buffers are made the same before each validation (SameBuffers), not before each step.
    return torch.nn.parallel.DistributedDataParallel(
        network, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
    )


class SameBuffers:
    """Gives all ranks rank 0's running statistics before a validation: those that are saved are those that are scored.

    Args:
        network: whose buffers they are.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if ranks() > 1:
            for buffer in self.network.buffers():
                dist.broadcast(buffer, 0)


def validation_sampler(dataset: Sized) -> DistributedSampler:
    """This rank's part of the validation tiles, none of which is scored twice.

    Raises:
        InputError: there are more ranks than tiles.
    """
    if len(dataset) < ranks():
        raise InputError(
            f"{len(dataset)} validation tiles for {ranks()} processes: start fewer, or hold out more (val_fraction)"
        )
    return DistributedSampler(dataset, even_divisible=False, num_replicas=ranks(), rank=rank(), shuffle=False)
