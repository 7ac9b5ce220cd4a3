"""Which files are images, by their names: the registry of formats, and the images of a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pssr2_monai.errors import InputError

SUFFIXES = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "pillow",
    ".jpg": "pillow",
    ".jpeg": "pillow",
    ".zarr": "omezarr",
    ".czi": "czi",
    ".mrc": "mrc",
    ".map": "mrc",
    ".rec": "mrc",
    ".st": "mrc",
    ".nrrd": "itk",
    ".nhdr": "itk",
    ".mha": "itk",
    ".mhd": "itk",
    ".nii": "itk",
    ".nii.gz": "itk",
}
"""Which module of this package reads which files: a new format is one module and its lines here.

Such a module has ``open_file(path) -> LazyImage``. The image may keep axes of length 1 and may use the letters "S" for
the samples of a colour pixel and any other letter for an axis of unknown meaning; `open_image` settles these.
"""
UNREAD = {
    ".nd2": "Nikon ND2",
    ".lif": "Leica LIF",
    ".oib": "Olympus OIB",
    ".oir": "Olympus OIR",
    ".ims": "Imaris IMS",
    ".dm3": "Gatan DM3",
    ".dm4": "Gatan DM4",
    ".lsm": "Zeiss LSM",
}
"""Formats of microscopes that are refused by name, with a way out."""
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


def list_images(folder: str | Path) -> list[Path]:
    """The images of a folder in natural order: cell_2 before cell_10.

    An image is a file, or a Zarr folder, with a known suffix in small or capital letters; hidden ones are left out.
    Folders within it are left out, too, unless it holds nothing else: then each with images is a stack of slices.

    Raises:
        InputError: no such folder, or none of its files is an image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise InputError(f"{folder}: {found}; give a folder of images")
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    images = [entry for entry in entries if _is_image(entry)]
    if not images:
        # Folders of numbered slices: each is one stack.
        images = [entry for entry in entries if entry.is_dir() and any(map(_is_image, entry.iterdir()))]
    if not images:
        raise InputError(f"{folder}: holds no image; images end in {', '.join(sorted(SUFFIXES))}")
    return sorted(images, key=_natural)


def _is_image(entry: Path) -> bool:
    module = _module_by_suffix(entry)
    return module is not None and entry.is_dir() == (module == "omezarr")


def module_of(path: Path) -> str | None:
    """The module that reads this file or folder, or None."""
    if is_zarr(path):
        return "omezarr"
    module = _module_by_suffix(path)
    return None if path.is_dir() and module != "omezarr" else module


def is_zarr(path: Path) -> bool:
    """Whether this is a folder that Zarr wrote, whatever its name."""
    return any((path / name).is_file() for name in _ZARR_FILES)


def _module_by_suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((module for suffix, module in SUFFIXES.items() if name.endswith(suffix)), None)


def unread(path: Path) -> str:
    """Why a file of this name is not read, and what to do."""
    suffix = path.suffix.lower()
    if suffix in UNREAD:
        return f"{UNREAD[suffix]} files are not read; export the image as OME-TIFF (Fiji: Bio-Formats Exporter)"
    return f"files ending in {suffix!r} are not read; images end in {', '.join(sorted(SUFFIXES))}"


def _natural(path: Path) -> tuple[Any, ...]:
    """A sorting key by which numbers within names count as numbers."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], path.name
