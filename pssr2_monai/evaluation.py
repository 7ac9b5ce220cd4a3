"""Evaluating weights: restore what has a known answer, score it, and compare it with interpolation."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn.functional import interpolate
from tqdm import tqdm

from pssr2_monai.axes import central, frames_of, sample_centres
from pssr2_monai.errors import InputError
from pssr2_monai.intensity import Intensity
from pssr2_monai.io.image import LazyImage, open_image
from pssr2_monai.io.sheets import fit_image_intensity, plane_size, read_window
from pssr2_monai.pairs import check_pairs, sheets_of
from pssr2_monai.pictures import grey_window, labelled_panel
from pssr2_monai.record import Record, instantiate, load_weights
from pssr2_monai.restoring import SeamlessInferer, restore_frames
from pssr2_monai.tiles import Window

__all__ = ["Comparison", "compare", "evaluate", "score", "table", "upscale"]

METHODS = ("bilinear", "bicubic", "model")
PICTURE_SIDE = 384


def score(image: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """PSNR (dB) and SSIM of a plane against its target, both ``(Y, X)`` in [0, 1] with data range 1.

    SSIM has the Gaussian window of Wang et al. 2004 (sigma 1.5).
    """
    return {
        "psnr": float(peak_signal_noise_ratio(target, image, data_range=1.0)),
        "ssim": float(
            structural_similarity(
                target, image, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
        ),
    }


def upscale(planes: np.ndarray, scale: int, mode: str) -> np.ndarray:
    """Interpolated planes ``(frames, scale * Y, scale * X)``; ``bilinear`` or ``bicubic`` with PIL's kernels."""
    if scale == 1:
        return planes
    size = [side * scale for side in planes.shape[-2:]]
    enlarged: np.ndarray = interpolate(torch.from_numpy(planes)[None], size, mode=mode, antialias=True)[0].numpy()
    return enlarged


@dataclass(frozen=True)
class Comparison:
    """One sample seen by all methods.

    Attributes:
        lr: the input's central frames ``(frames, Y, X)``, as all images here in [0, 1].
        hr: the target ``(frames, scale * Y, scale * X)``.
        restored: by method, each of the target's shape and rounded to the grey levels of the file's dtype.
    """

    lr: np.ndarray
    hr: np.ndarray
    restored: Mapping[str, np.ndarray]

    def scores(self) -> dict[str, dict[str, float]]:
        """Mean PSNR and SSIM over the frames, by method."""
        return {
            method: _mean([score(plane, target) for plane, target in zip(planes, self.hr, strict=True)])
            for method, planes in self.restored.items()
        }


def compare(
    hr: LazyImage,
    lr: LazyImage | None,
    network: torch.nn.Module,
    record: Record,
    inferer: SeamlessInferer,
    seed: int = 0,
) -> Iterator[Comparison]:
    """Restores each sample of an image whose answer is known.

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
    lr_count, hr_count = record.n_frames
    scale, stack = record.scale, record.stack
    target_scale = fit_image_intensity(hr, record.intensity, stack)
    input_scale = target_scale if lr is None else fit_image_intensity(lr, record.intensity, stack)
    height, width = (side // scale * scale for side in plane_size(hr))
    frames = frames_of(hr.axes, hr.shape, stack)
    frames.check_n_frames(lr_count, hr.path.name)
    crappify = instantiate(record.crappifier) if lr is None else None
    device = next(network.parameters()).device
    for centre in sample_centres(frames, hr_count, slide=False, edges=hr_count == 1):
        wanted = frames.window(centre, lr_count)
        targets = target_scale.apply(read_window(hr, wanted, Window(0, 0, height, width), stack))
        if lr is None:
            inputs = _crappified(targets, crappify, target_scale, hr.dtype, [seed, *_identity(hr, centre)])
        else:
            inputs = input_scale.apply(read_window(lr, wanted, Window(0, 0, height // scale, width // scale), stack))
        inner = central(lr_count, hr_count)
        restored = {mode: upscale(inputs[inner], scale, mode) for mode in METHODS[:2]}
        restored["model"] = restore_frames(inputs, network, inferer, device)
        rounded = {name: target_scale.apply(target_scale.cast(each, hr.dtype)) for name, each in restored.items()}
        yield Comparison(inputs[inner], targets[inner], rounded)


def evaluate(
    hr: str | Path,
    weights: str | Path,
    out: str | Path,
    *,
    lr: str | Path | None = None,
    seed: int = 0,
    window: int = 256,
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
        window: side of the windows in LR pixels.
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
    inferer, out = SeamlessInferer(window, precision=precision), Path(out)
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
    """The middle of the first frame of a sample, by all methods in the grey window of the target."""
    hr, scale = comparison.hr[0], comparison.hr.shape[-1] // comparison.lr.shape[-1]
    side_y, side_x = (min(PICTURE_SIDE, side) // scale * scale for side in hr.shape)
    top, left = ((whole - side) // 2 // scale * scale for whole, side in zip(hr.shape, (side_y, side_x), strict=True))
    place = Window(top, left, side_y, side_x).slices()
    lr_place = Window(top // scale, left // scale, side_y // scale, side_x // scale).slices()
    shown = {
        "LR": comparison.lr[0][lr_place],
        "bicubic": comparison.restored["bicubic"][0][place],
        "restored": comparison.restored["model"][0][place],
        "HR": hr[place],
    }
    labelled_panel(shown, *grey_window(shown["HR"])).save(path)
