"""Applying a network to an image or a volume that is larger than it takes at a time: blended sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import Inferer
from torch.profiler import record_function

from pssr2_monai.errors import InputError
from pssr2_monai.images.windows import ORIENTATIONS, reflect_indices, rounded_up, turned
from pssr2_monai.networks.precision import choose_precision, in_precision
from pssr2_monai.restoration.openvino_network import OpenVINONetwork, check_openvino

GRID = 32  # windows begin at multiples in Y and X: what a network that pools computes depends on where its grid lies
DEPTH, DEPTH_GRID = 48, 8  # frames of a window of a volume, and the multiples at which windows begin along them
PLANE_WINDOW, VOLUME_WINDOW = 640, 96  # default sides in LR pixels: larger ones overlap less, and take more memory
ORIENTATION_COUNTS = (1, 4, ORIENTATIONS)
BACKENDS, INT8 = ("torch", "openvino"), "int8"
Read = Callable[[Sequence[int]], torch.Tensor]  # of the window that begins at a pixel of each axis
Place = tuple[range, ...]  # LR pixels along each axis
SHARED_PX = 64  # LR pixels that neighbouring windows need to have in common; for small windows a quarter of their side


class SeamlessInferer(Inferer):
    """Sliding windows blended without seams, inside the image and at its border, in bounded memory if need be.

    The windows lie on one grid, and each pixel is the weighted mean of those that know it best (see
    ``WindowAxis``); the image is continued by reflection, also where it fits into one window. MONAI's own
    sliding window holds the whole output and its weights, and gives the outermost pixels of a window, which saw zeros
    instead of their surroundings, a share that shows as lines.

    Args:
        window: largest side of the windows in LR pixels, by default 640, for volumes 96; an image is covered by windows
            of the size that takes the fewest pixels.
        overlap: share of a window that it has in common with its neighbour; by default 64 LR pixels, for windows below
            256 a quarter, which is the least.
        batch_size: windows that go through the network at a time.
        precision: see ``precision.choose_precision``; by ``openvino`` also ``int8``: convolutions in 8-bit integers,
            whose range is found from the first windows, or those of ``quantized_by``.
        backend: ``torch``, or ``openvino`` for networks on the processor.
        volume: whether the frames are the depth of a volume, divided into windows, too.
        depth: largest number of frames in a window of a volume.
        orientations: how many flips and turns of each window are restored, turned back and averaged: 8; 4, without Y
            and X swapped; or 1, the window as it is.

    Raises:
        InputError: an argument that is out of range, or a backend that is not installed.
    """

    def __init__(
        self,
        window: int | None = None,
        overlap: float | None = None,
        batch_size: int = 1,
        precision: str = "auto",
        backend: str = "torch",
        volume: bool = False,
        depth: int = DEPTH,
        orientations: int = 1,
    ) -> None:
        super().__init__()
        if backend not in BACKENDS:
            raise InputError(f"backend: {backend!r} is unknown; use {' or '.join(BACKENDS)}")
        if backend == "openvino":
            check_openvino(precision == INT8)
        elif precision == INT8:
            raise InputError("precision 'int8': needs backend 'openvino'; add that, or take auto, float32 or bfloat16")
        else:
            choose_precision(precision, torch.device("cpu"))  # refuses a name that it does not know
        if orientations not in ORIENTATION_COUNTS:
            raise InputError(f"orientations: {orientations!r} is not 1, 4 or {ORIENTATIONS}")
        window = window or (VOLUME_WINDOW if volume else PLANE_WINDOW)
        if window < 2 * GRID or window % GRID:
            raise InputError(f"window: {window} LR pixels; take a multiple of {GRID}, at least {2 * GRID}")
        least = _least_shared(window, GRID)
        if overlap is not None and not least <= _shared(window, GRID, overlap) < window:
            raise InputError(
                f"overlap: {overlap} of a window of {window} LR pixels; it must be at least {least / window:.3g}, or "
                "the windows' borders show, and less than 1"
            )
        self.window, self.overlap, self.batch_size = window, overlap, batch_size
        self.precision, self.backend = precision, backend
        self.volume, self.depth, self.orientations = volume, depth, orientations
        self._samples: Sequence[torch.Tensor] | None = None
        self._openvino: dict[int, OpenVINONetwork] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_openvino": {}}  # a worker compiles its own

    def quantized_by(self, samples: Sequence[torch.Tensor]) -> SeamlessInferer:
        """A copy that finds the range of 8-bit integers from inputs ``(1, frames, Y, X)`` of one size."""
        inferer = copy(self)
        inferer._samples, inferer._openvino = samples, {}
        return inferer

    def axes(self, sizes: Sequence[int]) -> list[WindowAxis]:
        """The windows along each axis of an image ``(Y, X)``, or of a volume ``(Z, Y, X)``."""
        axes = [self._axis(size, self.window, GRID) for size in sizes[-2:]]
        return [self._axis(sizes[0], self.depth, DEPTH_GRID), *axes] if self.volume else axes

    def _axis(self, size: int, window: int, grid: int) -> WindowAxis:
        shared = _shared(window, grid, self.overlap)
        margin = rounded_up(shared // 2, grid)
        if size > window:
            # Windows of the size, no larger than that, with the fewest pixels in all.
            lengths = range(window, max(shared, window // 2), -grid)
            axes = [WindowAxis(size, length, shared, margin) for length in lengths]
            return min(axes, key=lambda axis: len(axis.starts) * axis.length)
        return WindowAxis(size, window, shared, margin)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Restore ``(batch, frames, Y, X)``; the output is larger by the network's scale, in float32."""
        axes = self.axes(inputs.shape[1:] if self.volume else inputs.shape[2:])
        first_axis = inputs.ndim - len(axes)

        def read(starts: Sequence[int]) -> torch.Tensor:
            pixels = inputs
            for number, (axis, start) in enumerate(zip(axes, starts, strict=True)):
                index = torch.from_numpy(reflect_indices(start, axis.length, axis.size))
                pixels = pixels.index_select(first_axis + number, index.to(inputs.device))
            return pixels

        predict = (lambda windows: network(windows, *args, **kwargs)) if args or kwargs else network
        restored: torch.Tensor | None = None
        for place, piece in self.stream(read, axes, predict):
            scale = [size // len(part) for size, part in zip(piece.shape[first_axis:], place, strict=True)]
            if restored is None:
                sizes = [axis.size * factor for axis, factor in zip(axes, scale, strict=True)]
                restored = piece.new_empty((*piece.shape[:first_axis], *sizes))
            into = restored
            for number, (part, factor) in enumerate(zip(place, scale, strict=True)):
                into = into.narrow(first_axis + number, part.start * factor, len(part) * factor)
            into.copy_(piece)
        assert restored is not None
        return restored

    def stream(
        self,
        read: Read,
        axes: Sequence[WindowAxis],
        network: Callable[[torch.Tensor], torch.Tensor],
        parts: Sequence[range] | None = None,
        read_all: Callable[[Read, Iterable[Sequence[int]]], Iterator[torch.Tensor]] = map,
    ) -> Iterator[tuple[Place, torch.Tensor]]:
        """Restore an image piece by piece from one end to the other, holding little more of it than a window.

        ``read`` gives the window ``(batch, frames, Y, X)``, reflected where it leaves the image; ``read_all`` applies
        it to the windows in their order, perhaps ahead of their use. ``parts`` are LR pixels along each of the axes, by
        default all; pixels do not depend on the part. Yields places and float32 pixels: see ``blended``.
        """
        parts = parts or [range(axis.size) for axis in axes]
        steps, *across = [axis.covering(part.start, part.stop) for axis, part in zip(axes, parts, strict=True)]
        corners = list(product(*across))
        groups = [corners[number : number + self.batch_size] for number in range(0, len(corners), self.batch_size)]
        pixels = read_all(read, [(start, *corner) for start in steps for corner in corners])
        outputs = (
            output
            for _ in steps
            for group in groups
            for output in self.predicted([next(pixels) for _ in group], network)
        )
        return blended(outputs, axes, parts)

    def halved(self, times: int = 1) -> SeamlessInferer | None:
        """An inferer of half the memory: fewer windows at a time, then smaller ones; None if there is none."""
        if times == 0:
            return self
        batch, window = max(1, self.batch_size // 2), self.window
        if batch == self.batch_size:
            window = rounded_up(window // 2, GRID)
            if window < 2 * GRID or window == self.window:
                return None
        overlap = None if self.overlap is None else max(self.overlap, _least_shared(window, GRID) / window)
        smaller = copy(self)
        smaller.window, smaller.overlap, smaller.batch_size, smaller._openvino = window, overlap, batch, {}
        return smaller.halved(times - 1)

    def predicted(
        self, windows: Sequence[torch.Tensor], network: Callable[[torch.Tensor], torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        """The network's outputs for some windows, each ``(batch, frames, Y, X)``, computed together."""
        inputs = torch.cat(list(windows)).float()
        dtype = choose_precision("auto" if self.precision == INT8 else self.precision, inputs.device)
        predict = in_precision(network, dtype)
        if self.backend == "openvino":
            if not isinstance(network, torch.nn.Module) or inputs.device.type != "cpu":
                raise InputError("backend 'openvino': runs networks on the processor alone; leave it or the device out")
            if id(network) not in self._openvino:
                samples = (self._samples or windows) if self.precision == INT8 else None
                self._openvino[id(network)] = OpenVINONetwork(network, dtype, samples)
            predict = self._openvino[id(network)]
        with record_function("network"):
            outputs, batch = self._averaged(predict, inputs), len(windows[0])
        return [outputs[first : first + batch] for first in range(0, len(outputs), batch)]

    def _averaged(self, predict: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
        """The mean of the outputs for the orientations of the input."""
        if self.orientations == 1:
            return predict(inputs)
        outputs = outputs_of_orientations(predict, inputs, self.orientations)
        return sum(outputs, next(outputs)) / self.orientations


def outputs_of_orientations(
    predict: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, count: int
) -> Iterator[torch.Tensor]:
    """What a network makes of each of the first orientations of its input ``(..., Y, X)``, turned back."""
    for number in range(count):
        yield turned(predict(turned(inputs, number)), number, back=True)


def _least_shared(window: int, grid: int) -> int:
    return min(SHARED_PX, rounded_up(window // 4, grid))


def _shared(window: int, grid: int, overlap: float | None) -> int:
    """Pixels that neighbouring windows have in common, so that their steps stay on the grid."""
    if overlap is None:
        return _least_shared(window, grid)
    return window - max(grid, int(window * (1 - overlap)) // grid * grid)


@dataclass(frozen=True)
class WindowAxis:
    """The windows along an axis, and their weights where they overlap.

    They begin at multiples of ``step``, less a margin, wherever the axis is divided for other reasons, so that a pixel
    is made from the same windows whatever part of the image is asked for. An axis that is no longer than a window has
    one window, which reaches beyond it by the pixels without weight.
    """

    size: int  # all in pixels
    window: int
    shared: int  # that neighbours have in common
    margin: int  # by which the first window begins before the axis, and the last at least ends behind it

    @property
    def length(self) -> int:
        return self.window if self.size > self.window else self.size + 2 * self.edge

    @property
    def edge(self) -> int:
        """Pixels at each end of a window whose weight is 0, where another window has weight."""
        return self.shared // 4

    @property
    def step(self) -> int:
        return self.window - self.shared

    @property
    def starts(self) -> range:
        """First pixels of the windows; the first one is negative."""
        if self.size <= self.window:
            return range(-self.edge, 1 - self.edge)
        count = 1 + -(-(self.size + 2 * self.margin - self.window) // self.step)
        return range(-self.margin, -self.margin + count * self.step, self.step)

    def covering(self, first: int, stop: int) -> list[int]:
        """The starts of the windows with weight between two pixels."""
        return [
            start
            for start in self.starts
            if len(self.starts) == 1 or (start + self.edge < stop and start + self.window - self.edge > first)
        ]

    def weights(self, start: int, scale: int = 1) -> npt.NDArray[np.float32]:
        """The weights of the pixels of a window, ``(length * scale,)``; those of all windows add up to 1.

        They are 0 in a quarter of the overlap at each end, whose surroundings the network has not seen, and rise along
        a raised cosine over the half between.
        """
        if len(self.starts) == 1:
            return np.ones(self.length * scale, np.float32)
        profile = self._profile(scale)
        total, length = np.zeros_like(profile), len(profile)
        for neighbour in self.starts:
            shift = (neighbour - start) * scale
            if abs(shift) < length:
                total[max(shift, 0) : length + min(shift, 0)] += profile[max(-shift, 0) : length - max(shift, 0)]
        return np.divide(profile, total, out=np.zeros_like(profile), where=total > 0).astype(np.float32)

    def _profile(self, scale: int) -> npt.NDArray[np.float64]:
        edge = self.edge * scale
        ramp = self.shared * scale - 2 * edge
        rising = np.ones(self.window * scale)
        rising[:edge] = 0
        rising[edge : edge + ramp] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
        return rising * rising[::-1]


def blended(
    outputs: Iterator[torch.Tensor], axes: Sequence[WindowAxis], parts: Sequence[range]
) -> Iterator[tuple[Place, torch.Tensor]]:
    """Sum restored windows ``(..., sizes along the axes)``; yield each piece once no later window has weight there.

    The windows, which are changed, come in the order of their starts, along the last axis first. The pieces cover the
    parts, LR pixels along each of the last axes; they are yielded with their place, row of windows by row of windows,
    as long as a step. No more of the image is held than what a row of windows has in common with the next. Each pixel
    is summed in the same order whatever part is asked for.
    """
    (axis, *inner), (part, *inner_parts) = axes, parts
    starts, dim = axis.covering(part.start, part.stop), -len(axes)
    sums: dict[Place, torch.Tensor] = {}  # to which the next window is added
    first = part.start
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        stop = end = part.stop
        if following is not None:
            end = min(start + axis.length - axis.edge, end)
            stop = max(first, min(following + axis.edge, stop))
        slabs: Iterable[tuple[Place, torch.Tensor]]
        slabs = blended(outputs, inner, inner_parts) if inner else [((), next(outputs))]
        for place, slab in slabs:
            with record_function("blend"):
                factor = slab.shape[dim] // axis.length
                weighted = slice((first - start) * factor, (end - start) * factor)
                slab = slab.narrow(dim, weighted.start, weighted.stop - weighted.start)
                _weigh(slab, axis.weights(start, factor)[weighted], dim)
                if place in sums:
                    slab.narrow(dim, 0, sums[place].shape[dim]).add_(sums[place])
                ready, rest = slab.split([(stop - first) * factor, (end - stop) * factor], dim)
                sums[place] = rest.clone()  # not the whole slab
            if stop > first:
                yield (range(first, stop), *place), ready
        first = stop


def _weigh(slab: torch.Tensor, weights: npt.NDArray[np.float32], dim: int) -> None:
    """Multiply a window by its weights along an axis, in place, except for the middle where they are 1."""
    ones = np.flatnonzero(weights == 1)
    whole = not len(ones) or ones[-1] - ones[0] >= len(ones)
    ends = [(0, len(weights))] if whole else [(0, int(ones[0])), (int(ones[-1]) + 1, len(weights))]
    for low, high in ends:
        factors = torch.from_numpy(weights[low:high]).to(slab.device)
        slab.narrow(dim, low, high - low).mul_(factors.reshape(-1, *[1] * (-1 - dim)))
