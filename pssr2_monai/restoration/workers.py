"""What happens inside a worker process: it loads the network once, and does one job after the other."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO
from uuid import uuid4

import torch

import pssr2_monai
from pssr2_monai.errors import InputError
from pssr2_monai.intensity import Intensity
from pssr2_monai.io.image import LazyImage, open_image
from pssr2_monai.io.writer import Writer
from pssr2_monai.machine import keep_memory
from pssr2_monai.record import Record
from pssr2_monai.restoration.blocks import Job
from pssr2_monai.restoration.image_restoring import Restoring
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.weights import load_weights, weights_file

__all__ = ["Assignment", "Model", "restore_job", "versions"]


_one_at_a_time = threading.Lock()
"""A worker of several threads does one job with all of them: otherwise the memory of as many jobs would be needed."""


@dataclass(frozen=True)
class Model:
    """Where a worker takes the network from.

    Attributes:
        weights: the file, which all workers must see under this name.
        state: its size and time of change, so that another file under this name is not taken for it.
        device: ``cpu``, ``cuda:1`` and so on; ``cuda`` or None for a GPU of the worker's own, where there are some.
    """

    weights: Path
    state: tuple[int, int]
    device: str | None

    @classmethod
    def of(cls, weights: str | Path, device: str | None) -> Model:
        """The model of a file that has been read."""
        path = weights_file(weights).absolute()
        status = path.stat()
        return cls(path, (status.st_size, status.st_mtime_ns), device)

    def load(self) -> tuple[torch.nn.Module, Record]:
        """The network and its record, loaded once a process.

        Raises:
            InputError: the worker does not see the same file.
        """
        return _load(self)


@lru_cache(maxsize=1)
def _load(model: Model) -> tuple[torch.nn.Module, Record]:
    keep_memory()  # which Dask, by MALLOC_TRIM_THRESHOLD_, would have given back all the time
    if not model.weights.is_file() or model.weights.stat().st_size != model.state[0]:
        raise InputError(
            f"{model.weights}: a worker does not find this file, or another; all workers must see the weights, the "
            "input and the output under the same names"
        )
    device = model.device
    if device in (None, "cuda"):
        device = f"cuda:{_own_gpu()}" if torch.cuda.is_available() else "cpu"
    return load_weights(model.weights, device)


@dataclass(frozen=True)
class Assignment:
    """What a worker must know, besides the job, to do jobs of one image.

    Attributes:
        number: of the image, by which a worker knows that a job is of the same as the last.
    """

    model: Model
    source: Path
    state: tuple[int, ...]
    axes: str | None
    writer: Writer
    inferer: SeamlessInferer
    intensity: Intensity
    number: str = field(default_factory=lambda: uuid4().hex)


def restore_job(assignment: Assignment, job: Job) -> int | InputError:
    """Does a job; gives how many HR pixels it wrote, or the error that doing it again would not mend."""
    with one_at_a_time():
        try:
            network, record = assignment.model.load()
            image = _image(assignment.source, assignment.state, assignment.axes)
            inferer, intensity = _own_inferer(assignment), assignment.intensity
            restoring = Restoring(image, assignment.writer, network, record, inferer, intensity)
            return sum(written for *_, written in restoring.run([job]))
        except InputError as error:
            return error


_last: tuple[str, SeamlessInferer] | None = None


def _own_inferer(assignment: Assignment) -> SeamlessInferer:
    """That of the first job of an image, which may have compiled the network for the others."""
    global _last
    if _last is None or _last[0] != assignment.number:
        _last = assignment.number, assignment.inferer
    return _last[1]


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Lets one job run at a time, with the threads that the worker has."""
    with _one_at_a_time:
        torch.set_num_threads(threads_of_worker())
        yield


def threads_of_worker() -> int:
    """How many threads the network may use here."""
    if _threads is not None:
        return _threads
    from distributed import get_worker

    return int(get_worker().state.nthreads)


_threads: int | None = None


def set_threads(count: int) -> None:
    """Says how many threads a worker that is not Dask's may use."""
    global _threads
    _threads = count


def versions() -> dict[str, str]:
    """What must agree between those who work on one image."""
    return {"pssr2_monai": pssr2_monai.__version__, "torch": torch.__version__}


@lru_cache(maxsize=1)
def _image(path: Path, state: tuple[int, ...], axes: str | None) -> LazyImage:
    """The image, kept open from job to job."""
    return open_image(path, axes=axes)


_held: list[IO[str]] = []
"""Locks that this process holds until it ends."""


def _own_gpu() -> int:
    """A GPU that no other worker of this machine has taken; by turns where there are more workers than GPUs."""
    count = torch.cuda.device_count()
    if count == 1:
        return 0
    try:
        import fcntl
    except ImportError:  # Windows
        return os.getpid() % count
    for gpu in range(count):
        file = (Path(tempfile.gettempdir()) / f"pssr2_gpu_{os.getuid()}_{gpu}.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
        else:
            _held.append(file)
            return gpu
    return os.getpid() % count
