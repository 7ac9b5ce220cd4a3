"""Restoring with maps next to each output that say how far to trust it: fidelity, uncertainty."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.check_fidelity import MAPS, Fidelity, check_fidelity, map_path
from pssr2_monai.fidelity.uncertainty import load_ensemble, restore_with_uncertainty
from pssr2_monai.images.image import LazyImage
from pssr2_monai.restoration.engines import open_engine
from pssr2_monai.restoration.estimate import Output, check_output_room, stored_bytes
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.plan import PreparedRun, prepare
from pssr2_monai.restoration.restore import restore_prepared

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mapped:
    """A restored file and its maps."""

    path: Path
    fidelity: Fidelity | None = None
    uncertainty: Path | None = None

    def __str__(self) -> str:
        lines = [str(self.path)]
        if self.uncertainty is not None:
            lines.append(str(self.uncertainty))
        if self.fidelity is not None:
            verdict, maps = self.fidelity.verdict, (self.fidelity.map, self.fidelity.structures, self.fidelity.error)
            lines += [*map(str, maps), f"  {verdict.headline}"]
            lines += [f"  - {reason}" for reason in verdict.reasons]
        return "\n".join(lines)


def restore_with_maps(
    source: str | Path,
    target: str | Path,
    weights: str | Path | Sequence[str | Path],
    options: RestoreOptions | None = None,
    *,
    fidelity: bool = True,
    uncertainty: bool = False,
    **keywords: Any,
) -> list[Mapped]:
    """Restore a file or every image of a folder, and write maps next to each output.

    Args:
        source: see ``restore.restore``, as ``target``.
        target: the file to write, or the folder to write files into.
        weights: a ``model.pt``; or several, whose mean restores and whose spread is the uncertainty.
        options: how to restore; with uncertainty in one process.
        fidelity: see ``check_fidelity.check_fidelity``.
        uncertainty: see ``uncertainty.restore_with_uncertainty``; such a run does not resume.
        keywords: single options, which take precedence.

    Raises:
        InputError: see ``restore.restore``; several weights without uncertainty; a map that exists already.
    """
    several = [weights] if isinstance(weights, (str, Path)) else list(weights)
    if len(several) > 1 and not uncertainty:
        raise InputError(f"weights: {len(several)} files restore as an ensemble; ask for uncertainty, or give one")
    options = merge_options(options, keywords)
    if uncertainty and options.shared:
        raise InputError("uncertainty: is measured by one process alone; leave out workers and scheduler")
    if uncertainty and options.orientations > 1:
        raise InputError("orientations: uncertainty averages over all of them by itself; leave it out")
    maps = partial(map_outputs, fidelity=fidelity, uncertainty=uncertainty)
    with (
        open_engine(options, several[0]) as engine,
        prepare(source, target, several[0], options, maps=maps, resume=not uncertainty) as run,
    ):
        for path in (output.path for file in run.files for output in file.maps):
            if path.exists() and not options.overwrite:
                raise InputError(f"{path}: exists already; give another output, or ask to overwrite it")
        spreads = dict.fromkeys(restore_prepared(run, engine)) if not uncertainty else _restore_all(run, several)
    # An earlier map of an output that was written or found finished is out of date.
    check = partial(check_fidelity, record=run.record, axes=options.axes, image=options.image, overwrite=True)
    return [
        Mapped(output, check(file, output) if fidelity else None, spreads[output])
        for file, output in run.pairs
        if output in spreads
    ]


def map_outputs(image: LazyImage, output: Output, fidelity: bool = True, uncertainty: bool = False) -> list[Output]:
    """The maps of an output, without data bar: for fidelity of the shape of the source, for uncertainty of its own."""
    y = image.axes.index("Y")
    bar_rows = image.bar_rows * output.shape[y] // image.full_shape[y]
    restored = (*output.shape[:y], output.shape[y] - bar_rows, *output.shape[y + 1 :])
    shapes = dict.fromkeys(MAPS if fidelity else (), image.shape)
    shapes |= {"uncertainty": restored} if uncertainty else {}
    paths = [(map_path(output.path, name), shape) for name, shape in shapes.items()]
    return [Output(path, shape, stored_bytes(path, shape, 4), blocks=0, windows=0, memory=0) for path, shape in paths]


def _restore_all(run: PreparedRun, weights: Sequence[str | Path]) -> dict[Path, Path | None]:
    """Restore files as means, and return the file of the spread of each."""
    check_output_room(run.outputs)
    device = next(run.network.parameters()).device
    networks, record = load_ensemble(weights, device, (run.network, run.record))
    overwrite = run.options.overwrite
    spreads: dict[Path, Path | None] = {}
    for file in run.files:
        source, output = file.pair
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            _, spread = restore_with_uncertainty(file.image, output, networks, record, run.inferer, overwrite=overwrite)
        except InputError as error:
            if not run.options.skip_bad:
                raise
            logger.warning("left out: %s", error)
        else:
            logger.info("%s -> %s", source, output)
            spreads[output] = spread
    return spreads
