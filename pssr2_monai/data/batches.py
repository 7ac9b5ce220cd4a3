"""Batches of tiles: their order in an epoch, which may begin within it, and the processes that load them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, DistributedSampler
from monai.data.utils import worker_init_fn


class TileSampler(DistributedSampler):
    """MONAI's sampler for one process of several or for one alone, without a list of all indices, from any tile on.

    Attributes:
        start: tiles of this process to leave out at the beginning of an epoch: those that were trained on before an
            interruption.
    """

    start = 0

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        order = torch.randperm(count, generator=generator).numpy() if self.shuffle else np.arange(count)
        order = np.resize(order, self.total_size)  # begins again where processes get equal numbers
        return map(int, order[self.rank :: self.num_replicas][self.start :])


class TileLoader(DataLoader):
    """MONAI's loader for tiles, whose workers leave Ctrl-C and SIGTERM from elsewhere to the training.

    They need no ``if __name__ == "__main__"``.

    Args:
        dataset: a ``TileDataset``.
        num_workers: processes that load; 0 for none.
        **options: those of MONAI's loader.
    """

    def __init__(self, dataset: Any, num_workers: int = 0, **options: Any) -> None:
        # Of its own, so that an iterator draws nothing from the generator of the network's dropout.
        generator = torch.Generator()
        super().__init__(dataset, num_workers, worker_init_fn=_begin_worker, generator=generator, **options)

    def begin_epoch(self, epoch: int, steps_done: int = 0) -> None:
        """Set what the next iterator yields: the batches of an epoch, from a step on."""
        self.generator.manual_seed(epoch)
        if isinstance(self.sampler, TileSampler):
            self.sampler.start = steps_done * (self.batch_size or 1)

    def __iter__(self) -> Any:
        method = (self.multiprocessing_context or multiprocessing).get_start_method()
        if self.num_workers == 0 or method == "fork" or _needs_main([self.dataset, self.collate_fn]):
            return super().__iter__()
        with _without_main():
            return super().__iter__()


def _begin_worker(number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # Clusters send SIGTERM to all processes at once: the training must still get the tiles of its last steps.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_for_training, daemon=True).start()
    worker_init_fn(number)


def _end_for_training() -> None:
    """End the process when SIGTERM comes from the one that started it, which ends without it otherwise."""
    training = multiprocessing.parent_process()
    while training is not None and signal.sigwaitinfo({signal.SIGTERM}).si_pid != training.pid:
        pass
    os._exit(0)


@contextmanager
def _without_main() -> Iterator[None]:
    """Let new processes not import the running script, which would start its training again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _needs_main(content: Any) -> bool:
    """Whether something was defined in the running script, so that a new process has to import it."""
    finder = _MainFinder(BytesIO())
    with suppress(Exception):  # what cannot be pickled is reported by the process that is started
        finder.dump(content)
    return finder.needs_main


class _MainFinder(pickle.Pickler):
    needs_main = False

    def persistent_id(self, part: Any) -> Any:
        if isinstance(part, (torch.Tensor, np.ndarray)):
            return "pixels"
        self.needs_main = self.needs_main or getattr(part, "__module__", None) == "__main__"
        return None
