"""A training for given scans: the crappifier is fitted to them before it begins."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from monai.bundle import ConfigParser

from pssr2_monai.data.datalists import TileSettings
from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors, is_volume
from pssr2_monai.images.files import list_images
from pssr2_monai.images.image import open_image
from pssr2_monai.training.config import resolving_parser
from pssr2_monai.training.run_folder import RunFolder

FITTED = "scans.json"  # the fitted preset, in the folder of a training
MAX_SCALE_ERROR = 1.25  # factor between the scale and what the pixel sizes of files state, at most
logger = logging.getLogger(__name__)


def fit_to_scans(scans: str | Path | None) -> None:
    """Fit contrast and noises of the config that is being resolved to scans that are to be restored.

    To be called in the config's ``initialize``: what was resolved so far is resolved anew. The preset is written into
    the folder of the training, from where one that is resumed takes it. Without scans nothing is done.

    Raises:
        InputError: before any work, scans that cannot be read, or whose pixel size contradicts the scale; pairs, which
            have their own noise; volumes; a resumed training whose preset is missing.
    """
    if scans is None:
        return
    parser = resolving_parser()
    target = Path(parser.get_parsed_content("ckpt_dir")) / FITTED
    if parser.get_parsed_content("resume") is None:
        if parser.get_parsed_content("lr_dir") is not None:
            raise InputError("scans: pairs (lr_dir) have their own noise; leave one of the two out")
        _fit(Path(scans), target, parser)
    elif not target.is_file():
        raise InputError(f"{target}: is missing, with the noise that the training was started with; restore the file")
    preset = json.loads(target.read_text(encoding="utf-8"))
    for name in ("contrast", "brightness", "crappifier#clip", "crappifier#noises"):
        if name in preset:  # runs of 0.1.0 have no clip
            parser.set(preset[name], name, recursive=False)
    parser.set(str(target.with_suffix(".png")), "calibration")


def check_scans(
    scans: str | Path, tiles: TileSettings, pixel_size: dict[str, float] | None = None, hr_dir: str | Path | None = None
) -> list[Path]:
    """Return the files of scans, if a crappifier can be fitted to them; ``pixel_size`` is that of the HR images."""
    if is_volume(tiles.scale):
        raise InputError(f"scans: a scale of {tiles.scale}, of volumes, cannot be calibrated; give one number")
    paths = list_images(scans)
    with open_image(paths[0], tiles.axes, tiles.image) as first:
        size, dtype = dict(first.pixel_size), first.dtype
    scale = max(factors(tiles.scale))
    if pixel_size and {"X"} <= pixel_size.keys() & size.keys():
        stated = size["X"] / pixel_size["X"]
        if not 1 / MAX_SCALE_ERROR <= stated / scale <= MAX_SCALE_ERROR:
            raise InputError(
                f"scans: pixels of {paths[0].name} are {stated:.3g} times as wide as those of the HR images, but the "
                f"scale is {scale}; set the scale, or correct the pixel sizes"
            )
    if hr_dir is not None and tiles.intensity.mode == "fixed":
        with open_image(list_images(hr_dir)[0], tiles.axes, tiles.image) as image:
            if image.dtype != dtype:
                raise InputError(
                    f"scans: {paths[0].name} holds {dtype}, {image.path.name} {image.dtype}, but one fixed intensity "
                    "range is for both; leave intensity#mode out"
                )
    return paths


def _fit(scans: Path, target: Path, parser: ConfigParser) -> None:
    # Seconds to import, with ITK and scikit-optimize, which a training without scans need not.
    from pssr2_monai.calibration.calibrate import calibrate_to_scans, summary
    from pssr2_monai.calibration.real_pairs import Reading

    tiles, hr_dir = parser.get_parsed_content("tiles"), Path(parser.get_parsed_content("hr_dir"))
    check_scans(scans, tiles)
    lists = parser.get_parsed_content("lists")  # reads every image's header, so that errors come before any work
    check_scans(scans, tiles, lists.pixel_size, hr_dir)
    downsample = str(parser.get("crappifier#downsample", "bilinear"))
    reading = Reading(max(factors(tiles.scale)), downsample, "none", lists.intensity, None, tiles.axes, tiles.image)
    folder = RunFolder(target.parent)
    folder.take()
    try:
        calibration = calibrate_to_scans(scans, hr_dir, target, reading, parser.get_parsed_content("seed"))
    finally:
        folder.release()
    logger.info("noise of the scans\n%s", summary(calibration))
    for note in calibration.notes:
        logger.warning("scans: %s", note)
