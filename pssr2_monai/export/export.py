"""Writing a network as a file that runs without this package, tested by running it."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.export import formats
from pssr2_monai.export.bioimageio import Package
from pssr2_monai.export.formats import BIOIMAGEIO, FORMATS, TOLERANCE, Case, format_of
from pssr2_monai.export.grey_levels import PackageSettings
from pssr2_monai.images.axes import is_volume
from pssr2_monai.images.writer import written_atomically
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """An exported file and how well it agrees with the network."""

    path: Path
    format: str  # ``bioimageio`` or a key of ``FORMATS``
    difference: float
    """The largest difference from the network's output, in grey levels of 255, without that of rounding to integers."""
    shapes: list[tuple[int, ...]]  # of the inputs that were compared
    takes: str = ""  # for packages: the images that they take, in words


def export(
    weights: str | Path, target: str | Path, format: str | None = None, package: PackageSettings | None = None
) -> Exported:
    """Write a network with its record as a file that runs elsewhere, for any batch, height and width.

    The input ``image`` is float32, ``(batch, frames, Y, X)`` in [0, 1]; so is the output ``pred``, larger by the scale.
    The depth of a volume, its frames, is free as well. A BioImage.IO package takes and returns grey levels instead. The
    file is loaded again and compared with the network at several sizes, down to the smallest, before it gets its name:
    an existing file has been tested.

    Args:
        weights: a ``model.pt`` of a training, or a ``.pth`` of the original ``pssr`` package.
        target: the file to write; its suffix names the format.
        format: ``torchscript`` (.ts), ``torch_export`` (.pt2), ``onnx`` (.onnx) or ``bioimageio`` (.zip); by default
            the one of the suffix.
        package: the description of a BioImage.IO package and the images that it takes.

    Raises:
        InputError: an unknown format, a target that exists, packages that are missing, settings of a package for
            another format, weights that cannot be read or exported, or a file whose values differ from the network's.

    Example:
        >>> export("run/model.pt", "model.ts").difference < 0.01  # grey levels of 255
        True
    """
    target = Path(target)
    kind = format_of(target, format)
    if target.exists():
        raise InputError(f"{target}: exists already; give another name")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    if package is not None and kind != BIOIMAGEIO:
        raise InputError(f"{', '.join(package.changed)}: for {BIOIMAGEIO} packages alone, not {kind}; leave out")
    network, record = load_weights(weights)
    whole = Package(network, record, str(weights), package or PackageSettings()) if kind == BIOIMAGEIO else None
    write = partial(_write_file, network, record, kind) if whole is None else whole.write
    logger.info("writing %s as %s; a large network takes minutes", target, kind)
    cases = formats.make_cases(network, record, str(weights))
    with written_atomically(target, formats.SUFFIXES[kind]) as part:  # torch needs its suffix
        try:
            with formats.without_torch_messages(), torch.no_grad():
                difference = write(part, cases)
        except InputError:
            raise
        except Exception as error:  # exporters fail in many ways
            message = f"{weights}: its network cannot be exported as {kind}, try another format: {one_line(error)}"
            raise InputError(message) from error
        if not difference <= TOLERANCE:  # NaN is refused, too
            raise InputError(
                f"{weights}: as {kind} it differs from the network by {difference:.3g} grey levels of 255, more than "
                f"{TOLERANCE}; nothing was written"
            )
    return Exported(target, kind, difference, [tuple(image.shape) for image, _ in cases], whole.takes if whole else "")


def _write_file(network: nn.Module, record: Record, format: str, path: Path, cases: list[Case]) -> float:
    """Write and run a single file, and return the largest difference from the network in grey levels of 255."""
    free_axes = {0: "batch", 2: "height", 3: "width"} | ({1: "depth"} if is_volume(record.scale) else {})
    FORMATS[format].write(deepcopy(network), cases[-1][0], free_axes, path, json.dumps(record.state_dict()))
    logger.info("comparing the file with the network")
    return formats.largest_difference(FORMATS[format].read(path)[0], cases) * 255
