"""Calibration: a crappifier whose noise is that of a real instrument, written as a preset that training takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pssr2_monai.calibration.fit import Fit, fit_noise
from pssr2_monai.calibration.fitted_preset import (
    WIDEST,
    Calibration,
    files_of,
    noises_of_preset,
    preset_of,
    report_of,
    write_files,
)
from pssr2_monai.calibration.flat_patches import noise_of_flat_patches
from pssr2_monai.calibration.grey_windows import read_unpaired
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.noise_profiles import TERMS
from pssr2_monai.calibration.picture import picture_of_flat_patches, picture_of_pairs
from pssr2_monai.calibration.real_pairs import Pairs, find_scale, read_pairs
from pssr2_monai.crappify import NOISES
from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.data.pairs import sheets_of
from pssr2_monai.errors import InputError, nearest
from pssr2_monai.images.axes import is_volume
from pssr2_monai.images.image import list_images
from pssr2_monai.images.intensity import IntensitySettings

PIXELS, PIXELS_OF_LINES = 2**20, 2**19
"""LR pixels to read, at most; where the noise is not that of single pixels, every trial takes all of them."""
FEWEST_CALLS = 12
REGISTERS = ("shift", "none")
MARKED_CORRELATION, MARKED_ROWS, MARKED_SHARE = 0.1, 1.3, 0.1
"""From where on the summary speaks of what the model lacks."""
logger = logging.getLogger(__name__)


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
) -> Calibration:
    """Fits a crappifier to real images and writes it as a preset.

    With HR partners the noise is what the LR images differ in from the downsampled HR images, after the contrast of
    each pair was fitted; the crappifier's parameters are those whose noise comes nearest to it (see
    ``noise_profiles.profile_terms`` and ``calibration_search.search``). Without, Poisson and Gaussian noise are
    measured on flat patches of the LR images, which is rougher.

    Args:
        lr: folder of real LR images.
        out: the preset to write, ``NAME.json``; ``NAME.report.json`` and ``NAME.png`` are written beside it.
        hr: folder of their HR partners, of the same names.
        model: noises in their order, joined by ``+``: poisson, gaussian, salt_pepper, blur, line, jitter.
        scale: HR size over LR size; by default that of the images.
        calls: trials of the search, at most.
        seed: of the noise and of the search.
        spread: how far the ranges of the preset reach to either side, as a share of each parameter; by default as far
            as the images differ among each other, at least a tenth.
        downsample: ``bilinear``, ``area`` or ``nearest``.
        register: ``shift`` finds how far each LR image lies aside of its HR partner, and moves the HR image; ``none``
            takes the pairs as registered. What is turned or of another size is for ``pssr2 register``.
        intensity: how grey levels are found: ``dtype`` or ``percentile``; by default by the files' dtype.
        pair_pattern: regular expression whose group is what the names of partners have in common.
        axes: axes of files that do not tell their own.

    Returns:
        The parameters, in grey levels of 0..255, with their standard errors, and the files written.

    Raises:
        InputError: before any work, for an option that cannot be; then for images that do not go together.

    Example:
        >>> found = calibrate("pairs/LR", "scope.json", hr="pairs/HR", model="poisson", calls=12)
        >>> 0.9 < found.values["poisson"] < 1.1  # the images were made with 1
        True
    """
    begun = time.perf_counter()
    noises, target = NoiseModel.parse(model), Path(out)
    _check_options(target, calls, spread, noises, paired=hr is not None)
    Downsample(1 if scale is None else scale, downsample)
    if is_volume(scale or 1):
        raise InputError(f"scale: {scale!r} is a volume's, and calibration goes plane by plane; give one number")
    if register not in REGISTERS:
        raise InputError(
            f"register: {register!r} is unknown{nearest(register, REGISTERS)}; use {' or '.join(REGISTERS)}"
        )
    settings = IntensitySettings(mode=intensity)
    if hr is None:
        return _from_single_images(Path(lr), target, noises, scale, spread, settings, axes, begun)
    sheets = sheets_of(hr, lr, pattern=pair_pattern)
    scale = find_scale(sheets, axes) if scale is None else scale
    pixels = PIXELS if noises.by_pixel else PIXELS_OF_LINES
    options = {"downsample": downsample, "intensity": settings, "register": register, "axes": axes}
    pairs = read_pairs(sheets, scale, pixels=pixels, progress=True, **options)  # type: ignore[arg-type]
    fit = fit_noise(pairs, noises, calls, seed, progress="calibrating")
    gains, offsets = ([getattr(each, name) for each in pairs.contrasts] for name in ("gain", "offset"))
    found = Calibration(
        model=noises.names,
        values=fit.values,
        errors=fit.errors,
        noises=noises_of_preset(
            noises, fit.values, fit.errors, gains, offsets, fit.trials.black, spread, fit.unevenness
        ),
        gain=_range_of(gains),
        offset=_range_of(offsets),
        black=fit.trials.black,
        before=fit.before,
        after=fit.after,
        trials=len(fit.found.points),
        seconds=time.perf_counter() - begun,
        notes=_notes(noises, fit, pairs),
        files=files_of(target),
    )
    preset = preset_of(found.noises, scale, downsample, intensity)
    report = report_of(found, target, scale) | {
        "images": pairs.names,
        "hr": str(hr),
        "lr": str(lr),
        "contrasts": [{"gain": each.gain, "offset": each.offset} for each in pairs.contrasts],
        "guess": fit.guess,
        "terms": {name: {"value": fit.terms[name], "fitted": name in noises.terms} for name in TERMS},
        "unevenness": fit.unevenness,
        "saturated": {"LR": pairs.saturated[0], "HR": pairs.saturated[1]},
        "search": [
            {"values": fit.space.values(point), "distance": float(distance)}
            for point, distance in zip(fit.found.points.tolist(), fit.found.distances, strict=True)
        ],
        "stopped_early": fit.found.converged,
        "seed": seed,
    }
    write_files(found, preset, report, picture_of_pairs(pairs, fit, _heading(found, len(sheets))))
    return found


def summary(found: Calibration) -> str:
    """What was found, as text for a terminal."""
    lines = []
    for name in found.model:
        parameter = NOISES[name].strength
        entry = next(entry for entry in found.noises if entry["_target_"] == NOISES[name].target())
        value = f"{found.values[name]:.4g} +- {found.errors[name]:.2g}"
        lines.append(f"{name + ' ' + parameter:22}{value:20}in training {_shown(entry[parameter])}")
    for name, ends in (("gain", found.gain), ("offset", found.offset)):
        if ends is not None:
            lines.append(f"{name:22}{ends[1]:<20.4g}images from {ends[0]:.4g} to {ends[2]:.4g}")
    if found.black:
        lines.append(f"{'black level':22}{found.black:<20.4g}from where Poisson noise counts")
    if found.before is not None:
        lines.append(
            f"distance between the noise profiles {found.after:.3f} ({found.before:.3f} with the default crappifier); "
            f"{found.trials} trials, {found.seconds:.1f} s"
        )
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join([*lines, *(f"{path}" for path in found.files)])


def _from_single_images(
    lr: Path,
    target: Path,
    model: NoiseModel,
    scale: int | None,
    spread: float | None,
    settings: IntensitySettings,
    axes: str | None,
    begun: float,
) -> Calibration:
    """Poisson and Gaussian noise from LR images alone."""
    paths = list_images(lr)
    images, good = read_unpaired(paths, PIXELS, settings, axes)
    flat = noise_of_flat_patches(images, good, model.names)
    entries = noises_of_preset(model, flat.values, flat.errors, [1.0], [0.0], flat.black, spread, None)
    found = Calibration(
        model=model.names,
        values=flat.values,
        errors=flat.errors,
        noises=entries,
        gain=None,
        offset=None,
        black=flat.black,
        before=None,
        after=None,
        trials=0,
        seconds=time.perf_counter() - begun,
        notes=[
            "without HR partners this is rougher: fine texture counts as noise, noise that neighbouring pixels share "
            "does not, and the contrast between LR and HR stays unknown; give --hr where there are pairs"
        ],
        files=files_of(target),
    )
    curve = {"brightness": flat.brightness.tolist(), "spread": flat.spread.tolist()}
    report = report_of(found, target, scale) | {"images": [path.name for path in paths], "lr": str(lr), "curve": curve}
    preset = preset_of(found.noises, scale, None, settings.mode)
    write_files(
        found, preset, report, picture_of_flat_patches(images[len(images) // 2], flat, _heading(found, len(paths)))
    )
    return found


def _check_options(target: Path, calls: int, spread: float | None, model: NoiseModel, paired: bool) -> None:
    if target.suffix.lower() != ".json":
        raise InputError(f"out: {target} is no preset's name; give one that ends in .json")
    if isinstance(calls, bool) or calls != int(calls) or calls < FEWEST_CALLS:
        raise InputError(f"calls: {calls!r} is not a whole number of at least {FEWEST_CALLS}")
    if spread is not None and not 0 <= spread <= WIDEST:
        raise InputError(f"spread: {spread!r} is not a share from 0 to {WIDEST}")
    if not paired and (other := [name for name in model.names if name not in ("poisson", "gaussian")]):
        raise InputError(
            f"model: {other[0]} cannot be measured without HR partners; give --hr, or a model of poisson and gaussian"
        )


def _range_of(values: Sequence[float]) -> tuple[float, float, float]:
    return float(min(values)), float(np.median(values)), float(max(values))


def _shown(value: float | Sequence[float]) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else f"{value[0]:g} to {value[1]:g}"


def _notes(model: NoiseModel, fit: Fit, pairs: Pairs) -> list[str]:
    """What the figures alone do not say."""
    notes, real = [], fit.trials.real
    if len(pairs.names) == 1:
        notes.append("one pair only: how the noise differs from image to image is unknown; give more where there are")
    along_x, along_y = real.neighbours.mean(axis=1)
    if "blur" not in model.names and max(abs(along_x), abs(along_y)) > MARKED_CORRELATION:
        help_ = ": add +blur" if min(along_x, along_y) > MARKED_CORRELATION else ""
        notes.append(
            f"the noise of neighbouring pixels correlates ({along_x:.2f} along X, {along_y:.2f} along Y), which the "
            f"model lacks{help_}"
        )
    if "line" not in model.names and real.rows.mean() > MARKED_ROWS * max(fit.fitted.rows.mean(), 0.05):
        notes.append(
            f"rows differ by {real.rows.mean():.2f} grey levels, {fit.fitted.rows.mean():.2f} in the model: add +line"
        )
    if fit.shared > MARKED_SHARE and "blur" not in model.names:
        notes.append(
            f"{100 * fit.shared:.0f} % of the noise goes with fine detail of the HR images: they are noisy themselves, "
            "or much sharper; average several HR scans, or put blur+ before the model"
        )
    if not fit.found.converged:
        notes.append("the search had not settled after all its trials; give more with --calls")
    return notes


def _heading(found: Calibration, images: int) -> str:
    noises = "   ".join(
        f"{name} {NOISES[name].strength} {found.values[name]:.3g} ± {found.errors[name]:.2g}" for name in found.model
    )
    black = f"   black level {found.black:.3g}" if found.black else ""
    if found.before is None:
        return f"{noises}{black}\n{images} LR images without HR partners: a rough estimate"
    assert found.gain is not None
    assert found.offset is not None
    distances = f"distance between the noise profiles {found.after:.3f}, with the default crappifier {found.before:.3f}"
    return (
        f"{noises}   gain {found.gain[1]:.3g}   offset {found.offset[1]:.3g}{black}\n"
        f"{images} pairs; {distances}; {found.trials} trials"
    )
