"""Evaluating weights: restore what has a known answer, score it, and compare it with interpolation."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from pssr2_monai.axes import central, factors, frames_of, is_volume, sample_centres
from pssr2_monai.errors import InputError
from pssr2_monai.file_restoring import restore_frames
from pssr2_monai.inferer import SeamlessInferer
from pssr2_monai.intensity import Intensity
from pssr2_monai.interpolation import INTERPOLATIONS, upscale
from pssr2_monai.io.image import LazyImage, open_image
from pssr2_monai.io.sheets import fit_image_intensity, plane_size, read_window
from pssr2_monai.pairs import check_pairs, sheets_of
from pssr2_monai.pictures import grey_window, labelled_panel
from pssr2_monai.record import Record, instantiate, load_weights
from pssr2_monai.tiles import Window

__all__ = ["Comparison", "compare", "evaluate", "score", "table"]

METHODS = (*INTERPOLATIONS, "model")
PICTURE_SIDE = 384


def score(image: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """PSNR (dB) and SSIM of an image against its target, both ``(frames, Y, X)`` in [0, 1] with data range 1.

    PSNR is of all pixels together: of a volume of which every fourth slice is given, those slices alone would be
    infinite. SSIM has the Gaussian window of Wang et al. 2004 (sigma 1.5) and is the mean over the frames.
    """
    similarities = [
        structural_similarity(own, sr, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for sr, own in zip(image, target, strict=True)
    ]
    return {
        "psnr": float(peak_signal_noise_ratio(target, image, data_range=1.0)),
        "ssim": float(np.mean(similarities)),
    }


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

    def scores(self) -> dict[str, dict[str, float]]:
        """PSNR and SSIM by method; see ``score``."""
        return {method: score(planes, self.hr) for method, planes in self.restored.items()}


def compare(
    hr: LazyImage,
    lr: LazyImage | None,
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer,
    seed: int = 0,
) -> Iterator[Comparison]:
    """Restores each sample of an image whose answer is known; of a volume each run of frames at once.

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
    along_run, along_y, along_x = factors(scale)
    target_scale = fit_image_intensity(hr, record.intensity, stack)
    input_scale = target_scale if lr is None else fit_image_intensity(lr, record.intensity, stack)
    height, width = plane_size(hr)
    hr_window = Window(0, 0, height // along_y * along_y, width // along_x * along_x)
    lr_window = Window(0, 0, height // along_y, width // along_x)
    crappify = instantiate(record.crappifier) if lr is None else None
    # A decimating crappifier keeps pixels that lie a little aside of the middle of those they stand for.
    sampled = "bilinear" if crappify is None else getattr(getattr(crappify, "downsample", None), "mode", "bilinear")
    device = next(network.parameters()).device
    for first, wanted, inner in _samples(hr, record):
        targets = target_scale.apply(read_window(hr, wanted, hr_window, stack))
        if lr is None:
            inputs = _crappified(targets, crappify, target_scale, hr.dtype, [seed, *_identity(hr, first)])
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


def evaluate(
    hr: str | Path,
    weights: str | Path,
    out: str | Path,
    *,
    lr: str | Path | None = None,
    seed: int = 0,
    window: int | None = None,
    precision: str = "auto",
    device: str | None = None,
    axes: str | None = None,
    pair_pattern: str | None = None,
) -> dict[str, Any]:
    """Scores weights on images whose answer is known, beside bilinear and bicubic interpolation.

    Args:
        hr: folder of high-resolution images.
        weights: a ``model.pt`` with its record.
        out: folder for ``metrics.json`` and the pictures LR | bicubic | restored | HR.
        lr: folder of their real low-resolution partners of the same names; without it the HR images are crappified
            as in training.
        seed: of the crappifier's draws.
        window: side of the windows in LR pixels; by default 256, of volumes 96.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: ``cpu``, ``cuda`` and so on; by default a GPU where there is one.
        axes: axes of files that do not tell their own.
        pair_pattern: regular expression whose group is what the names of partners have in common.

    Returns:
        What ``metrics.json`` holds: ``images`` (name, and PSNR and SSIM by method), ``mean``, ``settings``.

    Raises:
        InputError: folders without images, images without partners, or weights that cannot be read.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    network, record = load_weights(weights, device)
    if lr is None and not record.crappifier:
        raise InputError(f"{weights}: was trained on real pairs and holds no crappifier; give the LR images with --lr")
    sheets = sheets_of(hr, lr, pattern=pair_pattern)
    check_pairs(sheets, record.scale, axes, record.stack)
    inferer, out = SeamlessInferer(window, precision=precision, volume=is_volume(record.scale)), Path(out)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    images = []
    for sheet in tqdm(sheets, desc="evaluating", unit="image", disable=None):
        scores = []
        with ExitStack() as opened:
            hr_image = opened.enter_context(open_image(sheet.label, axes))
            lr_image = opened.enter_context(open_image(sheet.image, axes)) if sheet.image else None
            for number, comparison in enumerate(compare(hr_image, lr_image, network, record, inferer, seed)):
                scores.append(comparison.scores())
                if number == 0:
                    _save_picture(comparison, out / "pictures" / f"{sheet.label.stem}.png")
        means = {method: _mean([each[method] for each in scores]) for method in METHODS}
        images.append({"name": sheet.label.name, **means})
    result = {
        "images": images,
        "mean": {method: _mean([image[method] for image in images]) for method in METHODS},  # type: ignore[misc]
        "settings": {
            "weights": Path(weights).name,
            "scale": record.scale,
            "input": "real LR images" if lr is not None else "crappified HR images",
            "crappifier": record.crappifier if lr is None else None,
            "seed": seed,
            "data_range": "1.0 after scaling to [0, 1]; nothing else is normalised",
        },
    }
    beside = out / "metrics.json.part"
    beside.write_text(json.dumps(_finite(result), indent=2, allow_nan=False), encoding="utf-8")
    beside.replace(out / "metrics.json")
    return result


def table(result: Mapping[str, Any]) -> str:
    """The mean scores as a table to print."""
    rows = [f"{'':10}{'PSNR (dB)':>10}{'SSIM':>9}"]
    rows += [f"{method:10}{each['psnr']:10.2f}{each['ssim']:9.4f}" for method, each in result["mean"].items()]
    return "\n".join(rows)


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


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for: the PSNR of equal images."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(scores: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}


def _save_picture(comparison: Comparison, path: Path) -> None:
    """The middle of the first frame of a sample, by all methods in the grey window of the target.

    Of a volume it is the cut along Z through the middle, where what is gained along Z shows, or the first frame.
    """
    images = {"LR": comparison.lr, "bicubic": comparison.restored["bicubic"], "restored": comparison.restored["model"]}
    images["HR"] = comparison.hr
    deeper = comparison.hr.shape[0] > comparison.lr.shape[0]
    cuts = {name: image[:, image.shape[1] // 2] if deeper else image[0] for name, image in images.items()}
    shown = {name: _middle(cut, cuts["LR"].shape, cuts["HR"].shape) for name, cut in cuts.items()}
    labelled_panel(shown, *grey_window(shown["HR"])).save(path)


def _middle(image: np.ndarray, lr_shape: Sequence[int], hr_shape: Sequence[int]) -> np.ndarray:
    """What of an LR or HR image lies in the middle of the plane, at most ``PICTURE_SIDE`` HR pixels each way."""
    place = []
    for size, lr_size, hr_size in zip(image.shape, lr_shape, hr_shape, strict=True):
        scale = hr_size // lr_size
        side = min(PICTURE_SIDE, hr_size) // scale
        first = (lr_size - side) // 2
        own = size // lr_size
        place.append(slice(first * own, (first + side) * own))
    return image[tuple(place)]
