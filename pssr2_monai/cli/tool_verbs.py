"""The verbs that look at images, fit an instrument and convert weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pssr2_monai.cli.answer import Answer


def info(
    file: str,
    *,
    tile: int = 128,
    overlap: int = 0,
    scale: int | list[int] = 4,
    n_frames: int | list[int] = 1,
    stack: str = "TZ",
    axes: str | None = None,
) -> Answer:
    """Tell what was understood of an image file.

    pssr2 info FILE [--tile 128] [--overlap 0] [--scale 4] [--n-frames 1] [--stack TZ] [--axes ZYX]

    FILE        an image file, or a folder of slices
    --tile      side of the tiles of a training, HR pixels; this and the next four decide how many the file gives
    --overlap   HR pixels that neighbouring tiles share
    --scale     HR size over LR size
    --n-frames  frames of a sample
    --stack     order of T and Z
    --axes      axes of a file that does not tell its own

    Example: pssr2 info stack.ome.tif --n-frames 5
    """
    from pssr2_monai.data.datalists import TileSettings
    from pssr2_monai.data.info import describe

    settings = TileSettings(tile=tile, overlap=overlap, scale=scale, n_frames=n_frames, stack=stack, axes=axes)
    found = describe(file, settings)
    return Answer(str(found), found)


def crappify(
    source: str,
    target: str,
    *,
    preset: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    format: str | None = None,
    **overrides: Any,
) -> Answer:
    """Crappify an image, or every image of a folder, as training would.

    pssr2 crappify SOURCE TARGET [--preset NAME,...] [--seed 0] [--overwrite] [--format tif] [--ID VALUE ...]

    SOURCE       an image file, a folder of them, or a folder of slices where TARGET is a file
    TARGET       the file to write, or the folder to write files of the same names into
    --preset     presets laid over the training config: names or JSON files, divided by commas
    --seed       of the crappifier's draws
    --overwrite  replace files that exist
    --format     tif, ome.tif, ome.zarr or png for files written into a folder; by default that of the source
    --ID         any other id of the training config: --scale 2, --axes ZYX, --crappifier#clip false, ...

    Example: pssr2 crappify images/ crappified/ --scale 4
    """
    from pssr2_monai.training.preview import crappify_images as run

    paths = run(source, target, preset=preset, seed=seed, overwrite=overwrite, format=format, **overrides)
    return Answer("\n".join(map(str, paths)), {"crappified": [{"path": path} for path in paths]})


def preprocess(
    data: str,
    out: str,
    *,
    preset: str | None = None,
    epoch: int = 1,
    limit: int | None = None,
    overwrite: bool = False,
    **overrides: Any,
) -> Answer:
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
    from pssr2_monai.training.preview import preprocess as run

    paths = run(data, out, preset=preset, epoch=epoch, limit=limit, overwrite=overwrite, **overrides)
    return Answer(f"{out}: {len(paths)} files", {"tiles": paths})


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
    from pssr2_monai.calibration.calibrate import calibrate as run
    from pssr2_monai.calibration.calibrate import summary

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
    from pssr2_monai.calibration.registration.register import TABLE, summary
    from pssr2_monai.calibration.registration.register import register as run

    options: dict[str, Any] = {"scale": scale, "model": model, "min_score": min_score}
    done = run(hr, lr, out, **options, pair_pattern=pair_pattern, axes=axes)
    return Answer(summary(done), {"pairs": done, "table": Path(out) / TABLE})


def export(
    weights: str,
    target: str,
    *,
    format: str | None = None,
    name: str | None = None,
    description: str | None = None,
    authors: str | None = None,
    license: str | None = None,
    cite: str | None = None,
    cover: str | None = None,
    example: str | None = None,
    dtype: str | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Answer:
    """Write weights as a file that runs without this package.

    pssr2 export WEIGHTS TARGET [--format torchscript|torch_export|onnx|bioimageio] [--example SCAN] [--authors NAMES]

    WEIGHTS    a model.pt that a training wrote, or a .pth of the original pssr package
    TARGET     the file to write: .ts (TorchScript), .pt2 (torch.export), .onnx, or .zip (a BioImage.IO package)
    --format   where the suffix does not tell

    The file takes any batch, height and width, and is run beside the network before it gets its name. Of a BioImage.IO
    package alone, which takes and gives grey levels:

    --example  a scan, whose middle becomes the example, and which tells the data type and, where the training scaled
               each file by itself, the grey levels of black and white
    --dtype    uint8, int8, uint16, int16 or float32, without an example; --low and --high, those grey levels
    --authors  names, separated by semicolons; --license, an SPDX identifier; --name, --description and --cover
    --cite     what to cite beside PSSR2 and MONAI: 'Author YEAR, Title 10.1234/DOI', separated by semicolons

    Example: pssr2 export run/model.pt model.onnx
    """
    from pssr2_monai.export.export import export as run
    from pssr2_monai.export.grey_levels import PackageSettings

    options = {
        "name": name,
        "description": description,
        "authors": authors,
        "license": license,
        "cite": cite,
        "cover": cover,
        "example": example,
        "dtype": dtype,
        "low": low,
        "high": high,
    }
    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    done = run(weights, target, format, PackageSettings(**given) if given else None)
    text = f"{done.path}: {done.difference:.1g} grey levels of 255 off at most, at {len(done.shapes)} sizes"
    return Answer(f"{text}; {done.takes}" if done.takes else text, done)


def convert(
    original: str,
    target: str,
    *,
    dilations: list[Any] | None = None,
    pool_sizes: list[int] | None = None,
    qk_scale: float | None = None,
    scale: int | None = None,
) -> Answer:
    """Turn weights of the original pssr package into a model.pt.

    pssr2 convert ORIGINAL TARGET [--dilations LISTS] [--pool-sizes LIST] [--qk-scale X] [--scale N]

    ORIGINAL      a .pth that pssr 2.x saved: ResUNet, ResUNetA, RDResUNet, RDResUNetA or SwinIR
    TARGET        the model.pt to write; restore also takes ORIGINAL as it is
    --dilations   a list for each level, and --pool-sizes a list: where they were not the original's defaults
    --pool-sizes  see --dilations
    --qk-scale    of a SwinIR, where one was given
    --scale       of a SwinIR with the upsampler pixelshuffledirect

    Example: pssr2 convert weights.pth model.pt
    """
    from pssr2_monai.networks.weights import convert as run

    options = {"dilations": dilations, "pool_sizes": pool_sizes, "qk_scale": qk_scale, "scale": scale}
    written = run(original, target, **{name: value for name, value in options.items() if value is not None})
    return Answer(str(written), {"weights": written})
