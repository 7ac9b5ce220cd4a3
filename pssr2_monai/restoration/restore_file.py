"""Restoring one image file of any size: read in windows, restored by the network, written in blocks."""

from __future__ import annotations

import errno
import json
import logging
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pssr2_monai.errors import InputError, causes
from pssr2_monai.images.axes import Frames, frames_of, is_volume, scaled_pixel_size, scaled_shape
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.windows import fit_image_intensity
from pssr2_monai.images.writer import Writer, check_free, create_writer, part_path, remove
from pssr2_monai.networks.record import Record
from pssr2_monai.progress import Progress
from pssr2_monai.restoration.engines import Engine, WorkerNetwork, one_at_a_time
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journal import (
    Journal,
    Unfinished,
    begun_settings,
    fingerprint,
    held,
    is_leftover,
    journal_of,
    was_finished,
)
from pssr2_monai.restoration.layout import Layout, LayoutLimits, layout_of
from pssr2_monai.restoration.restore_image import ImageRestorer, restore_strip

logger = logging.getLogger(__name__)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad allocation")
"""Words of a RuntimeError: of torch on GPUs, on processors of Windows and of Linux, and of C++ libraries."""
ALPHA_BYTES = 2**26
PROGRESS_PIXELS = 2**24  # images of more HR pixels show their progress


def check_frames(image: LazyImage, record: Record) -> Frames:
    """The frames of an image, refused if they are too few for the network."""
    frames = frames_of(image.axes, image.shape, record.stack)
    # A volume may have any depth, those that a network was trained on or others.
    needed = 2 if is_volume(record.scale) else record.n_frames[0]
    frames.check_n_frames(needed, image.path.name, of_weights=True)
    return frames


