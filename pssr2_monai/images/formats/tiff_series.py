"""The images of a TIFF, whose pages may be planes, series, positions or previews, and lie in several files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from tifffile import TiffPageSeries

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import LETTERS
from pssr2_monai.images.contents import AXIS_NAMES, UNKNOWN, Entry
from pssr2_monai.images.formats.tiff_faults import (
    pages_of,
    series_like,
    series_of,
    series_without_faults,
    whole_axes,
    whole_shape,
)

PAGE_NAME, FEI_DETECTOR = 285, 34682
BY_PAGE = ("uniform", "generic", "shaped")  # kinds of series that say nothing of how pages belong together
OF_SETS = ("ome", "mmstack", "ndtiff")  # kinds of series whose metadata describe all files of a set


@dataclass(frozen=True)
class TiffImage:
    """One image of a TIFF: its name in the file, its pages, and its place in the OME-XML, if there is one."""

    name: str
    series: TiffPageSeries
    ome_image: int | None = None

    @property
    def entry(self) -> Entry:
        shape, axes = whole_shape(self.series), whole_axes(self.series)
        preview = bool(self.series.keyframe.is_reduced) and self.series.kind != "ome"
        return Entry(self.name, tuple(shape), np.dtype(self.series.dtype), axes, preview)


def images_of(tif: tifffile.TiffFile, file: str | None) -> list[TiffImage]:
    """The images with pixels in the file of this name, or in all files of a set, in the order of the metadata.

    Levels of pyramids are no images. Pages that are alike are planes of one image, even where they were written one by
    one; pages of different detectors or names are not. An image of a set has pixels in other files, too.
    """
    series = series_without_faults(tif, file or tif.filehandle.name)
    if series[0].kind in BY_PAGE:
        return [image for alike in _alike(series) for image in _by_label(alike)]
    if series[0].kind == "scanimage":
        return [TiffImage("", _of_scanimage(series[0]))]
    if series[0].kind not in OF_SETS:
        return [TiffImage(part.name or "", part) for part in series]
    ome = _ome_images(tif, series) if series[0].kind == "ome" else [None] * len(series)
    images = [image for part, place in zip(series, ome, strict=True) for image in _by_position(part, place)]
    if file:
        images = [image for image in images if file in files_of(image.series)]
    if not images:
        raise InputError(f"{tif.filehandle.name}: its metadata describe no image with pixels in {file}")
    if tif.is_ome and series[0].kind != "ome":  # one image a position, as the XML has
        count = len(ElementTree.fromstring(tif.ome_metadata or "").findall("{*}Image"))
        images = [replace(image, ome_image=place if count > place else 0) for place, image in enumerate(images)]
    return images


def _of_scanimage(series: TiffPageSeries) -> TiffPageSeries:
    """The pages of ScanImage along T, Z and C by its settings: channels run fastest, then the frames of a slice.

    Without settings, or where an aborted scan does not fit them, the planes of each channel are one run.
    """
    page, pages = series.keyframe, list(series)
    settings = dict(re.findall(r"\b(h\w+\.\w+) *= *([^\r\n]*)", f"{page.software}\n{page.description}"))

    def number(name: str, default: int) -> int:
        text = settings.get(f"hStackManager.{name}", "")
        return int(float(text)) if re.fullmatch(r"[\d.]+", text) and float(text) >= 1 else default

    channels = max(1, len(re.findall(r"\d+", settings.get("hChannels.channelSave", ""))))
    planes, rest = divmod(len(pages), channels)
    if rest:
        return series
    in_stack = "true" in (settings.get("hStackManager.enable"), settings.get("hFastZ.enable"))
    slices = number("actualNumSlices", number("numSlices", 1) if in_stack else 1)
    frames = number("framesPerSlice", 1) if slices > 1 else planes
    volumes = planes // (slices * frames)
    if slices * frames * volumes != planes:
        slices, frames, volumes = 1, planes, 1
    sizes, axes = ((slices, frames), "ZT") if volumes == 1 else ((volumes, slices, frames), "TZI")
    return series_like(series, pages, (*sizes, channels, *page.shape), f"{axes}C{page.axes}")


def files_of(series: TiffPageSeries) -> dict[str, Path]:
    """The files with pixels of a series, by their names."""
    handles = [page.parent.filehandle for page in pages_of(series) if page is not None]
    return {handle.name: Path(handle.path) for handle in handles}


def _alike(series: Iterable[TiffPageSeries]) -> list[TiffImage]:
    """The images of a file: each series of several planes that was written as one, and stacks of planes alike."""
    stacks: dict[Any, list[TiffPageSeries]] = {}
    for number, part in enumerate(series):
        page = part.keyframe
        if page.is_subifd and page.is_reduced:
            continue
        written_as_one = part.kind == "shaped" and math.prod(part.shape) != page.size
        looks = (page.shape, page.dtype, page.axes, page.photometric, page.is_reduced, page.is_subifd)
        stacks.setdefault(number if written_as_one else (*looks, _kind_of_name(part.name)), []).append(part)
    images = []
    for first, *others in stacks.values():
        pages = [page for part in (first, *others) for page in part] if others else []
        stack = series_of(sorted(pages, key=lambda page: page.index)) if others else first
        images.append(TiffImage(first.name or "", stack))
    return images


def _by_label(image: TiffImage) -> list[TiffImage]:
    """Divide pages whose names or detectors differ by more than a number."""
    if not _label(image.series.keyframe):
        return [image]
    pages = [page.aspage() for page in pages_of(image.series)]
    groups: dict[str, list[Any]] = {}
    for page in pages:
        groups.setdefault(_kind_of_name(_label(page)), []).append(page)
    if len(groups) == 1:
        return [TiffImage(image.name or _label(pages[0]) * (len(pages) == 1), image.series)]
    return [TiffImage(_label(group[0]), series_of(group)) for group in groups.values()]


def _label(page: Any) -> str:
    """The name of a page, or of the detector whose signal it holds."""
    fei = page.tags.valueof(FEI_DETECTOR)
    if isinstance(fei, dict):
        return str(fei.get("Detectors", {}).get("Name", ""))
    return str(page.tags.valueof(PAGE_NAME) or "").strip()


def _kind_of_name(name: str | None) -> str:
    """A name without its numbers: slice_001 and slice_002 are planes of one stack."""
    return re.sub(r"\d+", "", name or "")


def _by_position(series: TiffPageSeries, ome_image: int | None) -> list[TiffImage]:
    """Each position of a series whose planes are in several files: other positions may not lie in this one."""
    shape, axes = whole_shape(series), whole_axes(series)
    name, pages = series.name or "", list(pages_of(series))
    own = [i for i, axis in enumerate(axes) if axis not in LETTERS + UNKNOWN + "S" and shape[i] > 1]
    split = next((k for k in range(len(shape)) if math.prod(shape[:k]) == len(pages)), 0)
    if not own or max(own) >= split:
        return [TiffImage(name, series, ome_image)]
    stacked = np.empty(len(pages), object)
    stacked[:] = pages
    stacked = np.moveaxis(stacked.reshape(shape[:split]), own, range(len(own)))
    rest = [i for i in range(len(axes)) if i not in own]
    images = []
    for index in np.ndindex(*(shape[i] for i in own)):
        part = series_like(series, stacked[index].flat, [shape[i] for i in rest], "".join(axes[i] for i in rest))
        labels = [_position_name(series, axes[i], k) for i, k in zip(own, index, strict=True)]
        images.append(TiffImage(" ".join(filter(None, [name, *labels])), part, ome_image))
    return images


def _position_name(series: TiffPageSeries, axis: str, number: int) -> str:
    """The name of an index along an axis: of positions the one in Micro-Manager's list, if it has one."""
    named: list[Any] = []
    if axis == "R" and series.kind == "mmstack":
        named = (series.parent.micromanager_metadata or {}).get("Summary", {}).get("StagePositions") or []
    label = named[number].get("Label") if number < len(named) else None
    return str(label or f"{AXIS_NAMES.get(axis, axis)} {number + 1}")


def _ome_images(tif: tifffile.TiffFile, series: Iterable[TiffPageSeries]) -> list[int | None]:
    """For each series its place among the images of the OME-XML: tifffile leaves out those without pixels."""
    root = ElementTree.fromstring(tif.ome_metadata or "")
    images = [image for image in root if image.tag.endswith("Image")]
    places: list[int | None] = []
    for part in series:
        size = {axis: str(n) for axis, n in zip(whole_axes(part), whole_shape(part), strict=True)}
        files = files_of(part)
        fitting = [
            place
            for place, image in enumerate(images)
            if place not in places and (image.get("Name") or "") == (part.name or "") and _has_size(image, size)
        ]
        in_files = [place for place in fitting if named_files(images[place]) & set(files)]
        places.append(next(iter(in_files or fitting), None))
    return places


def _has_size(image: ElementTree.Element, size: dict[str, str]) -> bool:
    pixels = next(iter(image.iterfind("{*}Pixels")), None)
    return pixels is not None and all(pixels.get(f"Size{axis}") == size.get(axis) for axis in "YX")


def named_files(image: ElementTree.Element) -> set[str]:
    return {uuid.get("FileName", "") for uuid in image.iterfind("{*}Pixels/{*}TiffData/{*}UUID")}
