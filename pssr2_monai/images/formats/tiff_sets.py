"""Sets of TIFF files that share images: which files they are, and the OME-XML that describes those of one file."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import log_once
from pssr2_monai.images.formats.tiff_series import files_of, images_of, named_files

COMPANION = ".ome"  # suffix of a file of OME-XML alone
UUIDS = "{*}Pixels/{*}TiffData/{*}UUID"


def open_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF; one of an OME-TIFF set with the metadata of its own images, which may be in another of the files.

    A companion file of OME-XML opens as the first file that it names.
    """
    if path.suffix.lower() == COMPANION:
        root = ElementTree.parse(path).getroot()
        names = [place.get("FileName") or "" for place in root.iterfind(f"{{*}}Image/{UUIDS}")]
        if not names:
            raise InputError(f"{path.name}: names no file with pixels; open the TIFF files that belong to it")
        _make_ids_distinct(root, names[0])
        return _opened(path.with_name(names[0]), root)
    tif = tifffile.TiffFile(path)
    if not tif.is_ome:
        return tif
    try:
        metadata, root, own = _ome_xml(path, tif.ome_metadata or "")
    except ElementTree.ParseError:  # which tifffile reads as if there were no such metadata
        return tif
    except FileNotFoundError as error:
        log_once(path, f"the metadata of its set are in {error.filename}, which is missing; it is read by itself")
        return tif
    images = root.findall("{*}Image")
    changed = _make_ids_distinct(root, metadata.name)
    if metadata == path and len(own) == len(images) and not changed:
        return tif
    tif.close()
    if images and not own:
        log_once(path, "its OME-XML describes other files; its pages are read as they are")
        return tifffile.TiffFile(path, is_ome=False)
    for image in images:
        if image not in own:  # so that the files of the others need not be opened
            root.remove(image)
    return _opened(path if metadata.suffix.lower() == COMPANION else metadata, root)


def _opened(path: Path, root: ElementTree.Element) -> tifffile.TiffFile:
    return tifffile.TiffFile(path, omexml=ElementTree.tostring(root, encoding="unicode"))


def _ome_xml(path: Path, xml: str) -> tuple[Path, ElementTree.Element, list[ElementTree.Element]]:
    """The file that holds the OME-XML of a file of a set, the XML, and those of its images with pixels in the file.

    Raises:
        FileNotFoundError: the XML is in a file that is missing.
    """
    root, metadata = ElementTree.fromstring(xml), path
    elsewhere = root.find("{*}BinaryOnly")
    if elsewhere is not None:
        metadata = path.with_name(elsewhere.get("MetadataFile", ""))
        if not metadata.is_file():
            raise FileNotFoundError(errno.ENOENT, "missing metadata", metadata.name)
        if metadata.suffix.lower() == COMPANION:
            root = ElementTree.parse(metadata).getroot()
        else:
            with tifffile.TiffFile(metadata) as tif:
                root = ElementTree.fromstring(tif.ome_metadata or "")
    uuid = root.get("UUID") if metadata == path else None
    places = root.findall(f"{{*}}Image/{UUIDS}")
    if metadata == path and len({place.get("FileName") for place in places}) == 1:
        for place in places:  # one file, which may have been renamed
            place.set("FileName", path.name)
    return metadata, root, [image for image in root.iterfind("{*}Image") if _is_in(image, path.name, uuid)]


def _is_in(image: ElementTree.Element, name: str, uuid: str | None) -> bool:
    """Whether an image has pixels in the file of this name or, where it was renamed, of this UUID."""
    places = list(image.iterfind(UUIDS))
    same_id = any(place.text == uuid for place in places) if uuid is not None else False
    return not places or same_id or any(place.get("FileName") == name for place in places)


def _make_ids_distinct(root: ElementTree.Element, name: str) -> bool:
    """Give each file named in the XML a UUID of its own, where two share one or have none; return whether they did.

    By its UUID tifffile finds the file of a plane: one with that of another would be read from the other. The file of
    the XML, by its name, has that of the XML where it is the only one.
    """
    places = root.findall(f"{{*}}Image/{UUIDS}")
    names_of: dict[str | None, set[str]] = {}
    for place in places:
        names_of.setdefault(place.text, set()).add(place.get("FileName", ""))
    is_known = len(set().union(*names_of.values())) != 1 or root.get("UUID") in names_of
    if None not in names_of and all(len(names) == 1 for names in names_of.values()) and is_known:
        return False
    for place in places:
        place.text = f"urn:file:{place.get('FileName')}"
    root.set("UUID", f"urn:file:{name}")
    return True


def one_of_each_set(paths: Sequence[Path]) -> list[Path]:
    """The files without those that only hold other planes of an image of an earlier one."""
    covered: set[Path] = set()
    kept = []
    for path in paths:
        if path in covered:
            continue
        files = files_of_set(path)
        if files and path not in files and all(file.exists() for file in files):
            log_once(path, f"left out: is a copy of a file of the set of {min(files).name}")
            continue
        kept.append(path)
        covered |= files
        if len(files) > 1:
            log_once(path, f"shares images with other files, {len(files)} in all, which are read as one", logging.INFO)
    return kept


def files_of_set(path: Path) -> frozenset[Path]:
    """The files that share images with one, itself among them; none if it is not of a set, or cannot be read."""
    status = path.stat()
    return _files_of_set(path, status.st_size, status.st_mtime_ns)


@lru_cache(2**16)
def _files_of_set(path: Path, size: int, changed: int) -> frozenset[Path]:
    """The files of the set of one that has this size and time of change."""
    try:
        with tifffile.TiffFile(path) as tif:
            if tif.is_ome:
                _, _, own = _ome_xml(path, tif.ome_metadata or "")
                names = {name for image in own for name in named_files(image)}
            elif tif.is_mmstack or tif.is_ndtiff:
                names = {name for image in images_of(tif, path.name) for name in files_of(image.series)}
            else:
                return frozenset()
    except Exception:  # damaged files, which are reported when they are opened
        return frozenset()
    return frozenset(path.with_name(name) for name in names)
