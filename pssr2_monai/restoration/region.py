"""Restoring a small region of an image at once, in memory: to see what weights and options do before a long run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pssr2_monai.images.axes import factors
from pssr2_monai.images.image import LazyImage
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.windows import (
    Window,
    fit_image_intensity,
    inside,
    plane_size,
    read_scaled,
    scaled_window,
    widened,
)
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.layout import layout_of
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.restore_file import check_frames

AROUND_PX = 32  # LR pixels around a region that the network sees, too


def restore_region(
    image: LazyImage,
    network: torch.nn.Module,
    record: Record,
    window: Window,
    frames: range,
    options: RestoreOptions | None = None,
    scales: Sequence[Intensity] | None = None,
) -> np.ndarray:
    """Restore a window of some frames as restoring the whole image would, but for where its windows begin.

    Args:
        image: the source.
        network: in evaluation mode, on the device that does the work.
        record: of its weights.
        window: LR pixels along Y and X.
        frames: numbers of the frames, in the file's order; of volumes those of one run.
        options: how to restore; those of files and processes have no effect.
        scales: of the image's channels, where they are known; see ``fit_image_intensity``.

    Returns:
        ``(frames, Y, X)`` in the grey levels and the dtype of the image; of volumes with more frames than it has.

    Raises:
        InputError: the image has fewer frames than the network takes.
    """
    order, inferer = check_frames(image, record), (options or RestoreOptions()).inferer(record)
    scales = scales or fit_image_intensity(image, record.intensity, record.stack)
    around = widened(window, AROUND_PX, plane_size(image))
    inner = scaled_window(inside(window, around), *factors(record.scale)[1:]).slices()
    samples: list[tuple[Sequence[int], Sequence[int]]] = [(frames, [])]
    if not inferer.volume:
        of_image = layout_of(image, Path(), record, inferer).samples
        samples = [next(sample for sample in of_image if frame in sample[1]) for frame in frames]
    restored = []
    for number, (taken, given) in enumerate(samples):
        pixels = torch.from_numpy(read_scaled(image, taken, around, scales, record.stack))[None]
        with torch.inference_mode():
            planes = inferer(pixels.to(next(network.parameters()).device), network)[0].cpu().numpy()
        if not inferer.volume:
            planes = planes[[given.index(frames[number])]]
        restored.append(scales[order.channel(frames[number])].cast(planes[(slice(None), *inner)], image.dtype))
    return np.concatenate(restored)
