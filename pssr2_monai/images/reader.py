"""MONAI's way in: an ``ImageReader``, so that ``LoadImaged`` reads every format of this package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import SUFFIXES, LazyImage, open_image


class MicroscopyReader(ImageReader):
    """Reads whole images for MONAI's ``LoadImage`` and ``LoadImaged``.

    The array keeps the file's axis order, nothing is transposed. Channels, or the frames of a time-lapse, are MONAI's
    channel dimension (``original_channel_dim``, which ``EnsureChannelFirstd`` moves); where a file has both, they are
    one channel dimension, placed first, with time slowest. Z, Y and X are spatial.

    The metadata hold ``axes`` (of the array, "C" for the channel dimension), ``original_axes``, ``pixel_size``
    (micrometres, unknown axes missing), ``channel_names``, and an ``affine`` whose spacing is the pixel size in
    micrometres along the array's spatial axes. An affine cannot leave a spacing open: where ``pixel_size`` lacks an
    axis, its 1 means pixels.

    Args:
        axes: letters out of "TZCYX" for files whose own axes are missing or wrong.

    Example:
        >>> from monai.transforms import LoadImaged
        >>> load = LoadImaged(keys="image", reader=MicroscopyReader, ensure_channel_first=True)
    """

    def __init__(self, axes: str | None = None) -> None:
        super().__init__()
        self.axes = axes

    def verify_suffix(self, filename: Sequence[str | Path] | str | Path) -> bool:
        """Whether every file has a suffix that this package reads."""
        return all(str(name).lower().endswith(tuple(SUFFIXES)) for name in ensure_tuple(filename))

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> list[LazyImage]:
        """Opens the files; pixels are read by `get_data`."""
        return [open_image(path, self.axes) for path in ensure_tuple(data)]

    def get_data(self, img: Sequence[LazyImage] | LazyImage) -> tuple[np.ndarray, dict[str, Any]]:
        """The pixels and metadata of an image; several images become one, a channel (or its channels) each.

        Raises:
            InputError: several images differ in shape, axes or pixel size.
        """
        images = [img] if isinstance(img, LazyImage) else list(img)
        arrays = []
        for image in images:
            array, axes = _channels_together(image.read(), image.axes)
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


def _channels_together(array: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    """The array with at most one axis that is not spatial, called "C"."""
    others = [axis for axis in "TC" if axis in axes]
    if len(others) < 2:
        return array, axes.replace("T", "C")
    spatial = [axis for axis in axes if axis not in others]
    array = array.transpose([axes.index(axis) for axis in (*others, *spatial)])
    return array.reshape(-1, *array.shape[2:]), "C" + "".join(spatial)


def _metadata(image: LazyImage, array: np.ndarray, axes: str) -> dict[str, Any]:
    spatial = [axis for axis in axes if axis != "C"]
    spacing = [image.pixel_size.get(axis, 1.0) for axis in spatial]
    return {
        MetaKeys.AFFINE: np.diag([*spacing, *[1.0] * (4 - len(spacing))]),
        MetaKeys.ORIGINAL_AFFINE: np.diag([*spacing, *[1.0] * (4 - len(spacing))]),
        MetaKeys.SPATIAL_SHAPE: np.asarray([array.shape[axes.index(axis)] for axis in spatial]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: axes.index("C") if "C" in axes else "no_channel",
        "axes": axes,
        "original_axes": image.axes,
        "pixel_size": dict(image.pixel_size),
        "channel_names": list(image.channel_names),
    }
