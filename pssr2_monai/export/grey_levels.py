"""Networks that take and give grey levels instead of [0, 1], so that no runner has to know the scale."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.windows import fit_image_intensity
from pssr2_monai.networks.record import Record


@dataclass(frozen=True)
class PackageSettings:
    """What a BioImage.IO package says of itself, and which images it takes.

    Attributes:
        name: of the model: letters, digits, ``_+-()`` and spaces; by default made from the scale and the network.
        description: one or two sentences; by default what the network does.
        authors: names, separated by semicolons.
        license: an SPDX identifier, such as ``CC-BY-4.0``.
        cite: what to cite beside PSSR, PSSR2 and MONAI: entries ``TEXT 10.DOI``, separated by semicolons.
        cover: a picture of it (PNG, JPEG, GIF or SVG), twice as wide as high or square; by default the example and
            what becomes of it.
        example: a scan, whose middle becomes the example, and from which the data type and, where the training scaled
            each file by itself, the grey levels of black and white are taken.
        dtype: of the images, ``uint8``, ``int8``, ``uint16``, ``int16`` or ``float32``; by default the example's, else
            the smallest that holds the training's fixed grey levels, else ``uint8``.
        low: the grey level that is black, where the example's is not to serve; goes with ``high``.
        high: the grey level that is white.
    """

    name: str | None = None
    description: str | None = None
    authors: str = "pssr2_monai contributors"
    license: str = "Apache-2.0"
    cite: str = ""
    cover: str | Path | None = None
    example: str | Path | None = None
    dtype: str | None = None
    low: float | None = None
    high: float | None = None

    @property
    def given(self) -> list[str]:
        """The options that are not as they are by default, as a user writes them."""
        return [f"--{each.name}" for each in fields(self) if getattr(self, each.name) != each.default]


DTYPES = ("uint8", "int8", "uint16", "int16", "float32")
"""What a float32 holds without loss."""


class GreyLevels(nn.Module):
    """A network with its intensity scale inside: the steps of `Intensity.apply` before it, of `Intensity.cast` behind.

    Takes and gives float32 grey levels; where ``dtype`` is one of integers, whole numbers within its range, so that
    whatever a runner casts with, it gets the same.

    Args:
        network: takes and gives ``(batch, frames, Y, X)`` in [0, 1].
        intensity: the grey levels of 0 and 1.
        dtype: of the images, one of `DTYPES`.
        channel: whether images are ``(batch, 1, frames, Y, X)``.
    """

    def __init__(self, network: nn.Module, intensity: Intensity, dtype: str, channel: bool) -> None:
        super().__init__()
        self.network = network
        self.low, self.span = float(intensity.low), float(intensity.high - intensity.low)
        self.whole = np.dtype(dtype).kind in "iu"
        self.bottom, self.top = limits(dtype)
        self.channel = channel

    def forward(self, image: Tensor) -> Tensor:
        x = image.squeeze(1) if self.channel else image
        y: Tensor = self.network((x - self.low) / self.span) * self.span + self.low
        if self.whole:
            y = torch.clamp(torch.round(y), self.bottom, self.top)
        return y.unsqueeze(1) if self.channel else y


def limits(dtype: str) -> tuple[float, float]:
    """The least and the greatest value, infinite for floats."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return -float("inf"), float("inf")
    info = np.iinfo(kind)
    return float(info.min), float(info.max)


def grey_scale(record: Record, settings: PackageSettings, name: str) -> tuple[Intensity, str]:
    """The grey levels of black and white, and the dtype, of the images that a package takes.

    A scale of each file's own cannot be told to a runner that gives a network one part of an image after the other; so
    it is settled here, once and for all images.

    Raises:
        InputError: it cannot be settled; an unknown dtype, or one that is not the example's.
    """
    if (settings.low is None) != (settings.high is None):
        raise InputError("--low and --high go together; give both grey levels, or neither")
    fixed = None
    if settings.low is not None and settings.high is not None:
        fixed = Intensity(settings.low, settings.high)
    dtype = settings.dtype
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: a package cannot take it; use {', '.join(DTYPES)}")
    if settings.example is not None:
        with open_image(settings.example) as image:
            found = image.dtype.name
            if found not in DTYPES or dtype not in (None, found):
                raise InputError(f"{image.path.name}: its pixels are {found}, not {dtype or ' or '.join(DTYPES)}")
            return fixed or fit_image_intensity(image, record.intensity, record.stack), found
    levels = (fixed.low, fixed.high) if fixed else (record.intensity.low, record.intensity.high)
    dtype = dtype or _smallest(*levels)
    if fixed:
        return fixed, dtype
    if record.intensity.needs_sample(np.dtype(dtype)):
        raise InputError(
            f"{name}: was trained with each file scaled by itself, which a package cannot do; give --example SCAN, or "
            "--low and --high, the grey levels of black and white"
        )
    return record.intensity.fit(np.empty(0, dtype), dtype, name), dtype


def _smallest(low: float | None, high: float | None) -> str:
    """The dtype that holds fixed grey levels; uint8 where none are fixed."""
    if low is None or high is None:
        return "uint8"
    unsigned = next((dtype for dtype in ("uint8", "uint16") if high <= limits(dtype)[1]), None)
    return unsigned if unsigned is not None and low >= 0 else "float32"
