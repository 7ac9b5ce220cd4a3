"""Uncertainty of a restoration: mean and spread over the eight orientations of the input, and over several networks.

A network without directional preference restores a flipped image as it restores the image; where it does not, and where
networks of other trainings disagree, the data alone do not determine the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.check_fidelity import map_path
from pssr2_monai.images.axes import factors, is_volume
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.windows import ORIENTATIONS, fit_image_intensity
from pssr2_monai.images.writer import Writer, remove
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.inferer import ORIENTATION_COUNTS, SeamlessInferer, outputs_of_orientations
from pssr2_monai.restoration.journal import journal_of
from pssr2_monai.restoration.layout import Strip, layout_of
from pssr2_monai.restoration.restore_file import output_writer
from pssr2_monai.restoration.restore_image import ImageRestorer


class MeanAndSpread(torch.nn.Module):
    """A network whose output is the mean and the spread of networks applied to several orientations of the input.

    Args:
        networks: networks that take and return ``(batch, frames, Y, X)``.
        orientations: 8; or 4, those without Y and X swapped, which leave a raster's lines along X; or 1.

    Raises:
        InputError: fewer than two outputs to compare, or another number of orientations.

    Example:
        >>> network = MeanAndSpread([torch.nn.Identity()])
        >>> network(torch.ones(1, 1, 4, 6)).shape
        torch.Size([1, 2, 1, 4, 6])
    """

    def __init__(self, networks: Sequence[torch.nn.Module], orientations: int = ORIENTATIONS) -> None:
        super().__init__()
        if orientations not in ORIENTATION_COUNTS:
            raise InputError(f"orientations: {orientations} is not 1, 4 or {ORIENTATIONS}")
        if len(networks) * orientations < 2:
            raise InputError("uncertainty: one network in one orientation has no spread; give more of either")
        self.networks = torch.nn.ModuleList(networks)
        self.orientations = orientations

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(batch, 2, frames, Y, X)`` float32: mean and sample standard deviation of all outputs."""
        # One output at a time (Welford, Technometrics 4:419, 1962), so that memory does not grow with their number.
        mean = squares = torch.zeros(())
        count = 0
        for network in self.networks:
            for restored in outputs_of_orientations(network, x, self.orientations):
                output = restored.float()
                count += 1
                before, mean = mean, mean.to(output.device) + (output - mean.to(output.device)) / count
                squares = squares.to(output.device) + (output - before.to(output.device)) * (output - mean)
        return torch.stack([mean, (squares / (count - 1)).clamp(min=0).sqrt()], dim=1)


def load_ensemble(
    weights: Sequence[str | Path],
    device: torch.device | str = "cpu",
    loaded: tuple[torch.nn.Module, Record] | None = None,
) -> tuple[list[torch.nn.Module], Record]:
    """Load networks for the same images, and the record of the first, which may be loaded already."""
    members = [loaded or load_weights(weights[0], device), *(load_weights(path, device) for path in weights[1:])]
    first = members[0][1]
    for path, (_, record) in zip(weights, members, strict=True):
        for name in ("scale", "n_frames", "stack", "intensity"):
            if getattr(record, name) != getattr(first, name):
                raise InputError(
                    f"{path}: has {name} {getattr(record, name)}, but {weights[0]} has {getattr(first, name)}; an "
                    "ensemble restores the same images"
                )
    return [network for network, _ in members], first


def restore_with_uncertainty(
    source: str | Path | LazyImage,
    target: str | Path,
    networks: Sequence[torch.nn.Module],
    record: Record,
    inferer: SeamlessInferer | None = None,
    *,
    orientations: int | None = None,
    axes: str | None = None,
    image: int | str | None = None,
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Restore a file as the mean over orientations and networks, and write their spread next to it.

    The target is written as by ``restore``; ``NAME_uncertainty``, with the same suffix, is float32: the standard
    deviation in grey levels of the file, on the same axes and pixel size. Both are written in strips; an interrupted
    run does not resume but starts again.

    Args:
        source: an image file of any supported format, or an image that is open.
        target: the file to write.
        networks: in evaluation mode, of weights with this record.
        record: of their weights.
        inferer: applies them to windows.
        orientations: see ``MeanAndSpread``; by default 8, or 4 where Y and X are scaled differently.
        axes: axes of a file that does not state its own.
        image: number or name of the image to restore of a file that holds several.
        overwrite: replace existing files.

    Raises:
        InputError: see ``restore`` and ``MeanAndSpread``.
    """
    target = Path(target)
    _, along_y, along_x = factors(record.scale)
    orientations = orientations or (ORIENTATIONS if along_y == along_x else 4)
    network = MeanAndSpread(networks, orientations).eval()
    inferer = inferer or SeamlessInferer(volume=is_volume(record.scale))
    with source if isinstance(source, LazyImage) else open_image(source, axes, image) as scan:
        scales = fit_image_intensity(scan, record.intensity, record.stack)
        spread = map_path(target, "uncertainty")
        with (
            output_writer(target, scan, record, overwrite) as means,
            output_writer(spread, scan, record, overwrite, dtype=np.float32) as spreads,
        ):
            remove(journal_of(target.absolute()))  # of an interrupted run without uncertainty, which does not resume
            layout = layout_of(scan, target, record, inferer, itemsize=8)  # of both float32 values
            restorer = _MeanAndSpreadRestorer(scan, means, network, record, inferer, scales, layout, spreads)
            restorer.quantize()
            for _ in restorer.run(layout.strips()):
                pass
    return target, spread


@dataclass
class _MeanAndSpreadRestorer(ImageRestorer):
    """Restores an image by ``MeanAndSpread`` into two writers, the second for the spread."""

    spreads: Writer

    def cast(self, strip: Strip, pixels: np.ndarray) -> np.ndarray:
        """Leave both as they are: ``(rows, 2, frames, X)`` for planes, ``(frames, 2, Y, X)`` for volumes."""
        return pixels

    def write(self, strip: Strip, rows: range, block: np.ndarray) -> None:
        super().write(strip, rows, super().cast(strip, block[:, 0]))
        spans = np.array([self.scales[channel].high - self.scales[channel].low for channel in self.channels(strip)])
        spread = block[:, 1] * np.float32(spans[0] if self.inferer.volume else spans[:, np.newaxis])
        ImageRestorer.write(replace(self, writer=self.spreads), strip, rows, spread)
