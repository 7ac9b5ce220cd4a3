"""The window that restores a layer, a part of it, or files, and shows where the result contradicts the scan."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, FileEdit
from napari.layers import Image, Shapes
from napari.utils.colormaps import Colormap
from qtpy.QtWidgets import QLabel

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.check_fidelity import Fidelity
from pssr2_monai.fidelity.maps import Mapped, restore_with_maps
from pssr2_monai.machine import devices
from pssr2_monai.napari.layers import (
    SIZE_UNKNOWN,
    Part,
    axes_of,
    file_name,
    larger,
    layer_of_file,
    pixel_size_of,
    pixels_of,
    write_layer,
)
from pssr2_monai.napari.panel import DOUBTFUL, GOOD, Panel
from pssr2_monai.napari.source import ImageSource, chosen_weights
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights, weights_file

WHOLE, VIEW = "all of it", "what is in view"
SHOWN_SCORE = 6.0
"""Structure scores that are shown in full colour; up to half of it they are not shown at all."""
Z_SCORE = 4.0
CONSISTENT = "consistent"
"""The level of a verdict that leaves no doubt."""
DOUBT = Colormap([[0.1, 0.5, 1], [0, 0, 0], [0, 0, 0], [1, 0.35, 0]], controls=[0, 0.25, 0.75, 1], name="fidelity")
"""Black where SR and LR agree, to be added to the image: blue where SR is too dark, orange where it is too bright."""


class RestorePanel(Panel):
    """Restores a layer or files with the weights of a training."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Restore")
        self._folder = tempfile.TemporaryDirectory(prefix="pssr2_restore_")
        self.image = ImageSource(napari_viewer, "Scan", folder=False, tooltip="The coarse, noisy image")
        self.part = ComboBox(
            label="Part", choices=self._parts, tooltip="All of a layer, what the window shows of it, or a drawn shape"
        )
        self.frame = CheckBox(text="only the frame that is shown", value=False)
        self.weights = FileEdit(
            label="Weights",
            mode="r",
            filter="*.pt *.pth",
            nullable=True,
            value=weights_file("em"),
            tooltip="model.pt of a training; at first em, for electron micrographs; em_denoise comes along, too",
        )
        self.target = FileEdit(
            label="Save to",
            mode="w",
            nullable=True,
            tooltip="File to write, such as restored.ome.tif; needed where the scan is a file, else as you like",
        )
        self.check = CheckBox(text="fidelity map: where the result contradicts the scan", value=True)
        self.device = ComboBox(label="Device", choices=devices())
        self.known = QLabel()
        self.known.setWordWrap(True)
        self.fill([self.image, self.part, self.frame, self.weights, self.target, self.check, self.device])
        self.outcome.addWidget(self.known)
        self.weights.changed.connect(lambda *_: self.attempt(self._tell_record))
        self._tell_record()

    def begin(self) -> None:
        """Restores what is chosen."""
        weights = chosen_weights(self.weights)
        target = self.target.value
        named = target is not None and str(target) not in ("", ".")
        layer, part = (self.image.layers or [None])[0], None
        work = Path(tempfile.mkdtemp(dir=self._folder.name))
        if layer is not None:
            part = part_of_layer(layer, self.viewer, self.part.value, self.frame.value)
            source = work / f"{file_name(layer)}.ome.tif"
            output = Path(target) if named else work / f"{file_name(layer)}_restored.ome.tif"
        else:
            chosen = self.image.files(work)
            assert chosen is not None
            source = chosen
            if not named:
                raise InputError("Save to: choose a file, or for a folder of scans a folder, to write to")
            output = Path(target)
        # Of a layer the file is the session's own, or was chosen in a dialog that asks before it replaces.
        options: dict[str, Any] = {"device": self.device.value, "fidelity": self.check.value}
        options["overwrite"] = layer is not None

        def work_on() -> tuple[list[Mapped], Record]:
            if layer is not None:
                write_layer(layer, source, part)
            return restore_with_maps(source, output, weights, **options), load_weights(weights)[1]

        def done(found: tuple[list[Mapped], Record]) -> None:
            self._show(layer, part, source, *found, weights)

        stopped = "Stopped; what is done is kept, and Restore goes on there." if layer is None else "Stopped."
        self.run(self.watched(work_on, stopped), done)
        self.say("restoring …")

    def _show(
        self,
        layer: Image | None,
        part: Part | None,
        source: Path,
        mapped: list[Mapped],
        record: Record,
        weights: Path,
    ) -> None:
        """The restored image where its scan lies, and the maps of the check; of several files words alone."""
        if layer is None and len(mapped) == 1:
            pixels, shown = layer_of_file(source)
            layer = self.viewer.add_image(pixels, **shown)
        if layer is not None:
            found, axes = mapped[0], axes_of(layer)
            part = part or tuple(slice(0, size) for size in pixels_of(layer).shape)
            counts = tuple(each.stop - each.start for each in part)
            pixels, _ = layer_of_file(found.path)
            sizes = iter(pixels.shape)  # files are read without axes of length 1
            shape = [1 if n == 1 and axis not in "YX" else next(sizes) for axis, n in zip(axes, counts, strict=True)]
            self.viewer.add_image(
                pixels.reshape(shape),
                name=f"{layer.name} restored",
                contrast_limits=layer.contrast_limits,
                gamma=layer.gamma,
                colormap=layer.colormap,
                metadata={
                    "axes": axes,
                    SIZE_UNKNOWN: not pixel_size_of(layer),
                    "pssr2": {"source": layer.name, "weights": str(weights), "record": asdict(record)},
                },
                **larger(layer, shape, part),
            )
            if found.fidelity is not None:
                self._show_maps(found.fidelity, layer.name, counts, larger(layer, counts, part))
        self._tell(mapped)

    def _show_maps(self, fidelity: Fidelity, name: str, shape: tuple[int, ...], placed: dict[str, Any]) -> None:
        """The maps of a check; that of the structures, which says more, visible."""
        for path, what, reach, visible in (
            (fidelity.map, "z-scores", Z_SCORE, False),
            (fidelity.structures, "fidelity", SHOWN_SCORE, True),
        ):
            pixels, _ = layer_of_file(path)
            self.viewer.add_image(
                pixels.reshape(shape),
                name=f"{name} {what}",
                contrast_limits=(-reach, reach),
                colormap=DOUBT,
                blending="additive",
                visible=visible,
                metadata={"pssr2_shown": True},
                **placed,
            )

    def _tell(self, mapped: list[Mapped]) -> None:
        lines = [f"{len(mapped)} images restored."] if len(mapped) > 1 else ["Restored."]
        for each in mapped:
            if Path(self._folder.name) not in each.path.parents:
                lines.append(str(each.path))
            if each.fidelity is not None:
                lines.append(each.fidelity.verdict.headline)
                lines += [f"- {reason}" for reason in each.fidelity.verdict.reasons]
        doubted = any(each.fidelity is not None and each.fidelity.verdict.level != CONSISTENT for each in mapped)
        self.say("\n".join(lines), DOUBTFUL if doubted else GOOD)

    def _tell_record(self) -> None:
        """What the chosen weights are."""
        self.known.setText("")
        _, record = load_weights(chosen_weights(self.weights))
        self.clear_error()
        network = str(record.network.get("_target_")).rsplit(".", 1)[-1]
        size = record.pixel_size.get("X")
        at = f", trained at {1000 * size:g} nm" if size else ""
        frames = f", {record.n_frames[0]} frames in" if record.n_frames[0] > 1 else ""
        self.known.setText(f"These weights: {network}, scale {record.scale}{frames}{at}")

    def _parts(self, _: Any) -> list[Any]:
        # Those without shapes, too: napari does not tell when something is drawn in them.
        return [WHOLE, VIEW, *(layer for layer in self.viewer.layers if isinstance(layer, Shapes))]


