"""What an image file states besides its pixels, axes and pixel size, and what of it holds for a restored image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class ImageMetadata:
    """What a file states about an image, as far as known.

    Attributes:
        origin: position of the centre of the first pixel in micrometres along "Z", "Y" and "X"; unknown axes missing.
        framed: the origin is a position of the microscope's stage, for which files say neither where in the field it
            lies nor, some of them, that it is in micrometres: it is kept as it is, and never places a pixel.
        stage: the position of the stage, or one for each index along an axis of positions, of an image that is not
            divided into its positions yet; see `at_position`.
        shift: along axes of unknown position, micrometres from the first pixel of the scan to that of a restored image.
        time_step: seconds from one frame of a time-lapse to the next.
        colors: the display colour of each channel, as "RRGGBB".
        windows: the grey levels that are displayed as black and white, a pair for each channel.
        luts: ImageJ's lookup table of each channel: 256 levels of red, then of green and of blue, as 768 bytes.
        labels: ImageJ's label of each plane, channels fastest, then Z, then T.
        calibration: how ImageJ computes displayed values from pixels: the entries "cf", "c0" and so on, and "vunit", of
            its description.
        notes: free text of the microscope.
        bar_rows: how many of the rows at the bottom are the data bar of a microscope.
    """

    origin: Mapping[str, float] = field(default_factory=dict)
    framed: bool = False
    stage: tuple[Mapping[str, float], ...] = ()
    shift: Mapping[str, float] = field(default_factory=dict)
    time_step: float | None = None
    colors: tuple[str, ...] = ()
    windows: tuple[tuple[float, float], ...] = ()
    luts: tuple[bytes, ...] = ()
    labels: tuple[str, ...] = ()
    calibration: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    bar_rows: int = 0

    def scaled(self, pixel_size: Mapping[str, float], scale: Mapping[str, float]) -> ImageMetadata:
        """The metadata of an image of other pixels that covers the same place, such as a restored one.

        The centre of its first pixel lies (scale - 1) / (2 scale) of a pixel of the scan before that of the scan.

        Args:
            pixel_size: of the scan, micrometres along each axis.
            scale: the factor of each axis that is scaled; below 1 for an image of fewer pixels.
        """
        shifts = {
            axis: -pixel_size[axis] * (factor - 1) / (2 * factor)
            for axis, factor in scale.items()
            if axis in pixel_size and factor != 1
        }
        moved = {} if self.framed else shifts
        origin = {axis: position + moved.get(axis, 0.0) for axis, position in self.origin.items()}
        unplaced = shifts if self.framed else shifts.keys() - origin.keys()
        shift = {axis: shifts[axis] + self.shift.get(axis, 0.0) for axis in unplaced}
        planes_kept = all(scale.get(axis, 1) == 1 for axis in "TZ")
        return replace(
            self,
            origin=origin,
            shift={**self.shift, **shift},
            labels=self.labels if planes_kept else (),
            bar_rows=round(self.bar_rows * scale.get("Y", 1)),
        )

    def at_position(self, index: int) -> ImageMetadata:
        """The metadata of one of the positions of an image."""
        origin = self.stage[index] if index < len(self.stage) else {}
        return replace(self, origin=origin or self.origin, framed=bool(origin) or self.framed, stage=())

    def of_channels(self, count: int) -> ImageMetadata:
        """What is stated for an image of so many channels: without lists of another length."""
        return replace(
            self,
            colors=self.colors if len(self.colors) == count else (),
            windows=self.windows if len(self.windows) == count else (),
            luts=self.luts if len(self.luts) == count else (),
        )

    def of_other_values(self) -> ImageMetadata:
        """The metadata of an image of the same place whose pixels are no grey levels of this one."""
        return replace(self, colors=(), windows=(), luts=(), labels=(), calibration={}, notes="")

    @property
    def lookup_tables(self) -> tuple[bytes, ...]:
        """The lookup table of each channel: from black to its colour where none is stated."""
        return self.luts or tuple(color_ramp(color) for color in self.colors)

    def lut_colors(self) -> tuple[str, ...]:
        """The colour of each channel, from its lookup table where none is stated: that of the greatest level."""
        return self.colors or tuple(bytes(lut[255::256]).hex().upper() for lut in self.luts)


def color_ramp(color: str) -> bytes:
    """The lookup table from black to a colour "RRGGBB"."""
    return bytes(round(level * part / 255) for part in bytes.fromhex(color) for level in range(256))


BAR_NOTE = "data bar"  # under which files of this package state their data bar


def bar_note(rows: int, height: int) -> str:
    """What is stated of a data bar: a file that was cropped later does not fit it."""
    return f"{rows} of {height} rows"


def bar_of_note(note: object, height: int) -> int:
    """The rows of a data bar by its note, in a file of this height; 0 if there is none or if it is of another file."""
    match = re.fullmatch(r"(\d+) of (\d+) rows", str(note))
    return int(match[1]) if match and int(match[2]) == height and int(match[1]) < height else 0
