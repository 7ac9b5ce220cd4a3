"""``pssr2 napari``."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from pssr2_monai.errors import InputError

__all__ = ["napari"]


def napari(*files: str) -> None:
    """Open napari with windows to train, restore, calibrate and evaluate in.

    pssr2 napari [FILE ...]

    FILE  images to open, with their axes and pixel size

    Example: pssr2 napari scan.ome.tif
    """
    if find_spec("napari") is None:
        raise InputError("napari: it is not installed; pip install 'pssr2-monai[napari]'")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError("napari: there is no screen (DISPLAY is not set); log in with a desktop, or with ssh -X")
    from napari import run

    from pssr2_monai.napari.viewing import open_viewer

    open_viewer(files)
    run()
