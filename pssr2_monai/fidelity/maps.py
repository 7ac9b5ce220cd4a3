"""Restoring with maps beside each output that tell how far to trust it: fidelity, uncertainty."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.check_fidelity import Fidelity, beside, check_fidelity
from pssr2_monai.fidelity.uncertainty import load_ensemble, restore_with_uncertainty
from pssr2_monai.images.image import open_image
from pssr2_monai.machine import default_device
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.estimate import Output, check_output_room, output_of, stored_bytes
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.options import RestoreOptions, merge_options
from pssr2_monai.restoration.plan import match_outputs
from pssr2_monai.restoration.restore import restore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mapped:
    """A restored file and what was found out about it.

    Attributes:
        path: the restored image.
        fidelity: its check against the source, if asked for.
        uncertainty: the file of its spread, if asked for.
    """

    path: Path
    fidelity: Fidelity | None = None
    uncertainty: Path | None = None


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
    """Restores a file or every image of a folder, and writes maps beside.

    Args:
        source: see ``restoring.restore``, also for what is not told here.
        target: the file to write, or the folder to write files into.
        weights: a ``model.pt``; or several, whose mean restores and whose spread is the uncertainty.
        options: how to restore; with uncertainty in one process.
        fidelity: see ``fidelity.check_fidelity``.
        uncertainty: see ``uncertainty.restore_with_uncertainty``; this process does the work alone.
        keywords: single options, which take the place of those.

    Raises:
        InputError: see ``restoring.restore``; several weights without uncertainty; a map that exists already.
    """
    several = [weights] if isinstance(weights, (str, Path)) else list(weights)
    if len(several) > 1 and not uncertainty:
        raise InputError(f"weights: {len(several)} files restore as an ensemble; ask for uncertainty, or give one")
    options = merge_options(options, keywords)
    if uncertainty and options.shared:
        raise InputError("uncertainty: is found by one process alone; leave out workers and scheduler")
    _, record = load_weights(several[0])
    # An output may exist where an interrupted run goes on; without uncertainty it is `restore` that judges.
    axes, overwrite = options.axes, options.overwrite
    pairs = match_outputs(source, target, record, replace(options, overwrite=overwrite or not uncertainty))
    inferer = options.inferer(record)
    to_write: list[Output] = []
    for file, output in pairs:
        if output.exists() and not overwrite:
            continue
        planned = output_of(file, output, record, inferer, axes)
        maps = map_outputs(file, planned, axes, fidelity, uncertainty)
        for each in maps:
            if each.path.exists() and not overwrite:
                raise InputError(f"{each.path}: exists already; give another output, or ask to overwrite it")
        to_write += [planned, *maps]
    check_output_room(to_write)
    if uncertainty:
        spreads = _restored(pairs, several, record, inferer, options)
    else:
        spreads = dict.fromkeys(restore(source, target, several[0], options))
    return [
        Mapped(output, _checked(file, output, record, axes) if fidelity else None, spreads[output])
        for file, output in pairs
        if output in spreads
    ]


def map_outputs(
    source: Path, output: Output, axes: str | None = None, fidelity: bool = True, uncertainty: bool = False
) -> list[Output]:
    """The maps beside an output: float32, those of fidelity with the pixels of the source, that of the spread with its.

    Raises:
        InputError: the source cannot be read.
    """
    with open_image(source, axes=axes) as image:
        shapes = dict.fromkeys(["fidelity", "structures"] if fidelity else [], image.shape)
    shapes |= {"uncertainty": output.shape} if uncertainty else {}
    found = []
    for what, shape in shapes.items():
        path = beside(output.path, what)
        found.append(Output(path, shape, stored_bytes(path, shape, 4), blocks=0, windows=0, memory=0))
    return found


def told(mapped: Mapped) -> list[str]:
    """What was written and found, line by line."""
    lines = [str(mapped.path)]
    if mapped.uncertainty is not None:
        lines.append(str(mapped.uncertainty))
    if mapped.fidelity is not None:
        verdict = mapped.fidelity.verdict
        lines += [
            str(mapped.fidelity.map),
            str(mapped.fidelity.structures),
            f"  {verdict.headline}",
            *(f"  - {reason}" for reason in verdict.reasons),
        ]
    return lines


def _restored(
    pairs: Sequence[tuple[Path, Path]],
    weights: Sequence[str | Path],
    record: Record,
    inferer: SeamlessInferer,
    options: RestoreOptions,
) -> dict[Path, Path | None]:
    """Restores files as means; gives the file of the spread of each."""
    networks, _ = load_ensemble(weights, options.device or default_device())
    spreads: dict[Path, Path | None] = {}
    for file, output in pairs:
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            _, spread = restore_with_uncertainty(
                file, output, networks, record, inferer, axes=options.axes, overwrite=options.overwrite
            )
        except InputError as error:
            if not options.skip_bad:
                raise
            logger.warning("left out: %s", error)
        else:
            logger.info("%s -> %s", file, output)
            spreads[output] = spread
    return spreads


def _checked(file: Path, output: Path, record: Record, axes: str | None) -> Fidelity:
    """The check of an output that has just been written or found finished: an earlier map of it is out of date."""
    return check_fidelity(file, output, record, axes=axes, overwrite=True)
