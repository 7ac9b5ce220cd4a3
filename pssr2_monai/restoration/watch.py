"""Restoring a folder that a microscope writes into: each image as soon as it is complete."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError, check_folder, one_line
from pssr2_monai.images.files import first_names, format_of, is_zarr, list_images, stem_of
from pssr2_monai.images.formats.tiff_sets import files_of_set
from pssr2_monai.images.writer import written_name
from pssr2_monai.machine import Terminated, stopped_by_sigterm
from pssr2_monai.restoration.journal import fingerprint, was_finished
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.plan import PreparedRun, load_run
from pssr2_monai.restoration.restore import restore_prepared

logger = logging.getLogger(__name__)
LONGEST_DELAY = 600.0  # seconds between two tries of a file that cannot be restored
HEADERS = (".mhd", ".nhdr")  # of pixels in files of the same stem


def watch(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    options: RestoreOptions | None = None,
    *,
    settle: float = 5.0,
    interval: float = 1.0,
    stop: threading.Event | None = None,
    **keywords: Any,
) -> list[Path]:
    """Restore every image of a folder, and those that are written into it, until Ctrl-C or SIGTERM.

    A file is restored when it has not changed for the settling time and can be opened. One that cannot is tried again
    when it has changed, and else ever less often. Restored files that exist already stay as they are.

    Args:
        source: the folder; files in folders within it are not read, except OME-Zarr images.
        target: the folder to write files of the same names into, another than the source.
        weights: see ``restore.restore``.
        options: how to restore, in this process.
        settle: with watch, the seconds for which size and time of a file must not have changed; more than the longest
            pause of the microscope within a file.
        interval: seconds between two looks at the folder.
        stop: ends the watch when it is set, for programs that run it in a thread.
        keywords: single options, which take precedence.

    Returns:
        The files written.

    Raises:
        InputError: there is no such folder, or the target cannot be written into; an option that watching lacks.
    """
    options = replace(merge_options(options, keywords), skip_bad=False)
    source, target, stop = Path(source), Path(target), stop or threading.Event()
    _check(source, target, options, settle)
    watched = _Watch(source, target, load_run(target, weights, options, watched=True), Arrivals(settle))
    logger.info("%s: watched until Ctrl-C; files are restored when unchanged for %g s", source, settle)
    with stopped_by_sigterm():
        try:
            while not stop.is_set():
                watched.look(stop)
                stop.wait(interval)
        except (KeyboardInterrupt, Terminated):
            pass
    logger.info("%s: stopped; %d files restored. The same command resumes", source, len(watched.written))
    return watched.written


def _check(source: Path, target: Path, options: RestoreOptions, settle: float) -> None:
    if not source.is_dir() or is_zarr(source):
        raise InputError(f"{source}: is not a folder; watch the folder that the microscope writes into")
    if target.exists() and target.resolve() == source.resolve():
        raise InputError(f"{target}: restored files would be taken for new scans; give another folder")
    if options.shared or options.profile is not None:
        raise InputError("watch: restores in this process; leave out workers, scheduler and profile")
    if settle < 0:
        raise InputError(f"settle: {settle} is not a time; give 0 or more seconds")
    written_name(Path("scan.tif"), options.format)  # refuses formats that are not written
    check_folder(target)


def state_while_written(path: Path) -> Any:
    """What changes while an image is written: for Zarr every chunk, for a header the pixels in files of its stem."""
    if is_zarr(path):
        files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    elif path.suffix.lower() in HEADERS:
        files = [str(file) for file in path.parent.iterdir() if stem_of(file) == stem_of(path)]
    else:
        return fingerprint(path)
    states = [os.stat(file) for file in files]
    return len(files), sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


def _check_set(path: Path) -> None:
    """Refuse a file of a set whose other files are not yet here: its image would have the planes of some alone."""
    missing = [file.name for file in files_of_set(path) if not file.exists()] if format_of(path) == "tiff" else []
    if missing:
        raise InputError(f"{path}: {first_names(sorted(missing))} of its set are not here yet")


@dataclass
class _Arrival:
    """What is remembered of a file: how it looked, and when its turn is if it stays so; never where it is None."""

    state: Any
    due: float | None
    delay: float


@dataclass
class Arrivals:
    """Which files are complete: those that look the same for a settling time, in seconds of any clock."""

    settle: float
    state: Callable[[Path], Any] = state_while_written
    finished_state: Callable[[Path], Any] = fingerprint  # of files that are done, of which there may be many
    _known: dict[Path, _Arrival] = field(default_factory=dict)

    def due(self, paths: Iterable[Path], now: float) -> list[Path]:
        """The files whose turn it is."""
        known, self._known = self._known, {}
        turns = []
        for path in paths:
            arrival = known.get(path)
            finished = arrival is not None and arrival.due is None
            try:
                state = self.finished_state(path) if finished else self.state(path)
            except (OSError, InputError):  # moved away, or held by the program that writes it
                state = None if arrival is None else arrival.state
            if state is None:
                continue
            if arrival is None or state != arrival.state:
                arrival = _Arrival(self.state(path) if finished else state, now + self.settle, max(self.settle, 1.0))
            elif arrival.due is not None and now >= arrival.due:
                turns.append(path)
            self._known[path] = arrival
        return turns

    def finish(self, path: Path, state: Any) -> None:
        """A file that had this finished state needs no further work unless it changes."""
        self._known[path] = _Arrival(state, None, 0.0)

    def put_off(self, path: Path, now: float) -> None:
        """Try this file again after a delay, which doubles each time, or when it has changed."""
        arrival = self._known[path]
        arrival.due = now + arrival.delay
        arrival.delay = min(2 * arrival.delay, LONGEST_DELAY)


@dataclass
class _Watch:
    """One watch: its folders, the network, and what it has done."""

    source: Path
    target: Path
    run: PreparedRun
    arrivals: Arrivals
    written: list[Path] = field(default_factory=list)
    messages: dict[Path, str] = field(default_factory=dict)  # the last one of each file

    def look(self, stop: threading.Event) -> None:
        """Restore what is complete by now."""
        files = self._images()
        if files is None:
            return
        names = Counter(written_name(file, self.run.options.format) for file in files)
        standing = 0
        for file in self.arrivals.due(files, time.monotonic()):
            if stop.is_set():
                return
            output = self.target / written_name(file, self.run.options.format)
            try:
                state = self.arrivals.finished_state(file)
                if names[output.name] > 1:
                    raise InputError(f"{file}: another image is also written to {output.name}; rename one of them")
                if self._stands(file, output):
                    standing += 1
                else:
                    _check_set(file)
                    with self.run.of_files(file, output) as planned:
                        self.written += restore_prepared(planned)
                self.arrivals.finish(file, state)
            except Exception as error:  # whatever is wrong with one file, others follow
                self.arrivals.put_off(file, time.monotonic())
                self._report(file, error)
        if standing:
            logger.info("%s: %d restored files exist already and stay", self.target, standing)

    def _images(self) -> list[Path] | None:
        """The images of the folder; None where it cannot be read, as when a drive of the network is away."""
        try:
            images = [path for path in list_images(self.source) if path.is_file() or is_zarr(path)]
        except FileNotFoundError:  # a file was renamed meanwhile
            return None
        except InputError as error:
            if not self.source.is_dir():
                self._report(self.source, error)
                return None
            return []
        except OSError as error:
            self._report(self.source, error)
            return None
        self.messages.pop(self.source, None)
        return images

    def _stands(self, file: Path, output: Path) -> bool:
        """Whether there is nothing to do for a file: it was restored, or its output is not ours to replace."""
        journal = self.run.journal
        if journal is not None and output in journal:
            return journal.finished(file, output)
        return output.exists() and not self.run.options.overwrite and not was_finished(output)

    def _report(self, path: Path, error: Exception) -> None:
        """Log an error, once until it is another."""
        message = str(error) if isinstance(error, InputError) else f"{path}: {type(error).__name__}: {one_line(error)}"
        if self.messages.get(path) != message and (path == self.source or path.exists()):
            logger.warning("waiting: %s", message)
            self.messages[path] = message
