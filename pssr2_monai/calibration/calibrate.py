"""Calibrating: a crappifier with the noise of a real instrument, written as a preset for training."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.calibration.downsampling import find_downsampling
from pssr2_monai.calibration.fit import Fit, fit_noise
from pssr2_monai.calibration.fitted_preset import (
    MAX_SPREAD,
    MIN_UNEVENNESS,
    Calibration,
    Span,
    clip_of_preset,
    contrast_of_preset,
    files_of,
    noises_of_preset,
    span_of,
    write_files,
)
from pssr2_monai.calibration.grey_windows import read_unpaired, warn_of_saturation
from pssr2_monai.calibration.model_choice import EXPLAINED, note_of_poor_fit
from pssr2_monai.calibration.noise_model import AUTO, CANDIDATES, STRONG, NoiseModel
from pssr2_monai.calibration.noise_profiles import TERMS
from pssr2_monai.calibration.picture import picture_of_pairs, picture_of_scans
from pssr2_monai.calibration.real_pairs import Pairs, Reading, find_scale, read_pairs
from pssr2_monai.calibration.scan_fit import ScanFit, fit_scans
from pssr2_monai.crappify import NOISES
from pssr2_monai.crappify.crappify import DOWNSAMPLINGS, Downsample
from pssr2_monai.data.pairs import sheets_of
from pssr2_monai.errors import InputError, check_folder
from pssr2_monai.images.files import list_images
from pssr2_monai.images.intensity import IntensitySettings

MAX_PIXELS = 2**20  # LR pixels that are read
CALLS = 40  # trials of a search, by default
MIN_CALLS = 12
SEEN_WITHOUT_PARTNERS = ("poisson", "gaussian", "correlated")
FACTOR_PERCENTILES = (5, 95)  # of the strengths of the noise of the scans, between which the ranges of a preset lie
HARDLY_BETTER = 0.7  # share of the distance without noise that the fitted noise leaves, from which on the summary warns
NOTED_CORRELATION = 0.1  # correlation of the noise of neighbouring pixels, from which on the summary suggests a noise
NOTED_ROW_RATIO = 1.3  # spread of the rows' means over that of the model, from which on the summary suggests line noise
NOTED_SHARED_SHARE = 0.1  # share of the noise that goes with detail of the HR images, from which on the summary warns
UNCONVERGED = "the search did not converge within its trials; give more with --calls"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Options:
    """What ``calibrate`` fits, and to what."""

    lr: Path
    hr: Path | None
    good: Path | None
    target: Path
    models: tuple[NoiseModel, ...]
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
        unseen = [name for model in self.models for name in model.names if name not in SEEN_WITHOUT_PARTNERS]
        if self.hr is None and unseen:
            raise InputError(
                f"model: {unseen[0]} cannot be measured without HR partners; give --hr, or a model of "
                f"{', '.join(SEEN_WITHOUT_PARTNERS)}"
            )
        if self.hr is not None and self.good is not None:
            raise InputError("good: is for scans without HR partners; give hr or good, not both")
        self.reading.validate()
        check_folder(self.target.parent)


def calibrate(
    lr: str | Path,
    out: str | Path,
    *,
    hr: str | Path | None = None,
    good: str | Path | None = None,
    model: str = "auto",
    scale: int | None = None,
    calls: int = CALLS,
    seed: int = 0,
    spread: float | None = None,
    downsample: str = "auto",
    register: str = "shift",
    intensity: str | None = None,
    pair_pattern: str | None = None,
    axes: str | None = None,
    image: int | str | None = None,
) -> Calibration:
    """Fit a crappifier to real images and write it as a preset.

    With HR partners the noise is the difference between the LR images and the downsampled HR images, after the contrast
    of each pair was fitted (see ``fit.fit_noise``). Without, good images of other fields are crappified until they vary
    as the LR images do (see ``scan_fit.fit_scans``): rougher. With neither, all texture counts as noise.

    Args:
        lr: folder of real low-resolution images.
        out: the preset to write, ``NAME.json``, for ``pssr2 train --preset NAME.json``; ``NAME.report.json`` (figures)
            and ``NAME.png`` (the noise, real and fitted) are written next to it.
        hr: folder of their high-resolution partners, of the same names.
        good: where there are no partners, folder of high-resolution images of the same kind, of any fields.
        model: noises in their order, joined by ``+``: poisson, gaussian, correlated, salt_pepper, blur, line, jitter;
            ``auto`` for the simplest of poisson+gaussian, correlated and poisson+correlated that explains the noise.
        scale: HR size over LR size; by default that of the pairs, and 1 for good images without partners.
        calls: largest number of trials of the search.
        seed: of the noise and of the search.
        spread: half width of the preset's ranges, as a share of each parameter; by default as far as the images differ.
        downsample: ``bilinear``, ``area`` or ``nearest``; ``auto`` for the one that is nearest to the LR images of
            pairs, and for ``bilinear`` without pairs or where that is not clear.
        register: ``shift`` moves each HR image by its displacement from the LR image; ``none`` takes the pairs as
            registered. Use ``pssr2 register`` first for rotation or another size.
        intensity: how grey levels are found: ``dtype`` or ``percentile``; by default by the files' dtype.
        pair_pattern: regular expression whose group is what the names of partners have in common.
        axes: axes of files that do not state their own.
        image: number (from 1) or name of the image to read of files that hold several; by default the largest.

    Returns:
        The parameters (grey levels of 0..255, LR pixels), their standard errors, how good the fit is, and the files.

    Raises:
        InputError: before any work, for an invalid option; then for images that do not belong together.

    Example:
        >>> calibration = calibrate("pairs/LR", "scope.json", hr="pairs/HR", model="poisson", calls=12)
        >>> 0.9 < calibration.values["poisson"] < 1.1  # the images were made with 1
        True
    """
    reading = Reading(scale, downsample, register, IntensitySettings(mode=intensity), pair_pattern, axes, image)
    models = tuple(map(NoiseModel.parse, CANDIDATES if model == AUTO else [model]))
    partners, others = (None if folder is None else Path(folder) for folder in (hr, good))
    return _calibrated(_Options(Path(lr), partners, others, Path(out), models, calls, seed, spread, reading))


def _calibrated(options: _Options) -> Calibration:
    options.validate()
    begun = time.perf_counter()
    return _from_scans(options, begun) if options.hr is None else _from_pairs(options, options.hr, begun)


def calibrate_to_scans(
    scans: Path, good: Path, out: Path, reading: Reading, seed: int = 0, calls: int = CALLS
) -> Calibration:
    """Fit the simplest crappifier that makes good images like scans of other fields, and write it as a preset."""
    models = tuple(map(NoiseModel.parse, CANDIDATES))
    return _calibrated(_Options(scans, None, good, out, models, calls, seed, None, reading))


def summary(calibration: Calibration) -> str:
    """Return the result as text for a terminal."""
    lines, noises = [], {entry["_target_"]: entry for entry in calibration.noises}
    for unknown in NoiseModel(calibration.model).unknowns:
        value = f"{calibration.values[unknown.key]:.4g} +- {calibration.errors[unknown.key]:.2g}"
        drawn = noises[NOISES[unknown.noise].target()][unknown.parameter]
        lines.append(f"{f'{unknown.noise} {unknown.parameter}':22}{value:20}in training {_shown(drawn)}")
    for name, ends in (("gain", calibration.gain), ("offset", calibration.offset)):
        if ends is not None:
            lines.append(f"{name:22}{ends[1]:<20.4g}images from {ends[0]:.4g} to {ends[2]:.4g}")
    if calibration.black:
        lines.append(f"{'black level':22}{calibration.black:<20.4g}from where Poisson noise counts")
    if calibration.before is not None:
        lines.append(
            f"distance between the noise profiles {calibration.after:.3f} ({calibration.before:.3f} "
            f"{calibration.rival}); {calibration.trials} trials, {calibration.seconds:.1f} s"
        )
    lines += [f"note: {note}" for note in calibration.notes]
    return "\n".join([*lines, *map(str, calibration.files)])


def _from_pairs(options: _Options, hr: Path, begun: float) -> Calibration:
    reading = options.reading
    sheets = sheets_of(hr, options.lr, pattern=reading.pair_pattern)
    scale = find_scale(sheets, reading.axes, reading.image) if reading.scale is None else reading.scale
    if reading.downsample == AUTO:
        reading = replace(reading, downsample=find_downsampling(sheets, scale, reading))
    pairs = read_pairs(sheets, scale, MAX_PIXELS, reading)
    fit = fit_noise(pairs, options.models, options.calls, options.seed, progress="calibrating")
    gains, offsets = ([getattr(contrast, name) for contrast in pairs.contrasts] for name in ("gain", "offset"))
    share = max(MIN_UNEVENNESS, fit.unevenness or 0.0)
    calibration = Calibration(
        **_fitted(options, fit, dict.fromkeys(STRONG, span_of(share)), share, begun),
        contrast=contrast_of_preset(gains, offsets),
        clip=clip_of_preset([pairs.levels.beyond()]),
        gain=_range_of(gains),
        offset=_range_of(offsets),
        notes=_notes(fit, pairs),
    )
    picture = picture_of_pairs(pairs, fit, _heading(calibration, f"{len(sheets)} pairs"))
    report = _report_of_fit(pairs, fit) | {"hr": str(hr), "lr": str(options.lr), "seed": options.seed}
    write_files(calibration, scale, reading.downsample, reading.intensity.mode, report, picture)
    return calibration


def _fitted(
    options: _Options, fit: Fit | ScanFit, strengths: Mapping[str, Span | list[float]], share: float, begun: float
) -> dict[str, Any]:
    """What a calibration takes from a fit; ``strengths`` and ``share`` are of its preset, unless others are asked."""
    if options.spread is not None:
        strengths, share = {}, options.spread
    return {
        "model": fit.model.names,
        "values": fit.values,
        "errors": fit.errors,
        "noises": noises_of_preset(fit.model, fit.values, fit.errors, fit.black, strengths, share),
        "black": fit.black,
        "before": fit.before,
        "after": fit.after,
        "deviation": fit.deviation,
        "trials": len(fit.search.points),
        "seconds": time.perf_counter() - begun,
        "files": files_of(options.target),
    }


def _report_of_fit(pairs: Pairs, fit: Fit) -> dict[str, Any]:
    return {
        "images": pairs.names,
        "contrasts": [{"gain": contrast.gain, "offset": contrast.offset} for contrast in pairs.contrasts],
        "guess": fit.guess,
        "terms": {name: {"value": fit.terms[name], "fitted": name in fit.model.terms} for name in TERMS},
        "unevenness": fit.unevenness,
        "saturated": {"LR": pairs.saturated[0], "HR": pairs.saturated[1]},
    } | _report_of_search(fit)


def _report_of_search(fit: Fit | ScanFit) -> dict[str, Any]:
    return {
        "search": [
            {"values": fit.space.values(point), "distance": float(distance)}
            for point, distance in zip(fit.search.points.tolist(), fit.search.distances, strict=True)
        ],
        "stopped_early": fit.search.converged,
    }


def _from_scans(options: _Options, begun: float) -> Calibration:
    reading, settings, good = options.reading, (options.reading.axes, options.reading.image), None
    if reading.downsample == AUTO:
        reading = replace(reading, downsample=DOWNSAMPLINGS[0])
    scans = read_unpaired(list_images(options.lr), MAX_PIXELS, reading.intensity, *settings)
    warn_of_saturation("LR", 1 - float(scans.good.mean()))
    if options.good is not None:
        shrink = Downsample(reading.scale or 1, reading.downsample)
        good = read_unpaired(list_images(options.good), MAX_PIXELS, reading.intensity, *settings, shrink).pixels
    fit = fit_scans(scans, good, options.models, options.calls, options.seed, progress="calibrating")
    contrast: dict[str, Any] = {}
    if fit.contrasts is not None:
        gains, offsets = fit.contrasts.gains.tolist(), fit.contrasts.offsets.tolist()
        contrast = {"contrast": contrast_of_preset(gains, offsets), "gain": _range_of(gains)}
        contrast |= {"offset": _range_of(offsets)}
    strengths, groups = _strengths_of_scans(fit)
    beyond = [scans.levels.of(np.flatnonzero(np.isin(scans.image, group))).beyond() for group in groups]
    calibration = Calibration(
        **_fitted(options, fit, strengths, MIN_UNEVENNESS, begun),
        **contrast,
        clip=clip_of_preset(beyond),
        notes=_notes_of_scans(fit),
        paired=False,
    )
    picture = picture_of_scans(
        scans.pixels[len(scans.pixels) // 2], fit, _heading(calibration, f"{len(scans.names)} scans")
    )
    report = {
        "images": scans.names,
        "lr": str(options.lr),
        "good": None if options.good is None else str(options.good),
        "factors": fit.factors.tolist(),
        "own": None if fit.own is None else fit.own.strengths,
        "curve": {
            "brightness": fit.trials.flat.bin_brightness().tolist(),
            **{
                name: np.nan_to_num(spread[0]).tolist()
                for name, spread in (("real", fit.trials.real), ("fitted", fit.fitted))
            },
        },
        "seed": options.seed,
    } | _report_of_search(fit)
    scale = reading.scale if options.good is None else reading.scale or 1
    downsample = None if options.good is None else reading.downsample
    write_files(calibration, scale, downsample, reading.intensity.mode, report, picture)
    return calibration


def _strengths_of_scans(fit: ScanFit) -> tuple[dict[str, Span | list[float]], list[npt.NDArray[np.intp]]]:
    """The strengths that each scan has, with a tenth beyond both ends, and groups of scans: from the least noise on."""
    margin = 1 - MIN_UNEVENNESS, 1 + MIN_UNEVENNESS
    strong = [key for key in STRONG if fit.values.get(key, 0) > 0]
    if fit.own is None:
        low, high = np.percentile(fit.factors, FACTOR_PERCENTILES).tolist()
        ends = min(low, margin[0]), max(high, margin[1])
        groups = [np.array([number]) for number in np.argsort(fit.factors, kind="stable")]
        return {key: [fit.values[key] * end for end in ends] for key in strong}, groups
    brightness = np.array([float(np.mean(fit.trials.flat.bin_brightness())) - fit.black])
    noise = [float(fit.model.variance(values, brightness)[0]) for values in fit.own.strengths]
    order = np.argsort(noise, kind="stable").tolist()
    factors = margin[0], *(1.0 for _ in order[2:]), margin[1]
    strengths: dict[str, Span | list[float]] = {
        key: [fit.own.strengths[number][key] * factor for number, factor in zip(order, factors, strict=True)]
        for key in strong
    }
    return strengths, [fit.own.groups[number] for number in order]


def _notes_of_scans(fit: ScanFit) -> list[str]:
    notes = []
    if fit.contrasts is None:
        notes.append(
            "without good images this is rougher: fine texture counts as noise, and the contrast stays unknown; give "
            "--good, or --hr where there are pairs"
        )
    if fit.own is not None:
        notes.append(
            "the noise of the scans differs by more than its strength: it was fitted to each by itself, and each comes "
            "as often; for the best result train for each kind of scan by itself"
        )
    if fit.after > HARDLY_BETTER * fit.before:
        notes.append(
            "the noise of the scans cannot be told from the texture of the good images; give images more alike, "
            "or calibrate with pairs (hr)"
        )
    if fit.deviation.poor:
        notes.append(note_of_poor_fit(fit.deviation, "the scans"))
    if not fit.search.converged and fit.deviation.beyond_sampling > EXPLAINED:
        notes.append(UNCONVERGED)
    return notes


def _range_of(values: Sequence[float]) -> tuple[float, float, float]:
    return float(min(values)), float(np.median(values)), float(max(values))


def _shown(value: float | Sequence[float] | Mapping[str, Sequence[float]]) -> str:
    if isinstance(value, Mapping):
        if "together" in value:
            return f"{', '.join(f'{entry:g}' for entry in value['together'])}, together"
        return f"{_shown(value['log'])}, even in the logarithm"
    return f"{value:g}" if isinstance(value, (int, float)) else f"{value[0]:g} to {value[1]:g}"


def _notes(fit: Fit, pairs: Pairs) -> list[str]:
    notes, real, names = [], fit.trials.real, fit.model.names
    if len(pairs.names) == 1:
        notes.append("one pair only: how the noise differs from image to image is unknown; give more where there are")
    if fit.deviation.poor:
        notes.append(note_of_poor_fit(fit.deviation, "the pairs"))
    along_x, along_y = real.neighbours.mean(axis=1)
    if not {"blur", "correlated"} & set(names) and max(abs(along_x), abs(along_y)) > NOTED_CORRELATION:
        advice = ": take correlated" if min(along_x, along_y) > -NOTED_CORRELATION else ""
        notes.append(
            f"the noise of neighbouring pixels correlates ({along_x:.2f} along X, {along_y:.2f} along Y), which the "
            f"model lacks{advice}"
        )
    if "line" not in names and real.rows.mean() > NOTED_ROW_RATIO * max(fit.fitted.rows.mean(), 0.05):
        notes.append(
            f"rows differ by {real.rows.mean():.2f} grey levels, {fit.fitted.rows.mean():.2f} in the model: add +line"
        )
    if fit.shared > NOTED_SHARED_SHARE and "blur" not in names:
        notes.append(
            f"{100 * fit.shared:.0f} % of the noise goes with fine detail of the HR images: they are noisy themselves, "
            "or much sharper; average several HR scans, or put blur+ before the model"
        )
    if not fit.search.converged and fit.deviation.beyond_sampling > EXPLAINED:
        notes.append(UNCONVERGED)
    return notes


def _heading(calibration: Calibration, images: str) -> str:
    values, errors, black = calibration.values, calibration.errors, calibration.black
    parts = [
        f"{unknown.noise} {unknown.parameter} {values[unknown.key]:.3g} ± {errors[unknown.key]:.2g}"
        for unknown in NoiseModel(calibration.model).unknowns
    ]
    if calibration.gain is not None and calibration.offset is not None:
        parts += [f"gain {calibration.gain[1]:.3g}", f"offset {calibration.offset[1]:.3g}"]
    if black:
        parts.append(f"black level {black:.3g}")
    return (
        f"{'   '.join(parts)}\n{images}; distance between the noise profiles {calibration.after:.3f}, "
        f"{calibration.rival} {calibration.before:.3f}; {calibration.trials} trials"
    )
