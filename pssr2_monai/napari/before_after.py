"""A slider between a scan and what was made of it, and the preview that restores the middle of what is in view."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import FloatSlider
from napari.layers import Image

from pssr2_monai.images.axes import frames_of, is_volume
from pssr2_monai.images.windows import Window
from pssr2_monai.napari.layers import RESULT, Part, lazy_image, pixels_of, placement
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.region import restore_region

SHARED = ("contrast_limits", "gamma", "colormap")
SECONDS = 1.0  # that a preview should take
FIRST_SIDE_PX, LEAST_SIDE_PX, LARGEST_SIDE_PX = 96, 32, 640
VOLUME_FRAMES = 8  # of a preview


class BeforeAfter:
    """Shows the scan left of a place that a slider moves, above the layer of what was made of it."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        tooltip = "The scan is shown on the left of this place, the result on the right"
        self.slider = FloatSlider(label="Scan | result", min=0, max=1, value=0.5, readout=False, tooltip=tooltip)
        self.slider.enabled = False
        self.slider.changed.connect(lambda *_: self._move())
        self.layer: Image | None = None
        self._scan: Image | None = None
        self._result: Image | None = None
        self._part: Part = ()

    def show(self, scan: Image, part: Part, result: Image) -> None:
        """Compare a part of a scan with the layer of what was made of it, whose contrast both then share."""
        self.remove()
        layers = self.viewer.layers
        before = layers.selection.active
        self._scan, self._part, self._result = scan, part, result
        self.layer = self.viewer.add_image(
            self._pixels(1.0),
            name=f"{scan.name} | result",
            metadata=RESULT,
            **{name: getattr(result, name) for name in SHARED},
            **placement(scan, [bounds.stop - bounds.start for bounds in part], part),
        )
        layers.move(len(layers) - 1, layers.index(result) + 1)
        layers.link_layers([result, self.layer], SHARED)
        layers.selection.active = before
        self.slider.enabled = True
        self._move()

    def remove(self) -> None:
        if self.layer is not None:
            self.viewer.layers.unlink_layers([self._result, self.layer], SHARED)
            if self.layer in self.viewer.layers:
                self.viewer.layers.remove(self.layer)
        self.layer = self._scan = self._result = None
        self.slider.enabled = False

    def _pixels(self, share: float) -> Any:
        *others, columns = self._part
        last = columns.start + round(share * (columns.stop - columns.start))
        return pixels_of(self._scan)[(*others, slice(columns.start, last))]

    def _move(self) -> None:
        if self.layer is None or self.layer not in self.viewer.layers:
            self.slider.enabled = False
            return
        pixels = self._pixels(self.slider.value)
        self.layer.visible = bool(pixels.shape[-1])
        if pixels.shape[-1]:
            self.layer.data = pixels


@lru_cache(maxsize=2)
def _network(weights: Path, written: float, device: str) -> tuple[Any, Record]:
    return load_weights(weights, device)


def network_of(weights: Path, device: str = "cpu") -> tuple[Any, Record]:
    """Return the network and the record of a file of weights, which are kept until the file or the device changes."""
    return _network(weights, weights.stat().st_mtime if weights.is_file() else 0.0, device)


class MiddleRestored:
    """Restores the middle of a part of a layer, as much of it as a second allows, and shows it in its place."""

    def __init__(self, viewer: Any, compared: BeforeAfter) -> None:
        self.viewer, self.compared = viewer, compared
        self.layer: Image | None = None
        self._speeds: dict[Any, float] = {}  # LR pixels a second, of weights and options

    def work(self, layer: Image, part: Part, weights: Path, options: RestoreOptions) -> tuple[Any, ...]:
        """Restore, in any thread; what is returned is for ``show``."""
        network, record = network_of(weights, options.device or "cpu")
        image, key = lazy_image(layer), (weights, options)
        pixels = self._speeds.get(key, FIRST_SIDE_PX**2 / SECONDS) * SECONDS
        middle = middle_of(part, math.isqrt(round(pixels)), VOLUME_FRAMES if is_volume(record.scale) else 1)
        *others, rows, columns = middle
        order = frames_of(image.axes, image.shape, record.stack)
        index = dict(zip(image.axes, (bounds.start for bounds in others), strict=False))
        first = int(np.ravel_multi_index([index[axis] for axis in order.order], order.sizes)) if order.order else 0
        frames = range(first, first + math.prod(bounds.stop - bounds.start for bounds in others))
        window = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        began = time.perf_counter()
        planes = restore_region(image, network, record, window, frames, options)
        speed = window.height * window.width / (time.perf_counter() - began)
        larger = speed > 2 * self._speeds.get(key, FIRST_SIDE_PX**2 / SECONDS)
        self._speeds[key] = speed
        scaled = {axis: factor for axis, factor in order.scale_by_axis(record.scale).items() if axis not in "YX"}
        shape = [(b.stop - b.start) * scaled.get(axis, 1) for axis, b in zip(image.axes, others, strict=False)]
        return layer, middle, planes.reshape(*shape, *planes.shape[-2:]), larger

    def show(self, result: tuple[Any, ...]) -> None:
        layer, part, pixels, _ = result
        self.remove()
        active = self.viewer.layers.selection.active
        self.layer = self.viewer.add_image(
            pixels,
            name=f"{layer.name} preview",
            metadata=RESULT,
            **{name: getattr(layer, name) for name in SHARED},
            **placement(layer, pixels.shape, part),
        )
        self.viewer.layers.selection.active = active
        self.compared.show(layer, part, self.layer)

    def remove(self) -> None:
        if self.layer is not None:
            self.compared.remove()
            if self.layer in self.viewer.layers:
                self.viewer.layers.remove(self.layer)
        self.layer = None


def middle_of(part: Part, side: int, frames: int = 1) -> Part:
    """The middle of a part, of at most so many pixels along Y and X, and frames along the axis before them."""
    side = min(max(side, LEAST_SIDE_PX), LARGEST_SIDE_PX)
    limits = [*[1] * (len(part) - 3), *[frames] * (len(part) > 2), side, side]
    middle = []
    for bounds, limit in zip(part, limits, strict=True):
        length = min(limit, bounds.stop - bounds.start)
        first = bounds.start + (bounds.stop - bounds.start - length) // 2
        middle.append(slice(first, first + length))
    return tuple(middle)
