"""Sample data: images to train on, and a scan to restore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QTimer

from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.data.samples import SCALE, cache_dir, generate_images, sample_images
from pssr2_monai.images.image import list_images
from pssr2_monai.napari.layers import SIZE_UNKNOWN, layer_of_file

LayerData = tuple[Any, dict[str, Any], str]


def em_sections() -> list[LayerData]:
    """Those of the demonstration: five sections to train on, one that was left out, and a scan of that at a quarter.

    They are fetched once; where that fails they are made.
    """
    train_dir, test_dir = sample_images(cache_dir() / "sample")
    good = [layer_of_file(path) for path in list_images(train_dir)]
    (left_out, shown), *_ = [layer_of_file(Path(path)) for path in list_images(test_dir)]
    return _described([*good, (left_out, shown | {"name": "left out"})])


def made_cells() -> list[LayerData]:
    """Images of arithmetic: cells with membranes and granules, the last of them left out and scanned at a quarter."""
    *good, left_out = generate_images(count=4)
    named = [(image, {"name": f"cells {number}"}) for number, image in enumerate(good, 1)]
    return _described([*named, (left_out, {"name": "left out"})])


def _described(images: list[tuple[Any, dict[str, Any]]]) -> list[LayerData]:
    """The images as layers, and below them the crappified last one, all where they lie in the sample."""
    hr, shown = images[-1]
    crappify = Crappify(SCALE, [PoissonNoise(intensity=1.0)]).set_random_state(seed=0)
    lr = crappify(np.asarray(hr)[None].astype(np.float32) / 255)[0]
    scale = np.asarray(shown.get("scale", (1.0, 1.0)))
    scan = shown | {
        "name": "fast scan",
        "scale": scale * SCALE,
        "translate": scale * (SCALE - 1) / 2,
        "metadata": {"axes": "YX", SIZE_UNKNOWN: "micrometer" not in shown.get("units", ())},
    }
    grey = np.asarray(lr * 255).round().astype(np.uint8)
    return [(image, {"visible": False, **each}, "image") for image, each in images] + [(grey, scan, "image")]


PANELS = ("Train", "Restore", "Calibrate", "Evaluate")


def open_viewer(files: Sequence[str | Path] = (), show: bool = True) -> Any:
    """napari's viewer with the plugin's windows on the right and an image layer for each file.

    Raises:
        InputError: a file cannot be read; before the window opens.
    """
    layers = [layer_of_file(file) for file in files]
    viewer = napari.Viewer(title="PSSR2", show=show)
    for pixels, shown in layers:
        viewer.add_image(pixels, **shown)
    docks = [viewer.window.add_plugin_dock_widget("pssr2-monai", name, tabify=True)[0] for name in PANELS]
    for dock, name in zip(docks, PANELS, strict=True):
        dock.setWindowTitle(name)  # without the plugin's name, for which their tabs have no room
    QTimer.singleShot(0, docks[0].raise_)
    return viewer
