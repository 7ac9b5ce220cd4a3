"""A training shared by the processes that ``torchrun`` starts: one for each GPU, or several on processors.

Ranks come from ``ignite.distributed``. Without ``torchrun`` there is one process, rank 0 of 1, and everything here does
nothing.
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

GLOO_EXIT_SECONDS = 1.0  # gloo's threads outlive the group; a process that ends meanwhile aborts now and then


def local_device() -> torch.device:
    """Return the GPU of this process, or the processor where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    index, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if index >= gpus:
        processes = os.environ.get("LOCAL_WORLD_SIZE", 1)
        raise InputError(f"--nproc_per_node {processes}: this machine has {gpus} GPUs; start as many processes at most")
    return torch.device("cuda", index)


def begin(device: torch.device | str) -> None:
    """Join the processes that ``torchrun`` started: by nccl on GPUs, by gloo on processors.

    From here on, ranks above 0 log warnings and errors only.
    """
    if dist.is_initialized() or "RANK" not in os.environ:
        return
    gpu = torch.device(device).type == "cuda"
    if gpu:
        torch.cuda.set_device(device)
    # Not idist.initialize, which takes a GPU for each process that trains on a processor, too.
    dist.init_process_group("nccl" if gpu else "gloo")
    # Ignite would join when a metric first asks, which all ranks must do at once. On SLURM it takes the task's number
    # for the process's, which it is not where torchrun is the task.
    slurm_job = os.environ.pop("SLURM_JOB_ID", None)
    idist.sync()
    if slurm_job is not None:
        os.environ["SLURM_JOB_ID"] = slurm_job
    if idist.get_rank() > 0:
        logging.disable(logging.INFO)


def end() -> None:
    """Leave the group once all ranks have come so far: rank 0 may still be writing the last checkpoint."""
    if not dist.is_initialized():
        return
    gloo = dist.get_backend() == "gloo"
    dist.barrier(_processors())
    idist.finalize()
    _processors.cache_clear()
    if gloo:
        time.sleep(GLOO_EXIT_SECONDS)


@functools.cache
def _processors() -> Any:
    """A group that talks from processor to processor, so that a few numbers need not wait for the GPUs."""
    return dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")


def from_first(value: float) -> float:
    """Return rank 0's value on every rank; all ranks must call it."""
    if idist.get_world_size() == 1:
        return value
    # Ignite's broadcast would take the number to the GPU, as a float32.
    number = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(number, 0, group=_processors())
    return float(number)


def on_any(flag: bool) -> bool:
    """Whether ``flag`` holds on any rank; all ranks must call it."""
    if idist.get_world_size() == 1:
        return flag
    number = torch.tensor([int(flag)])
    dist.all_reduce(number, dist.ReduceOp.MAX, group=_processors())
    return bool(number)


def in_parallel(network: torch.nn.Module, device: torch.device | str) -> torch.nn.Module:
    """Wrap the network so that its gradients become the mean over the ranks.

    On GPUs its BatchNorm works on the batches of all ranks from now on; on processors torch has none such. The network
    itself keeps its parameters, so that what saves, loads or validates it knows nothing of this.
    """
    if idist.get_world_size() == 1:
        return network
    gpu = torch.device(device).type == "cuda"
    # Not idist.auto_model, which takes a GPU, where the machine has one, for networks on the processor, too.
    # Buffers are synchronised before each validation (SameBuffers), not before each step.
    return torch.nn.parallel.DistributedDataParallel(
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(network) if gpu else network,
        device_ids=[device] if gpu else None,
        broadcast_buffers=False,
    )


class SameBuffers:
    """Gives all ranks rank 0's running statistics before a validation: what is saved is what is scored."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if idist.get_world_size() > 1:
            for buffer in self.network.buffers():
                buffer.copy_(idist.broadcast(buffer, 0))


def validation_sampler(dataset: Sized) -> DistributedSampler:
    """Return the sampler of this rank's part of the validation tiles, none of which is scored twice."""
    ranks = idist.get_world_size()
    if len(dataset) < ranks:
        raise InputError(
            f"{len(dataset)} validation tiles for {ranks} processes: start fewer, or hold out more (val_fraction)"
        )
    return DistributedSampler(dataset, even_divisible=False, num_replicas=ranks, rank=idist.get_rank(), shuffle=False)
