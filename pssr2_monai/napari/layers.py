"""napari's image layers as images of this package, and back: axes, pixel size, place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.transforms import Affine

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import LETTERS, check_axes
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.writer import create_writer

GUESSED = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
"""What layers that do not name their axes are taken for."""
IN_MEMORY = 2**29
"""Files of more bytes are read plane by plane while they are looked at."""
SIZE_UNKNOWN = "pssr2_pixel_size_unknown"
"""In the metadata of this plugin's own layers whose scale only lays them over another."""
Part = tuple[slice, ...]


def axes_of(layer: Image) -> str:
    """The layer's axes as letters out of "TZCYX".

    They are those of the file it was opened from by this plugin, else its axis labels where these are such letters,
    else a guess by their number, channels never among three or four.

    Raises:
        InputError: an RGB layer, or one of a single or of more than five axes.
    """
    if layer.rgb:
        raise InputError(f"{layer.name}: is an RGB picture; split it into channels (right click, Split RGB) first")
    labels = "".join(str(label).strip().upper() for label in layer.axis_labels)
    named = str(layer.metadata.get("axes", ""))
    for axes in (named, labels):
        if len(axes) == layer.ndim and set(axes) <= set(LETTERS) and len(set(axes)) == len(axes):
            return axes
    if layer.ndim not in GUESSED:
        raise InputError(f"{layer.name}: has {layer.ndim} axes; name them T, Z, C, Y, X in the layer's axis labels")
    return GUESSED[layer.ndim]


def pixel_size_of(layer: Image) -> dict[str, float]:
    """Micrometres along Z, Y and X as far as known: the layer's scale where it has a unit of length.

    A scale without unit is taken for micrometres, as napari's users do; a scale of 1 without unit says nothing,
    and neither does that of a layer that this plugin has made of one of unknown size.
    """
    sizes = {}
    for axis, step, unit in zip(axes_of(layer), layer.scale, layer.units, strict=True):
        if axis not in "ZYX":
            continue
        if unit.is_compatible_with("micrometer"):
            sizes[axis] = float((step * unit).to("micrometer").magnitude)
        elif step != 1 and not layer.metadata.get(SIZE_UNKNOWN):
            sizes[axis] = float(step)
    return {axis: abs(size) for axis, size in sizes.items()}


def pixels_of(layer: Image) -> Any:
    """The layer's pixels at full resolution: a numpy array, or what reads them on demand."""
    return layer.data[0] if layer.multiscale else layer.data


def write_layer(layer: Image, path: Path, part: Part | None = None) -> str:
    """Writes a layer, or a part of it, as a file, plane by plane; gives its axes.

    Raises:
        InputError: its axes or pixels cannot be written.
    """
    axes, pixels = axes_of(layer), pixels_of(layer)
    part = part or tuple(slice(0, size) for size in pixels.shape)
    shape = tuple(each.stop - each.start for each in part)
    check_axes(axes, shape, layer.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    outer = [number for number, axis in enumerate(axes) if axis not in "YX"]
    with create_writer(
        path, shape=shape, dtype=pixels.dtype, axes=axes, pixel_size=pixel_size_of(layer), overwrite=True
    ) as writer:
        for place in np.ndindex(*(shape[number] for number in outer)):
            target = [slice(None)] * len(axes)
            source = list(part)
            for number, index in zip(outer, place, strict=True):
                target[number] = slice(index, index + 1)
                source[number] = slice(part[number].start + index, part[number].start + index + 1)
            writer.write(target, np.asarray(pixels[tuple(source)]))
    return axes


def file_name(layer: Image) -> str:
    """The layer's name as a file's, without suffix."""
    return re.sub(r"[^\w.-]+", "_", layer.name).strip("._") or "layer"


def larger(layer: Image, shape: Sequence[int], part: Part | None = None) -> dict[str, Any]:
    """Scale, place and looks of a layer that shows the same thing with other pixels.

    Args:
        layer: the one that was restored.
        shape: of the restored pixels, one size an axis of the layer.
        part: which pixels of the layer they were restored from; all by default.

    Returns:
        What ``Viewer.add_image`` takes. The outer edges of both images lie one upon the other, as pixels are areas, so
        that the middle of the first restored pixel lies aside of that of the first pixel restored.
    """
    part = part or tuple(slice(0, size) for size in pixels_of(layer).shape)
    counts = np.array([each.stop - each.start for each in part])
    factors = np.asarray(shape) / counts
    to_world = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim
    )
    first = np.array([each.start for each in part]) - 0.5 + 0.5 / factors
    return {
        "scale": np.asarray(layer.scale) / factors,
        "translate": np.asarray(to_world(first)),
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
    }


def layer_of_file(path: str | Path, axes: str | None = None) -> tuple[Any, dict[str, Any]]:
    """The pixels of an image file and what ``Viewer.add_image`` needs to show them at their size.

    Large files are read plane by plane as they are looked at.

    Raises:
        InputError: the file cannot be read.
    """
    image = open_image(path, axes=axes)
    shown = {
        "name": image.path.name.split(".")[0],
        "scale": [image.pixel_size.get(axis, 1.0) for axis in image.axes],
        "units": ["micrometer" if axis in image.pixel_size else "pixel" for axis in image.axes],
        "axis_labels": [axis.lower() for axis in image.axes],
        "metadata": {"axes": image.axes, "path": str(path)},
    }
    if np.prod(image.shape, dtype=np.int64) * image.dtype.itemsize <= IN_MEMORY:
        with image:
            return image.read(), shown
    return _lazy(image), shown


class _Planes:
    """An image file as what dask takes for an array."""

    def __init__(self, image: LazyImage) -> None:
        self.image, self.shape, self.dtype, self.ndim = image, image.shape, image.dtype, len(image.shape)

    def __getitem__(self, region: tuple[slice | int, ...]) -> np.ndarray:
        slices = [each if isinstance(each, slice) else slice(each, each + 1) for each in region]
        planes = self.image.read(slices)
        return planes[tuple(slice(None) if isinstance(each, slice) else 0 for each in region)]


def _lazy(image: LazyImage) -> Any:
    import dask.array

    chunks = tuple(size if axis in "YX" else 1 for axis, size in zip(image.axes, image.shape, strict=True))
    return dask.array.from_array(_Planes(image), chunks=chunks, name=False)
