"""``pssr2 calibrate`` and ``register``: what real pairs tell of an instrument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pssr2_monai.commands.answer import Answer

__all__ = ["calibrate", "register"]


def calibrate(
    *,
    lr: str,
    out: str,
    hr: str | None = None,
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
) -> Answer:
    """Fit the crappifier to real images and write it as a preset for training.

    pssr2 calibrate --hr DIR --lr DIR --out FILE.json [--model poisson+gaussian] [--calls 40] [--seed 0] [--scale N]
    [--spread S] [--downsample bilinear] [--register shift] [--intensity I] [--pair-pattern REGEX] [--axes ZYX]

    --hr            folder of high-resolution images
    --lr            folder of their low-resolution partners of the same names; alone, for a rougher estimate of
                    Poisson and Gaussian noise from single images
    --out           the preset to write; FILE.report.json (figures) and FILE.png (the noise, real and fitted) lie beside
    --model         noises in their order: poisson, gaussian, salt_pepper, blur, line, jitter
    --calls         trials of the search, at most
    --seed          of the noise and of the search
    --scale         HR size over LR size; by default that of the images
    --spread        how far the preset's ranges reach to either side, 0.2 for a fifth; by default as the images differ
    --downsample    bilinear, area or nearest
    --register      shift moves each HR image to where its LR image lies; none takes the pairs as they are
    --intensity     dtype or percentile; by default by the files' dtype, as in training
    --pair-pattern  regular expression whose group is what the names of partners have in common
    --axes          axes of files that do not tell their own

    pssr2 train takes what is written by --preset FILE.json.

    Example: pssr2 calibrate --hr pairs/HR --lr pairs/LR --out scope.json
    """
    from pssr2_monai.calibration.calibrating import calibrate as run
    from pssr2_monai.calibration.calibrating import summary

    options: dict[str, Any] = {"scale": scale, "calls": calls, "seed": seed, "spread": spread, "intensity": intensity}
    options |= {"downsample": downsample, "register": register, "pair_pattern": pair_pattern, "axes": axes}
    found = run(lr, out, hr=hr, model=model, **options)
    return Answer(summary(found), found)


def register(
    *,
    hr: str,
    lr: str,
    out: str,
    scale: int | None = None,
    model: str = "similarity",
    min_score: float = 7.0,
    pair_pattern: str | None = None,
    axes: str | None = None,
) -> Answer:
    """Align real pairs of LR and HR images and write what they share.

    pssr2 register --hr DIR --lr DIR --out DIR [--scale 4] [--model similarity] [--min-score 7] [--pair-pattern REGEX]
    [--axes ZYX]

    --hr            folder of high-resolution images
    --lr            folder of low-resolution images of the same fields and names
    --out           new folder: LR (cropped only), HR (interpolated onto the LR images' grid), registration.csv
    --scale         HR pixels a LR pixel; by default from the pixel sizes, or else the sizes of the images
    --model         shift, rigid (and rotation), similarity (and size) or affine (and shear)
    --min-score     pairs that score less are left out: they do not seem to show the same field
    --pair-pattern  regular expression whose group is what the names of partners have in common
    --axes          axes of files that do not tell their own

    pssr2 train takes DIR with --preset paired.

    Example: pssr2 register --hr slow/ --lr fast/ --out pairs/
    """
    from pssr2_monai.registration.registering import TABLE, summary
    from pssr2_monai.registration.registering import register as run

    options: dict[str, Any] = {"scale": scale, "model": model, "min_score": min_score}
    done = run(hr, lr, out, **options, pair_pattern=pair_pattern, axes=axes)
    return Answer(summary(done), {"pairs": done, "table": Path(out) / TABLE})
