"""Sliding windows: no seams inside the image or at its border, and half the memory where it is asked for."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks import AsVolume, ResUNet
from pssr2_monai.restoration.inferer import SeamlessInferer


class EdgeMarking(torch.nn.Module):
    """Marks what a window cannot know: 1 within ``reach`` pixels of its edge, 0 elsewhere."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        marked = torch.ones_like(x)
        marked[..., self.reach : -self.reach, self.reach : -self.reach] = 0
        return F.interpolate(marked, scale_factor=2, mode="nearest")


@pytest.mark.parametrize(
    ("height", "width", "window", "overlap", "reach"),
    [
        (300, 700, 256, 0.25, 16),
        (257, 90, 256, 0.25, 16),
        (60, 513, 256, 0.25, 16),
        (130, 333, 96, 0.5, 12),
        (600, 300, 256, 0.3, 20),
        (600, 300, 256, 0.75, 40),
        (300, 200, 160, 0.9, 20),
    ],
)
def test_what_a_window_does_not_know_leaves_no_seam(
    height: int, width: int, window: int, overlap: float, reach: int
) -> None:
    inferer = SeamlessInferer(window, overlap, precision="float32")
    output = inferer(torch.rand(1, 1, height, width), EdgeMarking(reach))
    assert output.shape == (1, 1, 2 * height, 2 * width)
    # Along an axis that fits into a window the network sees the image's own edges.
    inside = [slice(2 * reach, -2 * reach) if size <= window else slice(None) for size in (height, width)]
    assert output[..., inside[0], inside[1]].max() < 1e-4


class VolumeEdgeMarking(EdgeMarking):
    """The same for runs of frames, which become twice as many."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        marked = torch.ones_like(x)
        inside = (slice(None), slice(4, -4), *[slice(self.reach, -self.reach)] * 2)
        marked[inside] = 0
        return marked.repeat_interleave(2, dim=1)


@pytest.mark.parametrize("shape", [(70, 200, 90), (33, 129, 200)])
def test_windows_of_a_volume_leave_no_seam_either(shape: tuple[int, int, int]) -> None:
    output = SeamlessInferer(precision="float32", volume=True)(torch.rand(1, *shape), VolumeEdgeMarking(8))
    assert output.shape == (1, 2 * shape[0], *shape[1:])
    # Along an axis that fits into a window the network sees the volume's own edges.
    whole = [size <= window for size, window in zip(shape, (48, 96, 96), strict=True)]
    inside = [slice(8, -8) if fits else slice(None) for fits in whole]
    assert output[0][tuple(inside)].max() < 1e-4


@pytest.mark.parametrize("shape", [(60, 70, 150), (20, 130, 60)])
def test_windows_of_a_volume_agree_with_the_whole(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    inner = ResUNet(1, 1, (8,), scale=[2, 1, 1], depth=0, interpolate=False, norm="", spatial_dims=3)
    network = AsVolume(inner).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    volume = torch.rand(1, *shape)
    with torch.inference_mode():
        whole = network(volume)
        windowed = SeamlessInferer(64, precision="float32", volume=True)(volume, network)
    error = (windowed - whole)[..., 16:-16, 16:-16, 16:-16].abs() / whole.std()
    assert error.max() < 1e-4


@pytest.mark.parametrize(("height", "width"), [(400, 262), (257, 600)])
def test_windows_agree_with_the_whole_image(height: int, width: int) -> None:
    torch.manual_seed(0)
    network = ResUNet(1, 1, (8, 16), scale=2, depth=1, interpolate=False, norm="")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image = torch.rand(1, 1, height, width)
    with torch.inference_mode():
        whole = network.eval()(image)
        windowed = SeamlessInferer(precision="float32")(image, network)
    # The image's outermost pixels see reflected instead of zero padding; within, windows and the whole agree.
    error = (windowed - whole)[..., 32:-32, 32:-32].abs() / whole.std()
    assert error.max() < 1e-4


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="overlap: 0.05 of a window of 640"):
        SeamlessInferer(overlap=0.05)
    with pytest.raises(InputError, match="window: 100"):
        SeamlessInferer(window=100)


def test_less_memory_keeps_the_overlap_that_was_asked_for() -> None:
    smaller = SeamlessInferer(window=512, overlap=0.5, batch_size=2).halved(2)
    assert smaller is not None
    assert (smaller.window, smaller.overlap, smaller.batch_size) == (256, 0.5, 1)
    least = SeamlessInferer(window=512, overlap=0.125).halved()
    assert least is not None
    assert least.overlap == 0.25
    assert SeamlessInferer(window=64).halved() is None
