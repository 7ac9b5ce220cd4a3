"""What has a known answer, restored by the network and by interpolation: the samples that an evaluation scores."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.measures import frc_resolution, scores
from pssr2_monai.images.axes import central, factors, frames_of, is_volume, sample_centres
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_window
from pssr2_monai.networks.record import Record, instantiate
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.restore_file import restore_frames

INTERPOLATIONS = ("bilinear", "bicubic")


def upscale(
    planes: npt.NDArray[np.float32], scale: int | Sequence[int], mode: str, sampled: str = "bilinear"
) -> npt.NDArray[np.float32]:
    """Interpolated planes, as ``PIL.Image.resize`` would enlarge them; of volumes along Z, too.

    Args:
        planes: ``(frames, Y, X)``.
        scale: one number for Y and X, or one for each of the frames, Y and X.
        mode: ``bilinear`` or ``bicubic`` (Keys 1981, a = -0.5).
        sampled: how the planes were downsampled: ``nearest`` pixels lie where the one was that was kept, others in the
            middle of those that they are made from.

    Returns:
        Float32, each axis its factor times as long.

    Raises:
        InputError: an unknown mode, or a scale of no whole numbers.
    """
    if mode not in INTERPOLATIONS:
        raise InputError(f"interpolation: {mode!r} is unknown; use {' or '.join(INTERPOLATIONS)}")
    for axis, factor in enumerate(factors(scale)):
        if factor > 1:
            centre = factor // 2 if sampled == "nearest" else (factor - 1) / 2
            places = (np.arange(planes.shape[axis] * factor) - centre) / factor
            planes = _at(planes, axis, places, mode)
    return planes


def _at(planes: npt.NDArray[np.float32], axis: int, places: np.ndarray, mode: str) -> npt.NDArray[np.float32]:
    """The planes at fractional places along an axis; samples beyond its ends are left out of the mean."""
    reach = 1 if mode == "bilinear" else 2
    first = np.floor(places).astype(int) - reach + 1
    length = planes.shape[axis]
    shape = [-1 if each == axis else 1 for each in range(planes.ndim)]
    sums, weights = np.float32(0), np.zeros(len(places))
    for tap in range(2 * reach):
        index = first + tap
        weight = np.where((index >= 0) & (index < length), _kernel(np.abs(places - index), mode), 0)
        weights += weight
        sums = sums + weight.astype(np.float32).reshape(shape) * planes.take(index.clip(0, length - 1), axis)
    enlarged: npt.NDArray[np.float32] = sums / weights.astype(np.float32).reshape(shape)
    return enlarged


def _kernel(distance: np.ndarray, mode: str) -> np.ndarray:
    """The weight of a sample at a distance, in samples."""
    if mode == "bilinear":
        return np.clip(1 - distance, 0, None)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


METHODS = (*INTERPOLATIONS, "model")
BLOCK_VOXELS = 2**24
"""HR pixels that are restored and scored at once, a plane of 4096 x 4096; a larger one is divided into equal blocks.
A block of this size took 1.9 GB at the peak, most of it in scoring."""
LEAST_BLOCK = 512


@dataclass(frozen=True)
class Comparison:
    """One sample seen by all methods.

    Attributes:
        lr: the input's central frames ``(frames, Y, X)``, as all images here in [0, 1].
        hr: the target, each axis its scale times as long.
        restored: by method, each of the target's shape and rounded to the grey levels of the file's dtype.
    """

    lr: np.ndarray
    hr: np.ndarray
    restored: Mapping[str, np.ndarray]

    def scores(self, normalise: str = "least_squares") -> dict[str, dict[str, float]]:
        """All metrics by method; see ``metrics.scores``."""
        found = {method: scores(planes, self.hr, normalise) for method, planes in self.restored.items()}
        if self.deeper:
            for method, planes in self.restored.items():
                found[method]["frc_resolution"] = frc_resolution(self.cuts(planes), self.cuts(self.hr))
        return found

    @property
    def deeper(self) -> bool:
        """Whether frames were restored between those of the input."""
        return self.hr.shape[0] > self.lr.shape[0]

    def cuts(self, planes: np.ndarray) -> np.ndarray:
        """The planes in which restored detail is to be sought: the frames, or where they were restored cuts along Z.

        Cuts are ``(X, Z, Y)``; within the frames there was no detail to restore, or less.
        """
        return np.moveaxis(planes, -1, 0) if self.deeper else planes


def compare(
    hr: LazyImage,
    lr: LazyImage | None,
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer,
    seed: int = 0,
) -> Iterator[Comparison]:
    """Restores each sample of an image whose answer is known; of a volume each run of frames at once.

    A plane of more than 4096 x 4096 pixels is divided into blocks, each a sample: restored by every method as if it
    were an image by itself, so that no more than a block is ever held.

    Args:
        hr: the targets.
        lr: the real inputs (see ``pairs.check_pairs``), or None to crappify the targets as in training.
        network: in evaluation mode, on the device that is to do the work.
        record: of its weights.
        inferer: how the network is laid over the image.
        seed: of the crappifier's draws.

    Raises:
        InputError: fewer frames than the network needs.
    """
    scale, stack = record.scale, record.stack
    along_run = factors(scale)[0]
    target_scale = fit_image_intensity(hr, record.intensity, stack)
    input_scale = target_scale if lr is None else fit_image_intensity(lr, record.intensity, stack)
    crappify = instantiate(record.crappifier) if lr is None else None
    # A decimating crappifier keeps pixels that lie a little aside of the middle of those they stand for.
    sampled = "bilinear" if crappify is None else getattr(getattr(crappify, "downsample", None), "mode", "bilinear")
    device = next(network.parameters()).device
    for first, wanted, inner in _samples(hr, record):
        for place, (lr_window, hr_window) in enumerate(_blocks(hr, record, len(wanted))):
            targets = target_scale.apply(read_window(hr, wanted, hr_window, stack))
            if lr is None:
                drawn = [seed, *_identity(hr, first), *([place] if place else [])]
                inputs = _crappified(targets, crappify, target_scale, hr.dtype, drawn)
            else:
                lr_frames = [frame // along_run for frame in wanted[::along_run]]
                inputs = input_scale.apply(read_window(lr, lr_frames, lr_window, stack))
            shown = inputs if is_volume(scale) else inputs[inner]
            restored = {mode: upscale(shown, scale, mode, sampled) for mode in INTERPOLATIONS}
            restored["model"] = restore_frames(inputs, network, inferer, device)
            rounded = {name: target_scale.apply(target_scale.cast(each, hr.dtype)) for name, each in restored.items()}
            yield Comparison(shown, targets[inner], rounded)


def _samples(hr: LazyImage, record: Record) -> Iterator[tuple[int, list[int], slice]]:
    """For each sample its number, the HR frames that it is made from, and which of them it is compared with."""
    frames = frames_of(hr.axes, hr.shape, record.stack)
    lr_count, hr_count = record.n_frames
    if is_volume(record.scale):
        along_run = factors(record.scale)[0]
        frames.check_n_frames(2 * along_run, hr.path.name)
        for first in range(0, frames.count, frames.run):
            yield first, list(range(first, first + frames.run // along_run * along_run)), slice(None)
        return
    frames.check_n_frames(lr_count, hr.path.name)
    for centre in sample_centres(frames, hr_count, slide=False, edges=hr_count == 1):
        yield centre, frames.window(centre, lr_count), central(lr_count, hr_count)


def _blocks(hr: LazyImage, record: Record, frames: int) -> list[tuple[Window, Window]]:
    """The LR and HR windows that a plane is divided into, without overlap; one where the plane is small enough."""
    most = max(LEAST_BLOCK, math.isqrt(BLOCK_VOXELS // frames))
    ends = []
    for size, factor in zip(plane_size(hr), factors(record.scale)[1:], strict=True):
        length = size // factor
        count = min(length, math.ceil(length * factor / most))
        ends.append([length * number // count for number in range(count + 1)])
    (down, across), (along_y, along_x) = ends, factors(record.scale)[1:]
    pairs = []
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            lr = Window(top, left, bottom - top, right - left)
            hr_size = (lr.height * along_y, lr.width * along_x)
            pairs.append((lr, Window(top * along_y, left * along_x, *hr_size)))
    return pairs


def _crappified(
    targets: np.ndarray,
    crappify: Any,
    intensity: Intensity,
    dtype: np.dtype[Any],
    entropy: list[int],
) -> np.ndarray:
    """LR frames as a file of this dtype would hold them; their draws follow from the seed and the image's name."""
    crappify.set_random_state(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
    lr: np.ndarray = intensity.apply(intensity.cast(crappify(targets), dtype))
    return lr


def _identity(image: LazyImage, centre: int) -> tuple[int, int]:
    return zlib.crc32(image.path.name.encode()), centre
