"""The scan on the left of a slider, the result on the right of it; and the preview of the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.napari.before_after import BeforeAfter, MiddleRestored, middle_of, network_of
from pssr2_monai.napari.layers import whole
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.restore import restore


@pytest.fixture
def scan(viewer: Any) -> Any:
    """Two frames of 40 x 60 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 60)).astype(np.uint8)
    return viewer.add_image(pixels, name="scan", scale=(1, 0.5, 0.5), translate=(0, 3, 4))


def test_the_slider_moves_the_border_between_scan_and_result(viewer: Any, scan: Any) -> None:
    result = viewer.add_image(np.zeros((2, 40, 80), np.uint8), name="result")
    fidelity = viewer.add_image(np.zeros((2, 40, 80), np.uint8), name="fidelity")
    compared = BeforeAfter(viewer)
    assert not compared.slider.enabled
    compared.show(scan, (slice(0, 2), slice(10, 30), slice(20, 60)), result)
    np.testing.assert_array_equal(compared.layer.data, scan.data[:, 10:30, 20:40])
    np.testing.assert_allclose(compared.layer.data_to_world((0, 0, 0)), scan.data_to_world((0, 10, 20)))
    assert [layer.name for layer in viewer.layers] == ["scan", "result", "scan | result", "fidelity"]
    assert viewer.layers.selection.active == fidelity
    compared.slider.value = 0.75
    np.testing.assert_array_equal(compared.layer.data, scan.data[:, 10:30, 20:50])
    compared.slider.value = 0
    assert not compared.layer.visible
    compared.slider.value = 1
    assert compared.layer.visible
    np.testing.assert_array_equal(compared.layer.data, scan.data[:, 10:30, 20:60])
    result.contrast_limits = (20, 70)
    assert tuple(compared.layer.contrast_limits) == (20, 70)
    assert tuple(scan.contrast_limits) != (20, 70)
    viewer.layers.remove(compared.layer)
    compared.slider.value = 0.5
    assert not compared.slider.enabled


def test_the_middle_is_restored_in_its_place_as_the_whole_would_be(
    viewer: Any, scan: Any, tiny_weights: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "scan.tif", scan.data, axes="ZYX", pixel_size={})
    restore(tmp_path / "scan.tif", tmp_path / "sr.tif", tiny_weights, device="cpu", precision="float32")
    with open_image(tmp_path / "sr.tif") as image:
        expected = image.read()
    compared = BeforeAfter(viewer)
    middle = MiddleRestored(viewer, compared)
    _, *plane = whole(scan)
    options = RestoreOptions(precision="float32", device="cpu")
    result = middle.work(scan, (slice(1, 2), *plane), tiny_weights, options)
    assert result[1] == (slice(1, 2), slice(0, 40), slice(0, 60))
    np.testing.assert_allclose(result[2][0].astype(int), expected[1], atol=2)
    middle.show(result)
    assert middle.layer.name == "scan preview"
    np.testing.assert_allclose(middle.layer.scale, (1, 0.125, 0.125))
    np.testing.assert_array_equal(compared.layer.data, scan.data[1:, :, :30])
    middle.remove()
    assert list(viewer.layers) == [scan]


def test_a_preview_is_as_large_as_a_second_allows(viewer: Any, scan: Any, tiny_weights: Path) -> None:
    middle = MiddleRestored(viewer, BeforeAfter(viewer))
    options = RestoreOptions(device="cpu")
    middle._speeds[tiny_weights, options] = 33**2
    part = middle.work(scan, (slice(0, 1), slice(0, 40), slice(0, 60)), tiny_weights, options)[1]
    assert part == (slice(0, 1), slice(3, 36), slice(13, 46))


def test_the_middle_of_a_part_is_no_larger_than_it() -> None:
    part = (slice(2, 3), slice(0, 20), slice(0, 50), slice(10, 500))
    assert middle_of(part, 100, frames=8) == (slice(2, 3), slice(6, 14), slice(0, 50), slice(205, 305))
    assert middle_of(part[1:], 1) == (slice(9, 10), slice(9, 41), slice(239, 271))


def test_weights_are_read_once(tiny_weights: Path) -> None:
    assert network_of(tiny_weights)[0] is network_of(tiny_weights)[0]
