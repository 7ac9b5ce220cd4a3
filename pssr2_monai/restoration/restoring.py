"""Restoring files and folders: which file becomes which, and one after the other."""

from __future__ import annotations

import logging
from collections.abc import Container
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine as IgniteEngine
from ignite.engine import Events

from pssr2_monai.axes import is_volume
from pssr2_monai.errors import InputError
from pssr2_monai.io.formats import is_zarr
from pssr2_monai.io.image import list_images, open_image
from pssr2_monai.io.writer import WRITTEN
from pssr2_monai.profiling import profiled
from pssr2_monai.record import Record, load_weights
from pssr2_monai.restoration.engines import Engine, open_engine
from pssr2_monai.restoration.estimating import check_output_room, estimate, output_of, table
from pssr2_monai.restoration.file_restoring import check_frames, network_settings, restore_file
from pssr2_monai.restoration.inferer import OutOfMemory, SeamlessInferer
from pssr2_monai.restoration.journals import FolderJournal, Unfinished, was_finished
from pssr2_monai.restoration.sharing import is_divided, restore_whole_files
from pssr2_monai.restoration.workers import Model

__all__ = ["estimate_restoring", "restore", "restore_pairs", "restoring_engine", "target_files"]

PARTS = ("read", "network", "blend", "cast", "write")
"""Of restoring, which a profile tells apart."""

logger = logging.getLogger(__name__)


def restore(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    *,
    window: int | None = None,
    overlap: float | None = None,
    precision: str = "auto",
    backend: str = "torch",
    device: str | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    profile: str | Path | None = None,
) -> list[Path]:
    """Restores a file, or every image of a folder.

    What was interrupted goes on where it stopped when the same is asked for again: the blocks of a file that are
    written, and the files of a folder that are finished, are not made anew.

    Args:
        source: an image file, a folder of them, or a folder of slices if the target is a file.
        target: the file to write, or the folder to write files of the same names into.
        weights: a ``model.pt`` with its record.
        window: largest side of the windows in LR pixels; see ``SeamlessInferer``.
        overlap: share of a window that it has in common with its neighbour.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        backend: ``torch`` or, on the processor, ``openvino``.
        device: ``cpu``, ``cuda`` and so on; by default a GPU where there is one, one a worker.
        axes: axes of files that do not tell their own.
        overwrite: replace existing files.
        skip_bad: leave out files that cannot be read, saying so, instead of stopping before any work.
        format: ``tif``, ``ome.tif``, ``ome.zarr`` or ``png`` for files written into a folder; that of the source where
            it can be written, else ``tif``, by default.
        workers: how many processes share the work; this one alone by default.
        scheduler: address of the scheduler of a Dask cluster that is to do the work; all its workers must see the
            weights, the source and the target under the same names.
        profile: folder for a table of where the time of this process went, and a trace of it.

    Returns:
        The files written, those of the interrupted run among them.

    Raises:
        InputError: before any work, where a source cannot be read, a target exists or cannot be written; see
            ``restore_file``.

    Example:
        >>> restore("scan.tif", "restored.tif", "run/model.pt")  # doctest: +SKIP
    """
    windows: dict[str, Any] = {"window": window, "overlap": overlap, "precision": precision, "backend": backend}
    SeamlessInferer(**windows)  # refuses what it does not take before the weights are read
    with open_engine(workers, scheduler) as engine:
        here = device or ("cuda" if torch.cuda.is_available() else "cpu")
        network, record = load_weights(weights, here if engine is None else "cpu")
        inferer = SeamlessInferer(**windows, volume=is_volume(record.scale))
        journal = None if overwrite else _folder_journal(target, network, record, inferer, axes)
        pairs = restore_pairs(source, target, record, axes, overwrite, skip_bad, format, journal or ())
        left = [pair for pair in pairs if journal is None or not journal.finished(*pair)]
        outputs = {pair: output_of(*pair, record, inferer, axes) for pair in left}
        check_output_room(list(outputs.values()))
        if len(left) < len(pairs):
            logger.info("%s: goes on where it was interrupted, after %d files", target, len(pairs) - len(left))
        if journal is not None and all(output.parent == Path(target) for _, output in pairs):
            journal.begin(pairs)
        done = {output for _, output in pairs} - {output for _, output in left}
        model = None if engine is None else Model.of(weights, device)
        if engine is not None and model is not None:
            whole = [pair for pair in left if not is_divided(outputs[pair], engine)]
            done.update(restore_whole_files(whole, engine, model, inferer, axes, overwrite, skip_bad))
            left = [pair for pair in left if pair not in whole]
        steps = restoring_engine(network, record, inferer, axes, overwrite, skip_bad, engine, model)
        steps.add_event_handler(Events.ITERATION_COMPLETED, lambda running: done.update(running.state.output))
        if left:
            with profiled(profile, PARTS) if profile is not None else nullcontext():
                steps.run(left)
        if journal is not None:
            journal.end()
    return [output for _, output in pairs if output in done]


