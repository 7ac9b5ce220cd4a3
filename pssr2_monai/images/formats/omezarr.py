"""OME-Zarr 0.1 to 0.5 and plain Zarr arrays, of Zarr formats 2 and 3, read chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr

from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.units import known_sizes, micrometres
from pssr2_monai.images.image import LazyImage

LETTER_OF = {"time": "T", "channel": "C", "depth": "Z", "height": "Y", "width": "X", **{x.lower(): x for x in "TZCYX"}}


def open_file(path: Path) -> LazyImage:
    """The full-resolution level of the first image of an OME-Zarr, or a plain Zarr array.

    A plain array takes its axes from its dimension names, or, where it has none, Y and X from its last two axes.

    Raises:
        InputError: a plate of many images, or a group in which no one image can be told.
    """
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return _image(path, node, _plain_axes(node), {}, ())
    attributes = _ome_attributes(node)
    if "plate" in attributes:
        well = attributes["plate"]["wells"][0]["path"]
        raise InputError(f"{path.name}: is a plate of many images; open one of them, such as {path.name}/{well}/0")
    if "multiscales" not in attributes and "0" in node and isinstance(node["0"], zarr.Group):
        node = node["0"]  # several series of one file (the bioformats2raw layout), or the fields of a well
        attributes = _ome_attributes(node)
    if "multiscales" in attributes:
        return _multiscale(path, node, attributes)
    arrays = dict(node.arrays())
    if len(arrays) != 1:
        found = ", ".join(sorted(arrays)) or "no array"
        raise InputError(
            f"{path.name}: is no OME-Zarr image and holds {found}; open one array, such as {path.name}/NAME"
        )
    (array,) = arrays.values()
    return _image(path, array, _plain_axes(array), {}, ())


def _ome_attributes(group: zarr.Group) -> Mapping[str, Any]:
    """The OME metadata of a group, which version 0.5 put under a key of its own."""
    attributes = group.attrs.asdict()
    return attributes.get("ome", attributes)


def _multiscale(path: Path, group: zarr.Group, attributes: Mapping[str, Any]) -> LazyImage:
    """The finest level of an image pyramid."""
    multiscale = attributes["multiscales"][0]
    level = multiscale["datasets"][0]
    array = group[level["path"]]
    # Versions before 0.3 have five axes and no list of them; 0.3 lists names alone.
    described = [
        axis if isinstance(axis, Mapping) else {"name": axis} for axis in multiscale.get("axes", list("tczyx"))
    ]
    axes = "".join(_letter(str(axis["name"])) for axis in described)
    scales = [1.0] * len(axes)
    for transform in (*level.get("coordinateTransformations", ()), *multiscale.get("coordinateTransformations", ())):
        if transform.get("type") == "scale" and len(transform.get("scale", ())) == len(axes):
            scales = [scale * float(factor) for scale, factor in zip(scales, transform["scale"], strict=True)]
    sizes = {
        letter: micrometres(scale, axis.get("unit"))
        for letter, scale, axis in zip(axes, scales, described, strict=True)
        if letter in "ZYX"
    }
    channels = (attributes.get("omero") or {}).get("channels", ())
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return _image(path, array, axes, known_sizes(sizes), names if all(names) else ())


def _image(
    path: Path, array: zarr.Array, axes: str, pixel_size: Mapping[str, float], channel_names: Sequence[str]
) -> LazyImage:
    if len(axes) != array.ndim:
        raise InputError(f"{path.name}: its metadata name {len(axes)} axes ({axes!r}) for an array of {array.ndim}")
    return LazyImage(
        path,
        tuple(int(size) for size in array.shape),
        array.dtype,
        axes,
        pixel_size,
        lambda region: array[region],
        tuple(channel_names),
    )


def _plain_axes(array: zarr.Array) -> str:
    """The axes of a plain array: from its dimension names (Zarr 3, xarray), else Y and X last."""
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else None
    names = names or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    letters = [_letter(str(name)) for name in names or ()]
    if "Y" in letters and "X" in letters:
        return "".join(letters)
    return ("Q" * (array.ndim - 2) + "YX")[-array.ndim :]


def _letter(name: str) -> str:
    """The letter of an axis by its name; "Q" for an axis of another meaning."""
    return LETTER_OF.get(name.strip().lower(), "Q")
