"""Who does the jobs: this process, others of this machine, or the workers of a Dask cluster.

The order in which jobs are finished does not matter: no two of them write to one chunk.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Protocol, TypeVar

import torch

from pssr2_monai.errors import InputError
from pssr2_monai.restoration import workers
from pssr2_monai.restoration.journals import Unfinished

__all__ = ["Engine", "open_engine"]

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
    workers.set_threads(threads)
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
        found = client.run(workers.versions)
    except Exception as error:  # whatever unpickling or importing raises over there
        raise InputError(
            f"scheduler: the workers of {address} cannot import pssr2_monai ({' '.join(str(error).split())[:120]}); "
            "install it there"
        ) from error
    if not found:
        raise InputError(f"scheduler: {address} has no workers; start some with: dask worker {address}")
    here = workers.versions()
    for worker, there in found.items():
        for package, version in here.items():
            if there[package] != version:
                raise InputError(
                    f"scheduler: worker {worker} has {package} {there[package]}, but here is {version}; install the "
                    "same on all"
                )
