"""What restoring would do, told before it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import target_files
from pssr2_monai.machine import default_device
from pssr2_monai.networks.precision import choose_precision
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.engines import open_engine
from pssr2_monai.restoration.estimate import Estimate, Output, check_output_room, estimate, output_of, table
from pssr2_monai.restoration.inferer import INT8, SeamlessInferer
from pssr2_monai.restoration.journal import FolderJournal, was_finished
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.restore_file import check_frames, network_settings

MapsOf = Callable[[Path, Output], Sequence[Output]]
"""What is written beside the output of a source, such as ``fidelity.maps.map_outputs``."""


@dataclass(frozen=True)
class PlannedFile:
    """One file and what becomes of it.

    Attributes:
        source: the image file.
        axes: letters out of TZCYX.
        shape: its pixels along each.
        dtype: of its pixels, and of the output's.
        pixel_size: micrometres along the axes for which it is known.
        output: the file to be.
        maps: files beside it that tell how far to trust it.
    """

    source: Path
    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size: dict[str, float]
    output: Output
    maps: tuple[Output, ...] = ()


@dataclass(frozen=True)
class RestoringPlan:
    """What ``restore`` with the same arguments would do.

    Attributes:
        settings: the weights, their network, and how they are run.
        files: what is left to do.
        finished: how many files an interrupted run has done.
        estimate: of memory and, after a trial, of time; None where nothing is left to do.
        problem: why the outputs cannot be written, if they cannot.
    """

    settings: dict[str, Any]
    files: tuple[PlannedFile, ...]
    finished: int
    estimate: Estimate | None
    problem: str | None

    def __str__(self) -> str:
        told = [f"{name:12}{value}" for name, value in self.settings.items()]
        told += [f"{'finished':12}{self.finished} files, by an interrupted run"] if self.finished else []
        for file in self.files:
            told.append(f"{file.source} ({file.axes}, {' x '.join(map(str, file.shape))} {file.dtype})")
            told += [f"  -> {output.path}" for output in (file.output, *file.maps)]
        return "\n".join([*told, self.table()])

    def table(self) -> str:
        """The outputs, a line each, with memory and time after a trial; and the problem, if there is one."""
        told = "nothing is left to do" if self.estimate is None else table(self.estimate)
        return f"{told}\n{self.problem}" if self.problem else told


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
    """What ``restore`` with the same arguments would do; nothing is written.

    With ``trial`` a few windows are restored, for the time and the memory that it takes; what is written beside each
    output is told by ``maps``.

    Raises:
        InputError: what ``restore`` would refuse.
    """
    options = merge_options(options, keywords)
    device, precision, axes = options.device or default_device(), options.precision, options.axes
    work = prepare(source, target, weights, options, device)
    network, record, inferer, outputs = work.network, work.record, work.inferer, work.outputs
    count = options.workers or 1
    if options.scheduler is not None:
        with open_engine(options.workers, options.scheduler) as engine:
            count = engine.workers if engine is not None else 1
    problem = None
    beside = [tuple(maps(file, output)) if maps is not None else () for (file, _), output in outputs.items()]
    written = [*outputs.values(), *(each for own in beside for each in own)]
    try:
        check_output_room(written)
    except InputError as error:
        problem = str(error)
    settings = {
        "weights": str(weights),
        "network": record.network.get("_target_"),
        "parameters": sum(each.numel() for each in network.parameters()),
        "scale": record.scale,
        "n_frames": list(record.n_frames),
        "device": device,
        "precision": precision
        if precision == INT8
        else str(choose_precision(precision, torch.device(device))).removeprefix("torch."),
        "backend": options.backend,
        "window": inferer.window,
        "overlap": inferer.overlap,
        "workers": count,
    }
    expected = None
    if outputs:
        expected = estimate(list(outputs), written, network, record, inferer, axes, count, trial)
    files = tuple(
        _planned(file, output, axes, own) for ((file, _), output), own in zip(outputs.items(), beside, strict=True)
    )
    return RestoringPlan(settings, files, len(work.pairs) - len(outputs), expected, problem)


@dataclass(frozen=True)
class Preparation:
    """What is known when all has been checked and nothing is restored.

    Attributes:
        network: of the weights, on its device.
        record: of the weights.
        inferer: how the network is laid over the images.
        journal: of an interrupted run into the folder; None where all is begun anew.
        pairs: each source and what it becomes.
        outputs: of the pairs that no interrupted run has finished.
    """

    network: torch.nn.Module
    record: Record
    inferer: SeamlessInferer
    journal: FolderJournal | None
    pairs: list[tuple[Path, Path]]
    outputs: dict[tuple[Path, Path], Output]


def prepare(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    options: RestoreOptions,
    device: str,
) -> Preparation:
    """Checks all that restoring is asked for.

    Raises:
        InputError: see ``restore.restore``.
    """
    network, record = load_weights(weights, device)
    inferer = options.inferer(record)
    journal = None
    if not options.overwrite:
        journal = FolderJournal(Path(target), network_settings(network, record, inferer) | {"axes": options.axes})
    pairs = match_outputs(source, target, record, options, journal or ())
    left = [pair for pair in pairs if journal is None or not journal.finished(*pair)]
    outputs = {pair: output_of(*pair, record, inferer, options.axes) for pair in left}
    return Preparation(network, record, inferer, journal, pairs, outputs)


def _planned(source: Path, output: Output, axes: str | None, maps: tuple[Output, ...]) -> PlannedFile:
    with open_image(source, axes=axes) as image:
        return PlannedFile(source, image.axes, image.shape, str(image.dtype), dict(image.pixel_size), output, maps)


logger = logging.getLogger(__name__)


def match_outputs(
    source: str | Path,
    target: str | Path,
    record: Record,
    options: RestoreOptions | None = None,
    begun: Container[Path] = (),
) -> list[tuple[Path, Path]]:
    """Which file is restored into which, every source having been looked at.

    Args:
        source: an image file, or a folder of them.
        target: the file to write, or the folder to write files of the same names into.
        record: of the weights that are to restore them.
        options: how they are restored.
        begun: targets that may exist, since an interrupted run that goes on has made them.

    Raises:
        InputError: a source cannot be read or has too few frames, a target exists, or two would be the same.
    """

    options = options or RestoreOptions()

    def may_exist(output: Path) -> bool:
        return output in begun or was_finished(output)

    pairs = []
    for file, output in target_files(Path(source), Path(target), options.overwrite, options.format, may_exist):
        try:
            with open_image(file, axes=options.axes) as image:
                check_frames(image, record)
        except InputError as error:
            if not options.skip_bad:
                raise
            logger.warning("left out: %s", error)
        else:
            pairs.append((file, output))
    if not pairs:
        raise InputError(f"{source}: none of its images can be restored")
    return pairs
