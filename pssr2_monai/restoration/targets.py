"""Which file is restored into which."""

from __future__ import annotations

import logging
from collections.abc import Container
from pathlib import Path

from pssr2_monai.errors import InputError
from pssr2_monai.io.formats import is_zarr
from pssr2_monai.io.image import list_images, open_image
from pssr2_monai.io.writer import WRITTEN
from pssr2_monai.record import Record
from pssr2_monai.restoration.file_restoring import check_frames
from pssr2_monai.restoration.journals import was_finished

__all__ = ["restore_pairs", "target_files"]

logger = logging.getLogger(__name__)


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
    elif target.suffix and not target.exists():
        raise InputError(
            f"{target.name}: {target.suffix} is not written; use tif, ome.tif, ome.zarr or png, or give a folder"
        )
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
