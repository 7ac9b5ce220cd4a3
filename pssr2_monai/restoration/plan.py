"""What restoring will do: targets matched, files opened, weights loaded, once for the plan and for what runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.writer import target_files
from pssr2_monai.machine import default_device
from pssr2_monai.networks.precision import choose_precision
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.engines import open_engine
from pssr2_monai.restoration.estimate import (
    Estimate,
    Output,
    check_output_room,
    output_of,
    peak_memory,
    window_seconds,
)
from pssr2_monai.restoration.inferer import INT8, SeamlessInferer
from pssr2_monai.restoration.journal import FolderJournal, begun_settings, fingerprint, journal_of, was_finished
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.restore_file import FileRestorer, check_frames, network_settings

logger = logging.getLogger(__name__)
MapsOf = Callable[[LazyImage, Output], Sequence[Output]]  # written next to the output: ``fidelity.maps.map_outputs``
OPEN_FILES = 64  # at most; systems allow 256 or more


@dataclass(frozen=True)
class PlannedFile:
    """One file and what it is restored to."""

    image: LazyImage  # the source, open, or closed until it is read where too many would be open
    state: list[int]  # of the source when it was opened: its ``fingerprint``
    output: Output
    maps: tuple[Output, ...] = ()  # files next to it that say how far to trust it

    @property
    def pair(self) -> tuple[Path, Path]:
        return self.image.path, self.output.path


@dataclass(frozen=True)
class PreparedRun(AbstractContextManager["PreparedRun"]):
    """A run of restoring that is checked and ready to begin; it closes the files that it has not restored."""

    options: RestoreOptions
    network: torch.nn.Module  # in evaluation mode, on its device
    record: Record
    inferer: SeamlessInferer
    journal: FolderJournal | None  # of the files of the run; None for a run that does not resume
    pairs: tuple[tuple[Path, Path], ...]  # every source and its output, those that are finished among them
    files: tuple[PlannedFile, ...]  # what is left to do

    @property
    def outputs(self) -> list[Output]:
        """The files to write: the restored images, then their maps."""
        return [*(file.output for file in self.files), *(output for file in self.files for output in file.maps)]

    def of_files(self, source: str | Path, target: str | Path, maps: MapsOf | None = None) -> PreparedRun:
        """This run for a file or a folder, whose targets are matched and whose images are opened and checked."""
        pairs, files = _matched_files(source, target, self.record, self.inferer, self.options, self.journal, maps)
        restorer = FileRestorer(self.network, self.record, self.inferer, self.options.overwrite)
        for file in files:
            output = file.output.path.absolute()
            if output.exists() and not (self.options.overwrite or restorer.is_finished(file.image, output, file.state)):
                raise InputError(
                    f"{output}: exists already, and {journal_of(output).name} is not of this run; give another output, "
                    "or ask to overwrite it"
                )
        return replace(self, pairs=tuple(pairs), files=tuple(files))

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            file.image.close()


def prepare(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    options: RestoreOptions,
    *,
    device: str | None = None,
    maps: MapsOf | None = None,
    resume: bool = True,
) -> PreparedRun:
    """Load the weights, match the targets, and open and check every source once; see ``restore.restore``.

    The files stay open for the run: no more than ``OPEN_FILES`` of them, so that others are opened again by their turn.
    The network is on ``device``: by default that of the options, or the processor where workers have networks of their
    own. Without ``resume``, nothing that an interrupted run has finished is kept.
    """
    run = load_run(target, weights, options, device=device, resume=resume)
    return run.of_files(source, target, maps)


def load_run(
    target: str | Path,
    weights: str | Path,
    options: RestoreOptions,
    *,
    device: str | None = None,
    resume: bool = True,
    watched: bool = False,
) -> PreparedRun:
    """A run without files yet; see ``prepare``. The journal of a ``watched`` folder is kept for the next run."""
    own_device = "cpu" if options.shared else options.device or default_device()
    network, record = load_weights(weights, device or own_device)
    inferer = options.inferer(record)
    journal = None
    if resume:
        settings = network_settings(network, record, inferer) | {
            "axes": options.axes,
            "image": options.image,
            "bar": options.bar,
        }
        journal = FolderJournal(Path(target), settings, options.overwrite, kept=watched)
    return PreparedRun(options, network, record, inferer, journal, (), ())


def match_outputs(
    source: str | Path, target: str | Path, record: Record, options: RestoreOptions | None = None
) -> list[PlannedFile]:
    """Each source, opened and checked, and the file that it is restored to.

    Args:
        source: an image file, or a folder of them.
        target: the file to write, or the folder to write files of the same names into.
        record: of the weights that restore them.
        options: how to restore.

    Raises:
        InputError: a source cannot be read or has too few frames, a target exists, or two would be the same.
    """
    options = options or RestoreOptions()
    return _matched_files(source, target, record, options.inferer(record), options)[1]


def _matched_files(
    source: str | Path,
    target: str | Path,
    record: Record,
    inferer: SeamlessInferer,
    options: RestoreOptions,
    journal: FolderJournal | None = None,
    maps: MapsOf | None = None,
) -> tuple[list[tuple[Path, Path]], list[PlannedFile]]:
    """Every source and its output, and what is planned for those that no interrupted run has finished."""

    def may_exist(output: Path) -> bool:
        if (journal is not None and output in journal) or was_finished(output):
            return True
        if begun_settings(journal_of(output)).get("overwrite"):
            raise InputError(
                f"{output}: an interrupted run was to overwrite it; give the same options and overwrite again to resume"
            )
        return False

    pairs, files = [], []
    for file, output in target_files(Path(source), Path(target), options.overwrite, options.format, may_exist):
        if journal is not None and journal.finished(file, output):
            pairs.append((file, output))
            continue
        try:
            image = open_image(file, options.axes, options.image)
            if options.bar == "crop":
                image.bar_rows = 0
            files.append(_planned(image, output, record, inferer, maps))
        except InputError as error:
            if not options.skip_bad:
                raise
            logger.warning("left out: %s", error)
        else:
            pairs.append((file, output))
            if len(files) > OPEN_FILES:
                files[-1].image.close()
    if not pairs:
        raise InputError(f"{source}: none of its images can be restored")
    return pairs, files


def _planned(
    image: LazyImage, output: Path, record: Record, inferer: SeamlessInferer, maps: MapsOf | None
) -> PlannedFile:
    try:
        check_frames(image, record)
        planned = output_of(image, output, record, inferer)
        return PlannedFile(image, fingerprint(image.path), planned, tuple(maps(image, planned)) if maps else ())
    except BaseException:
        image.close()
        raise


@dataclass(frozen=True)
class RestoringPlan:
    """What ``restore`` with the same arguments would do."""

    settings: dict[str, Any]  # the weights, their network, and how it is applied
    files: tuple[PlannedFile, ...]  # what is left to do
    finished: int  # how many files an interrupted run has finished
    estimate: Estimate | None  # of memory and, after a trial, of time; None where nothing is left to do
    problem: str | None  # why the outputs cannot be written, if they cannot

    def __str__(self) -> str:
        lines = [f"{name:12}{value}" for name, value in self.settings.items()]
        lines += [f"{'finished':12}{self.finished} files, by an interrupted run"] if self.finished else []
        for file in self.files:
            image = file.image
            place = f"{image.place}, " if len(image.entries) > 1 else ""
            shape = " x ".join(map(str, image.shape))
            bar = f", above a data bar of {image.bar_rows} rows" if image.bar_rows else ""
            lines.append(f"{image.path} ({place}{image.axes}, {shape} {image.dtype}{bar})")
            lines += [f"  -> {output.path}" for output in (file.output, *file.maps)]
        return "\n".join([*lines, self.table()])

    @property
    def data(self) -> dict[str, Any]:
        """The plan for programs."""
        files = [
            {name: getattr(file.image, name) for name in ("axes", "shape", "dtype", "pixel_size")}
            | {"source": file.image.path, "output": file.output, "maps": file.maps}
            for file in self.files
        ]
        return vars(self) | {"files": files}

    def table(self) -> str:
        """The outputs, a line each, with memory and time after a trial; and the problem, if there is one."""
        table = "nothing is left to do" if self.estimate is None else str(self.estimate)
        return f"{table}\n{self.problem}" if self.problem else table


def plan_restoring(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    options: RestoreOptions | None = None,
    *,
    trial: bool = False,
    maps: MapsOf | None = None,
    **keywords: Any,
) -> RestoringPlan:
    """Plan what ``restore`` with the same arguments would do, refusing what it refuses; nothing is written.

    A trial restores a few windows, for the time and the memory that restoring takes.
    """
    options = merge_options(options, keywords)
    device = options.device or default_device()
    with prepare(source, target, weights, options, device=device, maps=maps) as run:
        with open_engine(options, weights) if options.scheduler is not None else nullcontext() as engine:
            workers = (options.workers or 1) if engine is None else engine.workers
        try:
            check_output_room(run.outputs)
            problem = None
        except InputError as error:
            problem = str(error)
        settings = {"weights": str(weights), **_settings(run, device), "workers": workers}
        trials: tuple[Any, ...] = ()
        if trial and run.files:  # of the largest file
            largest = max(run.files, key=lambda file: file.output.windows)
            trials = window_seconds(largest.image, run.network, run.record, run.inferer), peak_memory()
    estimate = Estimate(tuple(run.outputs), workers, *trials) if run.files else None
    return RestoringPlan(settings, run.files, len(run.pairs) - len(run.files), estimate, problem)


def _settings(run: PreparedRun, device: str) -> dict[str, Any]:
    precision = run.options.precision
    if precision != INT8:
        precision = str(choose_precision(precision, torch.device(device))).removeprefix("torch.")
    return {
        "network": run.record.network.get("_target_"),
        "parameters": sum(parameter.numel() for parameter in run.network.parameters()),
        "scale": run.record.scale,
        "n_frames": list(run.record.n_frames),
        "device": device,
        "precision": precision,
        "backend": run.options.backend,
        "window": run.inferer.window,
        "overlap": run.inferer.overlap,
    }
