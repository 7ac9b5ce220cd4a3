"""The verbs of the command ``pssr2``: one plain function each, whose docstring is its help.

Heavy packages are imported inside the functions, so that ``pssr2 --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fire.decorators import SetParseFn

from pssr2_monai.errors import InputError

__all__ = ["COMMANDS"]


@SetParseFn(str, "data", "out", "preset")
def train(
    data: str,
    *,
    out: str,
    preset: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    **overrides: Any,
) -> None:
    """Train a network on a folder of high-resolution images.

    pssr2 train DATA --out RUN [--preset NAME,...] [--epochs N] [--minutes M] [--resume] [--ID VALUE ...]

    DATA       folder of high-resolution images
    --out      folder for the weights (model.pt), the state to resume from (last.pt) and the TensorBoard files
    --preset   presets laid over the training config: names or JSON files, divided by commas
    --epochs   how many epochs; with --minutes alone there is no bound
    --minutes  stop after so many minutes
    --resume   go on with the training in --out
    --ID       any id of the config: --scale 2, --tile 192, --batch_size 8, --lr 3e-4, --seed 1, ...

    Example: pssr2 train images/ --out run/ --minutes 15 --scale 4
    """
    from pssr2_monai.workflow import train as run

    weights = run(data, out, preset=preset, epochs=epochs, minutes=minutes, resume=resume, **overrides)
    print(weights)


@SetParseFn(str, "source", "target", "weights", "device", "precision", "axes", "format", "scheduler", "profile")
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
    estimate: bool = False,
    profile: str | None = None,
    fidelity: bool = False,
    uncertainty: bool = False,
) -> None:
    """Restore an image, or every image of a folder.

    pssr2 restore INPUT OUTPUT --weights FILE [--window N] [--overlap 0.2] [--precision auto] [--backend torch]
    [--device D] [--axes ZYX] [--overwrite] [--skip-bad] [--format ome.zarr] [--workers N | --scheduler ADDRESS]
    [--estimate] [--profile DIR] [--fidelity] [--uncertainty]

    INPUT        an image file, a folder of them, or a folder of slices where OUTPUT is a file
    OUTPUT       the file to write, or the folder to write files of the same names into
    --weights    a model.pt that a training wrote; with --uncertainty also several, joined by commas
    --window     largest side of the windows in LR pixels, 640 or, of volumes, 96; smaller ones take less memory
    --overlap    share of a window in common with the next; by default 64 LR pixels
    --precision  auto, float32 or bfloat16
    --backend    torch, or openvino, which is quicker on some processors
    --device     cpu, cuda, cuda:1, ...; a GPU where there is one
    --axes       axes of files that do not tell their own, such as ZYX
    --overwrite  replace files that exist
    --format     tif, ome.tif, ome.zarr or png for files written into a folder; by default that of the input
    --skip-bad   leave out files that cannot be read, instead of stopping before any work
    --workers    how many processes of this machine share the work, each with a network of its own
    --scheduler  address of a Dask cluster that is to do the work, such as tcp://host:8786
    --profile    folder for a table of where the time went and a trace of it; for a small image
    --estimate   tell pixels, bytes, blocks, memory and time, by a trial of a few windows, and write nothing
    --fidelity   tell whether each output agrees with its input, and write maps of z-scores beside it
    --uncertainty  restore as the mean over eight orientations, and write NAME_uncertainty, their spread, beside it

    What was interrupted goes on where it stopped when the same command is given again.

    Example: pssr2 restore scans/ restored/ --weights run/model.pt
             pssr2 restore volume.ome.zarr restored.ome.zarr --weights run/model.pt --workers 4
    """
    options: dict[str, Any] = {"window": window, "overlap": overlap, "precision": precision, "device": device}
    options |= {"backend": backend}
    options |= {"axes": axes, "overwrite": overwrite, "skip_bad": skip_bad, "format": format}
    options |= {"workers": workers, "scheduler": scheduler}
    if estimate and uncertainty:
        raise InputError("estimate: counts one look at each image; uncertainty has eight for each file of weights")
    if profile is not None and (workers or scheduler or estimate or fidelity or uncertainty):
        raise InputError("profile: tells of plain restoring in one process; leave the other options out")
    if (fidelity or uncertainty) and not estimate:
        from pssr2_monai.fidelity.maps import restore_with_maps, told

        files = weights.split(",") if uncertainty else weights
        mapped = restore_with_maps(source, target, files, fidelity=fidelity, uncertainty=uncertainty, **options)
        print("\n".join(line for each in mapped for line in told(each)))
        return
    from pssr2_monai.restoration.restoring import estimate_restoring
    from pssr2_monai.restoration.restoring import restore as run

    if estimate:
        print(estimate_restoring(source, target, weights, **options))
        return
    for path in run(source, target, weights, **options, profile=profile):
        print(path)


@SetParseFn(str, "hr", "lr", "weights", "out", "normalise", "device", "precision", "axes", "pair_pattern")
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
) -> None:
    """Score weights beside bilinear and bicubic interpolation.

    pssr2 evaluate --hr DIR [--lr DIR] --weights FILE --out DIR [--seed 0] [--normalise least_squares] [--pixel_size
    0.004] [--window N] [--precision auto] [--device D] [--axes ZYX]

    --hr          folder of high-resolution images
    --lr          folder of their low-resolution partners of the same names; without it the HR images are crappified
    --weights     a model.pt that a training wrote
    --out         folder for report.html (open it in a browser), metrics.json, metrics.csv and the pictures
    --seed        of the crappifier and of the intervals
    --normalise   least_squares (gain and offset) or pssr2, before the metrics that are called fitted
    --pixel_size  micrometres of the HR pixels, where the files do not tell; resolutions are then in nanometres, too
    --pair_pattern  regular expression whose group is what the names of partners have in common

    Example: pssr2 evaluate --hr test/ --weights run/model.pt --out evaluation/
    """
    from pssr2_monai.evaluation.evaluating import evaluate as run
    from pssr2_monai.evaluation.evaluating import table

    options = {"window": window, "precision": precision, "device": device, "axes": axes, "pair_pattern": pair_pattern}
    result = run(hr, weights, out, lr=lr, seed=seed, normalise=normalise, pixel_size=pixel_size, **options)  # type: ignore[arg-type]
    print(table(result))
    print(Path(out) / "report.html")


@SetParseFn(str, "file", "stack", "axes")
def info(
    file: str,
    *,
    tile: int = 128,
    overlap: int = 0,
    scale: int = 4,
    n_frames: int = 1,
    stack: str = "TZ",
    axes: str | None = None,
) -> None:
    """Tell what was understood of an image file.

    pssr2 info FILE [--tile 128] [--overlap 0] [--scale 4] [--n_frames 1] [--stack TZ] [--axes ZYX]

    FILE        an image file, or a folder of slices
    --tile      and the options after it: as for training; they decide how many tiles the file gives
    --axes      axes of a file that does not tell its own

    Example: pssr2 info stack.ome.tif --n_frames 5
    """
    from pssr2_monai.datalists import TileSettings
    from pssr2_monai.info import describe

    settings = TileSettings(tile=tile, overlap=overlap, scale=scale, n_frames=n_frames, stack=stack, axes=axes)
    print(describe(file, settings))


@SetParseFn(str, "original", "target")
def convert(original: str, target: str, **options: Any) -> None:
    """Turn weights of the original pssr package into a model.pt.

    pssr2 convert ORIGINAL.pth MODEL.pt [--dilations ...] [--pool_sizes ...] [--scale N]

    ORIGINAL.pth  a file that pssr 2.x saved: ResUNet, ResUNetA, RDResUNet, RDResUNetA or SwinIR
    MODEL.pt      the file to write; restore also takes ORIGINAL.pth as it is
    --dilations   and the other options: what the tensors do not tell, where it is not the original's default

    Example: pssr2 convert weights.pth model.pt
    """
    from pssr2_monai.record import convert as run

    print(run(original, target, **options))


@SetParseFn(str, "weights", "target", "format")
def export(weights: str, target: str, *, format: str | None = None) -> None:
    """Write weights as a file that runs without this package.

    pssr2 export MODEL.pt TARGET [--format torchscript|torch_export|onnx]

    MODEL.pt  weights that a training wrote, or a .pth of the original pssr package
    TARGET    the file to write: .ts (TorchScript), .pt2 (torch.export) or .onnx
    --format  torchscript, torch_export or onnx, where the suffix does not tell

    The file takes any batch, height and width, and is run beside the network before it gets its name.

    Example: pssr2 export run/model.pt model.onnx
    """
    from pssr2_monai.export import export as run

    done = run(weights, target, format=format)
    print(f"{done.path}: {done.difference:.1g} grey levels of 255 off at most, at {len(done.shapes)} sizes")


@SetParseFn(str, "lr", "hr", "out", "model", "downsample", "register", "intensity", "pair_pattern", "axes")
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
) -> None:
    """Fit the crappifier to real images and write it as a preset for training.

    pssr2 calibrate --hr DIR --lr DIR --out FILE.json [--model poisson+gaussian] [--calls 40] [--seed 0] [--scale N]

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
    --pair_pattern  regular expression whose group is what the names of partners have in common
    --axes          axes of files that do not tell their own

    Example: pssr2 calibrate --hr pairs/HR --lr pairs/LR --out scope.json
             pssr2 train images/ --out run/ --preset scope.json
    """
    from pssr2_monai.calibration.calibrating import calibrate as run
    from pssr2_monai.calibration.calibrating import summary

    options = {"scale": scale, "calls": calls, "seed": seed, "spread": spread, "intensity": intensity}
    options |= {"downsample": downsample, "register": register, "pair_pattern": pair_pattern, "axes": axes}
    print(summary(run(lr, out, hr=hr, model=model, **options)))  # type: ignore[arg-type]


@SetParseFn(str, "source", "target", "preset", "format")
def crappify(
    source: str,
    target: str,
    *,
    preset: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    format: str | None = None,
    **overrides: Any,
) -> None:
    """Crappify an image, or every image of a folder, as training would.

    pssr2 crappify INPUT OUTPUT [--scale 4] [--preset FILE.json] [--seed 0] [--overwrite] [--format tif] [--ID VALUE]

    INPUT        an image file, a folder of them, or a folder of slices where OUTPUT is a file
    OUTPUT       the file to write, or the folder to write files of the same names into
    --scale      HR size over LR size
    --preset     presets laid over the training config: names or JSON files, divided by commas
    --seed       of the crappifier's draws
    --overwrite  replace files that exist
    --format     tif, ome.tif, ome.zarr or png for files written into a folder; by default that of the input
    --ID         any other id of the training config: --axes ZYX, --crappifier#clip false, ...

    Example: pssr2 crappify images/ crappified/ --scale 4 --preset scope.json
    """
    from pssr2_monai.crappifying import crappify_images as run

    for path in run(source, target, preset=preset, seed=seed, overwrite=overwrite, format=format, **overrides):
        print(path)


@SetParseFn(str, "data", "out", "preset")
def preprocess(
    data: str,
    out: str,
    *,
    preset: str | None = None,
    epoch: int = 1,
    limit: int | None = None,
    overwrite: bool = False,
    **overrides: Any,
) -> None:
    """Write the LR and HR tiles that training would see.

    pssr2 preprocess DATA OUT [--preset NAME,...] [--epoch 1] [--limit N] [--overwrite] [--ID VALUE ...]

    DATA         folder of high-resolution images, as for a training
    OUT          folder for LR/ and HR/, whose TIFF files say sheet, frame, row and column
    --preset     presets laid over the training config: names or JSON files, divided by commas
    --epoch      which epoch's tiles: each draws places and noise anew
    --limit      at most so many tiles, spread evenly over all there are
    --overwrite  write into folders that hold files already
    --ID         any other id of the training config: --scale 2, --tile 192, --seed 1, ...

    Example: pssr2 preprocess images/ tiles/ --limit 20
    """
    from pssr2_monai.crappifying import preprocess as run

    written = run(data, out, preset=preset, epoch=epoch, limit=limit, overwrite=overwrite, **overrides)
    print(f"{out}: {len(written)} files")


@SetParseFn(str, "hr", "lr", "out", "model", "pair_pattern", "axes")
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
) -> None:
    """Align real pairs of LR and HR images and write what they share.

    pssr2 register --hr DIR --lr DIR --out DIR [--scale 4] [--model similarity] [--min_score 7] [--axes ZYX]

    --hr         folder of high-resolution images
    --lr         folder of low-resolution images of the same fields and names
    --out        new folder: LR (cropped only), HR (interpolated onto the LR images' grid), registration.csv
    --scale      HR pixels a LR pixel; by default from the pixel sizes, or else the sizes of the images
    --model      shift, rigid (and rotation), similarity (and size) or affine (and shear)
    --min_score  pairs that score less are left out: they do not seem to show the same field
    --pair_pattern  regular expression whose group is what the names of partners have in common
    --axes       axes of files that do not tell their own

    Example: pssr2 register --hr slow/ --lr fast/ --out pairs/
             pssr2 train pairs/ --out run/ --preset paired
    """
    from pssr2_monai.registration.registering import register as run
    from pssr2_monai.registration.registering import summary

    options = {"scale": scale, "model": model, "min_score": min_score, "pair_pattern": pair_pattern, "axes": axes}
    print(summary(run(hr, lr, out, **options)))  # type: ignore[arg-type]


@SetParseFn(str, "out")
def demo(*, out: str = "demo", minutes: float = 4.5, seed: int = 0) -> None:
    """Train on real electron microscopy sections and restore one that was not seen.

    pssr2 demo [--out demo] [--minutes 4.5] [--seed 0]

    --out      folder for everything that comes out of it
    --minutes  how long to train
    --seed     of the training

    Example: pssr2 demo --minutes 4.5
    """
    from pssr2_monai.demo import demo as run

    print(run(out, minutes=minutes, seed=seed))


COMMANDS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (train, restore, evaluate, info, convert, export, calibrate, crappify, preprocess, register, demo)
}
