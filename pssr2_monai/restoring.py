"""Restoring: an image file in, its super-resolved image out, window by window."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer, sliding_window_inference
from torch.nn.functional import pad
from tqdm import tqdm

from pssr2_monai.axes import Frames, frames_of, sample_centres, scaled_pixel_size, scaled_shape
from pssr2_monai.errors import InputError
from pssr2_monai.io.formats import is_zarr
from pssr2_monai.io.image import LazyImage, list_images, open_image
from pssr2_monai.io.sheets import fit_image_intensity, plane_size, read_window, write_plane
from pssr2_monai.io.writer import WRITTEN, create_writer
from pssr2_monai.networks.blocks import rounded_up
from pssr2_monai.precision import choose_precision, in_precision
from pssr2_monai.record import Record, load_weights
from pssr2_monai.tiles import Window, blend_weights

__all__ = ["SeamlessInferer", "restore", "restore_file", "restore_frames", "restore_pairs", "restoring_engine"]

logger = logging.getLogger(__name__)

BAR_FROM = 20
"""Windows from which on a single frame gets a progress bar of its own."""

GRID = 32
"""Windows begin at multiples of this: a network that pools gives another output where its grid lies otherwise."""


class SeamlessInferer(Inferer):
    """Sliding windows blended without seams, inside the image and at its border.

    MONAI's own weights give the outermost pixels of a window, which saw zeros instead of their surroundings, a share
    that shows as lines at small overlaps, and leave the image's border to them alone. Here a quarter of the overlap at
    each edge of a window counts for nothing, the weights rise along a cosine over the rest, and the image is enlarged
    by reflection first. An image that fits into one window goes through the network whole.

    Args:
        window: side of the windows in LR pixels.
        overlap: share of a window that it has in common with its neighbour, at least 0.25.
        batch_size: windows that go through the network at a time.
        precision: see ``precision.choose_precision``.
    """

    def __init__(self, window: int = 256, overlap: float = 0.25, batch_size: int = 1, precision: str = "auto") -> None:
        super().__init__()
        if not 0.25 <= overlap < 1:
            raise InputError(f"overlap: {overlap} is not in [0.25, 1); less would show the windows' borders")
        if window < 2 * GRID or window % GRID:
            raise InputError(f"window: {window} LR pixels; take a multiple of {GRID}, at least {2 * GRID}")
        self.window = window
        self.shared = window - max(GRID, int(window * (1 - overlap)) // GRID * GRID)
        self.batch_size = batch_size
        self.precision = precision

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Restores ``(batch, frames, Y, X)``; the output is larger by the network's scale, in float32."""
        in_dtype = in_precision(network, choose_precision(self.precision, inputs.device))

        def predict(windows: torch.Tensor) -> torch.Tensor:
            return in_dtype(windows, *args, **kwargs)

        inputs = inputs.float()
        sizes = inputs.shape[-2:]
        if max(sizes) <= self.window:
            return predict(inputs)
        margin = rounded_up(self.shared // 2, GRID)
        below, right = (rounded_up(size, GRID) - size + margin for size in sizes)
        mode = "reflect" if below < sizes[0] and right < sizes[1] else "replicate"
        enlarged = pad(inputs, (margin, right, margin, below), mode=mode)
        roi = [min(self.window, size) for size in enlarged.shape[-2:]]
        output: torch.Tensor = sliding_window_inference(
            enlarged,
            roi,
            self.batch_size,
            predict,
            # Half a pixel less, so that no rounding moves the windows off the grid.
            overlap=(self.shared - 0.5) / self.window,
            progress=sys.stderr.isatty() and enlarged.numel() > BAR_FROM * self.window**2,
            roi_weight_map=self._weights(roi).to(inputs.device),
        )
        scale = output.shape[-1] // enlarged.shape[-1]
        height, width = (size * scale for size in sizes)
        cut = margin * scale
        return output[..., cut : cut + height, cut : cut + width]

    def _weights(self, roi: Sequence[int]) -> torch.Tensor:
        """The weight of each pixel of a window of this size."""
        edge = self.shared // 4
        ramp = self.shared - 2 * edge
        weights = torch.from_numpy(blend_weights((roi[0] - 2 * edge, roi[1] - 2 * edge), (ramp, ramp)))
        # Not quite nothing: outside the image, in what is cut off, an edge may be all that there is.
        return pad(weights, (edge,) * 4, value=1e-6).clamp(min=1e-6)


def restore_frames(
    frames: np.ndarray, network: Callable[..., torch.Tensor], inferer: Inferer, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Restores the frames of one sample.

    Args:
        frames: ``(LR frames, Y, X)`` float32 in [0, 1].
        network: takes and gives ``(batch, frames, Y, X)``.
        inferer: how the network is laid over the image.
        device: where the network is.

    Returns:
        ``(HR frames, scale * Y, scale * X)`` float32.
    """
    with torch.inference_mode():
        output = inferer(torch.from_numpy(frames)[None].to(device), network)
    restored: np.ndarray = output[0].float().cpu().numpy()
    return restored


def restore_file(
    source: str | Path,
    target: str | Path,
    network: torch.nn.Module,
    record: Record,
    inferer: Inferer | None = None,
    *,
    axes: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Restores one image file, keeping its axes, dtype and intensity scale; the pixel size is divided by the scale.

    Args:
        source: an image file of any supported format.
        target: the file to write, in the format that its suffix names.
        network: in evaluation mode, on the device that is to do the work.
        record: of the network's weights.
        inferer: how the network is laid over the image; ``SeamlessInferer()`` by default.
        axes: axes of a file that does not tell its own.
        overwrite: replace an existing file.

    Raises:
        InputError: the file cannot be read or written, or has fewer frames than the network needs.
    """
    inferer = inferer or SeamlessInferer()
    device = next(network.parameters()).device
    with open_image(source, axes=axes) as image:
        frames = _check_frames(image, record)
        intensity = fit_image_intensity(image, record.intensity, record.stack)
        height, width = plane_size(image)
        lr_frames, hr_frames = record.n_frames
        with create_writer(
            target,
            shape=scaled_shape(image.axes, image.shape, record.scale),
            dtype=image.dtype,
            axes=image.axes,
            pixel_size=scaled_pixel_size(image.pixel_size, record.scale),
            channel_names=image.channel_names,
            overwrite=overwrite,
        ) as writer:
            # Windows of the frames to be written, each restored from the frames around the same centre.
            centres = sample_centres(frames, hr_frames, slide=False, edges=hr_frames == 1)
            for centre in tqdm(centres, desc=Path(source).name, unit="frame", disable=len(centres) < 2 or None):
                pixels = read_window(image, frames.window(centre, lr_frames), Window(0, 0, height, width), record.stack)
                if not np.isfinite(pixels).all():
                    logger.warning("%s: holds NaN or infinite pixels, which are taken for black and white", source)
                restored = restore_frames(intensity.apply(pixels), network, inferer, device)
                for frame, plane in zip(frames.window(centre, hr_frames), restored, strict=True):
                    write_plane(writer, frames, frame, intensity.cast(plane, image.dtype))
    return Path(target)


def restore(
    source: str | Path,
    target: str | Path,
    weights: str | Path,
    *,
    window: int = 256,
    overlap: float = 0.25,
    precision: str = "auto",
    device: str | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
) -> list[Path]:
    """Restores a file, or every image of a folder.

    Args:
        source: an image file, a folder of them, or a folder of slices if the target is a file.
        target: the file to write, or the folder to write files of the same names into.
        weights: a ``model.pt`` with its record.
        window: side of the windows in LR pixels.
        overlap: share of a window that it has in common with its neighbour.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: ``cpu``, ``cuda`` and so on; by default a GPU where there is one.
        axes: axes of files that do not tell their own.
        overwrite: replace existing files.
        skip_bad: leave out files that cannot be read, saying so, instead of stopping before any work.
        format: ``tif``, ``ome.tif``, ``ome.zarr`` or ``png`` for files written into a folder; that of the source where
            it can be written, else ``tif``, by default.

    Returns:
        The files written.

    Raises:
        InputError: before any work, where a source cannot be read or a target exists; see ``restore_file``.

    Example:
        >>> restore("scan.tif", "restored.tif", "run/model.pt")  # doctest: +SKIP
    """
    inferer = SeamlessInferer(window, overlap, precision=precision)
    network, record = load_weights(weights, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    pairs = restore_pairs(source, target, record, axes, overwrite, skip_bad, format)
    engine = restoring_engine(network, record, inferer, axes, overwrite, skip_bad)
    written: list[Path] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda running: written.extend(running.state.output))
    engine.run(pairs)
    return written


def restore_pairs(
    source: str | Path,
    target: str | Path,
    record: Record,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
) -> list[tuple[Path, Path]]:
    """Which file is restored into which, every source having been looked at.

    Args:
        source: an image file, or a folder of them.
        target: the file to write, or the folder to write files of the same names into.
        record: of the weights that are to restore them.
        axes: axes of files that do not tell their own.
        overwrite: replace existing files.
        skip_bad: leave out sources that cannot be read, saying so.
        format: suffix of the files written into a folder, such as ``ome.zarr``; the sources' by default.

    Raises:
        InputError: a source cannot be read or has too few frames, a target exists, or two would be the same.
    """
    pairs = []
    for file, output in _targets(Path(source), Path(target), overwrite, format):
        try:
            with open_image(file, axes=axes) as image:
                _check_frames(image, record)
        except InputError as error:
            if not skip_bad:
                raise
            logger.warning("left out: %s", error)
        else:
            pairs.append((file, output))
    if not pairs:
        raise InputError(f"{source}: none of its images can be restored")
    return pairs


def restoring_engine(
    network: torch.nn.Module,
    record: Record,
    inferer: Inferer | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
) -> Engine:
    """An Ignite engine that restores one file a step; run it on what ``restore_pairs`` gives.

    The output of a step is the list of files written: one, or none where a bad file was left out. For the arguments see
    ``restore_file`` and ``restore``.
    """

    def step(_: Engine, pair: tuple[Path, Path]) -> list[Path]:
        source, target = pair
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            restore_file(source, target, network, record, inferer, axes=axes, overwrite=overwrite)
        except InputError as error:
            if not skip_bad:
                raise
            logger.warning("left out: %s", error)
            return []
        logger.info("%s -> %s", source, target)
        return [target]

    return Engine(step)


def _check_frames(image: LazyImage, record: Record) -> Frames:
    frames = frames_of(image.axes, image.shape, record.stack)
    frames.check_n_frames(record.n_frames[0], image.path.name)
    return frames


def _targets(source: Path, target: Path, overwrite: bool, format: str | None) -> list[tuple[Path, Path]]:
    """Which file goes where."""
    one_file = target.name.lower().endswith(tuple(WRITTEN)) and not (target.is_dir() and not is_zarr(target))
    if one_file:  # of a folder of slices, too, which is one stack
        pairs = [(source, target)]
    elif source.is_dir() and not is_zarr(source):
        pairs = [(file, target / _written_name(file, format)) for file in list_images(source)]
    else:
        pairs = [(source, target / _written_name(source, format))]
    outputs = [output for _, output in pairs]
    for file, output in pairs:
        if outputs.count(output) > 1:
            raise InputError(
                f"{file.name}: another image of the folder would be written to {output.name}, too; rename one"
            )
        if output.resolve() == file.resolve():
            raise InputError(f"{output}: is the input itself; give another output")
        if output.exists() and not overwrite:
            raise InputError(f"{output}: exists already; give another output, or ask to overwrite it")
    return pairs


def _written_name(file: Path, format: str | None) -> str:
    """The file's name, with the suffix asked for or else one that can be written."""
    if format is None and file.name.lower().endswith(tuple(WRITTEN)):
        return file.name
    suffix = "." + (format or "tif").lower().lstrip(".")
    if not suffix.endswith(tuple(WRITTEN)):
        raise InputError(f"format: {format!r} is not written; use tif, ome.tif, ome.zarr or png")
    stem = file.name.removesuffix(file.suffix)
    return stem.removesuffix(".ome") + suffix
