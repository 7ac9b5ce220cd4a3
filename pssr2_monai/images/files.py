"""Which files are images: the suffixes of the formats, and the images of a folder."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError

logger = logging.getLogger(__name__)
SUFFIXES = {
    **dict.fromkeys((".tif", ".tiff", ".btf", ".tf8", ".lsm", ".stk", ".companion.ome"), "tiff"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), "pillow"),
    ".zarr": "omezarr",
    ".czi": "czi",
    ".nd2": "nd2",
    **dict.fromkeys((".lif", ".lof"), "lif"),
    **dict.fromkeys((".dm3", ".dm4"), "dm"),
    **dict.fromkeys((".mrc", ".mrcs", ".map", ".rec", ".st", ".ali"), "mrc"),
    **dict.fromkeys((".mrc.gz", ".mrc.bz2", ".map.gz", ".map.bz2", ".rec.gz"), "mrc"),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz"), "itk"),
}
"""The module of ``formats`` that reads files of a suffix: a new format is one module and its line here.

Such a module has ``open_file(path)``, which returns a ``image.LazyImage`` or, where a file may hold several, their
``Contents``. The images may keep axes of length 1 and may use the letters "S" for the samples of a colour pixel, "I"
and "Q" for an axis of unknown meaning, and others for positions, detectors and the like; `open_image` resolves them.
"""
UNREAD = {  # formats of microscopes, by the names for the message
    ".oib": "Olympus OIB",
    ".oir": "Olympus OIR",
    ".vsi": "Olympus VSI",
    ".ims": "Imaris IMS",
    ".emd": "EMD",
    ".ser": "TIA SER",
}
SIDECARS = (
    *(".txt", ".log", ".md", ".pdf", ".html", ".docx", ".xlsx", ".csv", ".tsv", ".json", ".xml", ".db", ".zip"),
    *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".py", ".ijm", ".roi", ".part", ".tmp"),
    ".ome",  # OME-XML of a set of files
    *(".raw", ".zraw"),  # pixels of .mhd and .nhdr
)
"""Files that lie next to images and are left out without a word."""
MAX_NAMES = 5  # files that a message names
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


def list_images(folder: str | Path) -> list[Path]:
    """The images of a folder in natural order: cell_2 before cell_10.

    An image is a file, or a Zarr folder, with a known suffix in lower or upper case; hidden ones are left out. If there
    are none, each folder that contains images is one stack of slices. Of a set of files that hold planes of one image,
    the first is listed. Files of other formats, and folders of images next to images, are named in the log.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise InputError(f"{folder}: {problem}; give a folder of images")
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    images = [entry for entry in entries if _is_image(entry)]
    skipped = [entry for entry in entries if not format_of(entry) and not _is_sidecar(entry) and entry.is_file()]
    if skipped:
        names = first_names(sorted(path.name for path in skipped))
        log_once(folder.absolute(), f"left out, since files of their kind are not read: {names}")
    others = set(entries).difference(images)  # of sets, since there may be 10,000 images
    folders = [entry for entry in entries if entry in others and _holds_images(entry)]
    if images and folders:
        names = first_names(sorted(path.name for path in folders))
        log_once(folder.absolute(), f"folders of images in it are left out: {names}", logging.INFO)
    images = images or folders
    if not images:
        raise InputError(f"{folder}: holds no image; images end in {', '.join(sorted(SUFFIXES))}")
    images.sort(key=lambda path: natural_order(path.name))
    tiffs = [image for image in images if image.is_file() and format_of(image) == "tiff"]
    if len(tiffs) < 2:
        return images
    from pssr2_monai.images.formats.tiff_sets import one_of_each_set  # loads tifffile

    left_out = set(tiffs).difference(one_of_each_set(tiffs))
    return [image for image in images if image not in left_out]


def files_of_image(path: Path) -> list[Path]:
    """The files that an image file shares its images with, and itself: of a set of files, several."""
    if format_of(path) != "tiff":
        return [path]
    from pssr2_monai.images.formats.tiff_sets import files_of_set

    return sorted({path, *filter(Path.exists, files_of_set(path))})


def _is_image(entry: Path) -> bool:
    module = format_of(entry)
    is_companion = entry.suffix.lower() in SIDECARS
    return module is not None and entry.is_dir() == (module == "omezarr") and not is_companion


def _holds_images(entry: Path) -> bool:
    try:
        return entry.is_dir() and any(map(_is_image, entry.iterdir()))
    except OSError:  # no permission, as of the system's folders on a disk
        return False


def _is_sidecar(entry: Path) -> bool:
    return entry.suffix.lower() in SIDECARS or not entry.suffix


@cache
def log_once(path: str | Path, message: str, level: int = logging.WARNING) -> None:
    """Log a message about a file or a folder once in a process."""
    logger.log(level, "%s: %s", Path(path).name, message)


def first_names(names: Iterable[str]) -> str:
    """The first names of a list and the number of the others, for messages."""
    listed = list(names)
    more = f" and {len(listed) - MAX_NAMES} more" if len(listed) > MAX_NAMES else ""
    return f"{', '.join(listed[:MAX_NAMES])}{more}"


def is_zarr(path: Path) -> bool:
    """Whether this is a Zarr folder, whatever its name."""
    return any((path / name).is_file() for name in _ZARR_FILES)


def format_of(path: Path) -> str | None:
    """The module that reads a file, by its suffix."""
    name = path.name.lower()
    return next((module for suffix, module in SUFFIXES.items() if name.endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """The name of an image without the suffix of its format: ``cell.ome.tif`` and ``cell.map.gz`` are ``cell``."""
    suffix = max((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), key=len, default=path.suffix)
    name = path.name[: len(path.name) - len(suffix)] if suffix else path.name
    return name[:-4] if name.lower().endswith(".ome") else name


def same_name(name: str) -> str:
    """A name in the form in which names are compared: systems write accents as one character or as two."""
    return unicodedata.normalize("NFC", name)


def natural_order(name: str) -> tuple[Any, ...]:
    """A key that sorts names with their numbers as numbers."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], name
