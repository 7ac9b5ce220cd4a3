"""An ``ImageReader`` for MONAI, with which ``LoadImaged`` reads every format of this package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import SUFFIXES
from pssr2_monai.images.image import LazyImage, open_image


class MicroscopyReader(ImageReader):
    """Read whole images for MONAI's ``LoadImage`` and ``LoadImaged``.

    The array keeps the axis order of the file. Channels, or the frames of a time-lapse, are MONAI's channel dimension
    (``original_channel_dim``, which ``EnsureChannelFirstd`` moves); if a file has both, they become one channel
    dimension, placed first, with time slowest. Z, Y and X are spatial.

    The metadata hold ``axes`` (of the array, "C" for the channel dimension), ``original_axes``, ``pixel_size``
    (micrometres, unknown axes missing), ``channel_names``, and an ``affine`` whose spacing is the pixel size in
    micrometres along the spatial axes of the array. An affine needs a spacing for every axis: along axes that
    ``pixel_size`` lacks, it is 1 pixel.

    Args:
        axes: letters out of "TZCYX" for files whose axes are missing or wrong.
        image: number or name of the image to read of files that hold several; by default the largest.

    Example:
        >>> from monai.transforms import LoadImaged
        >>> load = LoadImaged(keys="image", reader=MicroscopyReader, ensure_channel_first=True)
    """

    def __init__(self, axes: str | None = None, image: int | str | None = None) -> None:
        super().__init__()
        self.axes, self.image = axes, image

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        """Whether every file has a suffix that this package reads."""
        return all(str(name).lower().endswith(tuple(SUFFIXES)) for name in ensure_tuple(filename))

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> list[LazyImage]:
        """Open the files; `get_data` reads their pixels."""
        return [open_image(path, self.axes, self.image) for path in ensure_tuple(data)]

    def get_data(self, img: Sequence[LazyImage] | LazyImage) -> tuple[np.ndarray, dict[str, Any]]:
        """Return pixels and metadata of an image; several images become channels of one.

        Raises:
            InputError: several images differ in shape, axes or pixel size.
        """
        images = [img] if isinstance(img, LazyImage) else list(img)
        arrays = []
        for image in images:
            array, axes = _with_one_channel_axis(image.read(), image.axes)
            arrays.append(array)
            image.close()
        first = images[0]
        for image in images[1:]:
            if (image.shape, image.axes, image.pixel_size) != (first.shape, first.axes, first.pixel_size):
                raise InputError(f"{image.path.name}: differs from {first.path.name} in shape, axes or pixel size")
        if len(images) > 1 and "C" in axes:
            array = np.concatenate(arrays, axes.index("C"))
        elif len(images) > 1:
            array, axes = np.stack(arrays), "C" + axes
        return array, _metadata(first, array, axes)


def _with_one_channel_axis(array: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    """The array with T and C as one axis "C", which comes first if the file has both."""
    if not {"T", "C"} <= set(axes):
        return array, axes.replace("T", "C")
    spatial = [axis for axis in axes if axis not in "TC"]
    array = array.transpose([axes.index(axis) for axis in ("T", "C", *spatial)])
    return array.reshape(-1, *array.shape[2:]), "C" + "".join(spatial)


def _metadata(image: LazyImage, array: np.ndarray, axes: str) -> dict[str, Any]:
    spatial = [axis for axis in axes if axis != "C"]
    spacing = [image.pixel_size.get(axis, 1.0) for axis in spatial]
    affine = np.diag([*spacing, *[1.0] * (4 - len(spacing))])
    return {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray([array.shape[axes.index(axis)] for axis in spatial]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: axes.index("C") if "C" in axes else "no_channel",
        "axes": axes,
        "original_axes": image.axes,
        "pixel_size": dict(image.pixel_size),
        "channel_names": list(image.channel_names),
    }
