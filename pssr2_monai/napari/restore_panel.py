"""The window that restores a layer, a part of it, or files, and maps where the result contradicts the scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, FileEdit
from napari.layers import Image, Shapes
from napari.utils.colormaps import Colormap
from qtpy.QtWidgets import QLabel

from pssr2_monai.described import described
from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.check_fidelity import Fidelity
from pssr2_monai.fidelity.maps import Mapped, restore_with_maps
from pssr2_monai.machine import devices
from pssr2_monai.napari import layers
from pssr2_monai.napari.before_after import BeforeAfter, MiddleRestored, network_of
from pssr2_monai.napari.form import COMPUTING, Options
from pssr2_monai.napari.layers import MADE_BY, RESULT, SIZE_UNKNOWN, ImageSource, Part
from pssr2_monai.napari.panel import DOUBTFUL, GOOD, Panel, Preview, TemporaryFolder, chosen_path
from pssr2_monai.napari.viewer import align_units, camera_of
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import ORIENTATION_COUNTS
from pssr2_monai.restoration.options import BARS, RestoreOptions

USED = "window overlap orientations precision backend device axes bar skip_bad format workers"
WHOLE, VIEW = "all of it", "what is in view"
MAX_STRUCTURE_SCORE, MAX_Z_SCORE = 6.0, 4.0  # shown in full colour; scores up to half of it are black
CONSISTENT = "consistent"  # the level of a verdict without reservations
DOUBT = Colormap([[0.1, 0.5, 1], [0, 0, 0], [0, 0, 0], [1, 0.35, 0]], controls=[0, 0.25, 0.75, 1], name="fidelity")
"""Added to the image: black where SR and LR agree, blue where SR is too dark, orange where it is too bright."""


class RestorePanel(Panel):
    """Restores a layer or files with bundled weights or those of a training."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer, "Restore")
        self.image = ImageSource(napari_viewer, "Scan", folder=False, tooltip="The coarse, noisy image")
        tooltip = "All of a layer, what the window shows of it, or a drawn shape"
        self.part = ComboBox(label="Part", choices=self._parts, tooltip=tooltip)
        self.frame = CheckBox(text="only the frame that is shown", value=False)
        self.weights = layers.WeightsSource()
        tooltip = "File to write, such as restored.ome.tif; required where the scan is a file, else optional"
        self.target = FileEdit(label="Save to", mode="w", nullable=True, tooltip=tooltip)
        tooltip = "As much of the middle of what is in view as a second restores; again after each change"
        self.live = CheckBox(text="preview the middle of the view", value=False, tooltip=tooltip)
        self.check = CheckBox(text="fidelity map: where the result contradicts the scan", value=True)
        self.compared = BeforeAfter(napari_viewer)
        self.description = QLabel()
        self.description.setWordWrap(True)
        shown: dict[str, Sequence[Any]] = {
            **COMPUTING,
            "orientations": ORIENTATION_COUNTS,
        }
        shown |= {"window": (), "bar": BARS, "device": devices()}
        widgets = [self.image, self.weights, self.part, self.frame, self.target, self.check, self.live]
        options = described(f"restoration.options:RestoreOptions {USED}")
        self.fill([*widgets, self.compared.slider], Options(options, shown))
        self.outcome.addWidget(self.description)
        self.middle = MiddleRestored(napari_viewer, self.compared)
        self.preview = Preview(self, self.live, self._middle, self._show_middle, self.middle.remove)
        for widget in (self.image, self.weights, self.frame, self.part):
            widget.changed.connect(lambda *_: self.preview.ask())
        self.options.connect(self.preview.ask)
        camera = camera_of(napari_viewer).events
        for moved in (camera.center, camera.zoom, napari_viewer.dims.events.point):
            moved.connect(self._moved)
        self.weights.changed.connect(lambda *_: self.attempt(self._describe_weights))
        self._describe_weights()

    @property
    def chosen(self) -> RestoreOptions:
        """The options of the form."""
        return RestoreOptions(**{"image": self.image.number} | self.options.values)

    def begin(self) -> None:
        weights, target, options = self.weights.file(), chosen_path(self.target), self.chosen
        assert weights is not None
        layer, part = (self.image.layers or [None])[0], None
        folder = TemporaryFolder()
        work = folder.path
        if layer is not None:
            part = part_of_layer(layer, self.viewer, self.part.value, self.frame.value)
            source = work / f"{layers.file_name(layer)}.ome.tif"
            output = target or work / f"{layers.file_name(layer)}_restored.ome.tif"
            # The target is temporary or was chosen in a dialog that asks before it replaces a file.
            options = replace(options, overwrite=True)
        else:
            files = self.image.source(work)()
            assert files is not None
            if target is None:
                raise InputError("Save to: choose a file, or for a folder of scans a folder, to write to")
            source, output = files, target

        def restore() -> tuple[list[Mapped], Record]:
            if layer is not None:
                layers.write_layer(layer, source, part)
            mapped = restore_with_maps(source, output, weights, options, fidelity=self.check.value)
            return mapped, network_of(weights)[1]

        def show(result: tuple[list[Mapped], Record]) -> None:
            mapped, record = result
            origin = {"weights": str(weights), "record": asdict(record)}
            if layer is not None:
                self._show(layer, part or layers.whole(layer), mapped[0], origin, folder)
            elif len(mapped) == 1:
                pixels, shown = layers.layer_of_file(source, number=options.image)
                scan = self.viewer.add_image(pixels, **shown)
                self._show(scan, layers.whole(scan), mapped[0], origin, folder)
            align_units(self.viewer)
            self._report_verdicts(mapped, work)

        self.preview.end()
        stopped = "Stopped; finished parts are kept, and Restore resumes there." if layer is None else "Stopped."
        self.run(self.watched(restore, stopped), show)
        self.say("restoring …")

    def _middle(self) -> Callable[[], tuple[Any, ...]]:
        weights, options = self.weights.file(), self.chosen
        assert weights is not None
        if not self.image.layers:
            raise InputError("Preview: is of layers; drag the file into the window, and choose its layer")
        (layer,) = self.image.layers
        part = part_of_layer(layer, self.viewer, self.part.value, shown_frame=True)
        if self.part.value == WHOLE:
            part = part_in_view(layer, part)
        return lambda: self.middle.work(layer, part, weights, options)

    def _show_middle(self, result: tuple[Any, ...]) -> None:
        self.middle.show(result)
        if result[-1]:  # faster than thought
            self.preview.ask()

    def _moved(self, *_: Any) -> None:
        with suppress(RuntimeError):  # the window has gone
            if self.live.value:
                self.preview.ask()

    def _show(self, layer: Image, part: Part, mapped: Mapped, origin: dict[str, Any], folder: object) -> None:
        axes = layers.axes_of(layer)
        counts = tuple(bounds.stop - bounds.start for bounds in part)
        pixels, _ = layers.layer_of_file(mapped.path, keep=folder)
        sizes = iter(pixels.shape)  # files are read without axes of length 1
        shape = [1 if n == 1 and axis not in "YX" else next(sizes) for axis, n in zip(axes, counts, strict=True)]
        restored = self.viewer.add_image(
            pixels.reshape(shape),
            name=f"{layer.name} restored",
            contrast_limits=layer.contrast_limits,
            gamma=layer.gamma,
            colormap=layer.colormap,
            metadata={
                "axes": axes,
                SIZE_UNKNOWN: "".join(axis for axis in "ZYX" if axis not in layers.pixel_size_of(layer)),
                MADE_BY: {"source": layer.name, **origin},
            },
            **layers.placement(layer, shape, part),
        )
        self.compared.show(layer, part, restored)
        if mapped.fidelity is not None:
            self._show_maps(mapped.fidelity, layer.name, counts, layers.placement(layer, counts, part), folder)

    def _show_maps(
        self, fidelity: Fidelity, name: str, shape: tuple[int, ...], placed: dict[str, Any], folder: object
    ) -> None:
        # Only the map of structures, which says more, is visible at first.
        for path, kind, limit, visible in (
            (fidelity.map, "z-scores", MAX_Z_SCORE, False),
            (fidelity.structures, "fidelity", MAX_STRUCTURE_SCORE, True),
        ):
            pixels, _ = layers.layer_of_file(path, keep=folder)
            self.viewer.add_image(
                pixels.reshape(shape),
                name=f"{name} {kind}",
                contrast_limits=(-limit, limit),
                colormap=DOUBT,
                blending="additive",
                visible=visible,
                metadata=dict(RESULT),
                **placed,
            )

    def _report_verdicts(self, mapped: list[Mapped], work: Path) -> None:
        lines = [f"{len(mapped)} images restored."] if len(mapped) > 1 else ["Restored."]
        colour = GOOD
        for result in mapped:
            if work not in result.path.parents:
                lines.append(str(result.path))
            if result.fidelity is not None:
                verdict = result.fidelity.verdict
                lines += [verdict.headline, *(f"- {reason}" for reason in verdict.reasons)]
                colour = colour if verdict.level == CONSISTENT else DOUBTFUL
        self.say("\n".join(lines), colour)

    def _describe_weights(self) -> None:
        self.description.setText("")
        weights = self.weights.file()
        assert weights is not None
        _, record = network_of(weights)
        self.clear_error()
        network = str(record.network.get("_target_")).rsplit(".", 1)[-1]
        size = record.pixel_size.get("X")
        trained_at = f", trained at {1000 * size:g} nm" if size else ""
        frames = f", {record.n_frames[0]} frames in" if record.n_frames[0] > 1 else ""
        self.description.setText(f"These weights: {network}, scale {record.scale}{frames}{trained_at}")

    def _parts(self, _: Any) -> list[Any]:
        # Layers without shapes, too: napari does not report when a shape is drawn.
        return [WHOLE, VIEW, *(layer for layer in self.viewer.layers if isinstance(layer, Shapes))]


