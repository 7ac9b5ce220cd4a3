"""Outputs under way: written beside their place under a name no reader takes, then moved into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError
from pssr2_monai.images.registry import is_zarr

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""What applies a function that can be pickled to all items, as ``map`` does, here or elsewhere, in any order."""


def part_of(path: Path) -> Path:
    """Where an output is built until it is complete: ``stack.ome.tif.part`` beside ``stack.ome.tif``."""
    return path.with_name(path.name + ".part")


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


def finish(part: Path, path: Path) -> None:
    """Moves a complete output into place, over an older one of that name."""
    if path.is_dir():
        # A folder cannot be replaced in one step: the old one steps aside first, so that neither is ever half there.
        old = path.with_name(path.name + ".old.part")
        remove(old)
        path.rename(old)
        part.rename(path)
        remove(old)
    else:
        os.replace(part, path)


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
