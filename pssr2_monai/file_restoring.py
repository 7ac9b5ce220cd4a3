"""Restoring one image file, of any size: blocks of it are read, go through the network, and are written."""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from tqdm import tqdm

from pssr2_monai.axes import Frames, factors, frames_of, is_volume, sample_centres, scaled_pixel_size, scaled_shape
from pssr2_monai.blocks import Job, Journal, columns, regrouped
from pssr2_monai.errors import InputError
from pssr2_monai.inferer import SeamlessInferer
from pssr2_monai.intensity import Intensity
from pssr2_monai.io.image import LazyImage, open_image
from pssr2_monai.io.part import part_of, remove
from pssr2_monai.io.sheets import fit_image_intensity, plane_size, read_window, write_window
from pssr2_monai.io.writer import Writer, create_writer
from pssr2_monai.record import Record
from pssr2_monai.tiles import Window, reflect_indices

__all__ = ["check_frames", "restore_file", "restore_frames"]

logger = logging.getLogger(__name__)


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


@dataclass
class Restoring:
    """What every block of one image needs.

    Attributes:
        image: the source, open.
        writer: of the target.
        network: in evaluation mode, on the device that is to do the work.
        record: of its weights.
        inferer: how the network is laid over the image.
        intensity: of the source.
    """

    image: LazyImage
    writer: Writer
    network: torch.nn.Module
    record: Record
    inferer: SeamlessInferer
    intensity: Intensity

    @property
    def frames(self) -> Frames:
        """The LR frames."""
        return frames_of(self.image.axes, self.image.shape, self.record.stack)

    @property
    def scale(self) -> tuple[int, ...]:
        """HR over LR pixels along the axes that windows lie along."""
        return factors(self.record.scale) if self.inferer.volume else factors(self.record.scale)[1:]

    @property
    def sizes(self) -> tuple[int, ...]:
        """LR pixels along these axes."""
        plane = plane_size(self.image)
        return (self.frames.run, *plane) if self.inferer.volume else plane

    def chunks(self) -> list[int]:
        """HR pixels along these axes that are written to one chunk of the target."""
        letters = [self.frames.run_axis, "Y", "X"] if self.inferer.volume else ["Y", "X"]
        along = dict(zip(self.writer.axes, self.writer.chunks or (), strict=False))
        return [along.get(letter or "", 1) for letter in letters]

    def jobs(self) -> list[Job]:
        """The pieces of work, each of which may be done on its own."""
        axes = self.inferer.axes(self.sizes)
        parts = columns(axes, self.scale, self.chunks(), 1 if self.inferer.volume else self.record.n_frames[1])
        return [
            Job(f"{sample}.{part}", tuple(frames), tuple(given), column)
            for sample, (frames, given) in enumerate(_samples(self.frames, self.record))
            for part, column in enumerate(parts)
        ]

    def run(self, job: Job, first: int = 0) -> Iterator[tuple[int, int]]:
        """Does a job, from an LR row (of a volume, a frame) on.

        Yields:
            After each block is written: the LR rows done, and how many HR pixels were written.
        """
        axes = self.inferer.axes(self.sizes)
        multiple = math.lcm(self.chunks()[0], self.scale[0]) // self.scale[0]
        device = next(self.network.parameters()).device

        def read(starts: Sequence[int]) -> torch.Tensor:
            frames, (y, x) = list(job.frames), starts[-2:]
            if self.inferer.volume:
                frames = [frames[index] for index in reflect_indices(starts[0], axes[0].length, axes[0].size)]
            window = Window(y, x, axes[-2].length, axes[-1].length)
            pixels = read_window(self.image, frames, window, self.record.stack)
            if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
                logger.warning("%s: holds NaN or infinite pixels, which are taken for black and white", self.image.path)
            return torch.from_numpy(self.intensity.apply(pixels))[None].to(device)

        with torch.inference_mode():
            slabs = self.inferer.stream(read, axes, self.network, job.column, first)
            # Rows first: of planes they are the axis after the frames.
            moved = ((rows, np.moveaxis(self._cast(slab), 0 if self.inferer.volume else 1, 0)) for rows, slab in slabs)
            for rows, block in regrouped(moved, multiple, first):
                self._write(job, rows, block)
                yield rows.stop, block.size

    def _cast(self, slab: torch.Tensor) -> np.ndarray:
        return self.intensity.cast(slab[0].cpu().numpy(), self.writer.dtype)

    def _write(self, job: Job, rows: range, block: np.ndarray) -> None:
        """Writes ``(rows, frames, X)`` of planes or ``(frames, Y, X)`` of a volume."""
        order = self.frames.scaled(factors(self.record.scale)[0])
        spans = [
            (part.start * factor, len(part) * factor)
            for part, factor in zip((rows, *job.column), self.scale, strict=True)
        ]
        if self.inferer.volume:
            (first, count), (y, height), (x, width) = spans
            planes = {job.given[first + number]: block[number] for number in range(count)}
        else:
            (y, height), (x, width) = spans
            planes = {frame: block[:, number] for number, frame in enumerate(job.given)}
        for frame, plane in planes.items():
            write_window(self.writer, order, frame, Window(y, x, height, width), plane)


