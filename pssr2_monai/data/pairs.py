"""Pairing real low- and high-resolution images by name, and checking that their sizes fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors, frames_of
from pssr2_monai.images.files import first_names, list_images, same_name, stem_of
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.masks import misfit
from pssr2_monai.images.windows import plane_size


@dataclass(frozen=True)
class Sheet:
    """The files that make one training sheet."""

    label: Path  # the HR image
    image: Path | None = None  # its real LR partner, or None where the crappifier makes it
    extra: Path | None = None  # a third image of the HR image's size
    mask: Path | None = None  # says which pixels of the HR image are used

    def files(self) -> dict[str, Path]:
        """Return the image files by their keys in a datalist."""
        paths = {"image": self.image, "label": self.label, "extra": self.extra}
        return {key: path for key, path in paths.items() if path is not None}


def sheets_of(
    hr: str | Path,
    lr: str | Path | None = None,
    extra: str | Path | None = None,
    pattern: str | None = None,
    masks: str | Path | None = None,
) -> list[Sheet]:
    """Return the sheets of a folder of HR images and, where given, of the folders of their partners.

    Partners share the group of the regular expression ``pattern``, by default the name without its suffix. With one
    folder for both, its images are noisy scans: those of one group of the pattern show one field, and each makes a
    sheet with the next one; without a pattern each is its own partner, as a stack of repeated scans is.
    """
    labels = list_images(hr)
    of_labels = match_names(labels, list_images(masks), pattern) if masks is not None else {}
    if lr is not None and Path(lr).absolute() == Path(hr).absolute():
        return [Sheet(label, image, mask=of_labels.get(label)) for label, image in _repeats(labels, pattern)]
    images = match_names(labels, list_images(lr), pattern) if lr is not None else {}
    extras = match_names(labels, list_images(extra), pattern) if extra is not None else {}
    return [Sheet(label, images.get(label), extras.get(label), of_labels.get(label)) for label in labels]


def _repeats(scans: Sequence[Path], pattern: str | None) -> list[tuple[Path, Path]]:
    if pattern is None:
        return [(scan, scan) for scan in scans]
    fields: dict[str, list[Path]] = {}
    for scan in scans:
        fields.setdefault(same_name(group_of(scan, pattern, "pair_pattern")), []).append(scan)
    alone = [scan for repeats in fields.values() for scan in repeats if len(repeats) == 1]
    if alone:
        raise InputError(
            f"{first_names(path.name for path in alone)} in {alone[0].parent}: no other scan of the field by "
            f"pair_pattern {pattern!r}; noise2noise needs two or more of each"
        )
    # Two scans make one pair, whose images are exchanged at random; three make three.
    return [
        pair
        for repeats in fields.values()
        for pair in list(zip(repeats, repeats[1:] + repeats[:1], strict=True))[: len(repeats) if repeats[2:] else 1]
    ]


def match_names(hr: Sequence[Path], lr: Sequence[Path], pattern: str | None = None) -> dict[Path, Path]:
    """Match each HR image with the LR image of the same name, or of the same group of the pattern."""
    by_name: list[dict[str, Path]] = []
    for paths in (hr, lr):
        names: dict[str, Path] = {}
        for path in paths:
            name = same_name(group_of(path, pattern, "pair_pattern") if pattern else stem_of(path))
            if names.setdefault(name, path) != path:
                raise InputError(f"{path}: is called {name!r} like {names[name].name}; pairs are matched by name")
        by_name.append(names)
    hr_names, lr_names = by_name
    unmatched = [path for name, path in hr_names.items() if name not in lr_names]
    unmatched += [path for name, path in lr_names.items() if name not in hr_names]
    if unmatched:
        folders = sorted({str(path.parent) for path in unmatched})
        raise InputError(
            f"{first_names(path.name for path in unmatched)} in {' and '.join(folders)}: have no partner; HR "
            "images, LR images and masks are matched by name, or by the group of pair_pattern"
        )
    return {path: lr_names[name] for name, path in hr_names.items()}


def check_pairs(
    sheets: Sequence[Sheet],
    scale: int | Sequence[int],
    axes: str | None = None,
    stack: str = "TZ",
    image: int | str | None = None,
) -> None:
    """Check that sizes and numbers of frames of pairs are in the ratio of the scale."""
    misfits: list[str] = []
    for sheet in sheets:
        with ExitStack() as opened:
            images = {key: opened.enter_context(open_image(path, axes, image)) for key, path in sheet.files().items()}
            misfits += find_misfits(images, scale, stack)
            if sheet.mask is not None:
                refuse_mask(misfit(opened.enter_context(open_image(sheet.mask)), images["label"], stack))
    refuse_misfits(misfits, scale)


def find_misfits(images: Mapping[str, LazyImage], scale: int | Sequence[int], stack: str = "TZ") -> list[str]:
    """Describe the open images of one sheet that do not have the size or the frames that their label asks for."""
    label = images["label"]
    size, frames = plane_size(label), frames_of(label.axes, label.shape, stack)
    misfits = []
    for key, image in images.items():
        along_run, along_y, along_x = factors(scale) if key == "image" else (1, 1, 1)
        (height, width), order = plane_size(image), frames_of(image.axes, image.shape, stack)
        fit = (order.count * along_run, order.run * along_run) == (frames.count, frames.run)
        if (height * along_y, width * along_x) != size or not fit:
            counts = "" if fit else f" with {order.count} and {frames.count} frames"
            sizes = f"{height} x {width} for {size[0]} x {size[1]}"
            misfits.append(f"{image.path.name} ({sizes} of {label.path.name}{counts})")
    return misfits


def refuse_misfits(misfits: Sequence[str], scale: int | Sequence[int]) -> None:
    if misfits:
        raise InputError(
            f"{first_names(misfits)}: an LR image times the scale {scale}, and an extra image as it is, must have the "
            "size and the frames of the HR image; crop them, register them, or set scale"
        )


def refuse_mask(misfit: str) -> None:
    if misfit:
        raise InputError(f"{misfit}: a mask must have the size of the HR image, and one frame or as many; crop it")


def group_of(path: Path, pattern: str, option: str) -> str:
    """Return the first group of a pattern in a file's name."""
    try:
        match = re.search(same_name(pattern), same_name(path.name))
    except re.error as error:
        raise InputError(f"{option}: {pattern!r} is not a regular expression: {error}") from None
    if match is None or not match.groups():
        raise InputError(f"{path.name}: the pattern {pattern!r} of {option} finds no group in this name")
    return match.group(1)
