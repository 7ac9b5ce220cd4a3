"""Calibrating: a crappifier with the noise of a real instrument, written as a preset for training."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pssr2_monai.calibration.fit import Fit, fit_noise
from pssr2_monai.calibration.fitted_preset import (
    MAX_SPREAD,
    Calibration,
    contrast_of_preset,
    files_of,
    noises_of_preset,
    write_files,
)
from pssr2_monai.calibration.grey_windows import noise_of_flat_patches, read_unpaired
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.noise_profiles import TERMS
from pssr2_monai.calibration.picture import picture_of_flat_patches, picture_of_pairs
from pssr2_monai.calibration.real_pairs import Pairs, Reading, find_scale, read_pairs
from pssr2_monai.crappify import NOISES
from pssr2_monai.data.pairs import sheets_of
from pssr2_monai.errors import InputError, check_folder
from pssr2_monai.images.files import list_images
from pssr2_monai.images.intensity import IntensitySettings

MAX_PIXELS, MAX_PIXELS_OF_TRIAL = 2**20, 2**19  # LR pixels; the latter where a trial needs whole windows
MIN_CALLS = 12
NOTED_CORRELATION = 0.1  # correlation of the noise of neighbouring pixels, from which on the summary suggests a blur
NOTED_ROW_RATIO = 1.3  # spread of the rows' means over that of the model, from which on the summary suggests line noise
NOTED_SHARED_SHARE = 0.1  # share of the noise that goes with detail of the HR images, from which on the summary warns
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Options:
    """What ``calibrate`` fits, and to what."""

    lr: Path
    hr: Path | None
    target: Path
    model: NoiseModel
    calls: int
    seed: int
    spread: float | None
    reading: Reading

    def validate(self) -> None:
        """Raise an InputError for an option that cannot be."""
        if self.target.suffix.lower() != ".json":
            raise InputError(f"out: {self.target} is not the name of a preset; give one that ends in .json")
        if isinstance(self.calls, bool) or self.calls != int(self.calls) or self.calls < MIN_CALLS:
            raise InputError(f"calls: {self.calls!r} is not a whole number of at least {MIN_CALLS}")
        if self.spread is not None and not 0 <= self.spread <= MAX_SPREAD:
            raise InputError(f"spread: {self.spread!r} is not a share from 0 to {MAX_SPREAD}")
        unseen = [name for name in self.model.names if name not in ("poisson", "gaussian")]
        if self.hr is None and unseen:
            raise InputError(
                f"model: {unseen[0]} cannot be measured without HR partners; give --hr, or a model of poisson and "
                "gaussian"
            )
        self.reading.validate()
        check_folder(self.target.parent)


def calibrate(
    lr: str | Path,
    out: str | Path,
    *,
    hr: str | Path | None = None,
    model: str = "poisson+gaussian",
    scale: int | None = None,
    calls: int = 40,
    seed: int = 0,
    spread: float | None = None,
    downsample: str = "bilinear",
    register: str = "shift",
    intensity: str | None = None,
    pair_pattern: str | None = None,
    axes: str | None = None,
    image: int | str | None = None,
) -> Calibration:
    """Fit a crappifier to real images and write it as a preset.

    With HR partners the noise is the difference between the LR images and the downsampled HR images, after the contrast
    of each pair was fitted; the parameters are those whose noise is most like it (see ``noise_profiles.profile_terms``
    and ``fit.search``). Without, Poisson and Gaussian noise are measured on flat patches of the LR images: rougher.

    Args:
        lr: folder of real low-resolution images.
        out: the preset to write, ``NAME.json``, for ``pssr2 train --preset NAME.json``; ``NAME.report.json`` (figures)
            and ``NAME.png`` (the noise, real and fitted) are written next to it.
        hr: folder of their high-resolution partners, of the same names; without it, Poisson and Gaussian noise alone
            are estimated, which is rougher.
        model: noises in their order, joined by ``+``: poisson, gaussian, salt_pepper, blur, line, jitter.
        scale: HR size over LR size; by default that of the images.
        calls: largest number of trials of the search.
        seed: of the noise and of the search.
        spread: half width of the ranges of the preset, as a share of each parameter; by default as far as the images
            differ, at least a tenth.
        downsample: ``bilinear``, ``area`` or ``nearest``.
        register: ``shift`` moves each HR image by its displacement from the LR image; ``none`` takes the pairs as
            registered. Use ``pssr2 register`` first for rotation or another size.
        intensity: how grey levels are found: ``dtype`` or ``percentile``; by default by the files' dtype.
        pair_pattern: regular expression whose group is what the names of partners have in common.
        axes: axes of files that do not state their own.
        image: number (from 1) or name of the image to read of files that hold several; by default the largest.

    Returns:
        The parameters, in grey levels of 0..255, with their standard errors, and the files written.

    Raises:
        InputError: before any work, for an invalid option; then for images that do not belong together.

    Example:
        >>> calibration = calibrate("pairs/LR", "scope.json", hr="pairs/HR", model="poisson", calls=12)
        >>> 0.9 < calibration.values["poisson"] < 1.1  # the images were made with 1
        True
    """
    begun = time.perf_counter()
    reading = Reading(scale, downsample, register, IntensitySettings(mode=intensity), pair_pattern, axes, image)
    noises, partners = NoiseModel.parse(model), None if hr is None else Path(hr)
    options = _Options(Path(lr), partners, Path(out), noises, calls, seed, spread, reading)
    options.validate()
    return _from_lr_images(options, begun) if partners is None else _from_pairs(options, partners, begun)


def summary(calibration: Calibration) -> str:
    """Return the result as text for a terminal."""
    lines = []
    for name in calibration.model:
        parameter = NOISES[name].strength
        entry = next(entry for entry in calibration.noises if entry["_target_"] == NOISES[name].target())
        value = f"{calibration.values[name]:.4g} +- {calibration.errors[name]:.2g}"
        lines.append(f"{name + ' ' + parameter:22}{value:20}in training {_shown(entry[parameter])}")
    for name, ends in (("gain", calibration.gain), ("offset", calibration.offset)):
        if ends is not None:
            lines.append(f"{name:22}{ends[1]:<20.4g}images from {ends[0]:.4g} to {ends[2]:.4g}")
    if calibration.black:
        lines.append(f"{'black level':22}{calibration.black:<20.4g}from where Poisson noise counts")
    if calibration.before is not None:
        lines.append(
            f"distance between the noise profiles {calibration.after:.3f} ({calibration.before:.3f} with the default "
            f"crappifier); {calibration.trials} trials, {calibration.seconds:.1f} s"
        )
    lines += [f"note: {note}" for note in calibration.notes]
    return "\n".join([*lines, *map(str, calibration.files)])


def _from_pairs(options: _Options, hr: Path, begun: float) -> Calibration:
    model, reading = options.model, options.reading
    sheets = sheets_of(hr, options.lr, pattern=reading.pair_pattern)
    scale = find_scale(sheets, reading.axes, reading.image) if reading.scale is None else reading.scale
    pairs = read_pairs(sheets, scale, MAX_PIXELS if model.by_pixel else MAX_PIXELS_OF_TRIAL, reading)
    fit = fit_noise(pairs, model, options.calls, options.seed, progress="calibrating")
    gains, offsets = ([getattr(contrast, name) for contrast in pairs.contrasts] for name in ("gain", "offset"))
    calibration = Calibration(
        model=model.names,
        values=fit.values,
        errors=fit.errors,
        noises=noises_of_preset(model, fit.values, fit.errors, fit.trials.black, options.spread, fit.unevenness),
        contrast=contrast_of_preset(gains, offsets),
        gain=_range_of(gains),
        offset=_range_of(offsets),
        black=fit.trials.black,
        before=fit.before,
        after=fit.after,
        trials=len(fit.search.points),
        seconds=time.perf_counter() - begun,
        notes=_notes(model, fit, pairs),
        files=files_of(options.target),
    )
    picture = picture_of_pairs(pairs, fit, _heading(calibration, len(sheets)))
    report = _report_of_fit(pairs, fit, model) | {"hr": str(hr), "lr": str(options.lr), "seed": options.seed}
    write_files(calibration, scale, reading.downsample, reading.intensity.mode, report, picture)
    return calibration


def _report_of_fit(pairs: Pairs, fit: Fit, model: NoiseModel) -> dict[str, Any]:
    return {
        "images": pairs.names,
        "contrasts": [{"gain": contrast.gain, "offset": contrast.offset} for contrast in pairs.contrasts],
        "guess": fit.guess,
        "terms": {name: {"value": fit.terms[name], "fitted": name in model.terms} for name in TERMS},
        "unevenness": fit.unevenness,
        "saturated": {"LR": pairs.saturated[0], "HR": pairs.saturated[1]},
        "search": [
            {"values": fit.space.values(point), "distance": float(distance)}
            for point, distance in zip(fit.search.points.tolist(), fit.search.distances, strict=True)
        ],
        "stopped_early": fit.search.converged,
    }


def _from_lr_images(options: _Options, begun: float) -> Calibration:
    model, reading, paths = options.model, options.reading, list_images(options.lr)
    images, good = read_unpaired(paths, MAX_PIXELS, reading.intensity, reading.axes, reading.image)
    noise = noise_of_flat_patches(images, good, model.names)
    calibration = Calibration(
        model=model.names,
        values=noise.values,
        errors=noise.errors,
        noises=noises_of_preset(model, noise.values, noise.errors, noise.black, options.spread, None),
        black=noise.black,
        seconds=time.perf_counter() - begun,
        notes=[
            "without HR partners this is rougher: fine texture counts as noise, noise that neighbouring pixels share "
            "does not, and the contrast between LR and HR stays unknown; give --hr where there are pairs"
        ],
        files=files_of(options.target),
    )
    curve = {"brightness": noise.brightness.tolist(), "spread": noise.spread.tolist()}
    report = {"images": [path.name for path in paths], "lr": str(options.lr), "curve": curve}
    picture = picture_of_flat_patches(images[len(images) // 2], noise, _heading(calibration, len(paths)))
    write_files(calibration, reading.scale, None, reading.intensity.mode, report, picture)
    return calibration


def _range_of(values: Sequence[float]) -> tuple[float, float, float]:
    return float(min(values)), float(np.median(values)), float(max(values))


def _shown(value: float | Sequence[float]) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else f"{value[0]:g} to {value[1]:g}"


def _notes(model: NoiseModel, fit: Fit, pairs: Pairs) -> list[str]:
    notes, real = [], fit.trials.real
    if len(pairs.names) == 1:
        notes.append("one pair only: how the noise differs from image to image is unknown; give more where there are")
    along_x, along_y = real.neighbours.mean(axis=1)
    if "blur" not in model.names and max(abs(along_x), abs(along_y)) > NOTED_CORRELATION:
        advice = ": add +blur" if min(along_x, along_y) > NOTED_CORRELATION else ""
        notes.append(
            f"the noise of neighbouring pixels correlates ({along_x:.2f} along X, {along_y:.2f} along Y), which the "
            f"model lacks{advice}"
        )
    if "line" not in model.names and real.rows.mean() > NOTED_ROW_RATIO * max(fit.fitted.rows.mean(), 0.05):
        notes.append(
            f"rows differ by {real.rows.mean():.2f} grey levels, {fit.fitted.rows.mean():.2f} in the model: add +line"
        )
    if fit.shared > NOTED_SHARED_SHARE and "blur" not in model.names:
        notes.append(
            f"{100 * fit.shared:.0f} % of the noise goes with fine detail of the HR images: they are noisy themselves, "
            "or much sharper; average several HR scans, or put blur+ before the model"
        )
    if not fit.search.converged:
        notes.append("the search did not converge within its trials; give more with --calls")
    return notes


def _heading(calibration: Calibration, images: int) -> str:
    values, errors, black = calibration.values, calibration.errors, calibration.black
    parts = [f"{name} {NOISES[name].strength} {values[name]:.3g} ± {errors[name]:.2g}" for name in calibration.model]
    if calibration.gain is not None and calibration.offset is not None:
        parts += [f"gain {calibration.gain[1]:.3g}", f"offset {calibration.offset[1]:.3g}"]
    if black:
        parts.append(f"black level {black:.3g}")
    if calibration.before is None:
        return f"{'   '.join(parts)}\n{images} LR images without HR partners: a rough estimate"
    return (
        f"{'   '.join(parts)}\n{images} pairs; distance between the noise profiles {calibration.after:.3f}, with the "
        f"default crappifier {calibration.before:.3f}; {calibration.trials} trials"
    )
