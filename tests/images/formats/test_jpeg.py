"""JPEGs that lack pixels, or whose header states another size, against their whole form in Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image

KINDS: list[dict[str, Any]] = [
    {},
    {"quality": 95, "subsampling": 0},
    {"progressive": True},
    {"restart_marker_blocks": 5},
    {"progressive": True, "restart_marker_rows": 1, "quality": 95},
]
END = b"\xff\xd9"


def _jpeg(options: dict[str, Any], colour: bool, height: int = 100, width: int = 121) -> bytes:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (13, 16, 3), np.uint8)).resize((width, height))
    file = io.BytesIO()
    (coarse if colour else coarse.convert("L")).save(file, "JPEG", **options)
    return file.getvalue()


def _read(folder: Path, content: bytes) -> np.ndarray:
    (folder / "a.jpg").write_bytes(content)
    with open_image(folder / "a.jpg") as image:
        return image.read()


def _with_size(content: bytes, height: int, width: int) -> bytes:
    start = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2")) + 5
    return content[:start] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[start + 4 :]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("options", KINDS)
def test_a_jpeg_that_was_cut_and_ended_is_refused(options: dict[str, Any], colour: bool, tmp_path: Path) -> None:
    whole = _jpeg(options, colour)
    np.testing.assert_array_equal(_read(tmp_path, whole), np.asarray(Image.open(io.BytesIO(whole))))
    first = whole.index(b"\xff\xda") + 20
    for tenth in range(1, 10):
        cut = whole[: first + (len(whole) - first) * tenth // 10].rstrip(b"\xff")
        with pytest.raises(InputError, match=r"^a\.jpg: (is cut short|pixels cannot be read)"):
            _read(tmp_path, cut + END)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("options", KINDS)
def test_a_jpeg_whose_header_states_another_size_is_refused(
    options: dict[str, Any], colour: bool, tmp_path: Path
) -> None:
    whole = _jpeg(options, colour)
    for size in ((200, 121), (100, 160), (116, 121), (50, 121), (100, 60), (60, 100)):
        with pytest.raises(InputError, match=r"^a\.jpg: (is cut short|its header states .* the size is wrong)"):
            _read(tmp_path, _with_size(whole, *size))


def test_small_and_flat_jpegs_and_those_with_more_behind_them_are_read(tmp_path: Path) -> None:
    for height, width in ((1, 1), (8, 8), (3, 40), (64, 64)):
        for options in KINDS:
            whole = _jpeg(options, True, height, width)
            file = io.BytesIO()
            Image.new("L", (width, height), 77).save(file, "JPEG", **options)
            for content in (whole, whole + b"more", file.getvalue(), whole.replace(END, bytes(500) + END)):
                expected = np.asarray(Image.open(io.BytesIO(content)))
                np.testing.assert_array_equal(_read(tmp_path, content), expected)
