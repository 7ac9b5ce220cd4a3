"""Records of finished work, so that the same command resumes where an earlier one was interrupted."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import files_of_image, is_zarr, list_images
from pssr2_monai.images.safeguards import without_link
from pssr2_monai.images.writer import part_path, remove, written_atomically

FOLDER_JOURNAL = ".restoring.json"
FOLDER_PARTS = ("settings", "sources", "replaced")
LONGEST_LINE = 2**20  # characters; a record has some thousand
ZARR_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class Unfinished(InputError):
    """Work that stopped for a reason outside the input; what is done is kept, and the same command resumes."""


class Journal:
    """Which rows of which column are written, in a file next to the unfinished output.

    Its entries are used only if it was begun with the same settings: all that the output depends on.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.done: dict[str, list[range]] = {}
        expected = json.dumps(settings, sort_keys=True)
        without_link(path)
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        complete = text[: text.rfind("\n") + 1]  # what follows the last line break was cut off
        if not complete:
            remove(path)
            self._append(expected)
            return
        if len(complete) < len(text):
            os.truncate(path, len(complete.encode("utf-8")))
        begun, *lines = complete.splitlines()
        if begun != expected:
            raise InputError(
                f"{path}: a restoring of other settings, or of the input as it was before, was interrupted here; "
                f"{_advice(begun_settings(path))}"
            )
        try:
            for line in lines:
                column, first, stop = line.rsplit(" ", 2)
                if not 0 <= int(first) <= int(stop):
                    raise ValueError("no rows")
                self._add(column, range(int(first), int(stop)))
        except ValueError:
            message = f"{path}: line {line[:80]!r} is damaged; delete the file to restore from the start"
            raise InputError(message) from None

    def note(self, column: str, rows: range) -> None:
        self._append(f"{column} {rows.start} {rows.stop}")
        self._add(column, rows)

    def _append(self, line: str) -> None:
        # A link that others have put here meanwhile is not followed.
        number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        with os.fdopen(number, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def missing(self, column: str, size: int) -> list[range]:
        """The rows of a column of this size that are not yet written."""
        gaps, first = [], 0
        for rows in self.done.get(column, ()):
            gaps.append(range(first, rows.start))
            first = rows.stop
        return [gap for gap in [*gaps, range(first, size)] if len(gap)]

    def _add(self, column: str, rows: range) -> None:
        merged: list[range] = []
        for part in sorted([*self.done.get(column, ()), rows], key=lambda part: part.start):
            if merged and part.start <= merged[-1].stop:
                merged[-1] = range(merged[-1].start, max(merged[-1].stop, part.stop))
            else:
                merged.append(part)
        self.done[column] = merged


@contextmanager
def held(target: Path) -> Iterator[None]:
    """Hold an output, so that a second run does not write into the same unfinished file.

    The lock, ``stack.tif.lock``, is the operating system's: it ends with the process, however that ends.
    """
    path = without_link(part_path(target).with_suffix(".lock"))
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise Unfinished(f"{target}: another run is restoring it; wait for its end, or give another output") from None
    except NotImplementedError:
        yield  # this file system has no locks
        return
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        lock.release()


def begun_settings(path: Path) -> dict[str, Any]:
    """The settings of a journal; empty where there is no journal, or its first line was cut off or is none of ours."""
    if not is_leftover(path):
        return {}
    with path.open(encoding="utf-8", errors="replace") as file:
        line = file.readline(LONGEST_LINE)
    settings = _json(line) if line.endswith("\n") else {}
    return settings if isinstance(settings, dict) else {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def is_leftover(path: Path) -> bool:
    """Whether an earlier run has left this, an unfinished output or a journal: a link may lead out of the folder."""
    return not path.is_symlink() and (path.is_file() or path.is_dir())


def journal_of(target: Path) -> Path:
    """The path of the journal of an output: ``stack.tif.journal`` next to ``stack.tif``."""
    return part_path(target).with_suffix(".journal")


def was_finished(target: Path) -> bool:
    """Whether an output may be of a run that was killed before it could remove its journal.

    It is if the settings of the journal are those of the run that asks; see ``FileRestorer.is_finished``.
    """
    begun = begun_settings(journal_of(target))
    if not begun or not target.exists() or is_leftover(part_path(target)):
        return False
    # A run that was to replace this file has noted its state, which a completed output does not have.
    return begun.get("replaced") != fingerprint(target)


class FolderJournal:
    """Which files a run over a folder writes, and which files they replace: those that have changed are finished.

    The settings are all that the outputs depend on besides their sources; a journal of others is ignored if existing
    files are overwritten, else refused. One that is ``kept`` outlives its run, so that the next one resumes from it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], overwrite: bool = False, kept: bool = False) -> None:
        self.path = folder / FOLDER_JOURNAL
        self._overwrite = overwrite
        self._kept = kept
        self._settings = json.loads(json.dumps({**settings, "overwrite": overwrite}))
        self._sources: dict[str, Any] = {}
        self._replaced: dict[str, Any] = {}
        if is_leftover(self.path):
            begun = _json(self.path.read_text(encoding="utf-8", errors="replace")) if self.path.is_file() else None
            if not isinstance(begun, dict) or not all(isinstance(begun.get(name), dict) for name in FOLDER_PARTS):
                raise InputError(f"{self.path}: is not the journal of a restoring; delete it")
            if begun["settings"] == self._settings:
                self._sources, self._replaced = begun["sources"], begun["replaced"]
            elif not overwrite:
                raise InputError(
                    f"{folder}: a restoring of other settings was interrupted here; {_advice(begun['settings'])}"
                )

    def __contains__(self, target: object) -> bool:
        """Whether the interrupted run was to write this file."""
        return isinstance(target, Path) and target.parent == self.path.parent and target.name in self._sources

    def finished(self, source: Path, target: Path) -> bool:
        """Whether the interrupted run has written this file already, from the source as it is now."""
        if target not in self or not target.exists() or self._replaced.get(target.name) == fingerprint(target):
            return False
        unchanged: bool = self._sources[target.name] == fingerprint(source)
        if not unchanged and not self._overwrite:
            raise InputError(
                f"{target}: was restored before {source.name} changed; delete it, or ask to overwrite all of them"
            )
        return unchanged

    def begin(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        """Record which sources are to become which targets, next to those of earlier runs, and what these replace."""
        for source, target in pairs:
            old = self._overwrite and target.exists() and not self.finished(source, target)
            self._replaced[target.name] = fingerprint(target) if old else self._replaced.get(target.name)
        self._sources |= {target.name: fingerprint(source) for source, target in pairs}
        content = {"settings": self._settings, "sources": self._sources, "replaced": self._replaced}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with written_atomically(self.path) as part:
            part.write_text(json.dumps(content), encoding="utf-8")

    def end(self) -> None:
        """All files are written: from now on they are ordinary files, which are not replaced unless asked for."""
        if not self._kept:
            remove(self.path)


def _advice(begun: Mapping[str, Any]) -> str:
    if begun.get("overwrite"):
        return "it was to overwrite files: give the same options and overwrite again to resume it"
    return "finish it with those, or ask to overwrite it"


def fingerprint(path: Path) -> list[int]:
    """What shows that an image has changed: size and time of change of a file, or a checksum of those of several.

    For Zarr the metadata count, not the chunks, which may be millions.
    """
    if is_zarr(path):
        files = [file for name in ZARR_METADATA for file in [*path.glob(name), *path.glob(f"*/{name}")]]
    else:
        images = [path] if path.is_file() else list_images(path)
        files = [file for image in images for file in files_of_image(image)]
    if files == [path]:
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files)]
    return [len(files), zlib.crc32(json.dumps(states).encode())]
