"""Restoring files and folders, one file after the other."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine as IgniteEngine
from ignite.engine import Events

from pssr2_monai.errors import InputError, UsageError
from pssr2_monai.machine import profiled
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.engines import Engine, open_engine
from pssr2_monai.restoration.estimate import Output, check_output_room
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journal import Unfinished
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.plan import PlannedFile, PreparedRun, prepare
from pssr2_monai.restoration.restore_file import FileRestorer, restore_in_worker

logger = logging.getLogger(__name__)
PROFILED_PARTS = ("read", "network", "blend", "cast", "write")
SHARED_PIXELS = 2**24  # outputs of no more HR pixels are restored by one worker each, faster than by sharing them


def restore(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    options: RestoreOptions | None = None,
    **keywords: Any,
) -> list[Path]:
    """Restore a file, or every image of a folder.

    An interrupted run resumes when the same is asked for again: blocks that are written and files that are finished are
    not restored anew.

    Args:
        source: an image file, a folder of them, or a folder of slices if the target is a file; any of the axes TZCYX.
        target: the file to write, or the folder to write files of the same names into. Axes, data type and intensity
            scale are those of the source, Y and X (for volumes Z, too) ``scale`` times as long, pixels as much smaller.
        weights: a ``model.pt`` of a training, or the name of bundled weights: ``em``, ``em_2x``, ``em_denoise``,
            ``fluo_denoise``, ``fluo_2x``.
        options: how to restore; ``RestoreOptions()`` by default.
        keywords: single options, which take precedence: ``restore(scans, out, weights, window=256)``.

    Returns:
        The files written, those of the interrupted run among them.

    Raises:
        InputError: before any work, where an option is wrong, a source cannot be read, a target exists or cannot be
            written; see ``restore_file.FileRestorer``.

    Example:
        >>> [path.name for path in restore("scans/cell_0.tif", "restored.tif", "run/model.pt")]
        ['restored.tif']
    """
    options = merge_options(options, keywords)
    with open_engine(options, weights) as engine, prepare(source, target, weights, options) as run:
        return restore_prepared(run, engine)


def restore_prepared(run: PreparedRun, engine: Engine | None = None, shared_pixels: int = SHARED_PIXELS) -> list[Path]:
    """Restore a prepared run; return the files written, and those that an interrupted run had finished.

    Outputs of more than ``shared_pixels`` HR pixels are divided among the workers.
    """
    check_output_room(run.outputs)
    left = list(run.files)
    done = {output for _, output in run.pairs} - {file.output.path for file in left}
    if done:
        logger.info("%s: resumes after %d files", run.pairs[0][1].parent, len(done))
    in_folder = run.journal is not None and all(output.parent == run.journal.path.parent for _, output in run.pairs)
    if run.journal is not None and in_folder:
        run.journal.begin(run.pairs)
    if engine is not None:
        divided = {file.output.path for file in left if is_divided(file.output, engine, shared_pixels)}
        done.update(_restore_whole_files([file for file in left if file.output.path not in divided], engine, run))
        left = [file for file in left if file.output.path in divided]
    steps = restoring_engine(run.network, run.record, run.inferer, run.options, engine)
    steps.add_event_handler(Events.ITERATION_COMPLETED, lambda steps: done.update(steps.state.output))
    if left:
        profile = run.options.profile
        with profiled(profile, PROFILED_PARTS) if profile is not None else nullcontext():
            steps.run(left)
    if run.journal is not None and in_folder:
        run.journal.end()
    return [output for _, output in run.pairs if output in done]


def restoring_engine(
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer | None = None,
    options: RestoreOptions | None = None,
    engine: Engine | None = None,
    **removed: Any,
) -> IgniteEngine:
    """An Ignite engine that restores one file per step; run it on what ``plan.match_outputs`` returns.

    The output of a step is the list of files written: one, or none where a bad file was left out.

    Args:
        network: in evaluation mode, on the device that does the work.
        record: of its weights.
        inferer: applies the network to windows; that of the options by default.
        options: ``axes``, ``overwrite`` and ``skip_bad``.
        engine: the workers that share the work; this process alone by default.
        removed: keywords of former releases, such as ``axes``, refused with what to give instead.

    Raises:
        UsageError: there are such keywords, or unknown ones.
    """
    if removed:
        merge_options(options, removed)  # refuses what is not an option at all
        names = ", ".join(f"options#{name} instead of evaluator#{name}" for name in removed)
        raise UsageError(f"restoring_engine: takes these as RestoreOptions; in a bundle's configuration give {names}")
    options = options or RestoreOptions()
    restorer = FileRestorer(network, record, inferer or options.inferer(record), options.overwrite, engine)

    def step(_: IgniteEngine, file: PlannedFile) -> list[Path]:
        file.output.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            restorer.restore(file.image, file.output.path, file.state)
        except InputError as error:
            return _report(file, error, options.skip_bad)
        return _report(file)

    return IgniteEngine(step)


def _restore_whole_files(files: list[PlannedFile], engine: Engine, run: PreparedRun) -> list[Path]:
    """Restore files, each of them whole by one worker, which opens it, and return those written."""
    of_target = {file.output.path.absolute(): file for file in files}
    for target in of_target:
        target.parent.mkdir(parents=True, exist_ok=True)
    restore_pair = partial(restore_in_worker, engine.network, run.inferer, run.options.overwrite)
    results = engine.run(restore_pair, ((file.image, target) for target, file in of_target.items()))
    return [path for (_, target), error in results for path in _report(of_target[target], error, run.options.skip_bad)]


def _report(file: PlannedFile, error: InputError | None = None, skip_bad: bool = False) -> list[Path]:
    """Log what became of a source, and return the files written: its target, or none where it is left out."""
    if error is None:
        logger.info("%s -> %s", *file.pair)
        return [file.output.path]
    if not skip_bad or isinstance(error, Unfinished):
        raise error
    logger.warning("left out: %s", error)
    return []


def is_divided(output: Output, engine: Engine, shared_pixels: int = SHARED_PIXELS) -> bool:
    """Whether workers share a file, rather than one of them restoring it whole."""
    if math.prod(output.shape) <= shared_pixels or output.path.suffix == ".png":
        return False
    if engine.one_machine or output.path.suffix == ".zarr":
        return True
    # Two machines that write to one page of a file undo each other's work.
    logger.warning("%s: is restored by one worker alone; several can write .ome.zarr only", output.path.name)
    return False
