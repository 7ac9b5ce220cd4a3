"""Which pixels of a mask are used, and which masks fit an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.masks import Mask, MaskLabels, misfit
from pssr2_monai.images.windows import Window
from pssr2_monai.images.writer import write_image

LABELS = np.array([[0, 1, 2], [3, 1, 0]], np.uint8)


@pytest.mark.parametrize(
    ("include", "exclude", "used"),
    [
        (None, None, [[0, 1, 1], [1, 1, 0]]),
        ("1,3", None, [[0, 1, 0], [1, 1, 0]]),
        (2, None, [[0, 0, 1], [0, 0, 0]]),
        (None, [1], [[1, 0, 1], [1, 0, 1]]),
        (None, (0, 1), [[0, 0, 1], [1, 0, 0]]),
        ([1, 2], "2", [[0, 1, 0], [0, 1, 0]]),
        ("0", None, [[1, 0, 0], [0, 0, 1]]),
    ],
)
def test_labels_choose_pixels(
    include: str | int | Sequence[int] | None, exclude: str | int | Sequence[int] | None, used: list[list[int]]
) -> None:
    assert MaskLabels.of(include, exclude).used(LABELS).tolist() == np.array(used, bool).tolist()


def test_what_is_no_label_is_refused() -> None:
    with pytest.raises(InputError, match="include: 'nuclei' are not labels"):
        MaskLabels.of("nuclei")


def test_one_frame_holds_for_all_and_other_sizes_do_not_fit(tmp_path: Path) -> None:
    shapes = {"stack": (3, 6, 8), "plane": (6, 8), "other": (2, 6, 8), "small": (3, 6, 7)}
    for name, shape in shapes.items():
        pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) % 3
        write_image(tmp_path / f"{name}.tif", pixels, axes="ZYX"[-len(shape) :], pixel_size={})
    images = {name: open_image(tmp_path / f"{name}.tif") for name in shapes}
    assert misfit(images["stack"], images["stack"]) == misfit(images["plane"], images["stack"]) == ""
    assert misfit(images["small"], images["stack"]) == "small.tif (6 x 7 for 6 x 8 of stack.tif)"
    assert misfit(images["other"], images["stack"]) == "other.tif (6 x 8 for 6 x 8 of stack.tif with 2 and 3 frames)"
    window = Window(1, 2, 3, 4)
    whole = np.asarray(images["plane"].read())[1:4, 2:6] != 0
    assert np.array_equal(Mask(images["plane"]).read([0, 2], window), np.stack([whole, whole]))
    own = np.asarray(images["stack"].read())[2, 1:4, 2:6] != 0
    assert np.array_equal(Mask(images["stack"]).read([2], window)[0], own)
    for image in images.values():
        image.close()