@dataclass(frozen=True)
class FileRestorer:
    """Restores image files, keeping their axes, dtype and intensity scale; the pixel size is divided by the scale.

    Neither the source nor the target is ever whole in memory. An interrupted run resumes when the same is asked for
    again, and writes the same file, whichever process restored which part of it. Where memory runs out, the file begins
    anew with half of the windows at a time, then with smaller ones, and says so.
    """

    network: torch.nn.Module  # in evaluation mode, on the device that does the work
    record: Record
    inferer: SeamlessInferer
    overwrite: bool = False  # also what a run of other settings has left
    engine: Engine | None = None  # the workers that share a file, if any
    quiet: bool = False  # whether no progress is shown
    limits: LayoutLimits | None = None

    def restore(self, image: LazyImage, target: Path, state: list[int] | None = None) -> None:
        """Restore an image, and close it; ``state`` is the ``fingerprint`` of its file when it was opened."""
        target = target.absolute()
        state = state or fingerprint(image.path)
        halvings = 0
        with image, _full_disk_reported(target), held(target):
            while True:
                try:
                    self._restore(image, target, state, halvings)
                    return
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    halvings += 1
                    smaller = self.inferer.halved(halvings)
                    if smaller is None:
                        message = f"{image.path}: out of memory even for the smallest window; use another device"
                        raise InputError(message) from error
                    size = f"{smaller.batch_size} of {smaller.window} LR pixels at a time"
                    logger.warning("%s: out of memory; begins anew with %s", image.path, size)
                # The windows decide a little about the output, so that what larger ones have written does not fit.
                remove(journal_of(target))

    def _restore(self, image: LazyImage, target: Path, state: list[int], halvings: int) -> None:
        """Restore an image, or what an interrupted run has left of it, with windows that were halved some times."""
        _check_unchanged(image, state)
        notes = journal_of(target)
        if self.is_finished(image, target, state):
            remove(notes)
            return
        settings, layout = self._settings(image, target, state, halvings)
        if (self.overwrite and begun_settings(notes) != settings) or not is_leftover(part_path(target)):
            check_free(target, self.overwrite)
            remove(notes)
            settings, layout = self._settings(image, target, state, halvings)
        scales = fit_image_intensity(image, self.record.intensity, self.record.stack)
        journal = Journal(notes, settings) if notes.exists() else None
        writer = output_writer(target, image, self.record, self.overwrite, resume=journal is not None, layout=layout)
        try:
            if writer.chunks is not None:
                journal = journal or Journal(notes, settings)
            restorer = ImageRestorer(image, writer, self.network, self.record, layout.inferer, scales, layout)
            restorer.quantize()
            self._run(restorer, journal)
            copy_alpha(image, writer, layout.frames.scale_by_axis(self.record.scale))
            _check_unchanged(image, state)
            writer.close(keep=True, spread=map if self.engine is None else partial(_spread, self.engine))
        except BaseException as error:
            if journal is not None and journal.done and _is_kept(error):
                writer.suspend()  # for the same command to resume
            else:
                remove(notes)  # first: with a journal and no part, the target would pass for finished
                writer.abort()
            raise
        remove(notes)

    def is_finished(self, image: LazyImage, target: Path, state: list[int]) -> bool:
        """Whether a run of the same settings has completed the target, and was killed before it removed its journal."""
        return was_finished(target) and begun_settings(journal_of(target)) == self._settings(image, target, state, 0)[0]

    @cached_property
    def _network_settings(self) -> dict[str, Any]:
        return network_settings(self.network, self.record, self.inferer)

    def _settings(
        self, image: LazyImage, target: Path, state: list[int], halvings: int
    ) -> tuple[dict[str, Any], Layout]:
        """All that the output depends on, as in a journal, and how it is divided.

        How often the windows were halved, and the file to be replaced, are those of the run to be resumed.
        """
        begun = begun_settings(journal_of(target))
        halvings = begun.get("halvings", halvings)
        inferer = self.inferer.halved(halvings) or self.inferer
        layout = layout_of(image, target, self.record, inferer, self.limits)
        settings: dict[str, Any] = {
            "source": [image.path.name, state, image.number, image.axes, list(image.shape), image.bar_rows]
        }
        settings |= self._network_settings
        settings |= {"halvings": halvings, "overwrite": self.overwrite}
        settings["blocks"] = [*layout.chunks, len(layout.columns), *map(len, layout.columns[0])]
        settings["axes"] = [axis.length for axis in layout.axes]
        replaced = fingerprint(target) if self.overwrite and target.exists() else None
        settings["replaced"] = begun.get("replaced", replaced)
        return json.loads(json.dumps(settings)), layout

    def _run(self, restorer: ImageRestorer, journal: Journal | None) -> None:
        """Restore all strips that are left, here or on the engine's workers."""
        image, layout = restorer.image, restorer.layout
        scale = layout.frames.scale_by_axis(self.record.scale)
        pixels = math.prod(scaled_shape(image.axes, image.shape, scale))
        rows_in_all = len(layout.samples) * len(layout.columns) * layout.sizes[0]
        rows_done = sum(len(rows) for parts in journal.done.values() for rows in parts) if journal is not None else 0
        before = pixels * rows_done // rows_in_all
        if rows_done:
            logger.info("%s: resumes where it was interrupted", restorer.writer.path)
        shown = not self.quiet and pixels > PROGRESS_PIXELS
        with Progress(restorer.image.path.name, pixels, layout.blocks, layout.windows, before, shown) as bar:
            if self.engine is None:
                with closing(restorer.run(layout.strips(journal), bar.window)) as blocks:
                    for strip, rows, written in blocks:
                        if journal is not None:
                            journal.note(strip.name, rows)
                        bar.update(written)
                return
            assert journal is not None, "several workers need a target that they can write to at once"
            sent = replace(restorer, network=torch.nn.Identity())  # workers load the network themselves
            strips = layout.strips(journal, self.engine.workers)
            for strip, result in self.engine.run(partial(restore_strip, self.engine.network, sent), strips):
                if isinstance(result, InputError):
                    raise result
                journal.note(strip.name, strip.rows)
                bar.update(result)


