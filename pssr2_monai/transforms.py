"""Dictionary transforms: what the bundle's configs name.

``LoadTiled`` reads the pixels that a datalist item of ``pssr2_monai.dataset`` names; the others are the dictionary
forms of ``pssr2_monai.crappify`` and ``pssr2_monai.noises``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple_rep

from pssr2_monai.axes import central, frames_of
from pssr2_monai.crappify import Downsample
from pssr2_monai.intensity import Intensity
from pssr2_monai.io.sheets import SheetReader
from pssr2_monai.noises import GaussianNoise, Noise, PoissonNoise
from pssr2_monai.tiles import Window

__all__ = [
    "CentralFramesd",
    "Crappifyd",
    "Downsampled",
    "GaussianNoised",
    "LoadTiled",
    "PoissonNoised",
    "prepare_batch_with_extra",
]


class LoadTiled(Randomizable, MapTransform):
    """Reads the tiles that a datalist item names, and only those pixels, scaled to [0, 1].

    An item holds for each key the path of a sheet, and ``name``, ``window`` (y, x, height, width in pixels of the
    label), ``frame`` (number of the central frame), ``intensity`` (for each key, low and high) and, for tiles at random
    positions, ``region`` (the window within which the tile may lie). The result holds the keys as float32 tensors
    ``(frames, Y, X)``, and ``name``.

    Args:
        keys: keys to read: ``label``; for pairs ``image``, too; and ``extra`` where there is a third image.
        n_frames: frames to read around the central one.
        scale: pixels of the label along one pixel of ``image``.
        random_position: draw a fresh place for the tile within the item's region each time.
        axes: axes of files that do not tell theirs.
        stack: order of T and Z.
        cache_mb: megabytes of decoded frames that each process may keep.
        allow_missing_keys: skip keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection = ("label",),
        n_frames: int = 1,
        scale: int = 1,
        random_position: bool = False,
        axes: str | None = None,
        stack: str = "TZ",
        cache_mb: int = 512,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.n_frames = n_frames
        self.scale = scale
        self.random_position = random_position
        self.stack = stack
        self.sheets = SheetReader(cache_bytes=cache_mb * 2**20, axes=axes, stack=stack)
        self._window = Window(0, 0, 0, 0)

    def randomize(self, data: Mapping[str, Any]) -> None:
        """Places the window: where the item says, or anywhere in its region, on a pixel that all keys have."""
        window = Window(*data["window"])
        if self.random_position and "region" in data:
            region, step = Window(*data["region"]), self.scale if "image" in self.keys else 1
            y = region.y + step * int(self.R.randint(max(0, region.height - window.height) // step + 1))
            x = region.x + step * int(self.R.randint(max(0, region.width - window.width) // step + 1))
            window = Window(y, x, window.height, window.width)
        self._window = window

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item: dict[str, Any] = dict(data)  # type: ignore[arg-type]
        self.randomize(item)
        tile: dict[Hashable, Any] = {"name": item["name"]}
        for key in self.key_iterator(item):
            window = self._window
            if key == "image":
                window = Window(*(value // self.scale for value in astuple(window)))
            image = self.sheets.image(item[key])
            frames = frames_of(image.axes, image.shape, self.stack).window(item["frame"], self.n_frames)
            pixels = self.sheets.read(item[key], frames, window)
            tile[key] = torch.from_numpy(Intensity(*item["intensity"][key]).apply(pixels))
        return tile


class CentralFramesd(MapTransform):
    """Keeps the central frames of ``(frames, Y, X)``: what a 2.5D network is to give back."""

    def __init__(self, keys: KeysCollection, n_frames: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.n_frames = n_frames

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = d[key][central(d[key].shape[0], self.n_frames)]
        return d


def prepare_batch_with_extra(
    batchdata: Mapping[str, torch.Tensor],
    device: torch.device | str | None = None,
    non_blocking: bool = False,
    **_: Any,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """For a loss that looks at a third image: it is called with the output and ``{"label": ..., "extra": ...}``."""
    image, label, extra = (batchdata[key].to(device, non_blocking=non_blocking) for key in ("image", "label", "extra"))
    return image, {"label": label, "extra": extra}


class Downsampled(MapTransform):
    """Dictionary form of ``pssr2_monai.crappify.Downsample``."""

    backend = Downsample.backend

    def __init__(self, keys: KeysCollection, scale: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.downsample = Downsample(scale)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.downsample(d[key])
        return d


class Crappifyd(Randomizable, MapTransform):
    """Makes the LR input from the HR target.

    Args:
        keys: HR images, as a rule ``label``.
        crappifier: a ``Crappify``, or any callable that takes and returns an image in [0, 1].
        output_keys: where the LR images go, as a rule ``image``.
        allow_missing_keys: skip keys that an item does not have.

    Example:
        >>> import torch
        >>> from pssr2_monai.crappify import Crappify
        >>> from pssr2_monai.noises import PoissonNoise
        >>> crappify = Crappifyd("label", Crappify(4, [PoissonNoise()]), output_keys="image").set_random_state(seed=0)
        >>> crappify({"label": torch.rand(1, 64, 64)})["image"].shape
        torch.Size([1, 16, 16])
    """

    def __init__(
        self,
        keys: KeysCollection,
        crappifier: Callable[[NdarrayOrTensor], NdarrayOrTensor],
        output_keys: KeysCollection = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crappifier = crappifier
        self.output_keys = ensure_tuple_rep(output_keys, len(self.keys))

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Crappifyd:
        """Seeds the crappifier."""
        super().set_random_state(seed=seed, state=state)
        if isinstance(self.crappifier, Randomizable):
            self.crappifier.set_random_state(seed=seed, state=state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            d[output_key] = self.crappifier(d[key])
        return d


class _Noised(Randomizable, MapTransform):
    """Dictionary form of one noise: all keys get the same draw."""

    def __init__(self, keys: KeysCollection, noise: Noise, allow_missing_keys: bool) -> None:
        super().__init__(keys, allow_missing_keys)
        self.noise = noise
        self.backend = noise.backend

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> _Noised:
        self.noise.set_random_state(seed=seed, state=state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for number, key in enumerate(self.key_iterator(d)):
            d[key] = self.noise(d[key], randomize=number == 0)
        return d


class PoissonNoised(_Noised):
    """Dictionary form of ``pssr2_monai.noises.PoissonNoise``."""

    def __init__(
        self, keys: KeysCollection, intensity: float | Sequence[float] = 1.0, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, PoissonNoise(intensity), allow_missing_keys)


class GaussianNoised(_Noised):
    """Dictionary form of ``pssr2_monai.noises.GaussianNoise``."""

    def __init__(
        self,
        keys: KeysCollection,
        sigma: float | Sequence[float] = 13.0,
        gain: float | Sequence[float] = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, GaussianNoise(sigma, gain), allow_missing_keys)
