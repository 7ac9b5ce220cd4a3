"""Evaluating weights: restore what has a known answer, score it, and compare it with interpolation."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from pssr2_monai.data.pairs import Sheet, check_pairs, sheets_of
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import INTERPOLATIONS, METHODS, Comparison, compare
from pssr2_monai.evaluation.fourier_ring_correlation import LEAST_SIDE, ring_correlation, single_image_correlation
from pssr2_monai.evaluation.measures import METRICS, check_normalisation
from pssr2_monai.evaluation.report import PICTURE_SIDE_PX, comparison_picture, page
from pssr2_monai.evaluation.verdict import difference, images_in_words, mean_interval, verdict
from pssr2_monai.images.axes import factors, is_volume
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.writer import written_atomically
from pssr2_monai.machine import default_device
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.progress import tell
from pssr2_monai.restoration.inferer import SeamlessInferer

FREQUENCIES = np.linspace(1 / 128, 0.5, 64)
"""Where the curves of Fourier ring correlation are kept, in periods per HR pixel."""
ISOTROPIC = 0.01
"""Y and X whose pixels differ by no more have one resolution in nanometres."""
Scores = dict[str, dict[str, float]]


@dataclass
class _Scored:
    """What is kept of one image: no pixels, so that any number of images may be evaluated."""

    name: str
    pixel_size_nm: float | None
    samples: list[Scores] = field(default_factory=list)
    curves: dict[str, list[np.ndarray]] = field(default_factory=dict)
    alone: dict[str, list[float]] = field(default_factory=dict)

    def mean(self) -> Scores:
        return {method: _mean([each[method] for each in self.samples]) for method in METHODS}


def evaluate(
    hr: str | Path,
    weights: str | Path,
    out: str | Path,
    *,
    lr: str | Path | None = None,
    seed: int = 0,
    normalise: str = "least_squares",
    pixel_size: float | None = None,
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
        out: folder for ``report.html``, which stands alone, ``metrics.json``, ``metrics.csv`` and the pictures
            LR | bicubic | restored | HR | error.
        lr: folder of their real low-resolution partners of the same names; without it the HR images are crappified
            as in training.
        seed: of the crappifier's draws and of the bootstrap.
        normalise: what is done before the fitted metrics: ``least_squares`` (gain and offset) or ``pssr2``.
        pixel_size: micrometres of the HR pixels in Y and X, for files that do not tell; resolutions are then given in
            nanometres, too.
        window: side of the windows in LR pixels; by default 256, of volumes 96.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: ``cpu``, ``cuda`` and so on; by default a GPU where there is one.
        axes: axes of files that do not tell their own.
        pair_pattern: regular expression whose group is what the names of partners have in common.

    Returns:
        What ``metrics.json`` holds: ``images`` (name, and the metrics by method), ``mean``, ``interval`` (95 % of the
        mean), ``against`` (the network's difference from each interpolation with interval and p), ``frc`` (mean
        curves against the HR images), ``verdict``, ``record`` and ``settings``. Of an image with several samples each
        score is their mean; a single image's samples are counted as images are, which ``settings`` says.

    Raises:
        InputError: folders without images, images without partners, weights that cannot be read, or a wrong option.

    Example:
        >>> result = evaluate("test", "run/model.pt", "evaluation")
        >>> [name for name in result["mean"]]
        ['bilinear', 'bicubic', 'model']
        >>> 0 < result["mean"]["model"]["ssim"] < 1
        True
    """
    check_normalisation(normalise)
    if pixel_size is not None and not 0 < pixel_size < math.inf:
        raise InputError(f"pixel_size: {pixel_size} is no size; give micrometres of the HR pixels, such as 0.004")
    network, record = load_weights(weights, device or default_device())
    if lr is None and not record.crappifier:
        raise InputError(f"{weights}: was trained on real pairs and holds no crappifier; give the LR images with --lr")
    sheets = sheets_of(hr, lr, pattern=pair_pattern)
    check_pairs(sheets, record.scale, axes, record.stack)
    inferer, out = SeamlessInferer(window, precision=precision, volume=is_volume(record.scale)), Path(out)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    pictures = _picture_paths(sheets, out / "pictures")
    images = []
    for done, sheet in enumerate(tqdm(sheets, desc="evaluating", unit="image", disable=None)):
        with ExitStack() as opened:
            hr_image = opened.enter_context(open_image(sheet.label, axes))
            lr_image = opened.enter_context(open_image(sheet.image, axes)) if sheet.image else None
            scored = _Scored(sheet.label.name, _pixel_size_nm(hr_image, lr_image, record, pixel_size))
            for number, comparison in enumerate(compare(hr_image, lr_image, network, record, inferer, seed)):
                tell(scored.name, done / len(sheets))
                _add(scored, comparison, record, normalise)
                if number == 0:
                    _picture(comparison, scored.pixel_size_nm).save(pictures[scored.name])
        images.append(scored)
        tell(scored.name, len(images) / len(sheets))
    settings = {
        "weights": Path(weights).name,
        "scale": record.scale,
        "input": "real LR images" if lr is not None else "crappified HR images",
        "crappifier": record.crappifier if lr is None else None,
        "seed": seed,
        "data_range": "1.0 after scaling to [0, 1]; nothing else is normalised but for the fitted metrics",
        "normalise": normalise,
    }
    result = _summary(images, settings, record)
    _write(result, pictures, out)
    return result


