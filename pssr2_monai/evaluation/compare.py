"""Samples with known ground truth, restored by the network, by interpolation and by a filter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.filters import REACH_PX, denoise
from pssr2_monai.evaluation.fourier_ring_correlation import MIN_FRC_SIDE_PX, RingCorrelation, faded, ring_correlation
from pssr2_monai.images.axes import factors, frames_of, is_volume
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.intensity import Intensity, dtype_limits
from pssr2_monai.images.masks import Mask
from pssr2_monai.images.padding import filled, without_data
from pssr2_monai.images.windows import (
    Window,
    inside,
    plane_size,
    read_window,
    sample_pixels,
    scaled_window,
    widened,
)
from pssr2_monai.networks.record import Record

INTERPOLATIONS = ("bilinear", "bicubic")
BLOCK_VOXELS = 2**24
"""HR pixels that are restored and scored at once, a plane of 4096 x 4096; a larger one is divided into equal blocks.
Scoring a block of this size takes up to 1.9 GB."""
MIN_BLOCK_SIDE_PX = 512  # of HR; blocks of volumes with many frames are not divided further
AROUND_PX = REACH_PX + 2  # LR pixels around a block, on which its filtered and interpolated pixels depend
SCORED_PERCENTILES = (0.1, 99.9)
GREY = Intensity(0.0, 1.0)  # rounds grey levels to those of a dtype


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
    restored: Mapping[str, np.ndarray]
    """By method, of the target's shape and rounded to the grey levels of its dtype: the interpolations; "filter", that
    of ``filters.denoise`` before bicubic interpolation; "model", the network."""
    counted: npt.NDArray[np.bool_] | None = None  # which pixels of the target are scored; None for all

    @property
    def deeper(self) -> bool:
        """Whether frames were restored between those of the input."""
        return self.hr.shape[0] > self.lr.shape[0]

    def detail_planes(self, planes: np.ndarray) -> np.ndarray:
        """Return the planes that show restored detail: the frames, or cuts ``(X, Z, Y)`` where frames were restored.

        Towards pixels that are not scored they fade to their mean.
        """
        if self.counted is not None:
            planes = faded(planes, self.counted)
        return np.moveaxis(planes, -1, 0) if self.deeper else planes

    def correlations(self) -> dict[str, RingCorrelation]:
        """Return the Fourier ring correlation of each method's detail with HR.

        There is none where a side is below 16 pixels, or for a constant HR image, with which nothing correlates.
        """
        hr = self.detail_planes(self.hr)
        if min(hr.shape[-2:]) < MIN_FRC_SIDE_PX or np.ptp(hr) == 0:
            return {}
        return {method: ring_correlation(self.detail_planes(planes), hr) for method, planes in self.restored.items()}


def scoring_scales(hr: LazyImage, stack: str = "TZ") -> list[Intensity]:
    """The grey levels of each channel of an image that scores count as 0 and 1.

    They are the range of the dtype for 8 bits, otherwise p0.1 and p99.9 of its finite pixels, from a sample of bounded
    size; what the network was given does not matter.
    """
    scales = []
    for channel in range(frames_of(hr.axes, hr.shape, stack).channels):
        if hr.dtype.kind in "iu" and hr.dtype.itemsize == 1:
            low, high = dtype_limits(hr.dtype)
        else:
            pixels = np.concatenate([window[np.isfinite(window)] for window in sample_pixels(hr, stack, channel)])
            if not pixels.size:
                raise InputError(f"{hr.path.name}: holds only NaN or infinite pixels; check the file")
            low, high = (float(level) for level in np.percentile(pixels.astype(np.float64), SCORED_PERCENTILES))
            if not low < high:
                low, high = float(pixels.min()), float(pixels.max())
        scales.append(Intensity(low, max(high, math.nextafter(low, math.inf))))
    return scales


def compare(
    hr: LazyImage,
    lr: LazyImage,
    sr: LazyImage,
    record: Record,
    levels: Sequence[Intensity],
    sampled: str = "bilinear",
    blind_filter: bool = True,
    mask: Mask | None = None,
    block_voxels: int = BLOCK_VOXELS,
    min_block_side: int = MIN_BLOCK_SIDE_PX,
) -> Iterator[Comparison]:
    """Compare what is in three files: each frame is a sample, or each run of frames of a volume.

    Planes of more than 4096 x 4096 pixels are divided into blocks, each a sample, for the sake of memory. Interpolated
    and filtered images are rounded to the grey levels of the LR file, as the restored file is.

    Args:
        hr: the truth; what the scale does not divide is left out at the end of an axis.
        lr: the input.
        sr: what ``restore`` wrote for it.
        record: of the weights.
        levels: the ``scoring_scales`` of the truth.
        sampled: how the input was downsampled; see ``upscale``.
        blind_filter: whether to filter, too.
        mask: of the truth; blocks of which nothing is scored are left out.
    """
    scale, stack = record.scale, record.stack
    volume, (along_run, along_y, along_x) = is_volume(scale), factors(scale)
    lr_order, hr_order = (frames_of(image.axes, image.shape, stack) for image in (lr, hr))
    plane = plane_size(lr)
    length = lr_order.run if volume else 1
    largest_side = max(min_block_side, math.isqrt(block_voxels // (length * along_run)))
    for first in range(0, lr_order.count, length):
        lr_frames = range(first, first + length)
        sr_frames = range(first * along_run, (first + length) * along_run)
        # Runs of HR may be longer by what the scale does not divide.
        start = first // lr_order.run * hr_order.run + first % lr_order.run * along_run
        hr_frames = range(start, start + len(sr_frames))
        level = levels[hr_order.channel(start)]
        for window in _blocks(plane, (along_y, along_x), largest_side):
            around = widened(window, AROUND_PX, plane)
            inner = scaled_window(inside(window, around), along_y, along_x)
            scanned = read_window(lr, lr_frames, around, stack).astype(np.float32)
            large = scaled_window(window, along_y, along_x)
            truth = read_window(hr, hr_frames, large, stack)
            missing = without_data(truth, None)
            counted = _counted(missing, mask.read(hr_frames, large) if mask else None)
            if counted is not None and not counted.any():
                continue
            grey = _complete(scanned, scanned)
            restored = {
                method: level.apply(GREY.cast(planes[(slice(None), *inner.slices())], lr.dtype))
                for method, planes in _enlarged(scanned, grey, scale, sampled, blind_filter)
            }
            restored["model"] = level.apply(read_window(sr, sr_frames, large, stack))
            shown, target = level.apply(grey[(slice(None), *inside(window, around).slices())]), level.apply(truth)
            if missing is not None:  # where there is no truth, nothing is scored
                restored = {method: np.where(missing, target, planes) for method, planes in restored.items()}
            yield Comparison(shown, target, restored, counted)


def _complete(planes: npt.NDArray[np.float32], scanned: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The planes with what the scan lacks filled in: a missing pixel would spoil all that it is interpolated to."""
    return filled(planes, without_data(scanned, None))


def _enlarged(
    scanned: npt.NDArray[np.float32],
    grey: npt.NDArray[np.float32],
    scale: int | Sequence[int],
    sampled: str,
    blind_filter: bool,
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """What learns nothing by its name, at HR size, from the scan and, where it is interpolated, the completed one."""
    for mode in INTERPOLATIONS:
        yield mode, upscale(grey, scale, mode, sampled)
    if blind_filter:
        yield "filter", upscale(_complete(denoise(scanned), scanned), scale, "bicubic", sampled)


def _counted(missing: npt.NDArray[np.bool_] | None, used: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
    """Which pixels have a truth and are in the mask; None where all are."""
    if missing is None:
        return None if used is None or used.all() else used
    return ~missing if used is None else used & ~missing


def _blocks(plane: tuple[int, int], scale: tuple[int, int], largest_side: int) -> Iterator[Window]:
    """LR windows of at most ``largest_side`` HR pixels each way that divide a plane without overlap."""
    edges = []
    for length, factor in zip(plane, scale, strict=True):
        count = min(length, math.ceil(length * factor / largest_side))
        edges.append([length * number // count for number in range(count + 1)])
    rows, columns = edges
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            yield Window(top, left, bottom - top, right - left)
