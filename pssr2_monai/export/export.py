"""Writing a network as a file that runs without this package, checked by running it."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.export.bioimageio import Package
from pssr2_monai.export.check import TOLERANCE, Case, cases, free_axes, largest_difference, quiet
from pssr2_monai.export.formats import BIOIMAGEIO, FORMATS, Run, format_of
from pssr2_monai.export.grey_levels import PackageSettings
from pssr2_monai.images.writer import written_atomically
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it agrees with the network.

    Attributes:
        path: the file.
        format: ``bioimageio`` or a key of `FORMATS`.
        difference: the largest from the network's own output, in grey levels of 255; of a package of integers beyond
            their rounding.
        shapes: the inputs that both were given.
        takes: of a package, the images that it takes, in words.
    """

    path: Path
    format: str
    difference: float
    shapes: list[tuple[int, ...]]
    takes: str = ""


class SingleFile:
    """A network as one file, which takes and gives values in [0, 1].

    Args:
        network: in evaluation mode, takes and gives ``(batch, frames, Y, X)``.
        record: of its weights.
        kind: a key of `FORMATS`.
    """

    takes = ""

    def __init__(self, network: nn.Module, record: Record, kind: str) -> None:
        self.network = network
        self.record = record
        self.format = FORMATS[kind]
        self.suffix = self.format.suffix

    def write(self, path: Path, tried: list[Case]) -> float:
        """Writes the file and runs it beside the network; gives the largest difference in grey levels of 255."""
        record = json.dumps(self.record.state_dict())
        self.format.write(deepcopy(self.network), tried[-1][0], free_axes(self.record), path, record)
        logger.info("running it beside the network")
        return largest_difference(self.format.read(path)[0], tried) * 255


def export(
    weights: str | Path, target: str | Path, format: str | None = None, package: PackageSettings | None = None
) -> Exported:
    """Writes a network with its record as a file that runs elsewhere, for any batch, height and width.

    The input is float32, ``(batch, frames, Y, X)`` in [0, 1], named ``image``; the output ``pred`` likewise, `scale`
    times the size. A volume's depth, its frames, is free too. A BioImage.IO package takes and gives grey levels
    instead. The file is loaded again and run beside the network at several sizes, the smallest among them, before it
    gets its name: a file that exists was checked.

    Args:
        weights: a ``model.pt`` of a training, or a ``.pth`` of the original ``pssr`` package.
        target: the file to write; its suffix names the format.
        format: ``torchscript`` (.ts), ``torch_export`` (.pt2), ``onnx`` (.onnx) or ``bioimageio`` (.zip); None for
            what the suffix says.
        package: what a BioImage.IO package says of itself, and which images it takes.

    Raises:
        InputError: an unknown format, a target that exists, packages that are missing, settings of a package for
            another format, weights that cannot be read or exported, or a file that gives other values than the network.

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
        raise InputError(f"{', '.join(package.given)}: for {BIOIMAGEIO} packages alone, not {kind}; leave out")
    network, record = load_weights(weights)
    file: SingleFile | Package
    if kind == BIOIMAGEIO:
        file = Package(network, record, str(weights), package or PackageSettings())
    else:
        file = SingleFile(network, record, kind)
    logger.info("writing %s as %s; a large network takes minutes", target, kind)
    tried = cases(network, record, str(weights))
    with written_atomically(target, file.suffix) as part:  # torch wants its suffix
        try:
            with quiet(), torch.no_grad():
                difference = file.write(part, tried)
        except InputError:
            raise
        except Exception as error:  # what an exporter cannot follow fails in many ways
            raise InputError(
                f"{weights}: its network cannot be exported as {kind}, try another format: {one_line(error)}"
            ) from error
        if not difference <= TOLERANCE:  # so that NaN is refused, too
            raise InputError(
                f"{weights}: as {kind} it differs from the network by {difference:.3g} grey levels of 255, more than "
                f"{TOLERANCE}; nothing was written"
            )
    return Exported(target, kind, difference, [tuple(image.shape) for image, _ in tried], file.takes)


def load_export(path: str | Path, format: str | None = None) -> tuple[Run, Record]:
    """What `export` wrote, as a function from images to restored images on the processor, and its record.

    Raises:
        InputError: no such file, an unknown format, missing packages, or a file without a record.
    """
    path = Path(path)
    kind = format_of(path, format)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if kind not in FORMATS:
        raise InputError(f"{path}: is a {kind} package; run it with bioimageio.core, or export as {', '.join(FORMATS)}")
    try:
        with quiet():
            run, record = FORMATS[kind].read(path)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{path}: is no {kind} file that can be read; give one that `pssr2 export` wrote") from error
    if not record:
        raise InputError(f"{path}: holds no record; give a file that `pssr2 export` wrote")
    return run, Record.from_state(record, str(path))
