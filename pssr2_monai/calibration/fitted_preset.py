"""The files of a calibration: the preset with its ranges, the report and the picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import pssr2_monai
from pssr2_monai.calibration.model_choice import Deviation
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.crappify import NOISES
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.images.writer import written_atomically

MIN_UNEVENNESS = 0.1  # relative scatter of the noise's strength from image to image, at least
MAX_SPREAD = 0.5  # half width of a parameter's range, as a share of the parameter, that can be asked for
LOG_RATIO = 3.0  # upper over lower end of a range, from which on it is drawn evenly in the logarithm
MAX_FACTOR = 5.0  # by which noise is weaker or stronger than the fitted at the ends of its range, at most
FARTHEST = 100.0  # beyond black or white, by which a range counts as endless
Span = tuple[float, float]  # factors that lead from a parameter to the ends of its range


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration, and its files."""

    model: tuple[str, ...]  # names of the noises in their order
    values: dict[str, float]  # the parameters, in grey levels and pixels: by noise, others than its strength by both
    errors: dict[str, float]  # their standard errors
    noises: list[dict[str, Any]]  # of the preset, each with its ranges
    contrast: dict[str, list[float]] = field(default_factory=dict)  # and brightness, of the preset; empty without HR
    gain: tuple[float, float, float] | None = None  # least, median and greatest from HR to LR; None without HR images
    offset: tuple[float, float, float] | None = None  # likewise, grey levels added
    clip: bool | dict[str, Any] = True  # where the range of the LR images' detector ends; see ``Crappify``
    black: float = 0.0  # grey level of the images without signal, which Poisson noise leaves out
    before: float = 0.0  # distance from the real noise to the default crappifier's; without HR images to none at all
    after: float = 0.0  # likewise, to the calibrated crappifier's
    trials: int = 0  # evaluations of the search
    deviation: Deviation | None = None  # of the calibrated noise from the real, and what sampling makes of it
    seconds: float = 0.0  # duration
    notes: list[str] = field(default_factory=list)  # advice for the user
    files: tuple[Path, ...] = ()  # the preset, the report and the picture
    paired: bool = True  # whether there were HR partners

    @property
    def rival(self) -> str:
        return "with the default crappifier" if self.paired else "without any noise"


def span_of(share: float) -> Span:
    """Return the span of a relative scatter: to either side, or by factors where that would reach far down."""
    return (1 - share, 1 + share) if share <= MAX_SPREAD else (1 / (1 + share), 1 + share)


def noises_of_preset(
    model: NoiseModel,
    values: Mapping[str, float],
    errors: Mapping[str, float],
    black: float,
    strengths: Mapping[str, Span | list[float]],
    share: float,
) -> list[dict[str, Any]]:
    """Return the noises of a preset. Between two changes of the offset lies what leaves the black level out.

    ``strengths`` are the spans of the ranges of what noises of every pixel are strong by, or lists of values that are
    drawn together; the ranges of others reach by ``share`` to either side.
    """
    entries = []
    for number, name in enumerate(model.steps):
        entry: dict[str, Any] = {"_target_": NOISES[name].target()}
        for unknown in model.unknowns:
            if unknown.noise == name:
                span = strengths.get(unknown.key, span_of(share))
                value, error = values[unknown.key], errors[unknown.key]
                entry[unknown.parameter] = range_of_preset(value, error, span, unknown.limits)
        if number == model.offset_step and black:
            entry["gain" if name == "gaussian" else "offset"] = _round(black)
        entries.append(entry)
    detector = {"_target_": NOISES["detector"].target()}
    entries = [entry for entry in entries if entry != detector]
    return [detector | {"offset": _round(-black)}, *entries] if black else entries


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


def clip_of_preset(beyond: Sequence[tuple[float, float]]) -> bool | dict[str, Any]:
    """Return where to clip, of how far detectors go below black and above white; False where none ends.

    Those of several scans, from the least noise to the most, are drawn together with their noise: dim scans have much
    of it, and use a small part of the range.
    """
    if not np.isfinite(beyond).any():
        return False
    below, above = np.clip(beyond, 0, FARTHEST).T.tolist()
    ends = {"below": [_round(value) for value in below], "above": [_round(value) for value in above]}
    return {name: values[0] if len(set(values)) == 1 else {"together": values} for name, values in ends.items()}


def range_of_preset(value: float, error: float, span: Span | list[float], limits: tuple[float, float]) -> Any:
    """Return a parameter of a preset: values drawn together, a number, or a range that its standard error widens.

    The standard error counts as far as it is smaller than the span: where two noises are hard to tell apart, one's
    error is the other's gain, and drawing both that freely would make the noise stronger on the whole.
    """
    if isinstance(span, list):
        return {"together": [_round(min(max(drawn, limits[0]), limits[1])) for drawn in span]}
    if value <= 0 or span == (1.0, 1.0):
        return _round(value)
    low, high = (1 + math.copysign(math.hypot(end - 1, min(abs(end - 1), error / value)), end - 1) for end in span)
    low, high = max(low, 1 / MAX_FACTOR, limits[0] / value), min(high, MAX_FACTOR, limits[1] / value)
    ends = [_round(value * low), _round(value * high)]
    return {"log": ends} if high > LOG_RATIO * low and ends[0] > 0 else ends


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
    return preset | {"crappifier#clip": calibration.clip, "crappifier#noises": calibration.noises}


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
    preset, deviation = preset_of(calibration, scale, downsample, intensity), calibration.deviation
    report = {
        "preset": calibration.files[0].name,
        "scale": scale,
        "model": "+".join(calibration.model),
        "estimates": {
            unknown.key: {
                "parameter": unknown.parameter,
                "value": calibration.values[unknown.key],
                "standard_error": calibration.errors[unknown.key],
            }
            for unknown in NoiseModel(calibration.model).unknowns
        },
        "gain": calibration.gain,
        "offset": calibration.offset,
        "black": calibration.black,
        "distance": {"default": calibration.before, "calibrated": calibration.after},
        "fit": None if deviation is None else asdict(deviation) | {"poor": deviation.poor},
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
