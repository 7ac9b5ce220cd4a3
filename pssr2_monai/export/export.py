"""Writing a network as a file that runs without this package, tested by running it."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import dataclass
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


class SingleFile:
    """A network in evaluation mode as one file, which takes and returns ``(batch, frames, Y, X)`` in [0, 1]."""

    takes = ""

    def __init__(self, network: nn.Module, record: Record, format: str) -> None:
        self.network = network
        self.record = record
        self.format = FORMATS[format]

    def write(self, path: Path, cases: list[Case]) -> float:
        """Write and run the file, and return the largest difference from the network in grey levels of 255."""
        free_axes = {0: "batch", 2: "height", 3: "width"} | ({1: "depth"} if is_volume(self.record.scale) else {})
        record = json.dumps(self.record.state_dict())
        self.format.write(deepcopy(self.network), cases[-1][0], free_axes, path, record)
        logger.info("comparing the file with the network")
        return formats.largest_difference(self.format.read(path)[0], cases) * 255


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
    file: SingleFile | Package
    if kind == BIOIMAGEIO:
        file = Package(network, record, str(weights), package or PackageSettings())
    else:
        file = SingleFile(network, record, kind)
    logger.info("writing %s as %s; a large network takes minutes", target, kind)
    cases = formats.make_cases(network, record, str(weights))
    with written_atomically(target, formats.SUFFIXES[kind]) as part:  # torch needs its suffix
        difference = _write(file, part, cases, f"{weights}: its network cannot be exported as {kind}")
        if not difference <= TOLERANCE:  # NaN is refused, too
            raise InputError(
                f"{weights}: as {kind} it differs from the network by {difference:.3g} grey levels of 255, more than "
                f"{TOLERANCE}; nothing was written"
            )
    return Exported(target, kind, difference, [tuple(image.shape) for image, _ in cases], file.takes)


def _write(file: SingleFile | Package, path: Path, cases: list[Case], failure: str) -> float:
    try:
        with formats.without_torch_messages(), torch.no_grad():
            return file.write(path, cases)
    except InputError:
        raise
    except Exception as error:  # exporters fail in many ways
        raise InputError(f"{failure}, try another format: {one_line(error)}") from error
