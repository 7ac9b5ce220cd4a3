"""Restoring files and folders: which file becomes which, and one after the other."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from pssr2_monai.axes import is_volume
from pssr2_monai.errors import InputError
from pssr2_monai.file_restoring import check_frames, restore_file
from pssr2_monai.inferer import SeamlessInferer
from pssr2_monai.io.formats import is_zarr
from pssr2_monai.io.image import list_images, open_image
from pssr2_monai.io.writer import WRITTEN
from pssr2_monai.record import Record, load_weights

__all__ = ["restore", "restore_pairs", "restoring_engine", "target_files"]

logger = logging.getLogger(__name__)


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
    for file, output in target_files(Path(source), Path(target), overwrite, format):
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


def target_files(source: Path, target: Path, overwrite: bool, format: str | None) -> list[tuple[Path, Path]]:
    """Which file of a source, one or a folder of them, is made into which file; see ``restore`` for the arguments.

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
