"""Evaluating weights: restore images with known ground truth, score them, and compare with what learns nothing."""

from __future__ import annotations

import csv
import json
import math
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from pssr2_monai.data.pairs import Sheet, check_pairs, sheets_of
from pssr2_monai.errors import InputError, UsageError, cell, check_folder, nearest
from pssr2_monai.evaluation.compare import Comparison, compare, scoring_scales
from pssr2_monai.evaluation.measures import METRICS, check_normalisation, chosen_metrics
from pssr2_monai.evaluation.report import NAMES, NOT_SHOWN, PICTURE_SIDE_PX, comparison_picture, page
from pssr2_monai.evaluation.scored_image import FREQUENCIES, ScoredImage, counted, mean_scores
from pssr2_monai.evaluation.verdict import difference, images_in_words, mean_interval, verdict
from pssr2_monai.images.axes import factors
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.masks import Mask, MaskLabels
from pssr2_monai.images.writer import written_atomically
from pssr2_monai.machine import default_device
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.progress import part_of_progress, report_progress
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.restore_file import FileRestorer
from pssr2_monai.training.preview import ImageCrappifier

ISOTROPY_TOLERANCE = 0.01
"""Relative difference of pixel sizes along Y and X up to which one resolution in nanometres is given."""
USED_OPTIONS = (
    "window",
    "overlap",
    "orientations",
    "precision",
    "backend",
    "device",
    "axes",
    "image",
)  # others are about files and processes


