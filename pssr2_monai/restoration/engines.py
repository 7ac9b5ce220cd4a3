"""Who does the work: this process, other processes of this machine, or the workers of a Dask cluster.

The order in which items are finished does not matter: no two of them write to the same chunk.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any, TypeVar

import torch

import pssr2_monai
from pssr2_monai.errors import InputError
from pssr2_monai.machine import keep_memory
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights, weights_file
from pssr2_monai.registered_names import import_packages, imported_packages
from pssr2_monai.restoration.journal import Unfinished
from pssr2_monai.restoration.options import RestoreOptions

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
ITEMS_PER_WORKER = 2  # handed out at a time: the one that a worker restores, and the next
CONNECT_SECONDS = 10.0
RETRIES = 2  # how often the item of a worker that died is given to another
KILLED_PROCESS = (
    "a worker process was killed, most likely for want of memory; give the same command again, with fewer --workers or "
    "a smaller --window"
)
LOST_CLUSTER = (
    "the cluster lost its scheduler, or several workers at the same item; look at the workers' logs, and give the same "
    "command again"
)


@dataclass(frozen=True)
class WorkerNetwork:
    """The network that each worker loads for itself."""

    weights: Path  # which all workers must see under this path
    nbytes: int  # so that another file under this path is not mistaken for it
    modified_ns: int  # decides whether a worker loads it again
    device: str | None  # "cuda" or None for a GPU of the worker's own, where there are some
    packages: tuple[str, ...] = ()  # of the user's, whose networks the weights may name

    @classmethod
    def of(cls, weights: str | Path, device: str | None) -> WorkerNetwork:
        """The network of a file of weights, or of bundled weights."""
        path = weights_file(weights).absolute()
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns, device, imported_packages())

    @lru_cache(maxsize=1)  # noqa: B019 (a process has one)
    def load(self) -> tuple[torch.nn.Module, Record]:
        """The network and its record, loaded once per process."""
        keep_memory()  # Dask sets MALLOC_TRIM_THRESHOLD_, which would return memory to the system after every window
        if not self.weights.is_file() or self.weights.stat().st_size != self.nbytes:
            raise InputError(
                f"{self.weights}: a worker does not find this file, or finds another; all workers must see the "
                "weights, the input and the output under the same paths"
            )
        import_packages(self.packages)
        device = self.device
        if device in (None, "cuda"):
            device = f"cuda:{own_gpu()}" if torch.cuda.is_available() else "cpu"
        return load_weights(self.weights, device)


_exclusive = threading.Lock()
_threads: int | None = None


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one item run at a time, with all threads of the worker: several would need the memory of as many."""
    with _exclusive:
        threads = _threads
        if threads is None:
            from distributed import get_worker

            threads = int(get_worker().state.nthreads)
        torch.set_num_threads(threads)
        yield


def versions() -> dict[str, str]:
    """What must agree between all processes that restore one image."""
    return {"pssr2_monai": pssr2_monai.__version__, "torch": torch.__version__}


held_locks: list[int] = []  # file descriptors of GPU locks, until this process ends


def own_gpu(folder: Path | None = None) -> int:
    """A GPU that no other worker of this user on this machine uses; shared where there are more workers than GPUs.

    Other users may write to the folder of the lock files, so that these are neither followed as links, nor changed.
    """
    count = torch.cuda.device_count()
    if count == 1:
        return 0
    try:
        import fcntl
    except ImportError:  # Windows
        return os.getpid() % count
    folder = folder or Path(tempfile.gettempdir())
    for gpu in range(count):
        path = folder / f"pssr2_gpu_{os.getuid()}_{gpu}.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            held_locks.append(lock)
            return gpu
    return os.getpid() % count


@dataclass(frozen=True)
class Engine:
    """Workers, each with its own copy of the network."""

    executor: Executor  # hands items to them
    workers: int  # how many there are
    one_machine: bool  # whether all of them are on this machine, so that two may write to one page of a file
    network: WorkerNetwork  # that they load
    lost: tuple[type[BaseException], ...]  # errors that mean that workers were lost
    advice: str  # what the user can do then

    def run(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Call a function, which can be pickled, on each item; yield items with their results, as they are finished."""
        remaining = iter(items)
        running: dict[Future[Any], Item] = {}
        try:
            while True:
                for item in islice(remaining, ITEMS_PER_WORKER * self.workers - len(running)):
                    running[self.executor.submit(function, item)] = item
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except self.lost as error:
            raise Unfinished(f"{self.advice}, to resume ({type(error).__name__})") from error
        finally:
            for future in running:
                future.cancel()


def open_engine(
    options: RestoreOptions, weights: str | Path, connect_seconds: float = CONNECT_SECONDS
) -> AbstractContextManager[Engine | None]:
    """The engine of ``workers``, ``scheduler`` and ``device``, or None for this process alone."""
    if not options.shared:
        return nullcontext()
    network = WorkerNetwork.of(weights, options.device)
    if options.scheduler is not None:
        return _dask(options.scheduler, network, connect_seconds)
    return _processes(options.workers or 1, network)


@contextmanager
def _processes(count: int, network: WorkerNetwork) -> Iterator[Engine]:
    threads = max(1, torch.get_num_threads() // count)
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, context, initializer=_begin_worker, initargs=(threads,))
    try:
        yield Engine(executor, count, True, network, (BrokenProcessPool,), KILLED_PROCESS)
        executor.shutdown()
    except BaseException:
        # What they work on is not yet noted as done, and need not be waited for.
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        executor.shutdown(cancel_futures=True)
        raise


def _begin_worker(threads: int) -> None:
    global _threads
    _threads = threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the parent was killed: it would go on writing to what a later run resumes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_any([parent.sentinel])
        os._exit(1)


@contextmanager
def _dask(address: str, network: WorkerNetwork, connect_seconds: float) -> Iterator[Engine]:
    try:
        from distributed import Client
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise InputError("scheduler: needs the package distributed; pip install 'pssr2-monai[dask]'") from error
    try:
        client = Client(address, timeout=connect_seconds, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"scheduler: no Dask scheduler answers at {address!r} within {connect_seconds:g} s; check the address, "
            "such as tcp://host:8786, and that it runs"
        ) from error
    with client:
        _check_workers(client, address)
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        logger.info("%d Dask workers; dashboard: %s", workers, client.dashboard_link)
        executor = client.get_executor(pure=False, retries=RETRIES)
        yield Engine(executor, workers, False, network, (KilledWorker, CancelledError, CommClosedError), LOST_CLUSTER)


def _check_workers(client: Any, address: str) -> None:
    try:
        workers = client.run(versions)
    except Exception as error:  # whatever unpickling or importing raises in a worker
        raise InputError(
            f"scheduler: the workers of {address} cannot import pssr2_monai ({' '.join(str(error).split())[:120]}); "
            "install it there"
        ) from error
    if not workers:
        raise InputError(f"scheduler: {address} has no workers; start some with: dask worker {address}")
    for worker, installed in workers.items():
        for package, version in versions().items():
            if installed[package] != version:
                raise InputError(
                    f"scheduler: worker {worker} has {package} {installed[package]}, but here is {version}; install "
                    "the same on all"
                )
