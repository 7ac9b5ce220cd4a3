"""Pairing real low- and high-resolution images by name, and checking that they fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import factors, frames_of
from pssr2_monai.images.image import list_images, open_image
from pssr2_monai.images.windows import plane_size

NAMED = 5
"""How many odd ones out a message names."""


@dataclass(frozen=True)
class Sheet:
    """The files that make one training sheet.

    Attributes:
        label: the HR image.
        image: its real LR partner, or None where the crappifier makes it.
        extra: a third image of the HR image's size, or None.
    """

    label: Path
    image: Path | None = None
    extra: Path | None = None

    def files(self) -> dict[str, Path]:
        """The files by the key of a datalist."""
        named = {"image": self.image, "label": self.label, "extra": self.extra}
        return {key: path for key, path in named.items() if path is not None}


def sheets_of(
    hr: str | Path, lr: str | Path | None = None, extra: str | Path | None = None, pattern: str | None = None
) -> list[Sheet]:
    """The sheets of a folder of HR images and, where given, of the folders of their partners.

    Args:
        hr: folder of HR images.
        lr: folder of real LR images.
        extra: folder of third images.
        pattern: regular expression whose group is what partners have in common; by default the name without suffix.

    Raises:
        InputError: a folder is missing or empty, or an image has no partner.
    """
    labels = list_images(hr)
    images = match_names(labels, list_images(lr), pattern) if lr is not None else {}
    extras = match_names(labels, list_images(extra), pattern) if extra is not None else {}
    return [Sheet(label, images.get(label), extras.get(label)) for label in labels]


def match_names(hr: Sequence[Path], lr: Sequence[Path], pattern: str | None = None) -> dict[Path, Path]:
    """The partner of each HR image: the one whose name, or what the pattern's group finds in it, is the same.

    Raises:
        InputError: some image has no partner, or two have the same name.
    """
    by_name: list[dict[str, Path]] = []
    for paths in (hr, lr):
        names: dict[str, Path] = {}
        for path in paths:
            name = group_of(path, pattern, "pair_pattern") if pattern else path.stem.removesuffix(".ome")
            if names.setdefault(name, path) != path:
                raise InputError(f"{path}: is called {name!r} as {names[name].name} is; pairs are matched by name")
        by_name.append(names)
    hr_names, lr_names = by_name
    odd = [*(path for name, path in hr_names.items() if name not in lr_names)]
    odd += [path for name, path in lr_names.items() if name not in hr_names]
    if odd:
        where = sorted({str(path.parent) for path in odd})
        raise InputError(
            f"{_some(path.name for path in odd)} in {' and '.join(where)}: have no partner; HR and LR images are "
            "matched by name (pair_pattern tells how)"
        )
    return {path: lr_names[name] for name, path in hr_names.items()}


def check_pairs(
    sheets: Sequence[Sheet], scale: int | Sequence[int], axes: str | None = None, stack: str = "TZ"
) -> None:
    """Refuses pairs whose sizes are not in the ratio of the scale, or whose frames are not.

    Raises:
        InputError: naming the odd ones out.
    """
    odd = []
    for sheet in sheets:
        with open_image(sheet.label, axes=axes) as label:
            size, frames = plane_size(label), frames_of(label.axes, label.shape, stack)
        for key, path in sheet.files().items():
            along_run, along_y, along_x = factors(scale) if key == "image" else (1, 1, 1)
            with open_image(path, axes=axes) as image:
                own_size, own = plane_size(image), frames_of(image.axes, image.shape, stack)
            fit = (own.count * along_run, own.run * along_run) == (frames.count, frames.run)
            if (own_size[0] * along_y, own_size[1] * along_x) != size or not fit:
                counts = "" if fit else f" with {own.count} and {frames.count} frames"
                odd.append(f"{path.name} ({_pixels(own_size)} beside {_pixels(size)} of {sheet.label.name}{counts})")
    if odd:
        raise InputError(
            f"{_some(odd)}: an LR image times the scale {scale}, and an extra image as it is, must have the size "
            "and the frames of the HR image; crop them, register them, or set scale"
        )


def group_of(path: Path, pattern: str, option: str) -> str:
    """What the first group of a pattern finds in a file's name.

    Raises:
        InputError: the pattern is no regular expression, or finds no group.
    """
    try:
        found = re.search(pattern, path.name)
    except re.error as error:
        raise InputError(f"{option}: {pattern!r} is no regular expression: {error}") from None
    if found is None or not found.groups():
        raise InputError(f"{path.name}: the pattern {pattern!r} of {option} finds no group in this name")
    return found.group(1)


def _pixels(size: Sequence[int]) -> str:
    return " x ".join(str(side) for side in size)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return f"{', '.join(listed[:NAMED])}{more}"
