"""The verbs of the command ``pssr2``: one plain function each, whose docstring is its help.

Heavy packages are imported inside the functions, so that ``pssr2 --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fire.decorators import SetParseFn

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


@SetParseFn(str, "source", "target", "weights", "device", "precision", "axes", "format")
def restore(
    source: str,
    target: str,
    *,
    weights: str,
    window: int | None = None,
    overlap: float = 0.25,
    precision: str = "auto",
    device: str | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    format: str | None = None,
) -> None:
    """Restore an image, or every image of a folder.

    pssr2 restore INPUT OUTPUT --weights FILE [--window N] [--overlap 0.25] [--precision auto] [--device D] [--axes
    ZYX] [--overwrite] [--skip-bad] [--format ome.zarr]

    INPUT        an image file, a folder of them, or a folder of slices where OUTPUT is a file
    OUTPUT       the file to write, or the folder to write files of the same names into
    --weights    a model.pt that a training wrote
    --window     side of the windows in LR pixels, 256 or, of volumes, 96; smaller ones take less memory
    --overlap    share of a window in common with the next, at least 0.25
    --precision  auto, float32 or bfloat16
    --device     cpu, cuda, cuda:1, ...; a GPU where there is one
    --axes       axes of files that do not tell their own, such as ZYX
    --overwrite  replace files that exist
    --format     tif, ome.tif, ome.zarr or png for files written into a folder; by default that of the input
    --skip-bad   leave out files that cannot be read, instead of stopping before any work

    Example: pssr2 restore scans/ restored/ --weights run/model.pt
    """
    from pssr2_monai.restoring import restore as run

    written = run(
        source,
        target,
        weights,
        window=window,
        overlap=overlap,
        precision=precision,
        device=device,
        axes=axes,
        overwrite=overwrite,
        skip_bad=skip_bad,
        format=format,
    )
    for path in written:
        print(path)


@SetParseFn(str, "hr", "lr", "weights", "out", "device", "precision", "axes", "pair_pattern")
def evaluate(
    *,
    hr: str,
    weights: str,
    out: str,
    lr: str | None = None,
    seed: int = 0,
    window: int | None = None,
    precision: str = "auto",
    device: str | None = None,
    axes: str | None = None,
    pair_pattern: str | None = None,
) -> None:
    """Score weights beside bilinear and bicubic interpolation.

    pssr2 evaluate --hr DIR [--lr DIR] --weights FILE --out DIR [--seed 0] [--window N] [--precision auto] [--device
    D] [--axes ZYX]

    --hr       folder of high-resolution images
    --lr       folder of their low-resolution partners of the same names; without it the HR images are crappified
    --weights  a model.pt that a training wrote
    --out      folder for metrics.json and the pictures LR | bicubic | restored | HR
    --seed     of the crappifier
    --pair_pattern  regular expression whose group is what the names of partners have in common

    Example: pssr2 evaluate --hr test/ --weights run/model.pt --out evaluation/
    """
    from pssr2_monai.evaluation import evaluate as run
    from pssr2_monai.evaluation import table

    options = {"window": window, "precision": precision, "device": device, "axes": axes, "pair_pattern": pair_pattern}
    result = run(hr, weights, out, lr=lr, seed=seed, **options)  # type: ignore[arg-type]
    print(table(result))


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
    from pssr2_monai.dataset import TileSettings
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
    each.__name__: each for each in (train, restore, evaluate, info, convert, demo)
}
