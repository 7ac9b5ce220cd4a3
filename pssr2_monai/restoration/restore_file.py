"""Restoring one image file, of any size: blocks of it are read, go through the network, and are written."""

from __future__ import annotations

import errno
import logging
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import Inferer

from pssr2_monai.errors import InputError, causes
from pssr2_monai.images.axes import Frames, frames_of, is_volume, scaled_pixel_size, scaled_shape
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.windows import fit_image_intensity
from pssr2_monai.images.writer import Writer, create_writer, part_path, remove
from pssr2_monai.networks.record import Record
from pssr2_monai.progress import Progress
from pssr2_monai.restoration import engines
from pssr2_monai.restoration.engines import Engine
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journal import (
    Journal,
    Unfinished,
    fingerprint,
    journal_of,
    settings_begun_with,
    was_finished,
)
from pssr2_monai.restoration.layout import Layout, layout_of
from pssr2_monai.restoration.restore_image import Restoring

logger = logging.getLogger(__name__)
FULL = (errno.ENOSPC, errno.EDQUOT)
SHOWN_PIXELS = 2**24
"""Images of more pixels show their progress."""


def restore_frames(
    frames: np.ndarray, network: Callable[..., torch.Tensor], inferer: Inferer, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Restores the frames of one sample in memory.

    Args:
        frames: ``(LR frames, Y, X)`` float32 in [0, 1].
        network: takes and gives ``(batch, frames, Y, X)``.
        inferer: how the network is laid over the image.
        device: where the network is.

    Returns:
        ``(HR frames, scale * Y, scale * X)`` float32.
    """
    with torch.inference_mode():
        output = inferer(torch.from_numpy(frames)[None].to(device), network)
    restored: np.ndarray = output[0].float().cpu().numpy()
    return restored


def check_frames(image: LazyImage, record: Record) -> Frames:
    """The frames of an image, refused if they are too few for the network.

    Raises:
        InputError: says how many there are and how many are asked for.
    """
    frames = frames_of(image.axes, image.shape, record.stack)
    # A volume may have any depth, those that a network was trained on or others.
    frames.check_n_frames(2 if is_volume(record.scale) else record.n_frames[0], image.path.name)
    return frames


def restore_file(
    source: str | Path,
    target: str | Path,
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer | None = None,
    *,
    axes: str | None = None,
    overwrite: bool = False,
    engine: Engine | None = None,
    model: engines.Model | None = None,
    quiet: bool = False,
) -> Path:
    """Restores one image file, keeping its axes, dtype and intensity scale; the pixel size is divided by the scale.

    Neither the source nor the target is ever whole in memory. What was interrupted goes on where it stopped when the
    same is asked for again, and gives the same file, whoever did which part of it. Where there is no room for the
    windows, it begins anew with half of them at a time, else with smaller ones, and says so.

    Args:
        source: an image file of any supported format.
        target: the file to write, in the format that its suffix names.
        network: in evaluation mode, on the device that is to do the work.
        record: of the network's weights.
        inferer: how the network is laid over the image; ``SeamlessInferer()`` by default.
        axes: axes of a file that does not tell its own.
        overwrite: replace an existing file, and what an interrupted run has left.
        engine: the workers that share the jobs; this process alone by default.
        model: where they take the network from.
        quiet: show no progress.

    Raises:
        InputError: the file cannot be read or written, has fewer frames than the network needs, was changed meanwhile,
            or a run of other settings was interrupted.
        Unfinished: the disk is full, or workers were lost; what is done is kept.
    """
    inferer = inferer or SeamlessInferer(volume=is_volume(record.scale))
    source, path = Path(source).absolute(), Path(target).absolute()
    if was_finished(path) and not overwrite:
        remove(journal_of(path))
        return Path(target)
    task = Task(source, path, network, record, inferer, axes, engine, model, quiet)
    halvings = 0
    while True:
        try:
            _restore(task, halvings, overwrite)
            return Path(target)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            smaller = inferer.halved(halvings + 1)
            if smaller is None:
                raise InputError(f"{source}: out of memory even for the smallest window; use another device") from error
            told = "%s: out of memory; begins anew with %d of %d LR pixels at a time"
            logger.warning(told, source, smaller.batch_size, smaller.window)
        # The windows decide a little about the output, so that what was written by larger ones does not fit.
        halvings, overwrite = halvings + 1, True


@dataclass(frozen=True)
class Task:
    """What ``restore_file`` is asked for."""

    source: Path
    target: Path
    network: torch.nn.Module
    record: Record
    inferer: SeamlessInferer
    axes: str | None
    engine: Engine | None
    model: engines.Model | None
    quiet: bool


def _restore(task: Task, halvings: int, overwrite: bool) -> None:
    """Restores a file, or what an interrupted run has left of it, with windows that were halved some times."""
    path, notes = task.target, journal_of(task.target)
    with open_image(task.source, axes=task.axes) as image, _full_disk_told(path):
        state = fingerprint(task.source)
        if overwrite or not part_path(path).exists():
            remove(notes)
        halvings = settings_begun_with(notes).get("halvings", halvings)
        inferer = task.inferer.halved(halvings) or task.inferer
        layout = layout_of(image, path, task.record, inferer)
        settings: dict[str, Any] = {"source": [task.source.name, state, image.axes, list(image.shape)]}
        settings |= network_settings(task.network, task.record, task.inferer) | {"halvings": halvings}
        settings["blocks"] = [*layout.chunks, len(layout.columns), *map(len, layout.columns[0])]
        settings["axes"] = [axis.length for axis in layout.axes]
        intensity = fit_image_intensity(image, task.record.intensity, task.record.stack)
        journal = Journal(notes, settings) if notes.exists() else None
        writer = output_writer(path, image, task.record, overwrite, resume=journal is not None, layout=layout)
        try:
            if writer.chunks is not None:
                journal = journal or Journal(notes, settings)
            restoring = Restoring(image, writer, task.network, task.record, inferer, intensity)
            restoring.quantize()
            if task.engine is None or task.model is None:
                _run(restoring, journal, task.quiet)
            else:
                shared = engines.Assignment(
                    task.model, task.source, tuple(state), task.axes, writer, restoring.inferer, intensity
                )
                _run(restoring, journal, task.quiet, task.engine, shared)
            if fingerprint(task.source) != state:
                raise InputError(f"{task.source}: was changed while it was read; restore it when it is complete")
            writer.close(keep=True, spread=map if task.engine is None else partial(_spread, task.engine))
        except BaseException as error:
            if journal is not None and journal.done and _kept(error):
                writer.suspend()  # for the same command to go on with
            else:
                writer.abort()
                remove(notes)
            raise
        remove(notes)


def restore_whole(
    model: engines.Model, inferer: SeamlessInferer, axes: str | None, overwrite: bool, pair: tuple[Path, Path]
) -> InputError | None:
    """Restores a file in a worker; gives the error that doing it again would not mend, if any."""
    with engines.one_at_a_time():
        try:
            network, record = model.load()
            restore_file(*pair, network, record, inferer, axes=axes, overwrite=overwrite, quiet=True)
        except InputError as error:
            return error
    return None


def network_settings(network: torch.nn.Module, record: Record, inferer: SeamlessInferer) -> dict[str, Any]:
    """All that an output depends on besides its source."""
    weights = 0
    for tensor in network.state_dict().values():
        weights = zlib.crc32(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes(), weights)
    windows = [inferer.window, inferer.overlap, inferer.batch_size, inferer.precision, inferer.backend]
    return {"weights": weights, "record": asdict(record), "windows": windows}


def output_writer(
    path: Path,
    image: LazyImage,
    record: Record,
    overwrite: bool,
    resume: bool = False,
    dtype: npt.DTypeLike | None = None,
    layout: Layout | None = None,
) -> Writer:
    """The writer of what an image is restored to, block by block, in its own dtype or another.

    A layout of larger blocks than there are by default is one of shards.
    """
    frames = check_frames(image, record)
    scale = frames.scale_by_axis(record.scale)
    return create_writer(
        path,
        shape=scaled_shape(image.axes, image.shape, scale),
        dtype=image.dtype if dtype is None else np.dtype(dtype),
        axes=image.axes,
        pixel_size=scaled_pixel_size(image.pixel_size, scale),
        channel_names=image.channel_names,
        overwrite=overwrite,
        resume=resume,
        in_blocks=True,
        shards=None if layout is None else layout.shards(image.axes),
    )


def _run(
    restoring: Restoring,
    journal: Journal | None,
    quiet: bool,
    engine: Engine | None = None,
    task: engines.Assignment | None = None,
) -> None:
    """Does what is left of all jobs, here or on an engine's workers."""
    layout, pixels = restoring.layout, math.prod(restoring.writer.shape)
    rows_in_all = len(layout.samples) * len(layout.columns) * layout.sizes[0]
    rows_done = sum(len(rows) for parts in journal.done.values() for rows in parts) if journal is not None else 0
    before = pixels * rows_done // rows_in_all
    if rows_done:
        logger.info("%s: goes on where it was interrupted", restoring.writer.path)
    shown = not quiet and pixels > SHOWN_PIXELS
    with Progress(restoring.image.path.name, pixels, layout.blocks, layout.windows, before, shown) as bar:
        if engine is None or task is None:
            with closing(restoring.run(layout.jobs(journal), bar.window)) as blocks:
                for job, rows, written in blocks:
                    if journal is not None:
                        journal.note(job.name, rows)
                    bar.update(written)
        else:
            assert journal is not None, "several workers need a target that they can write to at once"
            jobs = layout.jobs(journal, engine.workers)
            for job, written in engine.run(partial(engines.restore_job, task), jobs):
                if isinstance(written, InputError):
                    raise written
                journal.note(job.name, job.rows)
                bar.update(written)


def _spread(engine: Engine, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """``map`` on an engine's workers."""
    return (result for _, result in engine.run(function, items))


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no room: torch says so of a GPU by a class of its own, of the processor by words alone."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error)


def _kept(error: BaseException) -> bool:
    """Whether what is done is of use after an error: unless the input is at fault."""
    return not isinstance(error, InputError) or any(isinstance(each, (Unfinished, OSError)) for each in causes(error))


@contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    """Says in one line that the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise Unfinished(
            f"{path}: the disk is full; make room and give the same command again: it goes on where it stopped"
        ) from error
