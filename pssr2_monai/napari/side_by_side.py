"""Images beside one another in the viewer, in one contrast window, with their names above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from napari.layers import Image

from pssr2_monai.images.pictures import grey_window

AXES = ("tile", "frame", "y", "x")
GAP = 0.04
"""Of the width of an image, between two."""


class SideBySide:
    """Layers of one field at several resolutions, kept up to date.

    Args:
        viewer: napari's.
        title: what the layers' names begin with.
    """

    def __init__(self, viewer: Any, title: str) -> None:
        self.viewer = viewer
        self.title = title
        self.layers: dict[str, Image] = {}
        self._shown: dict[str, np.ndarray] = {}
        self._names: Any = None

    def show(self, images: Mapping[str, np.ndarray]) -> None:
        """Shows images; the last sets the size and, when it is first seen, the contrast window of all.

        Layers that show the same names and shapes already get new pixels and keep the user's settings.

        Args:
            images: ``(tiles, frames, Y, X)`` or ``(frames, Y, X)`` by name, of one field; axes along which all of them
                have one pixel are left out.
        """
        planes, axes = _squeezed(images)
        if not self._fits(planes):
            self._build(planes, axes)
        for name, image in planes.items():
            if images[name] is not self._shown.get(name):
                self.layers[name].data = image
        self._shown = dict(images)

    def remove(self) -> None:
        """Takes the layers away."""
        for layer in [*self.layers.values(), self._names]:
            if layer is not None and layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self.layers, self._shown, self._names = {}, {}, None

    def _fits(self, planes: Mapping[str, np.ndarray]) -> bool:
        return (
            list(planes) == list(self.layers)
            and all(layer in self.viewer.layers for layer in self.layers.values())
            and all(self.layers[name].data.shape == image.shape for name, image in planes.items())
        )

    def _build(self, planes: Mapping[str, np.ndarray], axes: Sequence[str]) -> None:
        self.remove()
        for layer in self.viewer.layers:
            layer.visible = False  # they would lie below
        last = list(planes.values())[-1]
        limits = grey_window(last)
        step = last.shape[-1] * (1 + GAP)
        for number, (name, image) in enumerate(planes.items()):
            scale = np.asarray(last.shape) / np.asarray(image.shape)
            aside = (scale - 1) / 2
            aside[-1] += number * step
            self.layers[name] = self.viewer.add_image(
                image,
                name=f"{self.title}: {name}",
                scale=scale,
                translate=aside,
                contrast_limits=limits,
                colormap="gray",
                axis_labels=axes,
                metadata={"pssr2_shown": True},
            )
        self.viewer.layers.link_layers(list(self.layers.values()), ("contrast_limits", "gamma", "colormap"))
        self._names = self.viewer.add_points(
            [(-0.06 * last.shape[-2], number * step + last.shape[-1] / 2) for number in range(len(planes))],
            name=f"{self.title}: names",
            text={"string": list(planes), "color": "white", "size": 14},
            face_color="transparent",
            border_color="transparent",
            size=1,
            metadata={"pssr2_shown": True},
        )
        self.viewer.layers.selection.active = self.layers[list(planes)[-1]]
        for axis in range(self.viewer.dims.ndim - last.ndim, self.viewer.dims.ndim - 2):
            self.viewer.dims.set_point(axis, 0)  # a stack in another layer may be looked at where there is no tile
        self.viewer.reset_view()


def _squeezed(images: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The images and the names of their axes, without those along which all of them have one pixel."""
    shapes = np.array([image.shape for image in images.values()])
    gone = tuple(number for number in range(shapes.shape[1] - 2) if (shapes[:, number] == 1).all())
    axes = [name for number, name in enumerate(AXES[-shapes.shape[1] :]) if number not in gone]
    return {name: image.squeeze(gone) for name, image in images.items()}, axes
