"""``pssr2 info``, ``crappify`` and ``preprocess``: looking at images, and at what a training makes of them."""

from __future__ import annotations

from typing import Any

from pssr2_monai.commands.answer import Answer

__all__ = ["crappify", "info", "preprocess"]


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
    from pssr2_monai.datalists import TileSettings
    from pssr2_monai.info import describe

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
    from pssr2_monai.crappifying import crappify_images as run

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
    from pssr2_monai.crappifying import preprocess as run

    paths = run(data, out, preset=preset, epoch=epoch, limit=limit, overwrite=overwrite, **overrides)
    return Answer(f"{out}: {len(paths)} files", {"tiles": paths})
