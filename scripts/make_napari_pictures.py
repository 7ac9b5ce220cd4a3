"""Makes the pictures of docs/napari.md: the plugin's windows with real content, on synthetic cells.

Needs a screen of 1400 x 900 pixels: xvfb-run -a -s "-screen 0 1400x900x24" python scripts/make_napari_pictures.py
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from qtpy.QtWidgets import QApplication

from pssr2_monai.napari.layers import SELECTED
from pssr2_monai.napari.viewer import PANELS, camera_of, open_viewer

COLOURS = 128  # of a picture, which makes it small


def spin(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    """Let the window work for so long, or until something is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        QApplication.processEvents()
        time.sleep(0.02)


def save(viewer: Any, file: Path) -> None:
    spin(4)
    viewer.window.screenshot(str(file), canvas_only=False, flash=False)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(file, file.stat().st_size // 1024, "kB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--minutes", type=float, default=3.0, help="of the training that is shown")
    parser.add_argument("--only", nargs="*", default=["restore", "calibrate", "evaluate", "train"])
    options = parser.parse_args()
    viewer = open_viewer()
    viewer.window.resize(1400, 880)
    spin(2)
    viewer.open_sample("pssr2-monai", "made_cells")
    docks = viewer.window.dock_widgets
    panels = {name: docks[f"{name} (pssr2-monai)"] for name in PANELS}
    out = options.out.absolute()
    os.chdir(tempfile.mkdtemp())
    layers = viewer.layers
    good = [layer for layer in layers if layer.name.startswith("cells")]

    def raised(name: str) -> Any:
        panels[name].parent().raise_()
        spin(0.5)
        return panels[name]

    def run(panel: Any) -> None:
        panel.start_button.clicked.emit(True)
        spin(3600, lambda: not panel.running)
        print(panel.message.text(), flush=True)

    if "restore" in options.only:
        panel = raised("Restore")
        layers.selection.active = layers["fast scan"]
        panel.weights.choose("em_2x")
        camera_of(viewer).zoom *= 2.5
        panel.live.value = True
        spin(60, lambda: "fast scan preview" in layers)
        spin(10)
        save(viewer, out / "napari_preview.png")
        run(panel)
        viewer.reset_view()
        panel.compared.slider.value = 0.35
        save(viewer, out / "napari_restore.png")
    for layer in [layer for layer in layers if layer not in good and layer.name not in ("left out", "fast scan")]:
        layers.remove(layer)
    if "calibrate" in options.only:
        panel = raised("Calibrate")
        panel.lr.choose(layers["fast scan"])
        panel.hr.choose(layers["left out"])
        run(panel)
        picture = panel.picture.parent()
        picture.setFloating(False)
        save(viewer, out / "napari_calibrate.png")
        picture.close()
    if "evaluate" in options.only:
        panel = raised("Evaluate")
        layers.selection = {*good}
        panel.hr.choose(SELECTED)
        panel.weights.choose("em_2x")
        run(panel)
        save(viewer, out / "napari_evaluate.png")
    if "train" in options.only:
        panel = raised("Train")
        layers.selection = {*good}
        panel.images.choose(SELECTED)
        panel.crappifier.scale.value = 2
        panel.adjust.value = True
        spin(60, lambda: bool(panel.previewed.layers))
        save(viewer, out / "napari_crappifier.png")
        panel.out.value, panel.length.value = Path("new_run"), options.minutes
        panel.start_button.clicked.emit(True)
        spin(3600, lambda: not panel.running or panel.bar.value > 850)
        panel.out.line_edit.native.setText("new_run")  # no path of this machine
        save(viewer, out / "napari_train.png")
        panel.stop()
        spin(60, lambda: not panel.running)
    os._exit(0)


if __name__ == "__main__":
    main()