def estimate_restoring(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    *,
    window: int | None = None,
    overlap: float | None = None,
    precision: str = "auto",
    backend: str = "torch",
    device: str | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> str:
    """What ``restore`` with the same arguments would take, as a table; a few windows are restored, nothing is written.

    Raises:
        InputError: see ``restore``.
    """
    windows: dict[str, Any] = {"window": window, "overlap": overlap, "precision": precision, "backend": backend}
    SeamlessInferer(**windows)
    network, record = load_weights(weights, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    inferer = SeamlessInferer(**windows, volume=is_volume(record.scale))
    journal = None if overwrite else _folder_journal(target, network, record, inferer, axes)
    pairs = restore_pairs(source, target, record, axes, overwrite, skip_bad, format, journal or ())
    pairs = [pair for pair in pairs if journal is None or not journal.finished(*pair)]
    if not pairs:
        return f"{target}: nothing is left to do"
    outputs = [output_of(*pair, record, inferer, axes) for pair in pairs]
    count = workers or 1
    if scheduler is not None:
        with open_engine(workers, scheduler) as engine:
            count = engine.workers if engine is not None else 1
    told = table(estimate(pairs, outputs, network, record, inferer, axes, count))
    try:
        check_output_room(outputs)
    except InputError as error:
        told += f"\n{error}"
    return told


def _folder_journal(
    target: str | Path, network: torch.nn.Module, record: Record, inferer: SeamlessInferer, axes: str | None
) -> FolderJournal:
    return FolderJournal(Path(target), network_settings(network, record, inferer) | {"axes": axes})


def restore_pairs(
    source: str | Path,
    target: str | Path,
    record: Record,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
    begun: Container[Path] = (),
) -> list[tuple[Path, Path]]:
    """Which file is restored into which, every source having been looked at.

    Args:
        source: an image file, or a folder of them.
        target: the file to write, or the folder to write files of the same names into.
        record: of the weights that are to restore them.
        axes: axes of files that do not tell their own.
        overwrite: replace existing files.
        skip_bad: leave out sources that cannot be read, saying so.
        format: suffix of the files written into a folder, such as ``ome.zarr``; the sources' by default.
        begun: targets that may exist, since an interrupted run that goes on has made them.

    Raises:
        InputError: a source cannot be read or has too few frames, a target exists, or two would be the same.
    """
    pairs = []
    for file, output in target_files(Path(source), Path(target), overwrite, format, begun):
        try:
            with open_image(file, axes=axes) as image:
                check_frames(image, record)
        except InputError as error:
            if not skip_bad:
                raise
            logger.warning("left out: %s", error)
        else:
            pairs.append((file, output))
    if not pairs:
        raise InputError(f"{source}: none of its images can be restored")
    return pairs


def restoring_engine(
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    workers: Engine | None = None,
    model: Model | None = None,
) -> IgniteEngine:
    """An Ignite engine that restores one file a step; run it on what ``restore_pairs`` gives.

    The output of a step is the list of files written: one, or none where a bad file was left out. For the arguments see
    ``restore_file`` and ``restore``; the workers, if any, take the network from ``model``.
    """

    def step(_: IgniteEngine, pair: tuple[Path, Path]) -> list[Path]:
        source, target = pair
        target.parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"axes": axes, "engine": workers, "model": model}
        try:
            _restore_in_memory(source, target, network, record, inferer, overwrite, options)
        except InputError as error:
            if not skip_bad or isinstance(error, Unfinished):
                raise
            logger.warning("left out: %s", error)
            return []
        logger.info("%s -> %s", source, target)
        return [target]

    return IgniteEngine(step)


def _restore_in_memory(
    source: Path,
    target: Path,
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer | None,
    overwrite: bool,
    options: dict[str, Any],
) -> None:
    """``restore_file``, with half of what the device had no room for until it has."""
    inferer = inferer or SeamlessInferer(volume=is_volume(record.scale))
    while True:
        try:
            restore_file(source, target, network, record, inferer, overwrite=overwrite, **options)
            return
        except OutOfMemory as error:
            smaller = inferer.halved()
            if smaller is None:
                raise InputError(f"{source}: out of memory even for the smallest window; use another device") from error
            logger.warning(
                "%s: out of memory for %s; begins anew with %d of %d LR pixels at a time",
                source,
                error,
                smaller.batch_size,
                smaller.window,
            )
        # The windows decide a little about the output, so that what was written by larger ones does not fit.
        inferer, overwrite = smaller, True


def target_files(
    source: Path, target: Path, overwrite: bool, format: str | None, begun: Container[Path] = ()
) -> list[tuple[Path, Path]]:
    """Which file of a source, one or a folder of them, is made into which file; see ``restore_pairs``.

    Raises:
        InputError: a target exists, is its own source or is another's target, too; or the format is not written.
    """
    one_file = target.name.lower().endswith(tuple(WRITTEN)) and not (target.is_dir() and not is_zarr(target))
    if one_file:  # of a folder of slices, too, which is one stack
        pairs = [(source, target)]
    elif source.is_dir() and not is_zarr(source):
        pairs = [(file, target / _written_name(file, format)) for file in list_images(source)]
    else:
        pairs = [(source, target / _written_name(source, format))]
    outputs = [output for _, output in pairs]
    for file, output in pairs:
        if outputs.count(output) > 1:
            raise InputError(
                f"{file.name}: another image of the folder would be written to {output.name}, too; rename one"
            )
        if output.resolve() == file.resolve():
            raise InputError(f"{output}: is the input itself; give another output")
        if output.exists() and not (overwrite or output in begun or was_finished(output)):
            raise InputError(f"{output}: exists already; give another output, or ask to overwrite it")
    return pairs


def _written_name(file: Path, format: str | None) -> str:
    """The file's name, with the suffix asked for or else one that can be written."""
    if format is None and file.name.lower().endswith(tuple(WRITTEN)):
        return file.name
    suffix = "." + (format or "tif").lower().lstrip(".")
    if not suffix.endswith(tuple(WRITTEN)):
        raise InputError(f"format: {format!r} is not written; use tif, ome.tif, ome.zarr or png")
    stem = file.name.removesuffix(file.suffix)
    return stem.removesuffix(".ome") + suffix