def restore_in_worker(
    network: WorkerNetwork, inferer: SeamlessInferer, overwrite: bool, pair: tuple[LazyImage, Path]
) -> InputError | None:
    """Restore a whole file in a worker; return the error that a retry would not mend, if any."""
    with one_at_a_time():
        try:
            FileRestorer(*network.load(), inferer, overwrite, quiet=True).restore(*pair)
        except InputError as error:
            return error
    return None


def network_settings(network: torch.nn.Module, record: Record, inferer: SeamlessInferer) -> dict[str, Any]:
    """All that an output depends on besides its source."""
    weights = 0
    for tensor in network.state_dict().values():
        weights = zlib.crc32(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes(), weights)
    names = ("window", "overlap", "batch_size", "orientations", "precision", "backend")
    windows = [getattr(inferer, name) for name in names]
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
    """The writer, block by block, of the restored image; a layout of blocks above the default is one of shards.

    An output of another ``dtype`` is a map of the image, without data bar.
    """
    frames = check_frames(image, record)
    scale = frames.scale_by_axis(record.scale)
    keeps_bar = dtype is None
    stated = replace(image.metadata, bar_rows=image.bar_rows if keeps_bar else 0)
    metadata = stated.scaled(image.pixel_size, scale)
    return create_writer(
        path,
        shape=scaled_shape(image.axes, image.full_shape if keeps_bar else image.shape, scale),
        dtype=image.dtype if dtype is None else np.dtype(dtype),
        axes=image.axes,
        pixel_size=scaled_pixel_size(image.pixel_size, scale),
        channel_names=image.channel_names,
        metadata=metadata if dtype is None else metadata.of_other_values(),
        overwrite=overwrite,
        resume=resume,
        in_blocks=True,
        alpha=image.has_alpha and dtype is None,
        shards=None if layout is None else layout.shards(image.axes),
        chunk=None if layout is None else layout.limits.chunk,
    )


def copy_alpha(image: LazyImage, writer: Writer, scale: Mapping[str, int], nbytes: int = ALPHA_BYTES) -> None:
    """Repeat the opacity of an image, at most about so many bytes at a time, or log that the output has none."""
    if not image.has_alpha:
        return
    if not writer.holds_alpha:
        logger.warning("%s: the opacity (alpha) is left out; TIFF and PNG hold it", writer.path)
        return
    y = image.axes.index("Y")
    with_bar = writer.shape[y] == image.full_shape[y] * scale["Y"]
    height = (image.full_shape if with_bar else image.shape)[y]
    step = max(1, nbytes * height // (math.prod(writer.shape) * writer.dtype.itemsize))
    for top in range(0, height, step):
        region = [slice(None)] * len(image.shape)
        region[y] = slice(top, min(top + step, height))
        alpha = image.read_alpha(region, with_bar=with_bar)
        for i, axis in enumerate(image.axes):
            alpha = alpha.repeat(scale.get(axis, 1), i)
        target = [slice(0, size) for size in alpha.shape]
        target[y] = slice(top * scale["Y"], top * scale["Y"] + alpha.shape[y])
        writer.write_alpha(target, alpha)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: numpy and torch on GPUs have classes for it, torch on processors has words alone."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(words in str(error) for words in OUT_OF_MEMORY)


def _check_unchanged(image: LazyImage, state: list[int]) -> None:
    if fingerprint(image.path) != state:
        raise InputError(f"{image.path}: was changed while it was read; restore it when it is complete")


def _spread(engine: Engine, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """``map`` on an engine's workers."""
    return (result for _, result in engine.run(function, items))


def _is_kept(error: BaseException) -> bool:
    """Whether what is done is of use after an error: unless the input is at fault."""
    return not isinstance(error, InputError) or any(isinstance(cause, (Unfinished, OSError)) for cause in causes(error))


@contextmanager
def _full_disk_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise Unfinished(f"{path}: the disk is full; make room and give the same command again to resume") from error
