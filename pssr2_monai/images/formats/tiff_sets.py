"""Sets of TIFF files that share images: which files they are, and the OME-XML that describes those of one file."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from pssr2_monai.errors import InputError
from pssr2_monai.images.files import log_once
from pssr2_monai.images.formats.tiff_series import files_of, images_of, named_files
from pssr2_monai.images.safeguards import check_regular, neighbour, parse_xml

COMPANION = ".ome"  # suffix of a file of OME-XML alone
FEWEST_PLANES = 2**16  # that may be announced, those that were never written among them, however small the files are
PAGE_BYTES = 64  # of the files for each plane, where that allows more
PLACES = ("TiffData", "BinData", "MetadataOnly")  # what states where the planes of an image are
UUIDS = "{*}Pixels/{*}TiffData/{*}UUID"


def open_tiff(path: Path) -> tifffile.TiffFile:
    """Open a TIFF; one of an OME-TIFF set with the metadata of its own images, which may be in another of the files.

    A companion file of OME-XML opens as the first file that it names.
    """
    if path.suffix.lower() == COMPANION:
        root = parse_xml(path.read_bytes(), path.name)
        names = [place.get("FileName") or "" for place in root.iterfind(f"{{*}}Image/{UUIDS}")]
        if not names:
            raise InputError(f"{path.name}: names no file with pixels; open the TIFF files that belong to it")
        first = neighbour(path, names[0])
        with tifffile.TiffFile(first) as tif:
            _check_announced(path, root.findall("{*}Image"), tif.pages.first.size)
        _make_ids_distinct(root, names[0])
        return _opened(first, root)
    tif = tifffile.TiffFile(path)
    if not tif.is_ome:
        _check_siblings(tif, path)
        return tif
    try:
        metadata, root, own, changed = _ome_xml(path, tif.ome_metadata or "")
    except ElementTree.ParseError:  # which tifffile reads as if there were no such metadata
        return tif
    except FileNotFoundError as error:
        log_once(path, f"the metadata of its set are in {error.filename}, which is missing; it is read by itself")
        return tif
    images = root.findall("{*}Image")
    _check_announced(path, own, tif.pages.first.size)
    changed |= _state_planes(own)
    for image in own:
        changed |= _keep_own_planes(image, path, len(tif.pages))
    changed |= _make_ids_distinct(root, metadata.name)
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


def _ome_xml(path: Path, xml: str) -> tuple[Path, ElementTree.Element, list[ElementTree.Element], bool]:
    """The file that holds the OME-XML of a file of a set, the XML, those of its images with pixels in the file, and
    whether files were renamed, whose new names it has then.

    Raises:
        FileNotFoundError: the XML is in a file that is missing.
    """
    root, metadata = parse_xml(xml, path.name), path
    elsewhere = root.find("{*}BinaryOnly")
    if elsewhere is not None:
        metadata = neighbour(path, elsewhere.get("MetadataFile", ""), needed=False)
        if not metadata.is_file():
            raise FileNotFoundError(errno.ENOENT, "missing metadata", metadata.name)
        if metadata.suffix.lower() == COMPANION:
            root = parse_xml(metadata.read_bytes(), metadata.name)
        else:
            with tifffile.TiffFile(metadata) as tif:
                root = parse_xml(tif.ome_metadata or "", metadata.name)
    uuid = root.get("UUID") if metadata == path else None
    places = root.findall(f"{{*}}Image/{UUIDS}")
    if metadata == path and len({place.get("FileName") for place in places}) == 1:
        for place in places:  # one file, which may have been renamed
            place.set("FileName", path.name)
    own = [image for image in root.iterfind("{*}Image") if _is_in(image, path.name, uuid)]
    places = [place for image in own for place in image.iterfind(UUIDS)]
    missing = [place for place in places if not (path.parent / (place.get("FileName") or "-")).is_file()]
    names = _names_by_uuid(path.parent, path.parent.stat().st_mtime_ns) if missing else {}
    renamed = [place for place in missing if place.text in names]
    for place in renamed:
        place.set("FileName", names[str(place.text)])
    return metadata, root, own, bool(renamed)


@lru_cache(16)
def _names_by_uuid(folder: Path, changed: int) -> dict[str, str]:
    """The names of the OME-TIFFs in a folder by the UUIDs in their XML; ``changed`` is when the folder was."""
    names: dict[str, str] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in (".tif", ".tiff") or not file.is_file():
            continue
        try:
            with tifffile.TiffFile(file) as tif:
                uuid = parse_xml(tif.ome_metadata or "<none/>", file.name).get("UUID")
        except Exception:  # damaged files, which are reported when they are opened
            continue
        if uuid:
            names.setdefault(uuid, file.name)
    return names


def _check_announced(path: Path, images: Sequence[ElementTree.Element], plane: int) -> None:
    """Check that the files which OME-XML names are its neighbours, and can hold the planes that it announces.

    Args:
        path: a file with these images.
        images: of the OME-XML.
        plane: samples of a page.
    """
    names = {place.get("FileName") or "" for image in images for place in image.iterfind(UUIDS)}
    files = {path, *(neighbour(path, name, needed=False) for name in names)}
    most = max(FEWEST_PLANES, sum(file.stat().st_size for file in files if file.exists()) // PAGE_BYTES)
    for part in (part for image in images for part in image.iterfind("{*}Pixels")):
        sizes = [int(part.get(f"Size{axis}", 1)) for axis in "XYZCT"]
        places = list(part.iterfind("{*}TiffData"))
        counts = [math.prod(sizes) // max(plane, 1), math.prod(sizes[2:])]
        counts += [int(place.get(key, 0)) for place in places for key in ("PlaneCount", "NumPlanes", "IFD")]
        if min(sizes) < 1 or min(counts) < 0 or max(counts) > most:
            raise InputError(
                f"{path.name}: its OME-XML announces {' x '.join(map(str, sizes))} pixels (XYZCT), but its files can "
                f"hold at most {most} planes; correct the OME-XML, or copy the files again"
            )


def _check_siblings(tif: tifffile.TiffFile, path: Path) -> None:
    """Check the files of a set of Micro-Manager, which tifffile finds by their names or by an index."""
    if tif.is_mmstack or tif.is_ndtiff:
        for file in path.parent.iterdir():
            if file.suffix.lower() in (".tif", ".tiff", ".index"):
                neighbour(path, file.name)
    if tif.is_ndtiff and (index := path.with_name("NDTiff.index")).exists():
        for name in {entry[1] for entry in tifffile.tifffile.read_ndtiff_index(index)}:
            neighbour(path, name, needed=False)


def _state_planes(images: Sequence[ElementTree.Element]) -> bool:
    """State that the pages of a file are the planes of its images, one after the other, where the XML states nothing.

    Returns whether it did not.
    """
    parts = [part for image in images for part in image.iterfind("{*}Pixels")]
    if not parts or any(part.find(f"{{*}}{kind}") is not None for part in parts for kind in PLACES):
        return False
    first = 0
    for part in parts:
        planes = math.prod(_plane_counts(part, "ZCT"))
        _add_planes(part, {"IFD": str(first), "PlaneCount": str(planes)})
        first += planes
    return True


def _keep_own_planes(image: ElementTree.Element, path: Path, pages: int) -> bool:
    """Reduce an image of a set to the planes in one file if no other file of it is here, and if these are all planes
    of some frames, depths or channels; return whether it did.
    """
    part = image.find("{*}Pixels")
    stored = [] if part is None else [(place, place.find("{*}UUID")) for place in part.findall("{*}TiffData")]
    files = {path.name if uuid is None else uuid.get("FileName") or "" for _, uuid in stored}
    if part is None or len(files) < 2 or any((path.parent / name).is_file() for name in files - {path.name}):
        return False
    axes = part.get("DimensionOrder", "XYZCT")[2:]
    sizes = _plane_counts(part, axes)
    page_of: dict[tuple[int, ...], int] = {}
    for place, uuid in stored:
        if uuid is not None and uuid.get("FileName") != path.name:
            continue
        first = int(np.ravel_multi_index([int(place.get(f"First{axis}", 0)) for axis in axes], sizes, order="F"))
        count = int(place.get("PlaneCount", 1 if "IFD" in place.attrib else pages))
        for number in range(count):
            place_of_plane = np.unravel_index(first + number, sizes, order="F")
            page_of[tuple(int(k) for k in place_of_plane)] = int(place.get("IFD", 0)) + number
    kept = {axis: sorted({index[i] for index in page_of}) for i, axis in enumerate(axes)}
    if not page_of or len(page_of) != math.prod(map(len, kept.values())):
        return False
    log_once(path, f"holds {len(page_of)} of the {math.prod(sizes)} planes of its set, whose other files are not here")
    for place, _ in stored:
        part.remove(place)
    for number, channel in enumerate(part.findall("{*}Channel")):
        if number not in kept["C"]:
            part.remove(channel)
    for plane in part.findall("{*}Plane"):
        place_in_set = {axis: int(plane.get(f"The{axis}", 0)) for axis in axes}
        if any(k not in kept[axis] for axis, k in place_in_set.items()):
            part.remove(plane)
            continue
        for axis, k in place_in_set.items():
            plane.set(f"The{axis}", str(kept[axis].index(k)))
    for axis, size in zip(axes, sizes, strict=True):
        part.set(f"Size{axis}", str(int(part.get(f"Size{axis}", 1)) // size * len(kept[axis])))
    for index, page in page_of.items():
        firsts = {f"First{axis}": str(kept[axis].index(k)) for axis, k in zip(axes, index, strict=True)}
        _add_planes(part, {**firsts, "IFD": str(page), "PlaneCount": "1"})
    return True


def _plane_counts(part: ElementTree.Element, axes: str) -> list[int]:
    """The numbers of planes of a Pixels element along some axes: the samples of a colour are in one."""
    channel = part.find("{*}Channel")
    samples = 1 if channel is None else int(channel.get("SamplesPerPixel", 1))
    return [int(part.get(f"Size{axis}", 1)) // (samples if axis == "C" else 1) for axis in axes]


def _add_planes(part: ElementTree.Element, stated: Mapping[str, str]) -> None:
    ElementTree.SubElement(part, part.tag.replace("Pixels", "TiffData"), dict(stated))


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
        check_regular(path, path.name)
        with tifffile.TiffFile(path) as tif:
            if tif.is_ome:
                _, _, own, _ = _ome_xml(path, tif.ome_metadata or "")
                names = {name for image in own for name in named_files(image)}
            elif tif.is_mmstack or tif.is_ndtiff:
                names = {name for image in images_of(tif, path.name) for name in files_of(image.series)}
            else:
                return frozenset()
    except Exception:  # damaged files, which are reported when they are opened
        return frozenset()
    return frozenset(path.parent / name for name in names)