def part_of_layer(layer: Image, viewer: Any, part: Any, shown_frame: bool = False) -> Part:
    """Which pixels of a layer are meant.

    Args:
        layer: an image.
        viewer: that shows it.
        part: ``WHOLE``, ``VIEW`` or a layer of shapes, whose selected ones, or all, are enclosed by the part.
        shown_frame: whether only the plane that is shown is meant, of layers with more axes than Y and X.

    Raises:
        InputError: the part lies outside the layer, or no shape is drawn.
    """
    pixels = pixels_of(layer)
    bounds = [slice(0, size) for size in pixels.shape]
    if (part != WHOLE or shown_frame) and axes_of(layer)[-2:] != "YX":
        raise InputError(f"Part: the axes of {layer.name} are {axes_of(layer)}, which do not end in YX; take all of it")
    ends: list[tuple[float, float]] = []
    if isinstance(part, Shapes):
        chosen = [part.data[number] for number in part.selected_data] or list(part.data)
        if not chosen:
            raise InputError(f"Part: nothing is drawn in {part.name}; draw a rectangle there, or take all of it")
        corners = np.array([part.data_to_world(point)[-2:] for shape in chosen for point in np.asarray(shape)])
        world = np.repeat(np.asarray(layer.data_to_world([0] * layer.ndim))[None], len(corners), axis=0)
        world[:, -2:] = corners
        placed = np.array([layer.world_to_data(point)[-2:] for point in world])
        ends = list(zip(placed.min(axis=0), placed.max(axis=0), strict=True))
    elif part == VIEW:
        step = np.asarray(layer.downsample_factors)[layer.data_level] if layer.multiscale else np.ones(layer.ndim)
        first, last = np.asarray(layer.corner_pixels) * step
        ends = list(zip(first[-2:], last[-2:], strict=True))
    for axis, (low, high) in zip((-2, -1), ends, strict=False):
        bounds[axis] = slice(max(math.floor(low + 0.5), 0), min(math.floor(high + 0.5) + 1, pixels.shape[axis]))
        if bounds[axis].start >= bounds[axis].stop:
            raise InputError(f"Part: lies outside {layer.name}; choose another, or all of it")
    if shown_frame:
        at = layer.world_to_data(viewer.dims.point[-layer.ndim :])
        for axis in range(layer.ndim - 2):
            index = min(max(round(float(at[axis])), 0), pixels.shape[axis] - 1)
            bounds[axis] = slice(index, index + 1)
    return tuple(bounds)
