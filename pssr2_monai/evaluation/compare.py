"""Samples with known ground truth, restored by the network and by interpolation."""

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
from pssr2_monai.evaluation.measures import MIN_FRC_SIDE_PX, RingCorrelation, ring_correlation
from pssr2_monai.images.axes import central, factors, frames_of, is_volume, sample_centres
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.windows import Window, fit_image_intensity, plane_size, read_window
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.restore_file import restore_frames

INTERPOLATIONS = ("bilinear", "bicubic")
METHODS = (*INTERPOLATIONS, "model")
BLOCK_VOXELS = 2**24
"""HR pixels that are restored and scored at once, a plane of 4096 x 4096; a larger one is divided into equal blocks.
Scoring a block of this size takes up to 1.9 GB."""
MIN_BLOCK_SIDE_PX = 512  # of HR; blocks of volumes with many frames are not divided further


def upscale(
    planes: npt.NDArray[np.float32], scale: int | Sequence[int], mode: str, sampled: str = "bilinear"
) -> npt.NDArray[np.float32]:
    """Interpolate planes ``(frames, Y, X)`` as ``PIL.Image.resize`` enlarges them, volumes along Z as well.

    ``bicubic`` is that of Keys 1981, a = -0.5. ``sampled`` is how the planes were downsampled: ``nearest`` pixels are
    at the HR pixel that was kept, others in the middle of the HR pixels that they are made from.
    """
    if mode not in INTERPOLATIONS:
        raise InputError(f"interpolation: {mode!r} is unknown; use {' or '.join(INTERPOLATIONS)}")
    for axis, factor in enumerate(factors(scale)):
        if factor > 1:
            centre = factor // 2 if sampled == "nearest" else (factor - 1) / 2
            positions = (np.arange(planes.shape[axis] * factor) - centre) / factor
            planes = _interpolated(planes, axis, positions, mode)
    return planes


def _interpolated(
    planes: npt.NDArray[np.float32], axis: int, positions: np.ndarray, mode: str
) -> npt.NDArray[np.float32]:
    """The planes at fractional positions along an axis; samples beyond its ends are left out of the mean."""
    reach = 1 if mode == "bilinear" else 2
    first = np.floor(positions).astype(int) - reach + 1
    length = planes.shape[axis]
    shape = [-1 if dimension == axis else 1 for dimension in range(planes.ndim)]
    sums, weights = np.float32(0), np.zeros(len(positions))
    for tap in range(2 * reach):
        index = first + tap
        weight = np.where((index >= 0) & (index < length), _kernel(np.abs(positions - index), mode), 0)
        weights += weight
        sums = sums + weight.astype(np.float32).reshape(shape) * planes.take(index.clip(0, length - 1), axis)
    enlarged: npt.NDArray[np.float32] = sums / weights.astype(np.float32).reshape(shape)
    return enlarged


def _kernel(distance: np.ndarray, mode: str) -> np.ndarray:
    if mode == "bilinear":
        return np.clip(1 - distance, 0, None)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


@dataclass(frozen=True)
class Comparison:
    """One sample ``(frames, Y, X)`` restored by all methods, in [0, 1]."""

    lr: np.ndarray  # the central frames of the input
    hr: np.ndarray
    restored: Mapping[str, np.ndarray]  # by method, of the target's shape and rounded to the grey levels of its dtype

    @property
    def deeper(self) -> bool:
        """Whether frames were restored between those of the input."""
        return self.hr.shape[0] > self.lr.shape[0]

    def detail_planes(self, planes: np.ndarray) -> np.ndarray:
        """Return the planes that show restored detail: the frames, or cuts ``(X, Z, Y)`` where frames were restored."""
        return np.moveaxis(planes, -1, 0) if self.deeper else planes

    def correlations(self) -> dict[str, RingCorrelation]:
        """Return the Fourier ring correlation of each method's detail with HR; none where a side is below 16 pixels."""
        hr = self.detail_planes(self.hr)
        if min(hr.shape[-2:]) < MIN_FRC_SIDE_PX:
            return {}
        return {method: ring_correlation(self.detail_planes(planes), hr) for method, planes in self.restored.items()}


def compare(
    hr: LazyImage,
    lr: LazyImage | None,
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer,
    seed: int = 0,
    block_voxels: int = BLOCK_VOXELS,
    min_block_side: int = MIN_BLOCK_SIDE_PX,
) -> Iterator[Comparison]:
    """Restore each sample of an image with known ground truth; a run of frames of a volume is one sample.

    Planes of more than 4096 x 4096 pixels are divided into blocks, each a sample that every method restores as an
    image of its own, so that no more than a block is held in memory. Without LR images, which ``check_pairs``
    validates, the HR images are crappified as in training.
    """
    scale, stack = record.scale, record.stack
    along_run = factors(scale)[0]
    target_scale = fit_image_intensity(hr, record.intensity, stack)
    input_scale = target_scale if lr is None else fit_image_intensity(lr, record.intensity, stack)
    crappify: Any = record.build_crappifier() if lr is None else None
    # The pixels that a decimating crappifier keeps are not in the middle of those that they represent.
    sampled = getattr(getattr(crappify, "downsample", None), "mode", "bilinear")
    device = next(network.parameters()).device
    for sample, frames, central_frames in _samples(hr, record):
        largest_side = max(min_block_side, math.isqrt(block_voxels // len(frames)))
        for block, (lr_window, hr_window) in enumerate(_blocks(plane_size(hr), factors(scale)[1:], largest_side)):
            targets = target_scale.apply(read_window(hr, frames, hr_window, stack))
            if lr is None:
                # The draws follow from the seed and the sample's identity.
                entropy = [seed, zlib.crc32(hr.path.name.encode()), sample, *([block] if block else [])]
                crappify.set_random_state(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
                inputs = target_scale.apply(target_scale.cast(crappify(targets), hr.dtype))
            else:
                lr_frames = [frame // along_run for frame in frames[::along_run]]
                inputs = input_scale.apply(read_window(lr, lr_frames, lr_window, stack))
            shown = inputs if is_volume(scale) else inputs[central_frames]
            restored = {mode: upscale(shown, scale, mode, sampled) for mode in INTERPOLATIONS}
            restored["model"] = restore_frames(inputs, network, inferer, device)
            rounded = {
                method: target_scale.apply(target_scale.cast(planes, hr.dtype)) for method, planes in restored.items()
            }
            yield Comparison(shown, targets[central_frames], rounded)


def _samples(hr: LazyImage, record: Record) -> Iterator[tuple[int, list[int], slice]]:
    """The number of each sample, the HR frames that it is made from, and which of them are compared."""
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


def _blocks(hr_size: tuple[int, int], scale: tuple[int, int], largest_side: int) -> Iterator[tuple[Window, Window]]:
    """LR and HR windows of at most ``largest_side`` HR pixels each way that divide a plane without overlap."""
    edges = []
    for size, factor in zip(hr_size, scale, strict=True):
        length = size // factor
        count = min(length, math.ceil(length * factor / largest_side))
        edges.append([length * number // count for number in range(count + 1)])
    (along_y, along_x), (rows, columns) = scale, edges
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            lr = Window(top, left, bottom - top, right - left)
            yield lr, Window(top * along_y, left * along_x, lr.height * along_y, lr.width * along_x)
