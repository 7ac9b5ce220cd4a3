"""The verbs of the command ``pssr2``: one plain function each, whose docstring is its help.

Heavy packages are imported inside the functions, so that ``pssr2 --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pssr2_monai.cli.answer import Answer
from pssr2_monai.cli.completion import completion
from pssr2_monai.cli.tool_verbs import calibrate, convert, crappify, export, info, preprocess, register
from pssr2_monai.errors import InputError


def restore(
    source: str,
    target: str,
    *,
    weights: str,
    window: int | None = None,
    overlap: float | None = None,
    precision: str = "auto",
    backend: str = "torch",
    device: str | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    dry_run: bool = False,
    estimate: bool = False,
    profile: str | None = None,
    fidelity: bool = False,
    uncertainty: bool = False,
) -> Answer:
    """Restore an image, or every image of a folder.

    pssr2 restore SOURCE TARGET --weights FILE [--window N] [--overlap 0.2] [--precision auto] [--backend torch]
    [--device D] [--axes ZYX] [--overwrite] [--skip-bad] [--format ome.zarr] [--workers N | --scheduler ADDRESS]
    [--dry-run] [--estimate] [--profile DIR] [--fidelity] [--uncertainty]

    SOURCE         an image file, a folder of them, or a folder of slices where TARGET is a file
    TARGET         the file to write, or the folder to write files of the same names into
    --weights      a model.pt that a training wrote, or em or em_denoise, which come along; with --uncertainty also
                   several, joined by commas
    --window       largest side of the windows in LR pixels, 640 or, of volumes, 96; smaller ones take less memory
    --overlap      share of a window in common with the next; by default 64 LR pixels
    --precision    auto, float32 or bfloat16; with --backend openvino also int8, twice as quick on most processors
    --backend      torch, or openvino, which is quicker on some processors
    --device       cpu, cuda, cuda:1, ...; a GPU where there is one
    --axes         axes of files that do not tell their own, such as ZYX
    --overwrite    replace files that exist
    --skip-bad     leave out files that cannot be read, instead of stopping before any work
    --format       tif, ome.tif, ome.zarr or png for files written into a folder; by default that of the source
    --workers      how many processes of this machine share the work, each with a network of its own
    --scheduler    address of a Dask cluster that is to do the work, such as tcp://host:8786
    --dry-run      tell which files would be written, their size and in what settings, and restore nothing
    --estimate     tell memory and time as well, by a trial of a few windows, and write nothing
    --profile      folder for a table of where the time went and a trace of it; for a small image
    --fidelity     tell whether each output agrees with its source, and write maps of z-scores beside it
    --uncertainty  restore as the mean over eight orientations, and write NAME_uncertainty, their spread, beside it

    What was interrupted goes on where it stopped when the same command is given again.

    Example: pssr2 restore scans/ restored/ --weights run/model.pt
    """
    from pssr2_monai.restoration.options import RestoreOptions

    options = RestoreOptions(
        window, overlap, precision, backend, device, axes, overwrite, skip_bad, format, workers, scheduler, profile
    )
    if estimate and uncertainty:
        raise InputError("estimate: counts one look at each image; uncertainty has eight for each file of weights")
    if profile is not None and (estimate or fidelity or uncertainty):
        raise InputError("profile: measures plain restoring; leave out estimate, fidelity and uncertainty")
    files = weights.split(",") if uncertainty else [weights]
    if dry_run or estimate:
        from pssr2_monai.fidelity.maps import map_outputs
        from pssr2_monai.restoration.plan import plan_restoring

        maps = partial(map_outputs, axes=axes, fidelity=fidelity, uncertainty=uncertainty)
        plan = plan_restoring(source, target, files[0], options, trial=estimate, maps=maps)
        return Answer(plan.table() if estimate else str(plan), plan)
    if fidelity or uncertainty:
        from pssr2_monai.fidelity.maps import restore_with_maps, told

        mapped = restore_with_maps(source, target, files, options, fidelity=fidelity, uncertainty=uncertainty)
        return Answer("\n".join(line for each in mapped for line in told(each)), {"restored": mapped})
    from pssr2_monai.restoration.restore import restore as run

    paths = run(source, target, weights, options)
    return Answer("\n".join(map(str, paths)), {"restored": [{"path": path} for path in paths]})


def evaluate(
    *,
    hr: str,
    weights: str,
    out: str,
    lr: str | None = None,
    seed: int = 0,
    normalise: str = "least_squares",
    pixel_size: float | None = None,
    window: int | None = None,
    precision: str = "auto",
    device: str | None = None,
    axes: str | None = None,
    pair_pattern: str | None = None,
) -> Answer:
    """Score weights beside bilinear and bicubic interpolation.

    pssr2 evaluate --hr DIR [--lr DIR] --weights FILE --out DIR [--seed 0] [--normalise least_squares]
    [--pixel-size 0.004] [--window N] [--precision auto] [--device D] [--axes ZYX] [--pair-pattern REGEX]

    --hr            folder of high-resolution images
    --lr            folder of their low-resolution partners of the same names; without it the HR images are crappified
    --weights       a model.pt that a training wrote, or em or em_denoise, which come along
    --out           folder for report.html (open it in a browser), metrics.json, metrics.csv and the pictures
    --seed          of the crappifier and of the intervals
    --normalise     least_squares (gain and offset) or pssr2, before the metrics that are called fitted
    --pixel-size    micrometres of the HR pixels, where the files do not tell; resolutions are then in nanometres, too
    --window        largest side of the windows in LR pixels; by default 640, for volumes 96
    --precision     auto, float32 or bfloat16
    --device        cpu, cuda, cuda:1, ...; a GPU where there is one
    --axes          axes of files that do not tell their own, such as ZYX
    --pair-pattern  regular expression whose group is what the names of partners have in common

    Example: pssr2 evaluate --hr test/ --weights run/model.pt --out evaluation/
    """
    from pssr2_monai.evaluation.evaluate import evaluate as run
    from pssr2_monai.evaluation.evaluate import table

    options: dict[str, Any] = {"window": window, "precision": precision, "device": device, "axes": axes}
    options |= {"pair_pattern": pair_pattern, "pixel_size": pixel_size}
    result = run(hr, weights, out, lr=lr, seed=seed, normalise=normalise, **options)
    files = {name: Path(out) / name for name in ("report.html", "metrics.json", "metrics.csv")}
    told = {name: result[name] for name in ("verdict", "mean", "interval", "against", "settings")}
    told |= {"report": files["report.html"], "metrics": files["metrics.json"], "table": files["metrics.csv"]}
    return Answer(f"{table(result)}\n{files['report.html']}", told)


def train(
    data: str,
    *,
    out: str,
    preset: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    dry_run: bool = False,
    **overrides: Any,
) -> Answer:
    """Train a network on a folder of high-resolution images.

    pssr2 train DATA --out RUN [--preset NAME,...] [--epochs N] [--minutes M] [--resume] [--dry-run] [--ID VALUE ...]

    DATA       folder of high-resolution images
    --out      folder for the weights (model.pt), the state to resume from (last.pt) and the TensorBoard files
    --preset   presets laid over the training config: names or JSON files, divided by commas
    --epochs   how many epochs; with --minutes alone there is no bound
    --minutes  stop after so many minutes
    --resume   go on with the training in --out
    --dry-run  tell the merged config, the tiles, the steps, the network and the files to come, and train nothing
    --ID       any id of the config: --scale 2, --tile 192, --batch_size 8, --lr 3e-4, --seed 1, ...

    Example: pssr2 train images/ --out run/ --minutes 15 --scale 4
    """
    options = {"preset": preset, "epochs": epochs, "minutes": minutes, "resume": resume, **overrides}
    if dry_run:
        from pssr2_monai.training.train import plan_training

        plan = plan_training(data, out, **options)
        return Answer(str(plan), plan)
    from pssr2_monai.training.train import train as run

    weights = run(data, out, **options)
    beside = {"last": "last.pt", "config": "config.json", "tensorboard": "tensorboard"}
    return Answer(str(weights), {"weights": weights, **{name: Path(out) / file for name, file in beside.items()}})


def demo(*, out: str = "demo", minutes: float = 4.5, seed: int = 0) -> Answer:
    """Train on real electron microscopy sections and restore one that was not seen.

    pssr2 demo [--out demo] [--minutes 4.5] [--seed 0]

    --out      folder for everything that comes out of it
    --minutes  how long to train
    --seed     of the training

    Example: pssr2 demo --minutes 4.5
    """
    from pssr2_monai.cli.demonstration import demo as run

    shown = run(out, minutes=minutes, seed=seed)
    return Answer(str(shown), shown)


def napari(*files: str) -> None:
    """Open napari with windows to train, restore, calibrate and evaluate in.

    pssr2 napari [FILE ...]

    FILE  images to open, with their axes and pixel size

    Example: pssr2 napari scan.ome.tif
    """
    if find_spec("napari") is None:
        raise InputError("napari: it is not installed; pip install 'pssr2-monai[napari]'")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise InputError("napari: there is no screen (DISPLAY is not set); log in with a desktop, or with ssh -X")
    from napari import run

    from pssr2_monai.napari.viewer import open_viewer

    open_viewer(files)
    run()


COMMANDS: dict[str, Callable[..., Answer | None]] = {
    each.__name__: each
    for each in (
        train,
        restore,
        evaluate,
        info,
        calibrate,
        register,
        crappify,
        preprocess,
        export,
        convert,
        demo,
        napari,
        completion,
    )
}
"""Every verb by its name, in the order in which they are listed."""
