"""Whether a file gives what the network gives, at sizes that it was not made with."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.export.formats import Run
from pssr2_monai.images.axes import is_volume
from pssr2_monai.networks.record import Record

TOLERANCE = 0.01
"""The largest difference from the network, in grey levels of 255, that a file may have."""
SHAPES = ((1, 1, 8, 8), (1, 3, 9, 31), (3, 6, 40, 17), (2, 4, 64, 96))
"""Batch, depth, height and width of what a file is tried with; the last is what it is made with."""
Case = tuple[Tensor, Tensor]
"""An image and what should become of it."""


def cases(network: nn.Module, record: Record, name: str) -> list[Case]:
    """Random images and what the network makes of them, at the sizes that it takes.

    The networks here take every size; one of another package may want multiples of some number.

    Raises:
        InputError: it takes none of them, or gives no tensor.
    """
    random = torch.Generator().manual_seed(0)
    found: list[Case] = []
    reason = "its output is not a tensor"
    for batch, depth, height, width in SHAPES:
        frames = depth if is_volume(record.scale) else record.n_frames[0]
        image = torch.rand(batch, frames, height, width, generator=random)
        try:
            with torch.inference_mode():
                pred = network(image)
        except Exception as error:  # of a network that may be anybody's
            reason = one_line(error)
        else:
            found += [(image, pred)] if isinstance(pred, Tensor) else []
    if not found:
        raise InputError(f"{name}: its network takes no images of 8x8 to 64x96 px: {reason}")
    return found


def largest_difference(run: Run, expected: list[Case]) -> float:
    """Of what `run` gives from what it should; infinite for another size, NaN where one is."""
    found = []
    for image, pred in expected:
        given = run(image)
        found.append((given - pred).abs().max() if given.shape == pred.shape else torch.tensor(torch.inf))
    return float(torch.stack(found).max())


def free_axes(record: Record) -> dict[int, str]:
    """The names of the axes of ``(batch, frames, Y, X)`` that may have any length."""
    frames = {1: "depth"} if is_volume(record.scale) else {}
    return {0: "batch", **frames, 2: "height", 3: "width"}


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what torch says of itself: that TorchScript is deprecated, that torchvision is absent."""
    notes = logging.getLogger("torch.onnx")
    level = notes.level
    notes.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        notes.setLevel(level)
