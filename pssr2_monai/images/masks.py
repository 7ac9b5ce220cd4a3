"""Masks: images of the size of others that say which of their pixels are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import frames_of
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.windows import Window, plane_size, read_window

Labels = int | str | Sequence[int] | None


@dataclass(frozen=True)
class MaskLabels:
    """Which values of a mask are used: by default all but 0."""

    include: tuple[int, ...] = ()  # these alone
    exclude: tuple[int, ...] = ()  # all but these, 0 among them unless it is excluded, too

    @classmethod
    def of(cls, include: Labels = None, exclude: Labels = None) -> MaskLabels:
        """Make them of a number, several, or text in which commas separate them."""
        return cls(_numbers(include, "include"), _numbers(exclude, "exclude"))

    def check(self, masks: object) -> None:
        """Raise an InputError where labels are chosen, but no masks are given."""
        if masks is None and self != MaskLabels():
            raise InputError("include, exclude: are labels of masks; give their folder with masks")

    def used(self, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
        if not self.include and not self.exclude:
            return np.asarray(pixels != 0)
        use = np.isin(pixels, self.include) if self.include else np.ones(pixels.shape, dtype=bool)
        return np.asarray(use & ~np.isin(pixels, self.exclude))


def _numbers(labels: Labels, option: str) -> tuple[int, ...]:
    if labels is None:
        return ()
    values = labels.split(",") if isinstance(labels, str) else [labels] if isinstance(labels, int) else labels
    try:
        return tuple(int(value) for value in values)
    except ValueError:
        raise InputError(f"{option}: {labels!r} are not labels; give whole numbers, such as 1,3") from None


@dataclass(frozen=True)
class Mask:
    """The mask of an image; a single frame holds for all frames of the image."""

    image: LazyImage
    labels: MaskLabels = MaskLabels()
    stack: str = "TZ"

    def read(self, frames: Sequence[int], window: Window) -> npt.NDArray[np.bool_]:
        """Return which pixels ``(frames, Y, X)`` of a window of the image are used."""
        count = frames_of(self.image.axes, self.image.shape, self.stack).count
        planes = read_window(self.image, [frame if count > 1 else 0 for frame in frames], window, self.stack)
        return self.labels.used(planes)


def misfit(mask: LazyImage, label: LazyImage, stack: str = "TZ") -> str:
    """Describe a mask whose size or number of frames is not that of its image; an empty text for one that fits."""
    counts = [frames_of(image.axes, image.shape, stack).count for image in (mask, label)]
    sizes = [plane_size(image) for image in (mask, label)]
    if sizes[0] == sizes[1] and counts[0] in (1, counts[1]):
        return ""
    frames = f" with {counts[0]} and {counts[1]} frames" if counts[0] not in (1, counts[1]) else ""
    (height, width), (rows, columns) = sizes
    return f"{mask.path.name} ({height} x {width} for {rows} x {columns} of {label.path.name}{frames})"
