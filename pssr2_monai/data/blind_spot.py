"""Blind spots: pixels of a noisy image that are hidden, for a network to predict them from the pixels around."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, ensure_tuple_rep

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import central
from pssr2_monai.randomness import Seeded


class BlindSpot(Seeded, Transform):
    """Hides scattered pixels of a noisy image, which then is its own target, at these pixels alone.

    Neighbours say what a pixel shows, but not its noise, if that is independent of theirs: a network that never sees a
    pixel when it must predict it learns the image without the noise. In each box of a grid one pixel is drawn, and
    replaced by the median of the visible ones around. Where noise is correlated along the scan, so that neighbours do
    tell some of it, these are hidden as well.

    Args:
        share: of the pixels that are hidden and compared, at most 0.25.
        radius: pixels from a hidden one to the end of the square whose median replaces it.
        along_x: how many pixels to the left and to the right of each are hidden, too, without being compared: as far as
            the noise is correlated along X.
        along_y: the same above and below.

    Raises:
        InputError: a value out of its range.

    Source:
        Krull, Buchholz and Jug 2019, "Noise2Void"; Hoeck et al. 2022, "N2V2", for the median; Broaddus et al. 2020,
        "Removing structured noise with self-supervised blind-spot networks", for `along_x` and `along_y`.

    Example:
        >>> hidden, target = BlindSpot(share=0.01).set_random_state(seed=0)(np.random.rand(1, 40, 40))
        >>> hidden.shape, int(np.isfinite(target).sum())
        ((1, 40, 40), 16)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, share: float = 0.01, radius: int = 2, along_x: int = 0, along_y: int = 0) -> None:
        if not 0 < share <= 0.25:
            raise InputError(f"blind_spot: share {share} is not in (0, 0.25]; 0.01 hides one pixel in a hundred")
        for name, pixels, least in (("radius", radius, 1), ("along_x", along_x, 0), ("along_y", along_y, 0)):
            if int(pixels) != pixels or pixels < least:
                raise InputError(f"blind_spot: {name} {pixels} is not a whole number of at least {least} pixels")
        self.box = round(1 / math.sqrt(share))
        self.radius, self.along_x, self.along_y = int(radius), int(along_x), int(along_y)
        self._spots: npt.NDArray[np.intp] = np.empty((3, 0), dtype=np.intp)

    def randomize(self, shape: tuple[int, ...]) -> None:
        """Draw the hidden pixels of an image of a shape ``(frames, Y, X)``: one in each box of each frame."""
        frames, height, width = shape
        boxes = np.indices((frames, -(-height // self.box), -(-width // self.box))).reshape(3, -1)
        places = boxes[1:] * self.box + self.R.randint(self.box, size=boxes[1:].shape)
        inside = (places[0] < height) & (places[1] < width)
        self._spots = np.concatenate([boxes[:1], places])[:, inside]

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> tuple[NdarrayOrTensor, NdarrayOrTensor]:
        """Return ``(frames, Y, X)`` with hidden pixels replaced, and the target: NaN but at the pixels to compare."""
        image = np.asarray(convert_to_numpy(img), dtype=np.float32)
        if randomize:
            self.randomize(image.shape)
        frames, rows, columns = self._spots
        hidden = np.zeros(image.shape, dtype=bool)
        for down in range(-self.along_y, self.along_y + 1):
            hidden[frames, np.clip(rows + down, 0, image.shape[1] - 1), columns] = True
        for right in range(-self.along_x, self.along_x + 1):
            hidden[frames, rows, np.clip(columns + right, 0, image.shape[2] - 1)] = True
        target = np.full_like(image, np.nan)
        target[frames, rows, columns] = image[frames, rows, columns]
        replaced = image.copy()
        replaced[hidden] = _medians_around(image, hidden, self.radius)
        return convert_to_dst_type(replaced, img)[0], convert_to_dst_type(target, img)[0]


def _medians_around(
    image: npt.NDArray[np.float32], hidden: npt.NDArray[np.bool_], radius: int
) -> npt.NDArray[np.float32]:
    """For each hidden pixel, the median of the visible ones in the square around it, within the image.

    Where there is none, as in a long strip, it is that of the frame.
    """
    visible = np.where(hidden, np.float32(np.nan), image)
    side = 2 * radius + 1
    around = np.pad(visible, ((0, 0), (radius, radius), (radius, radius)), constant_values=np.nan)
    squares = np.lib.stride_tricks.sliding_window_view(around, (side, side), axis=(1, 2))[hidden]
    values = np.sort(squares.reshape(len(squares), side * side), axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1)
    number = np.arange(len(values))
    medians = (values[number, np.maximum(count - 1, 0) // 2] + values[number, count // 2]) / 2
    lonely = count == 0
    if lonely.any():
        of_frames = np.nanmedian(visible.reshape(len(visible), -1), axis=1)
        medians[lonely] = of_frames[np.nonzero(hidden)[0][lonely]]
    return np.asarray(medians, dtype=np.float32)


def shown_target(target: npt.NDArray[Any], image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A target ``(..., frames, Y, X)`` to look at: its pixels that are not compared are those of the input, if that is
    as large, else black."""
    if not np.isnan(target).any():
        return target
    if target.shape[-2:] != image.shape[-2:] or target.shape[-3] > image.shape[-3]:
        return np.nan_to_num(target, nan=0.0)
    frames = central(image.shape[-3], target.shape[-3])
    return np.where(np.isnan(target), image[..., frames, :, :], target)


class BlindSpotd(Randomizable, MapTransform):
    """Dictionary form of ``BlindSpot``: makes the input from a noisy image, and the image its own target.

    Args:
        keys: noisy images, as a rule ``label``, which become NaN but at the pixels to compare; see ``MaskedLoss``.
        output_keys: where the images with hidden pixels go, as a rule ``image``.
        share, radius, along_x, along_y: those of ``BlindSpot``.
        allow_missing_keys: skip keys that an item does not have.

    Example:
        >>> import torch
        >>> sample = BlindSpotd("label", along_x=2).set_random_state(seed=0)({"label": torch.rand(1, 40, 40)})
        >>> sample["image"].shape, int(sample["label"].isfinite().sum())
        (torch.Size([1, 40, 40]), 16)
    """

    backend = BlindSpot.backend

    def __init__(
        self,
        keys: KeysCollection,
        output_keys: KeysCollection = "image",
        share: float = 0.01,
        radius: int = 2,
        along_x: int = 0,
        along_y: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = ensure_tuple_rep(output_keys, len(self.keys))
        self.blind_spot = BlindSpot(share, radius, along_x, along_y)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> BlindSpotd:
        self.blind_spot.set_random_state(seed=seed, state=state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            d[output_key], d[key] = self.blind_spot(d[key])
        return d
