"""The files of a calibration: the preset with its ranges, the report and the picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import pssr2_monai
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.crappify import NOISES
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.images.writer import written_atomically

MIN_UNEVENNESS = 0.1  # relative scatter of the noise's strength from image to image, at least
MAX_SPREAD = 0.5  # half width of a parameter's range, as a share of the parameter, at most


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration, and its files."""

    model: tuple[str, ...]  # names of the noises in their order
    values: dict[str, float]  # the parameter of each, in grey levels
    errors: dict[str, float]  # their standard errors
    noises: list[dict[str, Any]]  # of the preset, each with its ranges
    contrast: dict[str, list[float]] = field(default_factory=dict)  # and brightness, of the preset; empty without HR
    gain: tuple[float, float, float] | None = None  # least, median and greatest from HR to LR; None without HR images
    offset: tuple[float, float, float] | None = None  # likewise, grey levels added
    black: float = 0.0  # grey level of the images without signal, which Poisson noise leaves out
    before: float | None = None  # distance from the real noise to the default crappifier's; None without HR images
    after: float | None = None  # likewise, to the calibrated crappifier's
    trials: int = 0  # evaluations of the search
    seconds: float = 0.0  # duration
    notes: list[str] = field(default_factory=list)  # advice for the user
    files: tuple[Path, ...] = ()  # the preset, the report and the picture


def noises_of_preset(
    model: NoiseModel,
    values: Mapping[str, float],
    errors: Mapping[str, float],
    black: float,
    spread: float | None,
    unevenness: float | None,
) -> list[dict[str, Any]]:
    """Return the noises of a preset. Between two changes of the offset lies what leaves the black level out.

    ``spread`` is how far the ranges reach to either side, as a share; None for as far as the images differ.
    """
    share = max(MIN_UNEVENNESS, unevenness or 0.0) if spread is None else spread
    entries = []
    for number, name in enumerate(model.steps):
        entry = noise_entry(name, values.get(name, 0.0), errors.get(name, 0.0), share)
        if number == model.offset_step and black:
            entry["gain" if name == "gaussian" else "offset"] = _round(black)
        entries.append(entry)
    entries = [entry for entry in entries if entry != noise_entry("detector")]
    return [noise_entry("detector") | {"offset": _round(-black)}, *entries] if black else entries


def contrast_of_preset(gains: Sequence[float], offsets: Sequence[float]) -> dict[str, list[float]]:
    """Return what HR images, targets and inputs alike, are brought to the contrast of LR images by.

    So that restored values lie on the scale of the scan. The ranges are where the middle four fifths of the images lie,
    and a tenth of the contrast wider.
    """
    (least, greatest), (lowest, highest) = np.percentile(gains, [10, 90]), np.percentile(offsets, [10, 90])
    return {
        "contrast": [_round(least * (1 - MIN_UNEVENNESS)), _round(greatest * (1 + MIN_UNEVENNESS))],
        "brightness": [_round(end / GREY_LEVELS) for end in (lowest, highest)],
    }


def noise_entry(name: str, value: float = 0.0, error: float = 0.0, share: float = 0.0) -> dict[str, Any]:
    """Return one noise of a preset, with a range around its parameter: a share of it, and its standard error.

    The standard error counts as far as it is smaller than the share: where two noises are hard to tell apart, one's
    error is the other's gain, and drawing both that freely would make the noise stronger on the whole.
    """
    noise = NOISES[name]
    entry: dict[str, Any] = {"_target_": noise.target()}
    if noise.fitting:
        least, greatest = noise.limits[noise.strength]
        half = value * min(MAX_SPREAD, math.hypot(share, min(share, error / value))) if value > 0 else 0.0
        ends = max(least, value - half), min(greatest, value + half)
        entry[noise.strength] = [_round(end) for end in ends] if half > 0 else _round(value)
    return entry


def _round(value: float) -> float:
    return float(f"{value:.4g}") if abs(value) >= 1e-4 else 0.0


def preset_of(
    calibration: Calibration, scale: int | None, downsample: str | None, intensity: str | None
) -> dict[str, Any]:
    preset: dict[str, Any] = {} if scale is None else {"scale": scale}
    preset |= calibration.contrast
    if intensity is not None:
        preset["intensity#mode"] = intensity
    if downsample is not None:
        preset["crappifier#downsample"] = downsample
    return preset | {"crappifier#noises": calibration.noises}


def files_of(target: Path) -> tuple[Path, ...]:
    return target, target.with_name(f"{target.stem}.report.json"), target.with_name(f"{target.stem}.png")


def write_files(
    calibration: Calibration,
    scale: int | None,
    downsample: str | None,
    intensity: str | None,
    details: Mapping[str, Any],
    picture: Image.Image,
) -> None:
    """Write report (with its details), picture and preset, which appear in this order when all are complete."""
    preset = preset_of(calibration, scale, downsample, intensity)
    report = {
        "preset": calibration.files[0].name,
        "scale": scale,
        "model": "+".join(calibration.model),
        "estimates": {
            name: {
                "parameter": NOISES[name].strength,
                "value": calibration.values[name],
                "standard_error": calibration.errors[name],
            }
            for name in calibration.model
        },
        "gain": calibration.gain,
        "offset": calibration.offset,
        "black": calibration.black,
        "distance": {"default": calibration.before, "calibrated": calibration.after},
        "trials": calibration.trials,
        "seconds": calibration.seconds,
        "notes": calibration.notes,
        "versions": {
            "pssr2_monai": pssr2_monai.__version__,
            **{name: version(name) for name in ("monai", "torch", "scikit-optimize", "scikit-learn")},
        },
        **details,
    }
    target, report_file, picture_file = calibration.files
    target.parent.mkdir(parents=True, exist_ok=True)
    with (  # left in the reverse order
        written_atomically(target) as preset_part,
        written_atomically(picture_file) as picture_part,
        written_atomically(report_file) as report_part,
    ):
        report_part.write_text(json.dumps(report, indent=2), encoding="utf-8")
        picture.save(picture_part, format="PNG")
        preset_part.write_text(json.dumps(preset, indent=4) + "\n", encoding="utf-8")
