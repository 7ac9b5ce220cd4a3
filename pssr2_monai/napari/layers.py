"""napari's image layers as images of this package, and back: axes, pixel size, place; and widgets that choose them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, Container, FileEdit, LineEdit
from napari.layers import Image, Labels
from napari.utils.transforms import Affine

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import LETTERS, check_axes
from pssr2_monai.images.files import same_name
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.writer import create_writer
from pssr2_monai.napari.panel import chosen_path
from pssr2_monai.networks.weights import BUNDLED_FOR, weights_file
from pssr2_monai.progress import allow_stop

DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}  # of layers that do not name theirs, by their number
IN_MEMORY_BYTES = 2**29  # larger files are read plane by plane while they are viewed
SIZE_UNKNOWN = "pssr2_pixel_size_unknown"  # in a layer's metadata: the axes whose scale only aligns it with another
RESULT = {"pssr2_shown": True}  # metadata of layers that are shown only and are not offered as input
FILES, SELECTED = "files …", "the selected layers"  # choices of images besides single layers
MADE_BY = "pssr2"  # in the metadata of restored layers: what made them
LABELS_DTYPE = np.dtype(np.int32)  # of masks that are written
Part = tuple[slice, ...]


def axes_of(layer: Image | Labels) -> str:
    """Return the layer's axes: those of its file, else its labels where these are such letters, else a guess.

    Channels are never assumed among three or four axes.
    """
    if getattr(layer, "rgb", False):
        raise InputError(f"{layer.name}: is an RGB picture; split it into channels (right click, Split RGB) first")
    labels = "".join(str(label).strip().upper() for label in layer.axis_labels)
    for axes in (str(layer.metadata.get("axes", "")), labels):
        if len(axes) == layer.ndim and set(axes) <= set(LETTERS) and len(set(axes)) == len(axes):
            return axes
    if layer.ndim not in DEFAULT_AXES:
        raise InputError(f"{layer.name}: has {layer.ndim} axes; name them T, Z, C, Y, X in the layer's axis labels")
    return DEFAULT_AXES[layer.ndim]


def pixel_size_of(layer: Image | Labels) -> dict[str, float]:
    """Return micrometres along Z, Y and X as far as known; a scale without unit, other than 1, is in micrometres."""
    sizes = {}
    for axis, step, unit in zip(axes_of(layer), layer.scale, layer.units, strict=True):
        if axis not in "ZYX" or axis in layer.metadata.get(SIZE_UNKNOWN, ""):
            continue
        if unit.is_compatible_with("micrometer"):
            sizes[axis] = float((step * unit).to("micrometer").magnitude)
        elif step != 1:
            sizes[axis] = float(step)
    return {axis: abs(size) for axis, size in sizes.items()}


def pixels_of(layer: Image | Labels) -> Any:
    """Return the layer's pixels at full resolution, which may be an array that is read on demand."""
    return layer.data[0] if layer.multiscale else layer.data


def whole(layer: Image | Labels) -> Part:
    return tuple(slice(0, size) for size in pixels_of(layer).shape)


def lazy_image(layer: Image) -> LazyImage:
    """The layer as an image of this package, whose pixels are not copied."""
    axes, pixels = axes_of(layer), pixels_of(layer)
    check_axes(axes, pixels.shape, layer.name)
    size, dtype = pixel_size_of(layer), np.dtype(pixels.dtype).newbyteorder("=")
    return LazyImage(
        Path(layer.name), tuple(pixels.shape), dtype, axes, size, lambda region: np.asarray(pixels[region])
    )


def write_layer(layer: Image | Labels, path: Path, part: Part | None = None) -> str:
    """Write a layer, or a part of it, as a file, plane by plane; return its axes."""
    axes, pixels = axes_of(layer), pixels_of(layer)
    dtype = LABELS_DTYPE if isinstance(layer, Labels) else pixels.dtype
    part = part or whole(layer)
    shape = tuple(bounds.stop - bounds.start for bounds in part)
    check_axes(axes, shape, layer.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = [1 if axis in "YX" else size for axis, size in zip(axes, shape, strict=True)]
    with create_writer(
        path, shape=shape, dtype=dtype, axes=axes, pixel_size=pixel_size_of(layer), overwrite=True
    ) as writer:
        for plane in np.ndindex(*counts):
            allow_stop()
            sizes = [size if axis in "YX" else 1 for axis, size in zip(axes, shape, strict=True)]
            target = [slice(index, index + size) for index, size in zip(plane, sizes, strict=True)]
            source = [slice(b.start + t.start, b.start + t.stop) for b, t in zip(part, target, strict=True)]
            writer.write(target, np.asarray(pixels[tuple(source)]).astype(dtype, copy=False))
    return axes


def file_name(layer: Image | Labels) -> str:
    """Return the layer's name as a file name without suffix."""
    return re.sub(r"[^\w.-]+", "_", layer.name).strip("._") or "layer"


def placement(layer: Image, shape: Sequence[int], part: Part | None = None) -> dict[str, Any]:
    """Return the arguments with which ``Viewer.add_image`` shows pixels of a shape in the place of a part of a layer.

    Pixels are areas: the outer edges of both images coincide, and so the centres of their first pixels do not.
    """
    part = part or whole(layer)
    factors = np.asarray(shape) / np.array([bounds.stop - bounds.start for bounds in part])
    to_world = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim
    )
    first = np.array([bounds.start for bounds in part]) - 0.5 + 0.5 / factors
    kept = {name: getattr(layer, name) for name in ("rotate", "shear", "affine", "units", "axis_labels")}
    return {"scale": np.asarray(layer.scale) / factors, "translate": np.asarray(to_world(first)), **kept}


