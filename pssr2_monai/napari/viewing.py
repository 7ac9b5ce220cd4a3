"""Opening napari with the plugin's windows and some files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QTimer

from pssr2_monai.napari.layers import layer_of_file

__all__ = ["PANELS", "open_viewer"]

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