def restore_file(
    source: str | Path,
    target: str | Path,
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer | None = None,
    *,
    axes: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Restores one image file, keeping its axes, dtype and intensity scale; the pixel size is divided by the scale.

    Neither the source nor the target is ever whole in memory. What was interrupted goes on where it stopped when the
    same is asked for again, and gives the same file.

    Args:
        source: an image file of any supported format.
        target: the file to write, in the format that its suffix names.
        network: in evaluation mode, on the device that is to do the work.
        record: of the network's weights.
        inferer: how the network is laid over the image; ``SeamlessInferer()`` by default.
        axes: axes of a file that does not tell its own.
        overwrite: replace an existing file, and what an interrupted run has left.

    Raises:
        InputError: the file cannot be read or written, has fewer frames than the network needs, or a run of other
            settings was interrupted.
    """
    inferer = inferer or SeamlessInferer(volume=is_volume(record.scale))
    source, target = Path(source), Path(target)
    part, notes = part_of(target), part_of(target).with_suffix(".journal")
    with open_image(source, axes=axes) as image:
        frames = check_frames(image, record)
        intensity = fit_image_intensity(image, record.intensity, record.stack)
        scale = frames.scale_by_axis(record.scale)
        if overwrite or not part.exists():
            remove(notes)
        journal = Journal(notes, _settings(image, network, record, inferer)) if notes.exists() else None
        writer = create_writer(
            target,
            shape=scaled_shape(image.axes, image.shape, scale),
            dtype=image.dtype,
            axes=image.axes,
            pixel_size=scaled_pixel_size(image.pixel_size, scale),
            channel_names=image.channel_names,
            overwrite=overwrite,
            resume=journal is not None,
        )
        restoring = Restoring(image, writer, network, record, inferer, intensity)
        try:
            if writer.chunks is not None:
                journal = journal or Journal(notes, _settings(image, network, record, inferer))
            _run(restoring, journal)
        except BaseException as error:
            if isinstance(error, InputError) or journal is None or not journal.done:
                writer.abort()
                remove(notes)
            else:  # kept for the same command to go on with
                writer.suspend()
            raise
        writer.close()
        remove(notes)
    return target


def _run(restoring: Restoring, journal: Journal | None) -> None:
    """Does what is left of all jobs, with a bar."""
    done = journal.done if journal is not None else {}
    jobs = restoring.jobs()
    pixels = math.prod(restoring.writer.shape)
    if any(done.values()):
        logger.info("%s: goes on where it was interrupted", restoring.writer.path)
    several = len(jobs) > 1 or pixels > 2**24
    with tqdm(
        total=pixels, desc=restoring.image.path.name, unit="px", unit_scale=True, disable=None if several else True
    ) as bar:
        for job in jobs:
            first = done.get(job.name, 0)
            if first:
                bar.update(pixels * first // restoring.sizes[0] // len(jobs))
            if first == restoring.sizes[0]:
                continue
            for rows, written in restoring.run(job, first):
                if journal is not None:
                    journal.note(job.name, rows)
                bar.update(written)


def _settings(image: LazyImage, network: torch.nn.Module, record: Record, inferer: SeamlessInferer) -> dict[str, Any]:
    """All that the output depends on."""
    status = image.path.stat()
    weights = 0
    for tensor in network.state_dict().values():
        weights = zlib.crc32(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes(), weights)
    return {
        "source": [image.path.name, status.st_size, status.st_mtime_ns, image.axes, list(image.shape)],
        "weights": weights,
        "record": asdict(record),
        "windows": [inferer.window, inferer.overlap, inferer.batch_size, inferer.precision],
    }


def _samples(frames: Frames, record: Record) -> list[tuple[list[int], list[int]]]:
    """The frames that are restored together and the frames that they give, numbered in the restored image."""
    if is_volume(record.scale):
        factor = factors(record.scale)[0]
        runs = [range(first, first + frames.run) for first in range(0, frames.count, frames.run)]
        return [(list(run), list(range(run.start * factor, run.stop * factor))) for run in runs]
    lr_frames, hr_frames = record.n_frames
    # Windows of the frames to be written, each restored from the frames around the same centre.
    centres = sample_centres(frames, hr_frames, slide=False, edges=hr_frames == 1)
    return [(frames.window(centre, lr_frames), frames.window(centre, hr_frames)) for centre in centres]
