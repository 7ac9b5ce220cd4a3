"""Remembering what is done, so that the same command goes on where an earlier one was interrupted."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import is_zarr, list_images
from pssr2_monai.images.writer import part_path, remove, written_atomically

FOLDER_JOURNAL = ".restoring.json"
ZARR_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class Unfinished(InputError):
    """Work that stopped for a reason outside the input; what is done is kept, and the same command goes on."""


class Journal:
    """Which rows of which job are written, in a file beside the output under way.

    Args:
        path: the file; what it tells of is only taken over if it was begun with the same settings.
        settings: all that the output depends on.

    Raises:
        InputError: the file was begun with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.done: dict[str, list[range]] = {}
        wanted = json.dumps(settings, sort_keys=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # what follows the last line break was cut off
        if not whole:
            path.write_text(wanted + "\n", encoding="utf-8")
            return
        if len(whole) < len(text):
            os.truncate(path, len(whole.encode("utf-8")))
        begun, *lines = whole.splitlines()
        if begun != wanted:
            raise InputError(
                f"{path}: a restoring of other settings, or of the input as it was before, was interrupted here; "
                "finish it with those, or ask to overwrite it"
            )
        for line in lines:
            job, first, stop = line.rsplit(" ", 2)
            self._add(job, range(int(first), int(stop)))

    def note(self, job: str, rows: range) -> None:
        """These rows of a job are written."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{job} {rows.start} {rows.stop}\n")
        self._add(job, rows)

    def missing(self, job: str, size: int) -> list[range]:
        """The rows of a job, out of so many, that are not yet written."""
        gaps, first = [], 0
        for rows in self.done.get(job, ()):
            gaps.append(range(first, rows.start))
            first = rows.stop
        return [gap for gap in [*gaps, range(first, size)] if len(gap)]

    def _add(self, job: str, rows: range) -> None:
        """Adds rows to those done, which are kept in order, neighbours as one."""
        merged: list[range] = []
        for each in sorted([*self.done.get(job, ()), rows], key=lambda part: part.start):
            if merged and each.start <= merged[-1].stop:
                merged[-1] = range(merged[-1].start, max(merged[-1].stop, each.stop))
            else:
                merged.append(each)
        self.done[job] = merged


def settings_begun_with(path: Path) -> dict[str, Any]:
    """The settings of a journal; none where there is no journal, or its first line was cut off."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    return dict(json.loads(line)) if line.endswith("\n") else {}


def journal_of(target: Path) -> Path:
    """Where the journal of an output lies: ``stack.tif.journal`` beside ``stack.tif``."""
    return part_path(target).with_suffix(".journal")


def was_finished(target: Path) -> bool:
    """Whether an output was completed by a run that was killed before it could remove its journal."""
    return target.exists() and journal_of(target).exists() and not part_path(target).exists()


class FolderJournal:
    """Which files a run over a folder is making: those of them that exist are finished, since none did when it began.

    Args:
        folder: of the outputs.
        settings: all that the outputs depend on besides their sources.

    Raises:
        InputError: a run of other settings was interrupted here.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / FOLDER_JOURNAL
        self._settings = json.loads(json.dumps(settings))
        self._sources: dict[str, Any] = {}
        if self.path.is_file():
            begun = json.loads(self.path.read_text(encoding="utf-8"))
            if begun["settings"] != self._settings:
                raise InputError(
                    f"{folder}: a restoring of other settings was interrupted here; finish it with those, or ask to "
                    "overwrite it"
                )
            self._sources = begun["sources"]

    def __contains__(self, target: object) -> bool:
        """Whether the interrupted run was to make this file."""
        return isinstance(target, Path) and target.parent == self.path.parent and target.name in self._sources

    def finished(self, source: Path, target: Path) -> bool:
        """Whether the interrupted run has made this file already.

        Raises:
            InputError: it has, from another source of this name.
        """
        if target not in self or not target.exists():
            return False
        if self._sources[target.name] != fingerprint(source):
            raise InputError(
                f"{target}: was restored before {source.name} changed; delete it, or ask to overwrite all of them"
            )
        return True

    def begin(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        """Notes which sources are to become which targets, none of which is there unless this run has made it."""
        sources = {target.name: fingerprint(source) for source, target in pairs}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(self.path) as part:
            part.write_text(json.dumps({"settings": self._settings, "sources": sources}), encoding="utf-8")

    def end(self) -> None:
        """All files are made: they are as others are now, not to be replaced unless asked."""
        if self.path.is_file():
            remove(self.path)


def fingerprint(path: Path) -> list[int]:
    """What shows that an image has changed: size and time of change of a file, and a sum of those of a folder's files.

    Of a Zarr the metadata count, not the chunks, which may be millions.
    """
    if path.is_file():
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    if is_zarr(path):
        files = [each for name in ZARR_METADATA for each in [*path.glob(name), *path.glob(f"*/{name}")]]
    else:
        files = list_images(path)
    states = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in sorted(files)]
    return [len(files), zlib.crc32(json.dumps(states).encode())]