def part_of_layer(layer: Image, viewer: Any, part: Any, shown_frame: bool = False) -> Part:
    """Return the pixels of a layer that are to be restored, at most the plane that is shown with ``shown_frame``.

    ``part`` is ``WHOLE``, ``VIEW`` or a layer of shapes: the box around the selected ones, or else around all.
    """
    sizes = layers.pixels_of(layer).shape
    bounds = [slice(0, size) for size in sizes]
    if (part != WHOLE or shown_frame) and layers.axes_of(layer)[-2:] != "YX":
        raise InputError(
            f"Part: the axes of {layer.name} are {layers.axes_of(layer)}, which do not end in YX; take all of it"
        )
    ends = _ends_of_shapes(layer, part) if isinstance(part, Shapes) else _ends_of_view(layer) if part == VIEW else []
    for axis, (low, high) in zip((-2, -1), ends, strict=False):
        bounds[axis] = slice(max(math.floor(low + 0.5), 0), min(math.floor(high + 0.5) + 1, sizes[axis]))
        if bounds[axis].start >= bounds[axis].stop:
            raise InputError(f"Part: lies outside {layer.name}; choose another, or all of it")
    if shown_frame:
        point = layer.world_to_data(viewer.dims.point[-layer.ndim :])
        for axis in range(layer.ndim - 2):
            index = min(max(round(float(point[axis])), 0), sizes[axis] - 1)
            bounds[axis] = slice(index, index + 1)
    return tuple(bounds)


