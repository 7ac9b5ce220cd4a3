"""The folder of a training: checked before the work, and held by one training at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from filelock import FileLock, Timeout

from pssr2_monai.errors import InputError, check_folder
from pssr2_monai.images.writer import written_atomically
from pssr2_monai.training.checkpoints import BEST, LAST
from pssr2_monai.training.run_record import RUN

CONFIG, TENSORBOARD, LOCK = "config.json", "tensorboard", ".lock"
logger = logging.getLogger(__name__)


class RunFolder:
    """Holds the folder of a training, so that a second one cannot write into it.

    The lock is the operating system's: it ends with the process, however that ends. Of several processes that train
    together, rank 0 holds it.

    Args:
        folder: where weights, state, config and TensorBoard files are written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self._lock: FileLock | None = None
        self._created: list[Path] = []

    def take(self) -> None:
        """Create the folder and hold it.

        Raises:
            InputError: it cannot be written to, or another training holds it.
        """
        if self._lock is not None or idist.get_rank() > 0:
            return
        parts = [self.folder / name for name in (BEST, LAST, CONFIG, RUN) if (self.folder / name).is_dir()]
        parts += [self.folder / TENSORBOARD] if (self.folder / TENSORBOARD).is_file() else []
        if parts:
            raise InputError(f"{parts[0]}: is in the way of what a training writes; move it, or give another folder")
        check_folder(self.folder)
        if (self.folder / LOCK).is_symlink():
            raise InputError(f"{self.folder / LOCK}: is a link, which a training does not follow; delete it")
        self._created = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        lock = FileLock(self.folder / LOCK, timeout=0, thread_local=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            self._lock = lock
        except Timeout:
            raise InputError(f"{self.folder}: another training is writing here; give another folder") from None
        except NotImplementedError:
            logger.info("%s: this file system has no locks; start one training at a time here", self.folder)

    def release(self) -> None:
        """Let others use the folder, which is removed where nothing was written into it."""
        if self._lock is not None:
            with suppress(OSError):
                (self.folder / LOCK).unlink()
            self._lock.release()
            self._lock = None
        self._remove_empty()

    def _remove_empty(self) -> None:
        with suppress(OSError):
            for path in self._created:
                path.rmdir()
        self._created = []

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record of the training, and its config, which a resumed training is started with."""
        for name, content in ((RUN, record), (CONFIG, record["config"])):
            with written_atomically(self.folder / name) as part:
                part.write_text(json.dumps(content, indent=4, default=str), encoding="utf-8")
