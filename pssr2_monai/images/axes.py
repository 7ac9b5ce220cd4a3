"""Axis strings, frames and runs of frames: the only module that interprets the axes of an image.

An image has ``axes``: a string of distinct letters out of "TZCYX" that contains Y and X, one letter a dimension, in the
order of the file. All axes but Y and X are flattened to frames.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pssr2_monai.errors import InputError

LETTERS = "TZCYX"
FRAME_ORDERS = {"TZ": "CTZ", "ZT": "CZT", "C": "TZC"}  # by the name of a stack; the last axis runs fastest
USUAL_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TZCYX"}


def check_axes(axes: str, shape: Sequence[int], name: str) -> None:
    """Check that an axis string describes an image of this shape; ``name`` is the file's, for the message."""
    sizes = " x ".join(str(size) for size in shape)
    if len(shape) < 2:
        raise InputError(
            f"{name}: {len(shape)}-D data of shape ({sizes}) is not an image; an image has at least Y and X"
        )
    if len(axes) != len(shape):
        example = f", such as {USUAL_AXES[len(shape)]!r}" if len(shape) in USUAL_AXES else ""
        raise InputError(
            f"{name}: axes {axes!r} name {len(axes)} dimension{'s' * (len(axes) != 1)}, but the image has {len(shape)} "
            f"({sizes}); give one letter a dimension{example}"
        )
    for letter in axes:
        if letter not in LETTERS:
            raise InputError(f"{name}: axes {axes!r} have the unknown letter {letter!r}; use letters out of {LETTERS}")
        if axes.count(letter) > 1:
            raise InputError(f"{name}: axes {axes!r} have {letter!r} {axes.count(letter)} times; use each letter once")
    missing = [letter for letter in "YX" if letter not in axes]
    if missing:
        raise InputError(f"{name}: axes {axes!r} lack {' and '.join(missing)}; every image has Y and X")
    for letter, size in zip(axes, shape, strict=True):
        if size < 1:
            raise InputError(f"{name}: axis {letter} has size {size} (shape {sizes}); the image holds no pixels")


@dataclass(frozen=True)
class Frames:
    """The frames of an image, numbered from 0 with the last axis of ``order`` running fastest."""

    order: str  # the axes but Y and X, slowest first
    sizes: tuple[int, ...]  # along each of them
    joint: bool = False  # whether the channels, the fastest axis then, make the runs

    @property
    def count(self) -> int:
        return math.prod(self.sizes)

    @property
    def run_axis(self) -> str | None:
        """The axis along which the frames of a sample lie; None if every run has one frame.

        It is the fastest of Z and T that is longer than 1: channels are no neighbours, unless they are joint.
        """
        if self.joint:
            return "C" if "C" in self.order else None
        pairs = zip(reversed(self.order), reversed(self.sizes), strict=True)
        return next((axis for axis, size in pairs if size > 1 and axis != "C"), None)

    @property
    def run(self) -> int:
        """The number of consecutive frames that are neighbours."""
        return 1 if self.run_axis is None else self.sizes[self.order.index(self.run_axis)]

    @property
    def channels(self) -> int:
        return self.sizes[self.order.index("C")] if "C" in self.order else 1

    def channel(self, i: int) -> int:
        return self.position(i).get("C", 0)

    def of_channel(self, channel: int) -> range:
        """The numbers of the frames of a channel."""
        if self.joint:
            return range(channel, self.count, self.channels)
        length = self.count // self.channels
        return range(channel * length, (channel + 1) * length)

    def scaled(self, factor: int) -> Frames:
        """The frames of an image with ``factor`` times as many along the run."""
        sizes = zip(self.order, self.sizes, strict=True)
        scaled = tuple(size * (factor if axis == self.run_axis else 1) for axis, size in sizes)
        return Frames(self.order, scaled, self.joint)

    def scale_by_axis(self, scale: int | Sequence[int]) -> dict[str, int]:
        """The factor of each axis that is scaled: Y, X and, for volumes, the axis of the run."""
        along_run, along_y, along_x = factors(scale)
        by_axis = {"Y": along_y, "X": along_x}
        return by_axis if self.run_axis is None else by_axis | {self.run_axis: along_run}

    def position(self, i: int) -> dict[str, int]:
        """The index of frame ``i`` along each axis of ``order``."""
        if not 0 <= i < self.count:
            raise IndexError(f"frame {i} is not one of the {self.count} frames")
        index = {}
        for axis, size in zip(reversed(self.order), reversed(self.sizes), strict=True):
            i, index[axis] = divmod(i, size)
        return {axis: index[axis] for axis in self.order}

    def window(self, centre: int, n: int) -> list[int]:
        """The numbers of the ``n`` frames around ``centre`` within its run, repeating the nearest beyond its ends.

        An odd ``n`` is symmetric; an even one has one frame more before the centre than after it.
        """
        if not 0 <= centre < self.count:
            raise IndexError(f"frame {centre} is not one of the {self.count} frames")
        first = centre - centre % self.run
        last = first + self.run - 1
        start = centre - n // 2
        return [min(max(i, first), last) for i in range(start, start + n)]

    def neighbour(self, i: int, after: bool) -> int:
        """Return the frame after, or else before, frame ``i`` within its run; at its ends the only one there is."""
        place = i % self.run
        if self.run < 2:
            raise IndexError(f"frame {i} has no neighbour in a run of 1 frame")
        return i + 1 if place == 0 or (after and place < self.run - 1) else i - 1

    def check_n_frames(self, n: int, name: str, of_weights: bool = False) -> None:
        """Check that a run has enough frames for a sample of ``n``.

        Args:
            n: frames of a sample.
            name: of the file, for the message.
            of_weights: weights ask for them, not an option.
        """
        if n == self.run or (n < self.run and not self.joint):
            return
        axes, channels = f"axes '{self.order}YX'", "channels" if self.run > 1 else "channel"
        asked = f"the weights take {n}" if of_weights else f"n_frames asks for {n}"
        advice = "use other weights" if of_weights else f"set n_frames to {self.run}"
        if self.joint:
            raise InputError(
                f"{name}: holds {self.run} {channels} ({axes}), but channels are joint and {asked} of them; {advice}, "
                f"or give images of {n} channels"
            )
        if self.run == 1:
            lone = f"; its {self.channels} channels make no stack" if self.channels > 1 else ""
            raise InputError(f"{name}: {axes} hold 1 frame, but {asked}{lone}; give a stack, or {advice}")
        raise InputError(
            f"{name}: {axes} hold {self.run} frames in a row (along {self.run_axis}), but {asked}; give a longer "
            f"stack, or {advice}{'' if of_weights else ' or fewer'}"
        )