def layer_of_file(
    path: str | Path, in_memory_bytes: int = IN_MEMORY_BYTES, keep: object = None, number: int | str | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return the pixels of an image file and the arguments with which ``Viewer.add_image`` shows them at their size.

    ``keep``, the temporary folder of the file, lives as long as pixels that are read from it. ``number`` or name choose
    one of several images of the file.
    """
    image = open_image(path, image=number)
    shown = {
        "name": image.path.name.split(".")[0] + f" {image.place}" * (len(image.entries) > 1),
        "scale": [image.pixel_size.get(axis, 1.0) for axis in image.axes],
        "units": ["micrometer" if axis in image.pixel_size else "pixel" for axis in image.axes],
        "axis_labels": [axis.lower() for axis in image.axes],
        "metadata": {"axes": image.axes, "path": str(path)},
    }
    if np.prod(image.shape, dtype=np.int64) * image.dtype.itemsize <= in_memory_bytes:
        with image:
            return image.read(), shown
    import dask.array

    chunks = tuple(size if axis in "YX" else 1 for axis, size in zip(image.axes, image.shape, strict=True))
    return dask.array.from_array(_Planes(image, keep), chunks=chunks, name=False), shown


class _Planes:
    """An image file with the interface from which dask makes an array."""

    def __init__(self, image: LazyImage, keep: object) -> None:
        self.image, self.keep = image, keep
        self.shape, self.dtype, self.ndim = image.shape, image.dtype, len(image.shape)

    def __getitem__(self, region: tuple[slice | int, ...]) -> np.ndarray:
        slices = [index if isinstance(index, slice) else slice(index, index + 1) for index in region]
        planes = self.image.read(slices)
        return planes[tuple(slice(None) if isinstance(index, slice) else 0 for index in region)]


class ImageSource(Container):
    """A combo box of layers, and a path for images from files.

    ``several``: all selected layers may be chosen together; ``optional``: name of the choice of no images; ``folder``:
    files are chosen by their folder; ``within``: one of several images of a file may be chosen; ``kind``: of layers.
    Where nothing is optional and one layer is to be chosen, it is the active one until the user chooses another.
    """

    def __init__(
        self,
        viewer: Any,
        label: str,
        several: bool = False,
        optional: str = "",
        folder: bool = True,
        within: bool = True,
        tooltip: str = "",
        kind: type[Image] | type[Labels] = Image,
    ) -> None:
        self._viewer, self._several, self._optional, self._kind = viewer, several, optional, kind
        self.choice = ComboBox(label=label, choices=self._choices, tooltip=tooltip)
        self.path = FileEdit(mode="d" if folder else "r", nullable=True, visible=False, tooltip=tooltip)
        tooltip_within = "Of files that hold several images: number or name of one; by default the largest"
        self.within = LineEdit(visible=False, tooltip=tooltip_within)
        self.within.native.setPlaceholderText("image in the file: the largest")
        self._choose_within = within
        widgets = [self.choice, self.path, self.within]
        super().__init__(widgets=widgets, labels=False, label=label, layout="vertical", tooltip=tooltip)
        self.margins = (0, 0, 0, 0)
        self.choice.changed.connect(self._show_path)
        self._show_path()
        self._chosen = several or bool(optional)
        if not self._chosen:
            self.choice.native.activated.connect(self._keep_choice)
            viewer.layers.selection.events.active.connect(self._follow)

    @property
    def layers(self) -> list[Any]:
        """The chosen layers; empty where files are chosen, or nothing."""
        choice, selection = self.choice.value, self._viewer.layers.selection
        if choice == SELECTED:
            return [layer for layer in self._viewer.layers if layer in selection and self._usable(layer)]
        return [choice] if isinstance(choice, self._kind) else []

    @property
    def number(self) -> str | None:
        """The number or name of the chosen image of a file; None for the largest, and for layers."""
        return self.within.value.strip() or None if self.choice.value == FILES else None

    def choose(self, images: Image | str | Path) -> None:
        self.reset_choices()
        self._chosen = True
        if isinstance(images, (str, Path)) and images not in (FILES, SELECTED):
            self.choice.value, self.path.value = FILES, Path(images)
        else:
            self.choice.value = images

    def source(self, folder: Path, partners: ImageSource | None = None) -> Callable[[], Path | None]:
        """Check the choice; return a function, for any thread, that returns the file or folder with the images.

        It writes layers into a folder, which is emptied first. Of ``partners`` the files have the same names, and a
        single layer is written for each of theirs.
        """
        if self.choice.value == FILES:
            path = chosen_path(self.path)
            if path is None:
                raise InputError(f"{self.label}: choose a file or folder, or one of the layers")
            return lambda: path
        layers, named = self.layers, (partners or self).layers
        if not layers:
            if self._optional and self.choice.value == self._optional:
                return lambda: None
            raise InputError(f"{self.label}: no layer is selected; select some in the layer list, or choose files")
        named = named or layers
        if len(layers) == 1:
            layers = layers * len(named)
        if len(layers) != len(named):
            assert partners is not None
            raise InputError(
                f"{self.label}: {len(layers)} layers for the {len(named)} of {partners.label}; select one for each"
            )
        names = [file_name(layer) for layer in named]
        if len({*map(same_name, names)}) < len(names):
            names = [f"{number:03d}_{name}" for number, name in enumerate(names)]
        files = [folder / f"{name}.ome.tif" for name in names]

        def written() -> Path:
            shutil.rmtree(folder, ignore_errors=True)
            for layer, file in zip(layers, files, strict=True):
                write_layer(layer, file)
            return folder

        return written

    def reset_choices(self, *_: Any) -> None:
        """Update the choices; the first layer that appears is chosen where nothing else was."""
        super().reset_choices()
        layers = [choice for choice in self.choice.choices if isinstance(choice, self._kind)]
        if self.choice.value == FILES and self.path.value is None and layers:
            self.choice.value = layers[0]
        self._follow()

    def _keep_choice(self, *_: Any) -> None:
        self._chosen = True

    def _follow(self, *_: Any) -> None:
        active = self._viewer.layers.selection.active
        if not self._chosen and active in self.choice.choices and MADE_BY not in active.metadata:
            with suppress(RuntimeError):  # the window has gone
                self.choice.value = active

    def _choices(self, _: Any) -> list[Any]:
        layers = [layer for layer in self._viewer.layers if self._usable(layer)]
        choices = [self._optional, *layers[::-1], self._several and SELECTED, FILES]
        return [choice for choice in choices if choice]

    def _show_path(self, *_: Any) -> None:
        self.path.visible = self.choice.value == FILES
        self.within.visible = self._choose_within and self.choice.value == FILES

    def _usable(self, layer: Any) -> bool:
        shown_only = getattr(layer, "rgb", False) or RESULT.keys() & layer.metadata.keys()
        return isinstance(layer, self._kind) and not shown_only


class WeightsSource(Container):
    """A combo box of the bundled weights, each with what it is for, and a path for other files of weights.

    ``optional``: name of the choice of no weights, which comes first.
    """

    def __init__(self, label: str = "Weights", optional: str = "", tooltip: str = "") -> None:
        bundled = [(f"{name}: {use}", name) for name, use in BUNDLED_FOR.items()]
        choices = [*([(optional, "")] if optional else []), *bundled, (FILES, FILES)]
        self.choice = ComboBox(label=label, choices=choices, tooltip=tooltip)
        tooltip = "model.pt of a training, or a .pth of the original pssr"
        self.path = FileEdit(mode="r", filter="*.pt *.pth", nullable=True, visible=False, tooltip=tooltip)
        super().__init__(widgets=[self.choice, self.path], labels=False, label=label, layout="vertical")
        self.margins = (0, 0, 0, 0)
        self.choice.changed.connect(self._show_path)

    def choose(self, weights: str | Path) -> None:
        """Choose bundled weights by their name, a file by its path, or none by an empty string."""
        if isinstance(weights, Path):
            self.path.value, self.choice.value = weights, FILES
        else:
            self.choice.value = weights

    def file(self) -> Path | None:
        """Return the chosen file of weights; None for the choice of none."""
        if self.choice.value != FILES:
            return weights_file(self.choice.value) if self.choice.value else None
        path = chosen_path(self.path)
        if path is None:
            raise InputError(f"{self.label}: choose a model.pt that a training has written, or bundled weights")
        return weights_file(path)

    def _show_path(self, *_: Any) -> None:
        self.path.visible = self.choice.value == FILES
