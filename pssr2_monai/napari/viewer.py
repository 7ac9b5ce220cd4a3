"""What the plugin shows in the viewer: its windows, image files, sample data, and images side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QTimer

from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.data.samples import SCALE, cache_dir, generate_images, sample_images
from pssr2_monai.images.files import list_images
from pssr2_monai.images.pictures import grey_window
from pssr2_monai.napari.layers import RESULT, SIZE_UNKNOWN, axes_of, layer_of_file

LayerData = tuple[Any, dict[str, Any], str]
PANELS = ("Train", "Restore", "Calibrate", "Evaluate")
TILE_AXES = ("tile", "frame", "y", "x")
GAP = 0.04  # between two images side by side, as a share of their width


def open_viewer(files: Sequence[str | Path] = (), show: bool = True) -> Any:
    """Open napari's viewer with the plugin's windows on the right and an image layer for each file."""
    layers = [layer_of_file(file) for file in files]  # may fail, before the viewer opens
    viewer = napari.Viewer(title="PSSR2", show=show)
    for pixels, shown in layers:
        viewer.add_image(pixels, **shown)
    align_units(viewer)
    docks = [viewer.window.add_plugin_dock_widget("pssr2-monai", name, tabify=True)[0] for name in PANELS]
    for dock, name in zip(docks, PANELS, strict=True):
        dock.setWindowTitle(name)  # without the plugin's name, for which the tabs have no room
    QTimer.singleShot(0, docks[0].raise_)
    return viewer


def em_sections() -> list[LayerData]:
    """Return the sections of the demonstration as layers: six to train on, one held out, and a 2x coarser scan of it.

    They are downloaded once; without a connection, synthetic images take their place.
    """
    train_dir, test_dir = sample_images(cache_dir() / "sample")
    good = [layer_of_file(path) for path in list_images(train_dir)]
    (left_out, shown), *_ = [layer_of_file(Path(path)) for path in list_images(test_dir)]
    return _with_scan([*good, (left_out, shown | {"name": "left out"})])


def made_cells() -> list[LayerData]:
    """Return synthetic cells with membranes and granules as layers, the last held out, and a 2x coarser scan of it."""
    *good, left_out = generate_images(count=4)
    named = [(image, {"name": f"cells {number}"}) for number, image in enumerate(good, 1)]
    return _with_scan([*named, (left_out, {"name": "left out"})])


def _with_scan(images: list[tuple[Any, dict[str, Any]]]) -> list[LayerData]:
    """The images as hidden layers, followed by a crappified version of the last one in the same place."""
    hr, shown = images[-1]
    crappify = Crappify(SCALE, [PoissonNoise(intensity=1.0)]).set_random_state(seed=0)
    lr = crappify(np.asarray(hr)[None].astype(np.float32) / 255)[0]
    scale = np.asarray(shown.get("scale", (1.0, 1.0)))
    metadata = {"axes": "YX", SIZE_UNKNOWN: "" if "micrometer" in shown.get("units", ()) else "YX"}
    place = {"scale": scale * SCALE, "translate": scale * (SCALE - 1) / 2}
    scan = shown | place | {"name": "fast scan", "metadata": metadata}
    grey = np.asarray(lr * 255).round().astype(np.uint8)
    return [(image, {"visible": False, **options}, "image") for image, options in images] + [(grey, scan, "image")]


def camera_of(viewer: Any) -> Any:
    return getattr(viewer, "scene", viewer).camera  # of the viewer itself before napari 0.9


def align_units(viewer: Any) -> None:
    """Give each axis one unit in all layers that were just added, or napari warns of others and ignores them all.

    An axis in pixels takes the unit that others have in its place, and is marked as one of unknown size.
    """
    known: dict[int, Any] = {}
    for layer in viewer.layers:
        for axis, unit in enumerate(layer.units, start=-layer.ndim):
            if not unit.is_compatible_with("pixel"):
                known.setdefault(axis, unit)
    for layer in viewer.layers:
        units = list(layer.units)
        unknown = [axis for axis in known if -axis <= layer.ndim and units[axis].is_compatible_with("pixel")]
        if unknown:
            for axis in unknown:
                units[axis] = known[axis]
            if isinstance(layer, (Image, Labels)) and not getattr(layer, "rgb", False):
                marked = {axes_of(layer)[axis] for axis in unknown}
                layer.metadata[SIZE_UNKNOWN] = "".join({*layer.metadata.get(SIZE_UNKNOWN, ""), *marked})
            layer.units = units


class SideBySide:
    """Layers of one field at several resolutions, side by side in one contrast window, with their names above."""

    def __init__(self, viewer: Any, title: str) -> None:
        self.viewer, self.title = viewer, title
        self.layers: dict[str, Image] = {}
        self._shown: dict[str, np.ndarray] = {}
        self._names: Any = None

    def show(self, images: Mapping[str, np.ndarray]) -> None:
        """Show images ``(tiles, frames, Y, X)`` or ``(frames, Y, X)`` by name, in the size of the last.

        Layers that have the same names and shapes already get new pixels and keep the user's settings.
        """
        planes, axes = _squeezed(images)
        if not self._fits(planes):
            self._build(planes, axes)
        for name, image in planes.items():
            if images[name] is not self._shown.get(name):
                self.layers[name].data = image
        self._shown = dict(images)

    def remove(self) -> None:
        for layer in [*self.layers.values(), self._names]:
            if layer in self.viewer.layers:
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
        selected = set(self.viewer.layers.selection)  # may be what is trained on
        hide_layers(self.viewer)
        last = list(planes.values())[-1]
        limits = grey_window(last)
        step = last.shape[-1] * (1 + GAP)
        for number, (name, image) in enumerate(planes.items()):
            scale = np.asarray(last.shape) / np.asarray(image.shape)
            translate = (scale - 1) / 2
            translate[-1] += number * step
            self.layers[name] = self.viewer.add_image(
                image,
                name=f"{self.title}: {name}",
                scale=scale,
                translate=translate,
                contrast_limits=limits,
                colormap="gray",
                axis_labels=axes,
                metadata=dict(RESULT),
            )
        self.viewer.layers.link_layers(list(self.layers.values()), ("contrast_limits", "gamma", "colormap"))
        self._names = self.viewer.add_points(
            [(-0.06 * last.shape[-2], number * step + last.shape[-1] / 2) for number in range(len(planes))],
            name=f"{self.title}: names",
            text={"string": list(planes), "color": "white", "size": 14},
            face_color="transparent",
            border_color="transparent",
            size=1,
            metadata=dict(RESULT),
        )
        align_units(self.viewer)
        self.viewer.layers.selection = selected or {self.layers[list(planes)[-1]]}
        for axis in range(self.viewer.dims.ndim - last.ndim, self.viewer.dims.ndim - 2):
            self.viewer.dims.set_point(axis, 0)  # the slider may stand where a longer stack has frames, the tiles none
        show_all_of(self.viewer, list(self.layers.values()))


def show_all_of(viewer: Any, layers: Sequence[Image]) -> None:
    """Show all of some layers as large as the others, which may be hidden and larger, let ``reset_view`` show them."""
    viewer.reset_view()
    everything, these = (
        np.array(part)[..., -2:] for part in (viewer.layers.extent.world, [layer.extent.world for layer in layers])
    )
    first, last = these[:, 0].min(axis=0), these[:, 1].max(axis=0)
    camera = camera_of(viewer)
    camera.center = (*camera.center[:-2], *((first + last) / 2))
    camera.zoom *= float(((everything[1] - everything[0]) / np.maximum(last - first, 1e-9)).min())


def hide_layers(viewer: Any) -> None:
    # They would lie below what is added next.
    for layer in viewer.layers:
        layer.visible = False


def _squeezed(images: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The images and the names of their axes, without those along which all of them have one pixel."""
    shapes = np.array([image.shape for image in images.values()])
    single = tuple(number for number in range(shapes.shape[1] - 2) if (shapes[:, number] == 1).all())
    axes = [name for number, name in enumerate(TILE_AXES[-shapes.shape[1] :]) if number not in single]
    return {name: image.squeeze(single) for name, image in images.items()}, axes