def frames_of(axes: str, shape: Sequence[int], stack: str = "TZ") -> Frames:
    """The frames of an image; ``stack`` "TZ" numbers them with Z running fastest, "ZT" with T.

    C is slowest in both, so that each channel is complete before the next begins. With "C" the channels are joint:
    those of one plane make a run, which a network of several channels takes together.
    """
    check_axes(axes, shape, "image")
    if stack not in FRAME_ORDERS:
        raise InputError(
            f"stack: {stack!r} is unknown; use 'TZ' (Z runs fastest), 'ZT' (T runs fastest), or 'C' (joint channels)"
        )
    size = dict(zip(axes, shape, strict=True))
    order = "".join(axis for axis in FRAME_ORDERS[stack] if axis in size)
    return Frames(order, tuple(int(size[axis]) for axis in order), joint=stack == "C")


def factors(scale: int | Sequence[int]) -> tuple[int, int, int]:
    """The number of HR pixels to one LR pixel along the frames, Y and X.

    A scale is one number for Y and X, or three, for Z (the frames), Y and X, with which a run of frames is a volume.

    Example:
        >>> factors(4), factors([4, 1, 1])
        ((1, 4, 4), (4, 1, 1))
    """
    try:
        whole = [operator.index(factor) for factor in (scale if isinstance(scale, Sequence) else [1, scale, scale])]
    except TypeError:
        whole = []
    if len(whole) != 3 or min(whole) < 1:
        raise InputError(f"scale: {scale!r} is neither a whole number of at least 1 nor three of them, for Z, Y and X")
    return whole[0], whole[1], whole[2]


def is_volume(scale: int | Sequence[int]) -> bool:
    """Whether a scale has a factor for the frames, which are then the Z of a 3-D network."""
    return isinstance(scale, Sequence)


def lr_hr_frames(n_frames: int | Sequence[int], scale: int | Sequence[int] = 1) -> tuple[int, int]:
    """Frames per sample as the pair (LR, HR), from the HR count or such a pair.

    With a scale along the frames, a sample has that many times as many HR as LR frames. Otherwise both counts are odd
    or both even, since the centres would be half a frame apart.
    """
    try:
        lr, hr = (operator.index(n) for n in (n_frames if isinstance(n_frames, Sequence) else (n_frames, n_frames)))
    except (TypeError, ValueError):
        raise InputError(f"n_frames: {n_frames!r} is neither a whole number nor a pair [LR, HR]") from None
    if hr < 1 or lr < 1 or isinstance(n_frames, bool):
        raise InputError(f"n_frames: {n_frames!r} is not positive; ask for at least 1 frame")
    if is_volume(scale):
        factor = factors(scale)[0]
        lr = lr if isinstance(n_frames, Sequence) else hr // factor
        if lr * factor != hr:
            raise InputError(
                f"n_frames: {n_frames!r} does not fit the scale {scale!r}; give a multiple of {factor}, the HR frames "
                "of a tile"
            )
        return lr, hr
    if hr > lr:
        raise InputError(f"n_frames: {n_frames!r} asks for more HR than LR frames; give [LR, HR] with HR <= LR")
    if (lr - hr) % 2:
        raise InputError(
            f"n_frames: {n_frames!r} mixes an odd and an even count, so that no HR frames are central; "
            f"use [{lr}, {hr + 1}]"
        )
    return lr, hr


def central(n_in: int, n_out: int) -> slice:
    """The slice of the central ``n_out`` of ``n_in`` frames."""
    start = (n_in - n_out) // 2
    return slice(start, start + n_out)


def sample_centres(frames: Frames, n: int, slide: bool, edges: bool = False, step: int = 1) -> list[int]:
    """The centre frame of each sample of ``n`` frames, for ``Frames.window``.

    Samples begin every ``step`` frames with ``slide``, otherwise every ``n``; the last one ends with its run. ``n`` and
    the length of a run are multiples of ``step``. With ``edges``, every frame is a centre, as for whole stacks.
    """
    if edges:
        return list(range(frames.count))
    frames.check_n_frames(n, "image")
    last = frames.run - n
    first_frames = [*range(0, last, step if slide else n), last]
    return [run + first + n // 2 for run in range(0, frames.count, frames.run) for first in first_frames]


def scaled_shape(axes: str, shape: Sequence[int], scale: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with the axes that ``scale`` names multiplied by its factors; see ``Frames.scale_by_axis``."""
    return tuple(int(size) * scale.get(axis, 1) for axis, size in zip(axes, shape, strict=True))


def scaled_pixel_size(pixel_size: Mapping[str, float], scale: Mapping[str, int]) -> dict[str, float]:
    """The pixel size (micrometres along each axis) divided by the factors of the axes; unknown ones stay missing."""
    return {axis: size / scale.get(axis, 1) for axis, size in pixel_size.items()}
