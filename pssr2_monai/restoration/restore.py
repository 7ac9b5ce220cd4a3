"""Restoring files and folders, one file after the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine as IgniteEngine
from ignite.engine import Events

from pssr2_monai.errors import InputError
from pssr2_monai.machine import default_device, profiled
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.engines import Engine, Model, open_engine
from pssr2_monai.restoration.estimate import Output, check_output_room
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journal import Unfinished
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.plan import prepare
from pssr2_monai.restoration.restore_file import restore_file, restore_whole

PARTS = ("read", "network", "blend", "cast", "write")
"""Of restoring, which a profile tells apart."""
logger = logging.getLogger(__name__)


def restore(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    options: RestoreOptions | None = None,
    **keywords: Any,
) -> list[Path]:
    """Restores a file, or every image of a folder.

    What was interrupted goes on where it stopped when the same is asked for again: the blocks of a file that are
    written, and the files of a folder that are finished, are not made anew.

    Args:
        source: an image file, a folder of them, or a folder of slices if the target is a file; any of the axes TZCYX.
        target: the file to write, or the folder to write files of the same names into. Axes, data type and intensity
            scale are those of the source, Y and X (and Z, of volumes) ``scale`` times as long, pixels as much smaller.
        weights: a ``model.pt`` with its record.
        options: how to restore; ``RestoreOptions()`` by default.
        keywords: single options, which take the place of those: ``restore(scans, out, weights, window=256)``.

    Returns:
        The files written, those of the interrupted run among them.

    Raises:
        InputError: before any work, where an option is wrong, a source cannot be read, a target exists or cannot be
            written; see ``restore_file``.

    Example:
        >>> [path.name for path in restore("scans/cell_0.tif", "restored.tif", "run/model.pt")]
        ['restored.tif']
    """
    options = merge_options(options, keywords)
    with open_engine(options.workers, options.scheduler) as engine:
        own = (options.device or default_device()) if engine is None else "cpu"
        work = prepare(source, target, weights, options, own)
        pairs, outputs, journal, inferer = work.pairs, work.outputs, work.journal, work.inferer
        left = list(outputs)
        check_output_room(list(outputs.values()))
        if len(left) < len(pairs):
            logger.info("%s: goes on where it was interrupted, after %d files", target, len(pairs) - len(left))
        if journal is not None and all(output.parent == Path(target) for _, output in pairs):
            journal.begin(pairs)
        done = {output for _, output in pairs} - {output for _, output in left}
        model = None if engine is None else Model.of(weights, options.device)
        if engine is not None and model is not None:
            whole = [pair for pair in left if not is_divided(outputs[pair], engine)]
            done.update(restore_whole_files(whole, engine, model, inferer, options))
            left = [pair for pair in left if pair not in whole]
        steps = restoring_engine(work.network, work.record, inferer, options, engine, model)
        steps.add_event_handler(Events.ITERATION_COMPLETED, lambda running: done.update(running.state.output))
        if left:
            with profiled(options.profile, PARTS) if options.profile is not None else nullcontext():
                steps.run(left)
        if journal is not None:
            journal.end()
    return [output for _, output in pairs if output in done]


def restoring_engine(
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer | None = None,
    options: RestoreOptions | None = None,
    workers: Engine | None = None,
    model: Model | None = None,
) -> IgniteEngine:
    """An Ignite engine that restores one file a step; run it on what ``restore_pairs`` gives.

    The output of a step is the list of files written: one, or none where a bad file was left out. For the arguments see
    ``restore_file`` and ``RestoreOptions``; the workers, if any, take the network from ``model``.
    """
    options = options or RestoreOptions()
    inferer = inferer or options.inferer(record)

    def step(_: IgniteEngine, pair: tuple[Path, Path]) -> list[Path]:
        source, target = pair
        target.parent.mkdir(parents=True, exist_ok=True)
        sharing: dict[str, Any] = {"engine": workers, "model": model}
        try:
            restore_file(
                source, target, network, record, inferer, axes=options.axes, overwrite=options.overwrite, **sharing
            )
        except InputError as error:
            if not options.skip_bad or isinstance(error, Unfinished):
                raise
            logger.warning("left out: %s", error)
            return []
        logger.info("%s -> %s", source, target)
        return [target]

    return IgniteEngine(step)


SHARED_PIXELS = 2**24
"""Outputs of no more pixels than this are made by one worker each, which is quicker than sharing them."""


def restore_whole_files(
    pairs: Sequence[tuple[Path, Path]],
    engine: Engine,
    model: Model,
    inferer: SeamlessInferer,
    options: RestoreOptions,
) -> list[Path]:
    """Restores files a whole one a job, and gives those written."""
    of_absolute = {(source.absolute(), target.absolute()): (source, target) for source, target in pairs}
    for _, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
    written = []
    task = partial(restore_whole, model, inferer, options.axes, options.overwrite)
    for pair, error in engine.run(task, of_absolute):
        source, target = of_absolute[pair]
        if error is None:
            logger.info("%s -> %s", source, target)
            written.append(target)
        elif options.skip_bad and not isinstance(error, Unfinished):
            logger.warning("left out: %s", error)
        else:
            raise error
    return written


def is_divided(output: Output, engine: Engine) -> bool:
    """Whether workers share a file, rather than one of them making it whole."""
    if math.prod(output.shape) <= SHARED_PIXELS or output.path.suffix == ".png":
        return False
    if engine.one_machine or output.path.suffix == ".zarr":
        return True
    # Two machines that write to one page of a file undo each other's work.
    logger.warning("%s: is made by one worker alone; several can write .ome.zarr only", output.path.name)
    return False