def evaluate(
    hr: str | Path,
    weights: str | Path,
    out: str | Path,
    options: RestoreOptions | None = None,
    *,
    lr: str | Path | None = None,
    seed: int = 0,
    normalise: str = "least_squares",
    pixel_size: float | None = None,
    pair_pattern: str | None = None,
    blind_filter: bool = True,
    metrics: str | Sequence[str] = "",
    masks: str | Path | None = None,
    include: int | str | Sequence[int] | None = None,
    exclude: int | str | Sequence[int] | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Compare weights with interpolation and a filter on images with known ground truth.

    What is scored are the files that ``restore`` writes for the LR images, in the grey levels of the HR files.

    Args:
        hr: folder of high-resolution images.
        weights: a ``model.pt`` of a training, or the name of bundled weights; see ``restore``.
        out: folder for ``report.html``, which stands alone, ``metrics.json``, ``metrics.csv`` and the pictures.
        options: how to restore; those of files and processes have no effect.
        lr: folder of their real low-resolution partners, of the same names; by default HR is crappified as in training.
        seed: of the crappifier and of the bootstrap.
        normalise: what comes before the metrics called fitted: ``least_squares`` (gain and offset) or ``pssr2``.
        pixel_size: micrometres of the HR pixels in Y and X, for files that do not state them.
        pair_pattern: regular expression whose group is what the names of partners have in common.
        blind_filter: also compare with variance-stabilised non-local means, whose strength follows from the noise of
            each plane, before bicubic interpolation; takes about a second for each megapixel of LR.
        metrics: further ones, separated by commas, or all: micro_ms3im, fsim, rse, rsp, decorrelation.
        masks: folder of masks of the HR images, with their names and sizes: only the pixels in them are scored.
        include: labels of the masks that are scored, separated by commas; by default all but 0.
        exclude: labels that are not scored, while all others are.
        keywords: single ones of those options, which take precedence.

    Returns:
        The content of ``metrics.json``: ``images`` (name, and the metrics by method), ``mean``, ``interval`` (95 % of
        the mean), ``scored`` (of how many images a mean is, if not of all: a constant image has no FRC), ``against``
        (the network's difference from each other method with interval and p), ``frc`` (mean curves against HR),
        ``verdict``, ``record`` and ``settings``. The scores of an image with several samples are their means; if there
        is a single image, its samples count as images, which ``settings`` states.

    Raises:
        InputError: folders without images, images without partners, weights that cannot be read, or a wrong option.

    Example:
        >>> result = evaluate("test", "run/model.pt", "evaluation")
        >>> assert 0 < result["mean"]["model"]["ssim"] < 1
    """
    options = _merge(options, keywords)
    _check_options(normalise, pixel_size, Path(out))
    chosen = {"seed": seed, "normalise": normalise, "blind_filter": blind_filter, "metrics": chosen_metrics(metrics)}
    chosen["mask"] = _mask_settings(masks, include, exclude)
    folders = {"hr": hr, "lr": lr, "masks": masks, "pattern": pair_pattern}
    return _evaluated(folders, weights, options, chosen, pixel_size, Path(out))


def _evaluated(
    folders: Mapping[str, Any],
    weights: str | Path,
    options: RestoreOptions,
    chosen: dict[str, Any],
    pixel_size: float | None,
    out: Path,
) -> dict[str, Any]:
    network, record = load_weights(weights, options.device or default_device())
    real_inputs = folders["lr"] is not None
    if not real_inputs and not record.crappifier:
        raise InputError(f"{weights}: was trained on real pairs and holds no crappifier; give the LR images with --lr")
    sheets = sheets_of(**folders)
    check_pairs(sheets, record.scale, options.axes, record.stack, options.image)
    settings = _settings(weights, record, real_inputs) | chosen
    pictures = _picture_paths(sheets, out / "pictures")
    images = _score_sheets(sheets, pictures, (network, record), options, settings, pixel_size)
    return _write(_summary(images, settings, record), pictures, out)


def table(result: Mapping[str, Any]) -> str:
    """Format the mean scores and the verdict, with its cautions, as text to print."""
    shown = ("psnr", "ssim", "ms_ssim", "frc_resolution")
    shown += tuple(name for name in result["settings"]["metrics"] if not METRICS[name].usual)
    titles = [f"{METRICS[name].label} ({METRICS[name].unit})".removesuffix(" ()") for name in shown]
    titles = [f"{title:>6}" for title in titles]  # as wide as a number
    rows = [f"{'':10}" + "".join(f"{title:>{len(title) + 3}}" for title in titles)]
    for method, values in result["mean"].items():
        cells = (
            f"{values[name]:{len(title) + 3}.{METRICS[name].digits}f}"
            for name, title in zip(shown, titles, strict=True)
        )
        rows.append(f"{method:10}" + "".join(cells))
    for method, counts in result["scored"].items():
        lacking = [f"{METRICS[name].label} of {counts[name]}" for name in shown if name in counts]
        rows += [f"{method}: {', '.join(lacking)} of {result['settings']['compared']}"] if lacking else []
    return "\n".join([*rows, "", result["verdict"]["headline"], *result["verdict"]["cautions"]])


def _merge(options: RestoreOptions | None, keywords: Mapping[str, Any]) -> RestoreOptions:
    for keyword in keywords:
        if keyword not in USED_OPTIONS:
            known = [
                *USED_OPTIONS,
                "lr",
                "seed",
                "normalise",
                "pixel_size",
                "pair_pattern",
                "blind_filter",
                "metrics",
                "masks",
            ]
            raise UsageError(f"evaluate: there is no option {keyword!r}{nearest(keyword, known)}")
    return replace(options or RestoreOptions(), **keywords)


def _check_options(normalise: str, pixel_size: float | None, out: Path) -> None:
    check_folder(out / "pictures")
    check_normalisation(normalise)
    if pixel_size is not None and not 0 < pixel_size < math.inf:
        raise InputError(f"pixel_size: {pixel_size} is not a size; give micrometres of the HR pixels, such as 0.004")


def _mask_settings(masks: str | Path | None, include: Any, exclude: Any) -> dict[str, Any] | None:
    labels = MaskLabels.of(include, exclude)
    labels.check(masks)
    return None if masks is None else {"folder": Path(masks).name, **asdict(labels)}


def _settings(weights: str | Path, record: Record, real_inputs: bool) -> dict[str, Any]:
    return {
        "weights": Path(weights).name,
        "scale": record.scale,
        "input": "real LR images" if real_inputs else "crappified HR images",
        "crappifier": None if real_inputs else record.crappifier,
        "data_range": "of the HR file: its dtype's for 8 bits, else p0.1 to p99.9 of its pixels (range of each image)",
    }


def _score_sheets(
    sheets: Sequence[Sheet],
    pictures: Mapping[str, Path],
    model: tuple[torch.nn.Module, Record],
    options: RestoreOptions,
    settings: Mapping[str, Any],
    pixel_size: float | None,
) -> list[ScoredImage]:
    """Restore and score every image, save the picture of its first sample, and report progress."""
    network, record = model
    inferer = options.inferer(record)
    crappifying = _crappifier_of(record, options) if sheets[0].image is None else None
    # The pixels that a decimating crappifier keeps are not in the middle of those that they represent.
    sampled = getattr(getattr(crappifying and crappifying.crappifier, "downsample", None), "mode", "bilinear")
    images = []
    for done, sheet in enumerate(tqdm(sheets, desc="evaluating", unit="image", disable=None)):
        with ExitStack() as files:
            folder = Path(files.enter_context(tempfile.TemporaryDirectory()))
            hr = files.enter_context(open_image(sheet.label, options.axes, options.image))
            if sheet.image is not None:
                lr = files.enter_context(open_image(sheet.image, options.axes, options.image))
            else:
                assert crappifying is not None
                crappifying.write(hr, folder / "lr.tif", crappifying.scales_of(hr), settings["seed"])
                lr = files.enter_context(open_image(folder / "lr.tif"))
            with part_of_progress(sheet.label.name, done / len(sheets), (done + 0.5) / len(sheets)):
                FileRestorer(network, record, inferer, quiet=True).restore(lr, folder / "sr.tif")
            sr = files.enter_context(open_image(folder / "sr.tif"))
            levels = scoring_scales(hr, record.stack)
            image = ScoredImage(
                name=sheet.label.name,
                pixel_size_nm=_pixel_size_nm(hr, lr if sheet.image else None, record, pixel_size),
                ranges=[(level.low, level.high) for level in levels],
            )
            mask = None
            if sheet.mask is not None:
                labels = MaskLabels.of(settings["mask"]["include"], settings["mask"]["exclude"])
                mask = Mask(files.enter_context(open_image(sheet.mask)), labels, record.stack)
            for comparison in compare(hr, lr, sr, record, levels, sampled, settings["blind_filter"], mask):
                if not image.samples:
                    _picture(comparison, image.pixel_size_nm).save(pictures[image.name])
                image.add(comparison, record, settings["normalise"], settings["metrics"])
        if not image.samples:
            raise InputError(
                f"{sheet.mask or image.name}: holds no pixel to score; check the mask, include and exclude"
            )
        images.append(image)
        report_progress(image.name, len(images) / len(sheets))
    return images


def _crappifier_of(record: Record, options: RestoreOptions) -> ImageCrappifier:
    return ImageCrappifier(
        record.build_crappifier(), record.scale, record.stack, options.axes, options.image, record.intensity
    )


def _summary(images: Sequence[ScoredImage], settings: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The content of ``metrics.json``."""
    single_file = len(images) == 1 and len(images[0].samples) > 1
    units = images[0].samples if single_file else [image.mean() for image in images]
    seed, methods, names = int(settings["seed"]), list(units[0]), settings["metrics"]
    columns = {method: {name: [unit[method][name] for unit in units] for name in names} for method in methods}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a frequency at which no image has a correlation
        curves = {
            method: np.nanmean([np.nanmean(i.curves[method], axis=0) for i in images if i.curves], axis=0).tolist()
            for method in methods
            if any(image.curves for image in images)
        }
    scored = {
        method: {name: int(counted(values).sum()) for name, values in metrics.items()}
        for method, metrics in columns.items()
    }
    result: dict[str, Any] = {
        "images": [image.described() for image in images],
        "mean": {method: mean_scores([unit[method] for unit in units]) for method in methods},
        "scored": {
            method: {name: count for name, count in counts.items() if count < len(units)}
            for method, counts in scored.items()
        },
        "interval": {
            method: {name: mean_interval(columns[method][name], seed) for name in names} for method in methods
        },
        "against": {
            method: {name: asdict(difference(columns["model"][name], columns[method][name], seed)) for name in names}
            for method in methods
            if method != "model"
        },
        "frc": {"frequency": FREQUENCIES.tolist(), "correlation": curves},
        "samples": units if single_file else [],
        "settings": {
            **settings,
            "compared": f"{len(units)} frames or blocks of one file" if single_file else images_in_words(len(units)),
        },
        "record": asdict(record),
    }
    result["verdict"] = asdict(verdict(result))
    return result


def _write(result: dict[str, Any], pictures: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the figures and the page, each of which appears when it is complete; ``metrics.json`` last."""
    finite = _finite(result)
    text = json.dumps(finite, indent=2, allow_nan=False)
    with written_atomically(out / "metrics.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        rows, names = csv.writer(file), finite["settings"]["metrics"]
        rows.writerow(["image", "samples", "method", *names])
        for image in finite["images"]:
            for method in finite["mean"]:
                figures = (image[method][name] for name in names)
                rows.writerow([cell(image["name"]), image["samples"], method, *figures])
    with written_atomically(out / "report.html") as part:
        part.write_text(page(finite, pictures), encoding="utf-8")
    with written_atomically(out / "metrics.json") as part:
        part.write_text(text, encoding="utf-8")
    return result


def _pixel_size_nm(hr: LazyImage, lr: LazyImage | None, record: Record, pixel_size: float | None) -> float | None:
    """Nanometres of an HR pixel: the user's, or the files' where the axes with restored detail have one size."""
    if pixel_size is not None:
        return 1000 * pixel_size
    scale = dict(zip("ZYX", factors(record.scale), strict=True))
    axes = "ZYX" if scale["Z"] > 1 else "YX"
    from_lr = {axis: size / scale[axis] for axis, size in lr.pixel_size.items() if axis in axes} if lr else {}
    sizes = [{**from_lr, **hr.pixel_size}.get(axis, math.nan) for axis in axes]
    return 1000 * float(np.mean(sizes)) if max(sizes) - min(sizes) <= ISOTROPY_TOLERANCE * min(sizes) else None


def _finite(value: Any) -> Any:
    """The value with None for numbers that JSON does not have, such as the PSNR of equal images."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _picture_paths(sheets: Sequence[Sheet], folder: Path) -> dict[str, Path]:
    """The picture file of each image, named without the image's suffix unless two images differ in that alone."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = Counter(sheet.label.stem for sheet in sheets)
    names = [sheet.label.stem if stems[sheet.label.stem] == 1 else sheet.label.name for sheet in sheets]
    return {sheet.label.name: folder / f"{name}.png" for sheet, name in zip(sheets, names, strict=True)}


def _picture(comparison: Comparison, pixel_size_nm: float | None) -> Image.Image:
    """The middle of the first frame of a sample; where frames were restored, of the middle cut along Z."""
    images = {"LR": comparison.lr}
    images |= {NAMES[method]: planes for method, planes in comparison.restored.items() if method not in NOT_SHOWN}
    images["HR"] = comparison.hr
    planes = {name: image[:, image.shape[1] // 2] if comparison.deeper else image[0] for name, image in images.items()}
    shapes = planes["LR"].shape, planes["HR"].shape
    return comparison_picture({name: _middle(plane, *shapes) for name, plane in planes.items()}, pixel_size_nm)


def _middle(plane: np.ndarray, lr_shape: Sequence[int], hr_shape: Sequence[int]) -> np.ndarray:
    """The middle of an LR or HR plane, of whole LR pixels and at most ``PICTURE_SIDE_PX`` HR pixels each way."""
    slices = []
    for size, lr_size, hr_size in zip(plane.shape, lr_shape, hr_shape, strict=True):
        side = min(PICTURE_SIDE_PX, hr_size) // (hr_size // lr_size)
        first = (lr_size - side) // 2
        pixels = size // lr_size
        slices.append(slice(first * pixels, (first + side) * pixels))
    return plane[tuple(slices)]
