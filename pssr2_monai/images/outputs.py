"""Unfinished outputs: written under a temporary name that no reader takes, then moved into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError
from pssr2_monai.images.registry import is_zarr

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""What applies a function that can be pickled to all items, as ``map`` does, here or elsewhere, in any order."""


def part_path(path: Path) -> Path:
    """The temporary name of an output until it is complete: ``stack.ome.tif.part`` next to ``stack.ome.tif``."""
    return path.with_name(path.name + ".part")


@contextmanager
def written_atomically(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and move what is written there into place at the end of the block.

    If the block raises, what it wrote is removed and ``path`` stays as it was. The block writes a file or makes a
    folder.

    Args:
        path: the file or folder to write; it is replaced if it exists.
        suffix: what the temporary name ends in after ``.part``, for libraries that choose a format by it.

    Example:
        >>> with written_atomically(Path("note.txt")) as part:
        ...     size = part.write_text("complete")
        >>> Path("note.txt").read_text(), part.exists()
        ('complete', False)
    """
    part = path.with_name(part_path(path).name + suffix)
    remove(part)  # left by a process that was killed
    try:
        yield part
        move_into_place(part, path)
    except BaseException:
        remove(part)
        raise


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse to write where something lies that is not to be overwritten, or where there is no folder.

    Raises:
        InputError: says which.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; create it first")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name, or allow it to be overwritten")
    if path.is_dir() and not is_zarr(path):
        raise InputError(f"{path}: is a folder that holds no Zarr image and is not overwritten; choose another name")


def check_room(path: Path, nbytes: int) -> None:
    """Refuse an output for which the disk has no room.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    free = shutil.disk_usage(path.parent).free
    if nbytes > free:
        raise InputError(
            f"{path.name}: needs {nbytes / 1e9:.2f} GB, but {path.parent} has {free / 1e9:.2f} GB free; "
            "write elsewhere or make room"
        )


def move_into_place(part: Path, path: Path) -> None:
    """Move a complete output to its name, replacing an older one."""
    if path.is_dir():
        # A folder cannot be replaced in one step: the old one is renamed first, so that neither is ever incomplete.
        old = path.with_name(path.name + ".old.part")
        remove(old)
        path.rename(old)
        part.rename(path)
        remove(old)
    else:
        os.replace(part, path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
