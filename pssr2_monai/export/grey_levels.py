"""Networks that take and return grey levels instead of [0, 1], so that runners need not know the intensity scale."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import Intensity, dtype_limits
from pssr2_monai.images.windows import fit_image_intensity
from pssr2_monai.networks.record import Record

DTYPES = ("uint8", "int8", "uint16", "int16", "float32")  # whose values float32 holds without loss


@dataclass(frozen=True)
class PackageSettings:
    """The description of a BioImage.IO package, and the images that it takes.

    Attributes:
        name: name of the model: letters, digits, ``_+-()`` and spaces; by default made from scale and network.
        description: one or two sentences; by default the network's purpose.
        authors: names, separated by semicolons.
        license: an SPDX identifier, such as ``CC-BY-4.0``.
        cite: citations in addition to PSSR, PSSR2 and MONAI: entries ``TEXT 10.DOI``, separated by semicolons.
        cover: a picture of it (PNG, JPEG, GIF or SVG), twice as wide as high or square; by default the example and
            its restored image.
        example: a scan, whose middle becomes the example; also the source of the data type and, if the training scaled
            each file by itself, of the grey levels of black and white.
        dtype: data type of the images, ``uint8``, ``int8``, ``uint16``, ``int16`` or ``float32``; by default the
            example's, else the smallest that holds the training's fixed grey levels, else ``uint8``.
        low: the grey level that is black, instead of the example's; needs ``high``.
        high: the grey level that is white; needs ``low``.
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
    def changed(self) -> list[str]:
        """The options that differ from their defaults, as a user writes them."""
        return [f"--{option.name}" for option in fields(self) if getattr(self, option.name) != option.default]


class GreyLevels(nn.Module):
    """A network with its intensity scale: the steps of ``Intensity.apply`` before it, of ``Intensity.cast`` after it.

    Takes and returns float32 grey levels; for integer data types whole numbers within their range, so that a runner's
    own cast changes nothing; ``(batch, 1, frames, Y, X)`` with a channel, or without ``(batch, frames, Y, X)``.
    """

    def __init__(self, network: nn.Module, intensity: Intensity, dtype: str, channel: bool) -> None:
        super().__init__()
        self.network = network
        self.low, self.span = float(intensity.low), float(intensity.high - intensity.low)
        self.whole = np.dtype(dtype).kind in "iu"
        self.bottom, self.top = dtype_limits(dtype)
        self.channel = channel

    def forward(self, image: Tensor) -> Tensor:
        x = image.squeeze(1) if self.channel else image
        y: Tensor = self.network((x - self.low) / self.span) * self.span + self.low
        if self.whole:
            y = torch.clamp(torch.round(y), self.bottom, self.top)
        return y.unsqueeze(1) if self.channel else y


def grey_scale(record: Record, settings: PackageSettings, name: str) -> tuple[Intensity, str]:
    """Determine the grey levels of black and white, and the data type, of the images that a package takes.

    A scale for each file is impossible with runners that pass one part of an image after the other to a network; one
    scale for all images is set here.
    """
    if (settings.low is None) != (settings.high is None):
        raise InputError("--low and --high go together; give both grey levels, or neither")
    fixed = None if settings.low is None or settings.high is None else Intensity(settings.low, settings.high)
    dtype = settings.dtype
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: a package cannot take it; use {', '.join(DTYPES)}")
    if settings.example is not None:
        with open_image(settings.example) as image:
            pixels = image.dtype.name
            if pixels not in DTYPES or dtype not in (None, pixels):
                raise InputError(f"{image.path.name}: its pixels are {pixels}, not {dtype or ' or '.join(DTYPES)}")
            return fixed or fit_image_intensity(image, record.intensity, record.stack)[0], pixels
    levels = (fixed.low, fixed.high) if fixed else (record.intensity.low, record.intensity.high)
    dtype = dtype or _smallest_dtype(*levels)
    if fixed:
        return fixed, dtype
    if record.intensity.needs_sample(np.dtype(dtype)):
        raise InputError(
            f"{name}: was trained with each file scaled by itself, which a package cannot do; give --example SCAN, or "
            "--low and --high, the grey levels of black and white"
        )
    return record.intensity.fit(np.empty(0, dtype), dtype, name), dtype


def _smallest_dtype(low: float | None, high: float | None) -> str:
    """The data type that holds fixed grey levels; uint8 where none are fixed."""
    if low is None or high is None:
        return "uint8"
    unsigned = next((dtype for dtype in ("uint8", "uint16") if high <= dtype_limits(dtype)[1]), None)
    return unsigned if unsigned is not None and low >= 0 else "float32"
