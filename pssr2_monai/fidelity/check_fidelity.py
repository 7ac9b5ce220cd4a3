"""Checking a restored file against its source, without ground truth: maps, figures and a verdict."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter

from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.crappify.noise import GREY_LEVELS, noise_curve, noise_range
from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.consistency import (
    HALO,
    SIGMAS,
    Expectation,
    expectation,
    own_curve,
    score_limit,
    smoothed_spreads,
    structure_scores,
)
from pssr2_monai.fidelity.decorrelation import decorrelation_resolution
from pssr2_monai.fidelity.error_map import MAX_REACH_PX, ErrorSums, ResolutionScaling, fit_scaling
from pssr2_monai.fidelity.figures import FidelityVerdict, Figures, Structure, Sums, judge
from pssr2_monai.images.axes import Frames, factors, frames_of, scaled_shape
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import Intensity
from pssr2_monai.images.windows import (
    Window,
    fit_image_intensity,
    inside,
    plane_size,
    read_scaled,
    scaled_window,
    spread_windows,
    widened,
    write_window,
)
from pssr2_monai.images.writer import WRITTEN, Writer, create_writer, written_atomically
from pssr2_monai.networks.record import Record
from pssr2_monai.progress import allow_stop

logger = logging.getLogger(__name__)
# All in LR pixels.
BLOCK_SIDE_PX, VOLUME_BLOCK_SIDE_PX, VOLUME_BLOCK_FRAMES = 256, 128, 4
DOWNSAMPLING_REACH_PX = 2  # around a window, that downsampling may depend on
SAMPLES, SAMPLE_SIDE_PX = 16, 256  # number and side of the windows from which noise and brightness are estimated
RESOLUTION_SAMPLES = 4  # of them, for decorrelation analysis
PEAK_SIDE_PX = 7  # side of the neighbourhood in which one structure is counted
MAPS = ("fidelity", "structures", "error")  # the ends of their files' names
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Fidelity:
    """The result of a check."""

    figures: Figures
    verdict: FidelityVerdict
    map: Path  # of z-scores
    structures: Path  # of structure scores
    error: Path  # of errors in grey levels of the source
    summary: Path  # JSON of figures and verdict


def check_fidelity(
    source: str | Path,
    restored: str | Path,
    record: Record,
    axes: str | None = None,
    image: int | str | None = None,
    overwrite: bool = False,
    block_side: int | None = None,
) -> Fidelity:
    """Check a restored image against its source, and write three maps and the figures next to it.

    ``NAME_fidelity``, with the restored file's suffix, has a z-score for each pixel of the source, and
    ``NAME_structures`` a score of how far a structure stands out there (see ``structure_scores`` in
    ``pssr2_monai.fidelity.consistency``): float32, on the source's axes and pixel size; positive where the restored
    image is brighter than the data allow. ``NAME_error`` is the error map of NanoJ-SQUIRREL (see
    ``pssr2_monai.fidelity.error_map``), in grey levels of the source. The figures are written to
    ``NAME_fidelity.json``. The images are read and compared in blocks.

    Args:
        source: the LR image.
        restored: the SR image, restored from it.
        record: record of the weights that restored it.
        axes: axes of a source that does not state its own.
        image: number or name of the image that was restored of a source that holds several.
        overwrite: replace earlier maps.
        block_side: side of the blocks in LR pixels; by default 256, for volumes 128.

    Raises:
        InputError: a file cannot be read, the two do not belong together, or a map exists.
    """
    restored = Path(restored)
    z_path, score_path, error_path = (map_path(restored, name) for name in MAPS)
    with open_image(source, axes, image) as lr, open_image(restored) as sr:
        pair = _Pair.of(lr, sr, record)
        like_lr: Any = {name: getattr(lr, name) for name in ("shape", "axes", "pixel_size", "channel_names")}
        like_lr |= {"dtype": np.float32, "metadata": lr.metadata.of_other_values(), "overwrite": overwrite}
        with ExitStack() as files:
            writers = [files.enter_context(create_writer(path, **like_lr)) for path in (z_path, score_path, error_path)]
            figures = _write_maps(pair, writers, block_side)
    verdict = judge(figures)
    summary = restored.with_name(_stem(restored) + "_fidelity.json")
    content = {"source": str(Path(source).name), **asdict(verdict), **asdict(figures)}
    with written_atomically(summary) as part:
        part.write_text(json.dumps(content, indent=1))
    logger.info("%s: %s", restored.name, verdict.headline)
    return Fidelity(figures, verdict, z_path, score_path, error_path, summary)


def _write_maps(pair: _Pair, writers: Sequence[Writer], block_side: int | None) -> Figures:
    expected, spreads, strengths, scaling = _fitted(pair)
    limit = score_limit(math.prod(pair.lr.shape))
    sums, errors = Sums(), ErrorSums()
    for frames, core in pair.blocks(block_side):
        allow_stop()
        planes = pair.read(frames, pair.around(core, expected))
        z, scores, sizes = pair.scores(expected, spreads, core, *planes)
        predicted, scanned = pair.errors(scaling, expected, core, *planes)
        errors.add(predicted, scanned)
        for number, frame in enumerate(frames):
            inside = pair.inside(core)
            plane = np.ascontiguousarray(z[number][inside])
            error = np.abs(scanned[number] - predicted[number]) * np.float32(pair.grey_level(frame))
            for writer, pixels in zip(writers, (plane, scores[number][inside], error), strict=True):
                write_window(writer, pair.frames, frame, core, pixels)
            sums.add(plane)
            sums.add_structures(pair.structures(frame, core, scores[number], sizes[number], limit))
    figures = sums.figures(expected, spreads, strengths, _pixel_size_ratio(pair), limit)
    return replace(figures, squirrel=errors.figures(scaling), resolution=pair.resolutions())


def map_path(path: Path, name: str) -> Path:
    """Return the path of a map of an output: ``cell_fidelity.ome.tif`` for ``cell.ome.tif``; a TIFF for a PNG."""
    suffix = path.name[len(_stem(path)) :]
    return path.with_name(f"{_stem(path)}_{name}{'.tif' if suffix.lower() == '.png' else suffix}")


def _stem(path: Path) -> str:
    suffix = path.suffix if path.suffix.lower() in WRITTEN else ""
    stem = path.name.removesuffix(suffix)
    return stem[:-4] if stem.lower().endswith(".ome") else stem


@dataclass(frozen=True)
class _Pair:
    """A source and its restored image."""

    lr: LazyImage
    sr: LazyImage
    record: Record
    frames: Frames  # of the LR
    scales: tuple[Intensity, ...]  # of the LR's channels, which the SR shares
    downsample: Downsample

    @classmethod
    def of(cls, lr: LazyImage, sr: LazyImage, record: Record) -> _Pair:
        frames = frames_of(lr.axes, lr.shape, record.stack)
        shape = scaled_shape(lr.axes, lr.shape, frames.scale_by_axis(record.scale))
        if (sr.axes, sr.shape) != (lr.axes, shape):
            actual, expected = (" x ".join(map(str, sizes)) for sizes in (sr.shape, shape))
            raise InputError(
                f"{sr.path.name}: is {sr.axes} {actual}, but {lr.path.name} restored by these weights is {lr.axes} "
                f"{expected}; give the pair that belongs together"
            )
        crappifier = record.build_crappifier() if record.crappifier else None
        downsample = crappifier.downsample if isinstance(crappifier, Crappify) else Downsample(record.scale)
        return cls(lr, sr, record, frames, fit_image_intensity(lr, record.intensity, record.stack), downsample)

    def read(self, frames: range, window: Window) -> tuple[FloatArray, FloatArray]:
        """Grey levels ``(frames, Y, X)`` of the LR and of the downsampled SR, in a window and frames of one run."""
        along_z, along_y, along_x = factors(self.record.scale)
        first, last = frames.start, frames.stop
        if along_z > 1:
            start = first - first % self.frames.run
            first, last = max(first - 1, start), min(last + 1, start + self.frames.run)
        outer = widened(window, DOWNSAMPLING_REACH_PX, plane_size(self.lr))
        large = scaled_window(outer, along_y, along_x)
        as_they_are = [replace(scale, outlier=math.inf) for scale in self.scales]
        pixels = read_scaled(self.sr, range(first * along_z, last * along_z), large, as_they_are, self.record.stack)
        seen = np.asarray(self.downsample(pixels))
        rows, columns = inside(window, outer).slices()
        kept = slice(frames.start - first, frames.stop - first)
        lr = read_scaled(self.lr, frames, window, self.scales, self.record.stack)
        return lr * GREY_LEVELS, seen[kept, rows, columns] * GREY_LEVELS

    def blocks(self, side: int | None) -> Iterator[tuple[range, Window]]:
        volume = factors(self.record.scale)[0] > 1
        side, length = side or (VOLUME_BLOCK_SIDE_PX if volume else BLOCK_SIDE_PX), VOLUME_BLOCK_FRAMES if volume else 1
        height, width = plane_size(self.lr)
        for start in range(0, self.frames.count, self.frames.run):
            end = start + self.frames.run
            for first, y, x in product(range(start, end, length), range(0, height, side), range(0, width, side)):
                window = Window(y, x, min(side, height - y), min(side, width - x))
                yield range(first, min(first + length, end)), window

    def samples(self) -> list[tuple[int, Window]]:
        """Frames and windows spread over the image."""
        side = (SAMPLE_SIDE_PX, SAMPLE_SIDE_PX)
        return spread_windows(range(self.frames.count), plane_size(self.lr), side, SAMPLES)

    def around(self, core: Window, expected: Expectation) -> Window:
        """The window on which the scores of a block depend."""
        reach = PEAK_SIDE_PX + max(HALO + math.ceil(4 * expected.curve.blur), MAX_REACH_PX)
        return widened(core, reach, plane_size(self.lr))

    def scores(
        self, expected: Expectation, spreads: list[float], core: Window, lr: FloatArray, seen: FloatArray
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
        """Z-scores, structure scores and their sizes ``(frames, Y, X)``, with a margin of ``PEAK_SIDE_PX``."""
        z = expected.z_scores(lr, seen)
        scores, sizes = (np.stack(part) for part in zip(*(structure_scores(f, spreads) for f in z), strict=True))
        margin = widened(core, PEAK_SIDE_PX, plane_size(self.lr))
        rows, columns = inside(margin, self.around(core, expected)).slices()
        return z[:, rows, columns], scores[:, rows, columns], sizes[:, rows, columns]

    def errors(
        self, scaling: ResolutionScaling, expected: Expectation, core: Window, lr: FloatArray, seen: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The LR that the SR predicts and the LR itself ``(frames, Y, X)``, of a block."""
        rows, columns = inside(core, self.around(core, expected)).slices()
        return scaling.apply(seen)[:, rows, columns], lr[:, rows, columns]

    def grey_level(self, frame: int) -> float:
        """One of the 255 in grey levels of the file."""
        scale = self.scales[self.frames.channel(frame) if len(self.scales) > 1 else 0]
        return (scale.high - scale.low) / GREY_LEVELS

    def resolutions(self) -> dict[str, float | None]:
        """The finest period above the noise, in pixels of the LR and of the SR, in windows spread over each."""
        along_z, along_y, along_x = factors(self.record.scale)
        samples = self.samples()[:: SAMPLES // RESOLUTION_SAMPLES]
        lr = [self.read_alone(self.lr, range(frame, frame + 1), window) for frame, window in samples]
        sr = [
            self.read_alone(
                self.sr, range(frame * along_z, frame * along_z + 1), scaled_window(window, along_y, along_x)
            )
            for frame, window in samples
        ]
        found = {name: decorrelation_resolution(np.concatenate(planes)) for name, planes in (("lr", lr), ("sr", sr))}
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def read_alone(self, image: LazyImage, frames: range, window: Window) -> FloatArray:
        return read_scaled(image, frames, window, self.scales, self.record.stack)

    def inside(self, core: Window) -> tuple[slice, slice]:
        return inside(core, widened(core, PEAK_SIDE_PX, plane_size(self.lr))).slices()

    def structures(
        self, frame: int, core: Window, scores: FloatArray, sizes: npt.NDArray[np.intp], limit: float
    ) -> Iterator[Structure]:
        """Local maxima of a block's score beyond the limit."""
        height = np.abs(scores)
        rows, columns = self.inside(core)
        peaks = (height > limit) & (height == maximum_filter(height, PEAK_SIDE_PX))
        along_z, along_y, along_x = factors(self.record.scale)
        for y, x in np.argwhere(peaks[rows, columns]).tolist():
            peak = (y + rows.start, x + columns.start)
            yield Structure(
                frame=frame * along_z + along_z // 2,
                y=(core.y + y + 0.5) * along_y - 0.5,
                x=(core.x + x + 0.5) * along_x - 0.5,
                side=round(3.5 * SIGMAS[int(sizes[peak])] * max(along_y, along_x), 1),
                score=float(scores[peak]),
            )


def _fitted(pair: _Pair) -> tuple[Expectation, list[float], tuple[float, float] | None, ResolutionScaling]:
    """The image's expectation, the spreads of its smoothed z-scores, the training's range of noise, and its scaling."""
    windows = [pair.read(range(frame, frame + 1), window) for frame, window in pair.samples()]
    lr, seen = [real[0] for real, _ in windows], [downsampled[0] for _, downsampled in windows]
    spans = [scale.high - scale.low for scale in pair.scales]
    step = GREY_LEVELS / float(np.median(spans)) if pair.lr.dtype.kind in "iu" else 0.0
    crappifier = pair.record.build_crappifier() if pair.record.crappifier else None
    strengths = None
    if isinstance(crappifier, Crappify) and crappifier.noises:
        strengths = noise_range(crappifier.noises)
        expected = expectation(noise_curve(crappifier.noises), strengths, lr, seen, step)
    else:
        expected = expectation(own_curve(lr, seen), (0.0, math.inf), lr, seen, step)
    z = [expected.z_scores(*window) for window in zip(lr, seen, strict=True)]
    return expected, smoothed_spreads(z), strengths, fit_scaling(seen, lr)


def _pixel_size_ratio(pair: _Pair) -> float | None:
    """The LR's pixel size over that of the training's LR, along X."""
    trained, actual = pair.record.pixel_size.get("X"), pair.lr.pixel_size.get("X")
    return actual / (trained * factors(pair.record.scale)[2]) if trained and actual else None