def part_in_view(layer: Image, part: Part) -> Part:
    """What the viewer shows of a part of a layer; all of it where it shows nothing."""
    *others, rows, columns = part
    shown = [
        slice(max(math.floor(low), bounds.start), min(math.ceil(high) + 1, bounds.stop))
        for (low, high), bounds in zip(_ends_of_view(layer), (rows, columns), strict=True)
    ]
    return (*others, *shown) if all(bounds.stop - bounds.start > 1 for bounds in shown) else part


def _ends_of_shapes(layer: Image, shapes: Shapes) -> list[tuple[float, float]]:
    """Lowest and highest pixel coordinate along Y and along X of shapes, in the layer."""
    drawn = [shapes.data[number] for number in shapes.selected_data] or list(shapes.data)
    if not drawn:
        raise InputError(f"Part: nothing is drawn in {shapes.name}; draw a rectangle there, or take all of it")
    corners = np.array([shapes.data_to_world(point)[-2:] for shape in drawn for point in np.asarray(shape)])
    world = np.repeat(np.asarray(layer.data_to_world([0] * layer.ndim))[None], len(corners), axis=0)
    world[:, -2:] = corners
    pixels = np.array([layer.world_to_data(point)[-2:] for point in world])
    return list(zip(pixels.min(axis=0), pixels.max(axis=0), strict=True))


def _ends_of_view(layer: Image) -> list[tuple[float, float]]:
    """First and last pixel along Y and along X that the viewer shows of the layer."""
    step = np.asarray(layer.downsample_factors)[layer.data_level] if layer.multiscale else np.ones(layer.ndim)
    first, last = np.asarray(layer.corner_pixels) * step
    return list(zip(first[-2:], last[-2:], strict=True))