def table(result: Mapping[str, Any]) -> str:
    """The verdict and the mean scores as text to print."""
    shown = ("psnr", "ssim", "ms_ssim", "frc_resolution")
    words = [f"{METRICS[name].label} ({METRICS[name].unit})".removesuffix(" ()") for name in shown]
    rows = [f"{'':10}" + "".join(f"{word:>{len(word) + 3}}" for word in words)]
    for method, each in result["mean"].items():
        cells = (
            f"{each[name]:{len(word) + 3}.{METRICS[name].digits}f}" for name, word in zip(shown, words, strict=True)
        )
        rows.append(f"{method:10}" + "".join(cells))
    return "\n".join([*rows, "", result["verdict"]["headline"]])


def _add(scored: _Scored, comparison: Comparison, record: Record, normalise: str) -> None:
    """Scores a sample; its Fourier ring correlation with the target, and that of each single image."""
    scored.samples.append(comparison.scores(normalise))
    target = comparison.cuts(comparison.hr)
    if min(target.shape[-2:]) >= LEAST_SIDE:
        for method, planes in comparison.restored.items():
            curve = ring_correlation(comparison.cuts(planes), target)
            scored.curves.setdefault(method, []).append(curve.at(FREQUENCIES))
    # A single image tells its resolution only where it is finely sampled, as an LR image that is to be enlarged is not.
    own = {"hr": target} | ({"lr": comparison.lr} if max(factors(record.scale)) == 1 else {})
    for name, planes in own.items():
        if min(planes.shape[-2:]) >= 2 * LEAST_SIDE:
            scored.alone.setdefault(name, []).append(single_image_correlation(planes).resolution())


