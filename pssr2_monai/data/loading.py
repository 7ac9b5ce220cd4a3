"""Loading tiles: the transforms that read them, the data set that reproduces its draws, the batches of the trainer."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import Dataset
from monai.engines import PrepareBatch
from monai.transforms import MapTransform, Randomizable
from torch.nn.functional import interpolate
from torch.profiler import record_function

from pssr2_monai.crappify.crappify import crappified
from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import central, factors, frames_of
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.masks import MaskLabels
from pssr2_monai.images.windows import ORIENTATIONS, SheetReader, Window, oriented, scaled_frames
from pssr2_monai.randomness import Seeded


class LoadTiled(Seeded, MapTransform):
    """Reads the pixels of the tiles that a datalist item names, and no others, scaled to [0, 1].

    An item holds for each key the path of a sheet, and ``name``, ``window`` (y, x, height, width in pixels of the
    label), ``frame`` (number of the central frame of the label), ``intensity`` (for each key and channel, the fields
    of an ``Intensity``), ``limits`` (for each channel, the ends of the range of LR files, scaled like them), for a mask
    ``mask_labels`` (those included and those excluded) and, for tiles at random positions, ``region`` (the window
    within which the tile may lie) and ``run`` (first frame and number
    of frames within which it may lie; without it, it keeps its frames). The result holds the keys as float32 tensors
    ``(frames, Y, X)``, ``name``, and ``limits`` of the channel of the central frame.

    Args:
        keys: keys to read: ``label``; for pairs also ``image``; ``extra`` where there is a third image; and ``mask``,
            which becomes 1 where a pixel of the label is used, else 0.
        n_frames: LR frames to read around the central one.
        scale: pixels of the label along one pixel of ``image``: one number, or one for each of the frames, Y and X.
        random_position: draw a new position of the tile within the item's region each time.
        random_orientation: draw one of the tile's eight orientations each time, the same for all keys; for pairs whose
            scale differs between Y and X, one of the four that do not swap Y and X.
        contrast: range of the factor that all keys of a tile are multiplied by, drawn each time, evenly in its
            logarithm.
        brightness: range of what is added to them afterwards, 1 being the white level.
        zoom: range of the factor by which the image is resized along Y and X, drawn each time evenly in its logarithm:
            as far below 1 as the item's region allows, pixels are averaged and have less noise; above 1, structures are
            as smooth as in a scan of finer steps. For crappified training alone.
        swap_axes: let orientations swap Y and X; not where noise that is correlated along the scan must stay so.
        two_scans: ``image`` and ``label`` are two noisy scans of one field, which are exchanged at random. Where both
            are one file, ``image`` is the frame before or after that of ``label``, in its run.
        axes: axes of files that do not name theirs.
        image: number or name of the image to read of files that hold several; by default the largest.
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
        contrast: Sequence[float] = (1.0, 1.0),
        brightness: Sequence[float] = (0.0, 0.0),
        zoom: Sequence[float] = (1.0, 1.0),
        swap_axes: bool = True,
        two_scans: bool = False,
        axes: str | None = None,
        image: int | str | None = None,
        stack: str = "TZ",
        cache_mb: int = 512,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.n_frames = n_frames
        self.factors = factors(scale)
        self.label_frames = n_frames * self.factors[0]
        self.random_position = random_position
        self.random_orientation = random_orientation
        self.contrast, self.brightness = checked_range(contrast, "contrast"), checked_range(brightness, "brightness")
        if self.contrast[0] <= 0:
            raise InputError(f"contrast: {contrast!r} is a range of factors, which are above 0; such as [0.8, 1.25]")
        self.zoom = checked_range(zoom, "zoom")
        if self.zoom[0] <= 0:
            raise InputError(f"zoom: {zoom!r} is a range of factors, which are above 0; such as [0.5, 2]")
        if self.zoom != (1.0, 1.0) and "image" in self.keys:
            raise InputError("zoom: real pairs (lr_dir) keep their pixels; leave one of the two out")
        self.swap_axes, self.two_scans = swap_axes, two_scans
        self._gain, self._shift = 1.0, 0.0
        self._exchanged, self._after = False, True
        self.stack = stack
        self.sheets = SheetReader(cache_bytes=cache_mb * 2**20, axes=axes, stack=stack, image=image)
        self.masks = SheetReader(cache_bytes=cache_mb * 2**18, stack=stack)  # axes and image are those of the others
        self._window = Window(0, 0, 0, 0)
        self._frame = 0
        self._orientation = 0

    def randomize(self, data: Mapping[str, Any]) -> None:
        """Draw the tile's position, on a pixel of all keys, size, orientation and contrast, as far as random."""
        if self.random_orientation:
            square = self.swap_axes and ("image" not in self.keys or self.factors[1] == self.factors[2])
            self._orientation = int(self.R.randint(ORIENTATIONS if square else ORIENTATIONS // 2))
        if self.contrast != (1.0, 1.0) or self.brightness != (0.0, 0.0):
            self._gain = self._factor(self.contrast)
            self._shift = self.R.uniform(*self.brightness)
        if self.two_scans:
            self._exchanged, self._after = (bool(draw) for draw in self.R.randint(2, size=2))
        window, self._frame = Window(*data["window"]), data["frame"]
        if self.zoom != (1.0, 1.0) and "region" in data:
            window = self._zoomed(window, Window(*data["region"]), self._factor(self.zoom))
        if self.random_position and "region" in data:
            region = Window(*data["region"])
            along_run, along_y, along_x = self.factors if "image" in self.keys else (1, 1, 1)
            y = region.y + self._step(region.height - window.height, along_y)
            x = region.x + self._step(region.width - window.width, along_x)
            window = Window(y, x, window.height, window.width)
            if "run" in data:
                first, length = data["run"]
                self._frame = first + self._step(length - self.label_frames, along_run) + self.label_frames // 2
        self._window = window

    @property
    def place(self) -> tuple[int, Window]:
        """Where the last tile was in its label: the number of its central frame, and its window."""
        return self._frame, self._window

    def _factor(self, limits: tuple[float, float]) -> float:
        low, high = limits
        return math.exp(self.R.uniform(math.log(low), math.log(high)))

    def _zoomed(self, window: Window, region: Window, factor: float) -> Window:
        """The window of the pixels that become the tile's, as far as the region reaches, about the same place."""
        reach = min(region.height / window.height, region.width / window.width)
        height, width = (max(1, int(side * min(1 / factor, max(1.0, reach)))) for side in (window.height, window.width))
        y = min(max(region.y, window.y - (height - window.height) // 2), region.y + region.height - height)
        x = min(max(region.x, window.x - (width - window.width) // 2), region.x + region.width - width)
        return Window(y, x, height, width)

    def _step(self, room: int, step: int) -> int:
        """Draw a multiple of ``step`` of at most ``room``."""
        return step * int(self.R.randint(max(0, room) // step + 1))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item: dict[str, Any] = dict(data)  # type: ignore[arg-type]
        self.randomize(item)
        tile: dict[Hashable, Any] = {"name": item["name"]}
        if "limits" in item:
            image = self.sheets.image(item["label"])  # whose frames the item counts
            channel = frames_of(image.axes, image.shape, self.stack).channel(self._frame)
            tile["limits"] = torch.tensor(item["limits"][channel], dtype=torch.float32)
        if "mask" in self.keys and "mask" in item:
            tile["mask"] = self._mask(item)
        for key in (key for key in self.key_iterator(item) if key != "mask"):
            window, frame, count = self._window, self._frame, self.label_frames
            image = self.sheets.image(item[key])
            order = frames_of(image.axes, image.shape, self.stack)
            if key == "image":
                along_run, along_y, along_x = self.factors
                window = Window(
                    window.y // along_y, window.x // along_x, window.height // along_y, window.width // along_x
                )
                frame, count = (frame - count // 2) // along_run + self.n_frames // 2, self.n_frames
                if self.two_scans and item[key] == item["label"]:
                    frame = order.neighbour(frame, self._after)
            numbers, scales = order.window(frame, count), [Intensity(*levels) for levels in item["intensity"][key]]
            pixels = oriented(self.sheets.read(item[key], numbers, window), self._orientation)
            tile[key] = self._sized(torch.from_numpy(scaled_frames(pixels, numbers, order, scales)), item["window"][2:])
            if (self._gain, self._shift) != (1.0, 0.0):
                tile[key].mul_(self._gain).add_(self._shift)
        if self._exchanged:
            tile["image"], tile["label"] = tile["label"], tile["image"]
        return tile

    def _mask(self, item: Mapping[str, Any]) -> torch.Tensor:
        image = self.sheets.image(item["label"])
        numbers = frames_of(image.axes, image.shape, self.stack).window(self._frame, self.label_frames)
        mask = self.masks.image(item["mask"])
        if frames_of(mask.axes, mask.shape, self.stack).count == 1:
            numbers = [0] * len(numbers)
        pixels = oriented(self.masks.read(item["mask"], numbers, self._window), self._orientation)
        used = torch.from_numpy(MaskLabels(*item["mask_labels"]).used(pixels).astype(np.float32))
        return interpolate(used[None], tuple(item["window"][2:]), mode="nearest")[0]

    def _sized(self, frames: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Resize frames ``(frames, Y, X)`` to the size of the tile, averaging as the crappifier does."""
        if self.zoom == (1.0, 1.0) or tuple(frames.shape[1:]) == tuple(size):
            return frames
        if frames.shape[1] < size[0]:
            return interpolate(frames[None], tuple(size), mode="bicubic")[0]
        return interpolate(frames[None], tuple(size), mode="bilinear", antialias=True)[0]


def checked_range(values: Sequence[float], name: str) -> tuple[float, float]:
    """A range of two numbers, the lower first."""
    low, high = (float(value) for value in values) if len(values) == 2 else (1.0, 0.0)
    if not low <= high:
        raise InputError(f"{name}: {values!r} is not a range; give the lower and the higher end, such as [0.8, 1.25]")
    return low, high


class ApplyMaskd(MapTransform):
    """Sets the pixels of targets that are not in the item's ``mask`` to NaN, and takes the mask away."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        mask = d.pop("mask", None)
        for key in self.key_iterator(d) if mask is not None else ():
            d[key] = masked(torch.as_tensor(d[key]), mask)
        return d


def masked(target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return target.where(mask > 0, torch.nan)


class CentralFramesd(MapTransform):
    """Keeps the central frames of ``(frames, Y, X)``: the output of a 2.5D network."""

    def __init__(self, keys: KeysCollection, n_frames: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.n_frames = n_frames

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = d[key][central(d[key].shape[0], self.n_frames)]
        return d


class TileDataset(Dataset):
    """A MONAI dataset whose random draws follow from the seed, the epoch and the sample's identity alone.

    The samples are the same whatever the number of workers and the order in which they are loaded.

    Args:
        data: datalist whose items have unique ``name`` entries.
        transform: makes a sample of an item; its random transforms are seeded for each sample.
        seed: seed of all draws.

    Example:
        >>> dataset = TileDataset([{"name": "a", "pixels": 3}], transform=lambda item: item["pixels"], seed=0)
        >>> dataset.set_epoch(2)
        >>> dataset[0]
        3
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable[..., Any], seed: int = 0) -> None:
        super().__init__(data, transform)
        self.seed = seed
        self._seeded = Seeded()
        # In shared memory, so that workers which outlive an epoch see the next one.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the draws; not for a validation set, whose noise must stay the same."""
        self._epoch[0] = epoch

    def seed_of(self, name: str) -> int:
        identity = zlib.crc32(name.encode())
        return int(np.random.SeedSequence([self.seed, int(self._epoch[0]), identity]).generate_state(1)[0])

    def _transform(self, index: int) -> Any:
        if isinstance(self.transform, Randomizable):
            seed = self.seed_of(self.data[index]["name"])
            self.transform.set_random_state(state=self._seeded.set_random_state(seed=seed).R)
        return super()._transform(index)


@dataclass(eq=False)
class PrepareTiles(PrepareBatch):
    """Makes the inputs and targets of a training step of a batch of tiles, crappifying them on the device if asked.

    With a crappifier, the draws follow from the seed, the epoch and the names of the batch's tiles, and so do not
    depend on the loader's workers; they differ from those of crappifying in the loader.

    Args:
        dataset: holds the seed and the epoch.
        targets: keys of the targets: ``label``, and ``extra`` where the loss compares with a third image.
        n_frames: central frames of the targets that are kept after crappifying.
        crappifier: a ``Crappify``; or any callable or network that takes and returns images
            ``(batch, frames, Y, X)`` in [0, 1]; a network gets no gradient. None where the batch has its inputs.
    """

    dataset: TileDataset
    targets: Sequence[str] = ("label",)
    n_frames: int = 1
    crappifier: Callable[[NdarrayOrTensor], NdarrayOrTensor] | None = None

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, Any]:
        """Return the input and the label, or ``{"label": ..., "extra": ...}`` for a loss that takes a third image."""
        keys = [key for key in ("image", *self.targets, "mask") if key in batchdata]
        batch = {key: batchdata[key].to(device, non_blocking=non_blocking, **kwargs) for key in keys}
        if self.crappifier is not None:
            if "image" in batch:
                raise InputError("crappify_on_device: the LR images are given (lr_dir); leave one of the two out")
            if isinstance(self.crappifier, Randomizable):
                self.crappifier.set_random_state(seed=self.dataset.seed_of("".join(batchdata["name"])))
            with record_function("crappify"), torch.no_grad():
                batch["image"] = crappified(self.crappifier, batch["label"], batchdata.get("limits"))
            if "mask" in batch:
                batch["label"] = masked(batch["label"], batch["mask"])
            for key in self.targets:
                batch[key] = batch[key][:, central(batch[key].shape[1], self.n_frames)]
        if len(self.targets) == 1:
            return batch["image"], batch[self.targets[0]]
        return batch["image"], {key: batch[key] for key in self.targets}
