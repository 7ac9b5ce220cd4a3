"""A region restored at once is that of the image restored whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.windows import Window
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.options import RestoreOptions
from pssr2_monai.restoration.region import restore_region
from pssr2_monai.restoration.restore import restore


@pytest.fixture
def stack() -> np.ndarray:
    """Two channels, of which the second is ten times as bright, of three frames."""
    rng = np.random.default_rng(0)
    return (rng.random((2, 3, 160, 200)) * np.array([300, 3000])[:, None, None, None]).astype(np.uint16)


def test_a_window_of_a_frame_is_that_of_the_whole_image(stack: np.ndarray, tiny_weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "scan.tif", stack, axes="CZYX", pixel_size={})
    restore(tmp_path / "scan.tif", tmp_path / "sr.tif", tiny_weights, device="cpu", precision="float32")
    network, record = load_weights(tiny_weights)
    with open_image(tmp_path / "scan.tif") as image, open_image(tmp_path / "sr.tif") as sr:
        window = Window(40, 64, 48, 56)
        options = RestoreOptions(precision="float32")
        region = restore_region(image, network, record, window, range(4, 5), options)
        whole = sr.read([slice(1, 2), slice(1, 2), slice(160, 352), slice(256, 480)])[0]
    assert region.dtype == np.uint16
    np.testing.assert_allclose(region.astype(int), whole.astype(int), atol=2)  # its windows begin elsewhere


def test_frames_of_a_volume_are_restored_together(tmp_path: Path) -> None:
    write_image(tmp_path / "scan.tif", np.full((6, 48, 48), 80, np.uint8), axes="ZYX", pixel_size={})
    record = Record(network={"_target_": "ResUNet"}, scale=[2, 1, 1])

    class Deeper(torch.nn.Module):
        """Repeats each frame, and knows its device."""

        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(1))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.factor * pixels.repeat_interleave(2, dim=1)

    with open_image(tmp_path / "scan.tif") as image:
        region = restore_region(image, Deeper(), record, Window(8, 8, 16, 24), range(1, 5))
    np.testing.assert_array_equal(region, np.full((8, 16, 24), 80, np.uint8))


def test_too_few_frames_are_an_error(stack: np.ndarray, tmp_path: Path) -> None:
    write_image(tmp_path / "scan.tif", stack[0, 0], axes="YX", pixel_size={})
    record = Record(network={"_target_": "ResUNet"}, scale=1, n_frames=(3, 1))
    with open_image(tmp_path / "scan.tif") as image, pytest.raises(InputError, match="scan.tif"):
        restore_region(image, ResUNet(3, 1), record, Window(0, 0, 32, 32), range(1))
