"""Orientations: all eight, of every kind of pixel, and drawn equally often where tiles are loaded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.data.loading import LoadTiled
from pssr2_monai.images.orientation import ORIENTATIONS, oriented


def _eight(image: np.ndarray) -> list[np.ndarray]:
    """The orientations of the last two axes: quarter turns of the image and of its mirror image."""
    return [np.rot90(each, turns, axes=(-2, -1)) for each in (image, image[..., ::-1]) for turns in range(4)]


def _which(image: np.ndarray, found: np.ndarray) -> int:
    return next(number for number, each in enumerate(_eight(image)) if np.array_equal(each, found))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", "uint32"])
@pytest.mark.parametrize("shape", [(5, 5), (1, 37, 37), (2, 64, 48), (2, 3, 1, 70)])
def test_eight_numbers_give_eight_orientations(shape: tuple[int, ...], dtype: str) -> None:
    image = np.random.default_rng(0).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)
    kept = image.copy()
    turned = [oriented(image, number) for number in range(ORIENTATIONS)]
    np.testing.assert_array_equal(turned[0], image)
    assert all(each.dtype == image.dtype for each in turned)
    assert all(each.shape == shape for each in turned[:4])
    np.testing.assert_array_equal(image, kept)
    distinct = {_which(image, each) for each in turned}
    assert len(distinct) == (8 if min(shape[-2:]) > 1 else 4)


def test_tiles_turn_over_equally_often_and_pairs_together(tmp_path: Path) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    for name, pixels in (("hr.tif", hr), ("lr.tif", hr[::4, ::4]), ("wide.tif", hr[:, ::4])):
        tifffile.imwrite(tmp_path / name, pixels)
    item = {"name": "a", "label": str(tmp_path / "hr.tif"), "frame": 0, "window": [0, 0, 32, 32]}
    item["intensity"] = {"label": [0, 255], "image": [0, 255]}
    plane = hr[None].astype(np.float32) / 255
    for keys, scale, image, kinds in (
        (("label",), 4, "lr.tif", 8),
        (("image", "label"), 4, "lr.tif", 8),
        (("image", "label"), [1, 1, 4], "wide.tif", 4),
    ):
        load = LoadTiled(keys, scale=scale, random_orientation=True).set_random_state(seed=0)
        seen: Counter[int] = Counter()
        for _ in range(800):
            tile = load({**item, "image": str(tmp_path / image)})
            number = _which(plane, tile["label"].numpy())
            seen[number] += 1
            if "image" in keys:
                coarse = plane[..., :: 4 if kinds == 8 else 1, ::4]
                np.testing.assert_array_equal(tile["image"].numpy(), _eight(coarse)[number])
        # Five standard errors of a count: sqrt(n p (1 - p)).
        expected = 800 / kinds
        assert len(seen) == kinds
        assert all(abs(count - expected) < 5 * np.sqrt(expected * (1 - 1 / kinds)) for count in seen.values())
