"""Restoring: an image file in, its super-resolved image out, window by window."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from tqdm import tqdm

from pssr2_monai.axes import Frames, factors, frames_of, is_volume, sample_centres, scaled_pixel_size, scaled_shape
from pssr2_monai.errors import InputError
from pssr2_monai.inferer import SeamlessInferer
from pssr2_monai.io.formats import is_zarr
from pssr2_monai.io.image import LazyImage, list_images, open_image
from pssr2_monai.io.sheets import fit_image_intensity, plane_size, read_window, write_plane
from pssr2_monai.io.writer import WRITTEN, create_writer
from pssr2_monai.record import Record, load_weights
from pssr2_monai.tiles import Window

__all__ = ["restore", "restore_file", "restore_frames", "restore_pairs", "restoring_engine"]

logger = logging.getLogger(__name__)


def restore_frames(
    frames: np.ndarray, network: Callable[..., torch.Tensor], inferer: Inferer, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Restores the frames of one sample.

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


def restore_file(
    source: str | Path,
    target: str | Path,
    network: torch.nn.Module,
    record: Record,
    inferer: Inferer | None = None,
    *,
    axes: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Restores one image file, keeping its axes, dtype and intensity scale; the pixel size is divided by the scale.

    Args:
        source: an image file of any supported format.
        target: the file to write, in the format that its suffix names.
        network: in evaluation mode, on the device that is to do the work.
        record: of the network's weights.
        inferer: how the network is laid over the image; ``SeamlessInferer()`` by default.
        axes: axes of a file that does not tell its own.
        overwrite: replace an existing file.

    Raises:
        InputError: the file cannot be read or written, or has fewer frames than the network needs.
    """
    inferer = inferer or SeamlessInferer(volume=is_volume(record.scale))
    device = next(network.parameters()).device
    with open_image(source, axes=axes) as image:
        frames = _check_frames(image, record)
        intensity = fit_image_intensity(image, record.intensity, record.stack)
        height, width = plane_size(image)
        restored_frames = frames.scaled(factors(record.scale)[0])
        scale = frames.scale_by_axis(record.scale)
        with create_writer(
            target,
            shape=scaled_shape(image.axes, image.shape, scale),
            dtype=image.dtype,
            axes=image.axes,
            pixel_size=scaled_pixel_size(image.pixel_size, scale),
            channel_names=image.channel_names,
            overwrite=overwrite,
        ) as writer:
            samples = _samples(frames, record)
            for wanted, given in tqdm(samples, desc=Path(source).name, unit="frame", disable=len(samples) < 2 or None):
                pixels = read_window(image, wanted, Window(0, 0, height, width), record.stack)
                if not np.isfinite(pixels).all():
                    logger.warning("%s: holds NaN or infinite pixels, which are taken for black and white", source)
                restored = restore_frames(intensity.apply(pixels), network, inferer, device)
                for frame, plane in zip(given, restored, strict=True):
                    write_plane(writer, restored_frames, frame, intensity.cast(plane, image.dtype))
    return Path(target)


def restore(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    *,
    window: int | None = None,
    overlap: float = 0.25,
    precision: str = "auto",
    device: str | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
) -> list[Path]:
    """Restores a file, or every image of a folder.

    Args:
        source: an image file, a folder of them, or a folder of slices if the target is a file.
        target: the file to write, or the folder to write files of the same names into.
        weights: a ``model.pt`` with its record.
        window: side of the windows in LR pixels; by default 256, of volumes 96.
        overlap: share of a window that it has in common with its neighbour.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: ``cpu``, ``cuda`` and so on; by default a GPU where there is one.
        axes: axes of files that do not tell their own.
        overwrite: replace existing files.
        skip_bad: leave out files that cannot be read, saying so, instead of stopping before any work.
        format: ``tif``, ``ome.tif``, ``ome.zarr`` or ``png`` for files written into a folder; that of the source where
            it can be written, else ``tif``, by default.

    Returns:
        The files written.

    Raises:
        InputError: before any work, where a source cannot be read or a target exists; see ``restore_file``.

    Example:
        >>> restore("scan.tif", "restored.tif", "run/model.pt")  # doctest: +SKIP
    """
    SeamlessInferer(window, overlap)  # refuses what it does not take before the weights are read
    network, record = load_weights(weights, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    inferer = SeamlessInferer(window, overlap, precision=precision, volume=is_volume(record.scale))
    pairs = restore_pairs(source, target, record, axes, overwrite, skip_bad, format)
    engine = restoring_engine(network, record, inferer, axes, overwrite, skip_bad)
    written: list[Path] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda running: written.extend(running.state.output))
    engine.run(pairs)
    return written


def restore_pairs(
    source: str | Path,
    target: str | Path,
    record: Record,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
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

    Raises:
        InputError: a source cannot be read or has too few frames, a target exists, or two would be the same.
    """
    pairs = []
    for file, output in _targets(Path(source), Path(target), overwrite, format):
        try:
            with open_image(file, axes=axes) as image:
                _check_frames(image, record)
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
    inferer: Inferer | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
) -> Engine:
    """An Ignite engine that restores one file a step; run it on what ``restore_pairs`` gives.

    The output of a step is the list of files written: one, or none where a bad file was left out. For the arguments see
    ``restore_file`` and ``restore``.
    """

    def step(_: Engine, pair: tuple[Path, Path]) -> list[Path]:
        source, target = pair
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            restore_file(source, target, network, record, inferer, axes=axes, overwrite=overwrite)
        except InputError as error:
            if not skip_bad:
                raise
            logger.warning("left out: %s", error)
            return []
        logger.info("%s -> %s", source, target)
        return [target]

    return Engine(step)


def _check_frames(image: LazyImage, record: Record) -> Frames:
    frames = frames_of(image.axes, image.shape, record.stack)
    # A volume may have any depth, those that a network was trained on or others.
    frames.check_n_frames(2 if is_volume(record.scale) else record.n_frames[0], image.path.name)
    return frames


def _samples(frames: Frames, record: Record) -> list[tuple[list[int], list[int]]]:
    """The frames that are restored together and the frames that they give, numbered in the restored image."""
    if is_volume(record.scale):
        runs, factor = range(0, frames.count, frames.run), factors(record.scale)[0]
        return [
            (list(range(run, run + frames.run)), list(range(run * factor, (run + frames.run) * factor))) for run in runs
        ]
    lr_frames, hr_frames = record.n_frames
    # Windows of the frames to be written, each restored from the frames around the same centre.
    centres = sample_centres(frames, hr_frames, slide=False, edges=hr_frames == 1)
    return [(frames.window(centre, lr_frames), frames.window(centre, hr_frames)) for centre in centres]


def _targets(source: Path, target: Path, overwrite: bool, format: str | None) -> list[tuple[Path, Path]]:
    """Which file goes where."""
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
        if output.exists() and not overwrite:
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