def _summary(images: Sequence[_Scored], settings: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """All figures of an evaluation."""
    alone = len(images) == 1 and len(images[0].samples) > 1
    units = images[0].samples if alone else [image.mean() for image in images]
    seed = int(settings["seed"])
    columns = {method: {name: [unit[method][name] for unit in units] for name in METRICS} for method in METHODS}
    against = {
        method: {name: asdict(difference(columns["model"][name], columns[method][name], seed)) for name in METRICS}
        for method in INTERPOLATIONS
    }
    described = [
        {
            "name": image.name,
            "samples": len(image.samples),
            "pixel_size_nm": image.pixel_size_nm,
            "single_image_resolution": {name: float(np.mean(each)) for name, each in image.alone.items()},
            **image.mean(),
        }
        for image in images
    ]
    curves = {
        method: np.mean([np.mean(image.curves[method], axis=0) for image in images if method in image.curves], axis=0)
        for method in METHODS
        if any(method in image.curves for image in images)
    }
    result: dict[str, Any] = {
        "images": described,
        "mean": {method: _mean([unit[method] for unit in units]) for method in METHODS},
        "interval": {
            method: {name: mean_interval(columns[method][name], seed) for name in METRICS} for method in METHODS
        },
        "against": against,
        "frc": {
            "frequency": FREQUENCIES.tolist(),
            "correlation": {method: curve.tolist() for method, curve in curves.items()},
        },
        "samples": units if alone else [],
        "settings": {
            **settings,
            "compared": f"{len(units)} frames or blocks of one file" if alone else images_in_words(len(units)),
        },
        "record": asdict(record),
    }
    result["verdict"] = asdict(verdict(result))
    return result


def _write(result: Mapping[str, Any], pictures: Mapping[str, Path], out: Path) -> None:
    """Write the figures and the page, each of which appears when it is complete; ``metrics.json`` last."""
    finite = _finite(result)
    text = json.dumps(finite, indent=2, allow_nan=False)
    with written_atomically(out / "metrics.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "samples", "method", *METRICS])
        for image in finite["images"]:
            for method in METHODS:
                rows.writerow([image["name"], image["samples"], method, *(image[method][name] for name in METRICS)])
    with written_atomically(out / "report.html") as part:
        part.write_text(page(finite, pictures), encoding="utf-8")
    with written_atomically(out / "metrics.json") as part:
        part.write_text(text, encoding="utf-8")


def _pixel_size_nm(hr: LazyImage, lr: LazyImage | None, record: Record, given: float | None) -> float | None:
    """Nanometres of an HR pixel where the user or a file tells them and they are the same along Y and X, and along Z
    where that is restored."""
    if given is not None:
        return 1000 * given
    along = dict(zip("ZYX", factors(record.scale), strict=True))
    axes = "ZYX" if along["Z"] > 1 else "YX"
    of_lr = {axis: size / along[axis] for axis, size in lr.pixel_size.items() if axis in axes} if lr else {}
    sizes = [{**of_lr, **hr.pixel_size}.get(axis, math.nan) for axis in axes]
    return 1000 * float(np.mean(sizes)) if max(sizes) - min(sizes) <= ISOTROPIC * min(sizes) else None


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for: the PSNR of equal images."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(scores: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}


def _picture_paths(sheets: Sequence[Sheet], folder: Path) -> dict[str, Path]:
    """By image name its picture: of the name without suffix, or with it where two images differ in that alone."""
    stems = Counter(sheet.label.stem for sheet in sheets)
    names = [sheet.label.stem if stems[sheet.label.stem] == 1 else sheet.label.name for sheet in sheets]
    return {sheet.label.name: folder / f"{name}.png" for sheet, name in zip(sheets, names, strict=True)}


def _picture(comparison: Comparison, pixel_size_nm: float | None) -> Image.Image:
    """The middle of the first frame of a sample, by all methods in the grey window of the target.

    Of a volume it is the cut along Z through the middle, where what is gained along Z shows, or the first frame.
    """
    images = {"LR": comparison.lr, "bicubic": comparison.restored["bicubic"], "restored": comparison.restored["model"]}
    images["HR"] = comparison.hr
    cuts = {name: image[:, image.shape[1] // 2] if comparison.deeper else image[0] for name, image in images.items()}
    middles = {name: _middle(cut, cuts["LR"].shape, cuts["HR"].shape) for name, cut in cuts.items()}
    return comparison_picture(middles, pixel_size_nm)


def _middle(image: np.ndarray, lr_shape: Sequence[int], hr_shape: Sequence[int]) -> np.ndarray:
    """What of an LR or HR image lies in the middle of the plane, at most ``PICTURE_SIDE_PX`` HR pixels each way."""
    place = []
    for size, lr_size, hr_size in zip(image.shape, lr_shape, hr_shape, strict=True):
        scale = hr_size // lr_size
        side = min(PICTURE_SIDE_PX, hr_size) // scale
        first = (lr_size - side) // 2
        own = size // lr_size
        place.append(slice(first * own, (first + side) * own))
    return image[tuple(place)]
