"""Who does the jobs: this process, others of this machine, or the workers of a Dask cluster.

The order in which jobs are finished does not matter: no two of them write to one chunk.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar
from uuid import uuid4

import torch

import pssr2_monai
from pssr2_monai.errors import InputError
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.writer import Writer
from pssr2_monai.machine import keep_memory
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights, weights_file
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journal import Unfinished
from pssr2_monai.restoration.layout import Job
from pssr2_monai.restoration.restore_image import Restoring

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


logger = logging.getLogger(__name__)
Item = TypeVar("Item")
ON_THE_WAY = 2
"""Jobs a worker that are handed out at a time: the one it does, and the next."""
CONNECT_SECONDS = 10
RETRIES = 2


class Engine(Protocol):
    """Workers, each with a network of its own.

    Attributes:
        workers: how many there are.
        one_machine: whether all of them are on this one, so that two may write to one page of a file.
    """

    workers: int
    one_machine: bool

    def run(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Calls a function, that can be pickled, on each item; gives each with the result, as they are finished.

        Raises:
            Unfinished: workers were lost.
        """
        ...


@contextmanager
def open_engine(workers: int | None = None, scheduler: str | None = None) -> Iterator[Engine | None]:
    """The engine that is asked for, or None for this process alone.

    Args:
        workers: how many processes of this machine share the work.
        scheduler: address of the scheduler of a Dask cluster.

    Raises:
        InputError: both, fewer than one worker, or a cluster that cannot be used.
    """
    if workers is not None and scheduler is not None:
        raise InputError("workers and scheduler: give one of them; a cluster has its own workers")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers: {workers!r} is not a number of processes; give 1 or more")
    if scheduler is not None:
        with _dask(scheduler) as engine:
            yield engine
    elif workers is not None and workers > 1:
        with _processes(workers) as engine:
            yield engine
    else:
        yield None


class ProcessEngine:
    """Processes of this machine."""

    one_machine = True

    def __init__(self, workers: int, executor: ProcessPoolExecutor) -> None:
        self.workers, self._executor = workers, executor

    def run(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """See `Engine.run`."""
        left = iter(items)
        waiting: dict[Future[Any], Item] = {}
        try:
            while True:
                for item in islice(left, ON_THE_WAY * self.workers - len(waiting)):
                    waiting[self._executor.submit(function, item)] = item
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool as error:
            raise Unfinished(
                "a worker process was killed, most likely for want of memory; give the same command again, with fewer "
                "--workers or a smaller --window: it goes on where it stopped"
            ) from error


@contextmanager
def _processes(count: int) -> Iterator[ProcessEngine]:
    threads = max(1, torch.get_num_threads() // count)
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=_begin_worker, initargs=(threads,)
    )
    try:
        yield ProcessEngine(count, executor)
        executor.shutdown()
    except BaseException:
        # What they are at is not yet noted as done, and would be waited for.
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        executor.shutdown(cancel_futures=True)
        raise


def _begin_worker(threads: int) -> None:
    """Called first in each process."""
    set_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the parent was killed, which would otherwise leave it writing to what others resume."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_any([parent.sentinel])
        os._exit(1)


class DaskEngine:
    """The workers of a Dask cluster that stands already."""

    one_machine = False

    def __init__(self, client: Any) -> None:
        self._client = client
        self.workers = len(client.scheduler_info(n_workers=-1)["workers"])

    def run(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """See `Engine.run`; the jobs of a worker that dies are done by others."""
        from concurrent.futures import CancelledError

        from distributed import as_completed
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        left = iter(items)
        waiting: dict[Any, Item] = {}
        finished = as_completed(loop=self._client.loop)

        def submit(some: Iterable[Item]) -> None:
            for item in some:
                future = self._client.submit(function, item, pure=False, retries=RETRIES)
                waiting[future] = item
                finished.add(future)

        try:
            submit(islice(left, ON_THE_WAY * self.workers))
            for future in finished:
                result = future.result()
                submit(islice(left, 1))
                yield waiting.pop(future), result
        except (KilledWorker, CancelledError, CommClosedError) as error:
            raise Unfinished(
                f"the cluster lost its scheduler, or several workers at the same job ({type(error).__name__}); look at "
                "the workers' logs, and give the same command again: it goes on where it stopped"
            ) from error
        finally:
            self._client.cancel(list(waiting))


@contextmanager
def _dask(address: str) -> Iterator[DaskEngine]:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("scheduler: needs the package distributed; pip install 'pssr2-monai[dask]'") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"scheduler: no Dask scheduler answers at {address!r} within {CONNECT_SECONDS} s; check the address, such "
            "as tcp://host:8786, and that it runs"
        ) from error
    with client:
        _check_workers(client, address)
        engine = DaskEngine(client)
        logger.info("%d Dask workers; dashboard: %s", engine.workers, client.dashboard_link)
        yield engine


def _check_workers(client: Any, address: str) -> None:
    """Refuses a cluster whose workers would not do the same as this process."""
    try:
        found = client.run(versions)
    except Exception as error:  # whatever unpickling or importing raises over there
        raise InputError(
            f"scheduler: the workers of {address} cannot import pssr2_monai ({' '.join(str(error).split())[:120]}); "
            "install it there"
        ) from error
    if not found:
        raise InputError(f"scheduler: {address} has no workers; start some with: dask worker {address}")
    here = versions()
    for worker, there in found.items():
        for package, version in here.items():
            if there[package] != version:
                raise InputError(
                    f"scheduler: worker {worker} has {package} {there[package]}, but here is {version}; install the "
                    "same on all"
                )
