"""Dictionary transforms: what the bundle's configs name.

``LoadTiled`` reads the pixels that a datalist item of ``pssr2_monai.datalists`` names; the others are the dictionary
forms of ``pssr2_monai.crappify``. Those of single noises are in ``pssr2_monai.noises.transforms``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple_rep
from torch.profiler import record_function

from pssr2_monai.axes import central, factors, frames_of
from pssr2_monai.crappify import Downsample
from pssr2_monai.intensity import Intensity
from pssr2_monai.io.sheets import SheetReader
from pssr2_monai.orientation import ORIENTATIONS, oriented
from pssr2_monai.randomness import Seeded
from pssr2_monai.tiles import Window

__all__ = ["CentralFramesd", "Crappifyd", "Downsampled", "LoadTiled"]


class LoadTiled(Seeded, MapTransform):
    """Reads the tiles that a datalist item names, and only those pixels, scaled to [0, 1].

    An item holds for each key the path of a sheet, and ``name``, ``window`` (y, x, height, width in pixels of the
    label), ``frame`` (number of the central frame of the label), ``intensity`` (for each key, low and high) and, for
    tiles at random positions, ``region`` (the window within which the tile may lie) and ``run`` (first frame and number
    of frames within which it may lie; without it, it keeps its frames). The result holds the keys as float32 tensors
    ``(frames, Y, X)``, and ``name``.

    Args:
        keys: keys to read: ``label``; for pairs ``image``, too; and ``extra`` where there is a third image.
        n_frames: LR frames to read around the central one.
        scale: pixels of the label along one pixel of ``image``: one number, or one for each of the frames, Y and X.
        random_position: draw a fresh place for the tile within the item's region each time.
        random_orientation: draw one of the tile's eight orientations each time, the same for all keys; of pairs whose
            scale is another along Y than along X, one of the four that keep Y and X apart.
        axes: axes of files that do not tell theirs.
        stack: order of T and Z.
        cache_mb: megabytes of decoded frames that each process may keep.
        allow_missing_keys: skip keys that an item does not have.
    """

    def __init__(
        self,
        keys: KeysCollection = ("label",),
        n_frames: int = 1,
        scale: int | Sequence[int] = 1,
        random_position: bool = False,
        random_orientation: bool = False,
        axes: str | None = None,
        stack: str = "TZ",
        cache_mb: int = 512,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.n_frames = n_frames
        self.factors = factors(scale)
        self.random_position = random_position
        self.random_orientation = random_orientation
        self.stack = stack
        self.sheets = SheetReader(cache_bytes=cache_mb * 2**20, axes=axes, stack=stack)
        self._window = Window(0, 0, 0, 0)
        self._frame = 0
        self._orientation = 0

    def randomize(self, data: Mapping[str, Any]) -> None:
        """Places the tile, where the item says or anywhere in its region on a pixel of all keys, and turns it over."""
        if self.random_orientation:
            alike = "image" not in self.keys or self.factors[1] == self.factors[2]
            self._orientation = int(self.R.randint(ORIENTATIONS if alike else ORIENTATIONS // 2))
        window, self._frame = Window(*data["window"]), data["frame"]
        if self.random_position and "region" in data:
            region = Window(*data["region"])
            along_run, along_y, along_x = self.factors if "image" in self.keys else (1, 1, 1)
            y = region.y + self._step(region.height - window.height, along_y)
            x = region.x + self._step(region.width - window.width, along_x)
            window = Window(y, x, window.height, window.width)
            if "run" in data:
                first, length = data["run"]
                frames = self._label_frames()
                self._frame = first + self._step(length - frames, along_run) + frames // 2
        self._window = window

    @property
    def place(self) -> tuple[int, Window]:
        """Where the last tile lay in its label: the number of its central frame, and its window."""
        return self._frame, self._window

    def _step(self, room: int, step: int) -> int:
        """A multiple of ``step`` of at most ``room``, drawn."""
        return step * int(self.R.randint(max(0, room) // step + 1))

    def _label_frames(self) -> int:
        return self.n_frames * self.factors[0]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item: dict[str, Any] = dict(data)  # type: ignore[arg-type]
        self.randomize(item)
        tile: dict[Hashable, Any] = {"name": item["name"]}
        for key in self.key_iterator(item):
            window, frame, count = self._window, self._frame, self._label_frames()
            image = self.sheets.image(item[key])
            order = frames_of(image.axes, image.shape, self.stack)
            if key == "image":
                along_run, along_y, along_x = self.factors
                window = Window(
                    window.y // along_y, window.x // along_x, window.height // along_y, window.width // along_x
                )
                frame, count = (frame - count // 2) // along_run + self.n_frames // 2, self.n_frames
            pixels = oriented(self.sheets.read(item[key], order.window(frame, count), window), self._orientation)
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


class Downsampled(MapTransform):
    """Dictionary form of ``pssr2_monai.crappify.Downsample``."""

    backend = Downsample.backend

    def __init__(
        self,
        keys: KeysCollection,
        scale: int | Sequence[int],
        mode: str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.downsample = Downsample(scale, mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.downsample(d[key])
        return d


class Crappifyd(Randomizable, MapTransform):
    """Makes the LR input from the HR target.

    Args:
        keys: HR images, as a rule ``label``.
        crappifier: a ``Crappify``; or any callable that takes and returns an image ``(frames, Y, X)`` in [0, 1]; or a
            network that does so with ``(batch, frames, Y, X)``, on the images' device, which gets no gradient.
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
        """Seeds the crappifier, which alone draws."""
        if isinstance(self.crappifier, Randomizable):
            self.crappifier.set_random_state(seed=seed, state=state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            with record_function("crappify"):
                if isinstance(self.crappifier, torch.nn.Module):
                    with torch.no_grad():
                        d[output_key] = self.crappifier(torch.as_tensor(d[key])[None])[0]
                else:
                    d[output_key] = self.crappifier(d[key])
        return d
