"""Which files workers share, and giving each of them the others whole."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pssr2_monai.restoration.engines import Engine
from pssr2_monai.restoration.estimating import Output
from pssr2_monai.restoration.file_restoring import restore_whole
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.journals import Unfinished
from pssr2_monai.restoration.workers import Model

__all__ = ["is_divided", "restore_whole_files"]

logger = logging.getLogger(__name__)

SHARED_PIXELS = 2**24
"""Outputs of no more pixels than this are made by one worker each, which is quicker than sharing them."""


def restore_whole_files(
    pairs: Sequence[tuple[Path, Path]],
    engine: Engine,
    model: Model,
    inferer: SeamlessInferer,
    axes: str | None,
    overwrite: bool,
    skip_bad: bool,
) -> list[Path]:
    """Restores files a whole one a job, and gives those written."""
    of_absolute = {(source.absolute(), target.absolute()): (source, target) for source, target in pairs}
    for _, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
    written = []
    task = partial(restore_whole, model, inferer, axes, overwrite)
    for pair, error in engine.run(task, of_absolute):
        source, target = of_absolute[pair]
        if error is None:
            logger.info("%s -> %s", source, target)
            written.append(target)
        elif skip_bad and not isinstance(error, Unfinished):
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
