"""What the writer of a BioImage.IO package decides."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

__all__ = ["PackageSettings"]


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
