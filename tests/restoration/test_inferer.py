"""Sliding windows: no seams inside the image or at its border, and half the memory where asked for; their blending:
each pixel once, weights that add up to 1, the same bits whatever part is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.images.windows import reflect_indices
from pssr2_monai.networks import AsVolume, NAFNet, ResUNet, ScaledNetwork, ScaledRestormer
from pssr2_monai.restoration.inferer import SeamlessInferer, WindowAxis, blended


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


@pytest.mark.parametrize(("neighbourhood", "agree"), [(8, True), (None, False)])
@pytest.mark.parametrize("attention", ["NAFNet", "ScaledRestormer"])
def test_attention_to_a_neighbourhood_agrees_with_the_whole_image(
    attention: str, neighbourhood: int | None, agree: bool
) -> None:
    torch.manual_seed(0)
    network: ScaledNetwork = NAFNet(1, 1, 1, 4, [1], 1, [1], neighbourhood, interpolate=False)
    if attention == "ScaledRestormer":
        network = ScaledRestormer(1, 1, 1, 4, [1, 1], [1, 2], 1, 2.0, neighbourhood, interpolate=False)
    for name, parameter in network.named_parameters():
        if not name.endswith("temperature"):
            torch.nn.init.normal_(parameter, std=0.3)
    # The darker half, and the noise in it, must not change how the brighter one is restored.
    image = torch.rand(1, 1, 96, 260) * torch.linspace(0.05, 1, 260)
    with torch.inference_mode():
        whole = network.eval()(image)
        windowed = SeamlessInferer(160, 0.8, precision="float32")(image, network)
    error = (windowed - whole)[..., 32:-32, 32:-32].abs() / whole.std()
    assert (error.max() < 1e-4) == agree


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="overlap: 0.05 of a window of 640"):
        SeamlessInferer(overlap=0.05)
    with pytest.raises(InputError, match="window: 100"):
        SeamlessInferer(window=100)


class Shifting(torch.nn.Module):
    """Adds the pixel to the left: a network that treats an image and its mirror image differently."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.roll(x, 1, dims=-1)


def test_orientations_are_averaged() -> None:
    image = torch.rand(1, 1, 100, 90)
    padded = F.pad(image, (1, 1, 1, 1))
    around = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    sideways = (padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]) / 2
    for count, expected in ((8, image + around / 4), (4, image + sideways)):
        restored = SeamlessInferer(precision="float32", orientations=count)(image, Shifting())
        torch.testing.assert_close(restored[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])
    mirrored = SeamlessInferer(64, orientations=8)(image.flip(-1), Shifting()).flip(-1)
    torch.testing.assert_close(mirrored, SeamlessInferer(64, orientations=8)(image, Shifting()))
    assert SeamlessInferer(batch_size=2, orientations=8).halved().orientations == 8
    with pytest.raises(InputError, match="orientations: 2 is not 1, 4 or 8"):
        SeamlessInferer(orientations=2)


def test_less_memory_keeps_the_overlap_that_was_asked_for() -> None:
    smaller = SeamlessInferer(window=512, overlap=0.5, batch_size=2).halved(2)
    assert smaller is not None
    assert (smaller.window, smaller.overlap, smaller.batch_size) == (256, 0.5, 1)
    least = SeamlessInferer(window=512, overlap=0.125).halved()
    assert least is not None
    assert least.overlap == 0.25
    assert SeamlessInferer(window=64).halved() is None


def _outputs(image: torch.Tensor, axes: Sequence[WindowAxis], parts: Sequence[range]) -> Iterator[torch.Tensor]:
    """Windows of a restored image, twice as large as its axes, in which a network has spoilt the ends."""
    starts = [axis.covering(part.start, part.stop) for axis, part in zip(axes, parts, strict=True)]
    for corner in product(*starts):
        window = image
        for number, (axis, start) in enumerate(zip(axes, corner, strict=True)):
            index = reflect_indices(2 * start, 2 * axis.length, 2 * axis.size)
            window = window.index_select(number + 1, torch.from_numpy(index))
            if len(axis.starts) > 1:
                for end in (0, 2 * (axis.length - axis.edge)):
                    window.narrow(number + 1, end, 2 * axis.edge).fill_(1e6)
        yield window.clone()


def _blended(image: torch.Tensor, axes: Sequence[WindowAxis], parts: Sequence[range]) -> torch.Tensor:
    assembled = torch.full_like(image, torch.nan)
    for place, piece in blended(_outputs(image, axes, parts), axes, parts):
        into = assembled[(slice(None), *(slice(2 * part.start, 2 * part.stop) for part in place))]
        assert into.shape == piece.shape
        assert into.isnan().all(), "no pixel is given twice"
        into.copy_(piece)
    return assembled


@given(
    sizes=st.lists(st.integers(20, 260), min_size=1, max_size=2),
    overlap=st.sampled_from([None, 0.5, 0.75]),
    data=st.data(),
)
def test_windows_add_up_to_the_image_and_parts_to_the_whole(
    sizes: list[int], overlap: float | None, data: st.DataObject
) -> None:
    axes = SeamlessInferer(96, overlap).axes([100, *sizes])[-len(sizes) :]
    image = torch.from_numpy(np.random.default_rng(0).random((2, *(2 * size for size in sizes)), np.float32))
    whole = _blended(image, axes, [range(size) for size in sizes])
    torch.testing.assert_close(whole, image, rtol=0, atol=1e-6)
    cuts = [data.draw(st.integers(1, size - 1)) for size in sizes]
    for parts in product(*([range(cut), range(cut, size)] for cut, size in zip(cuts, sizes, strict=True))):
        within = (slice(None), *(slice(2 * part.start, 2 * part.stop) for part in parts))
        assembled = _blended(image, axes, parts)
        assert torch.equal(assembled[within], whole[within])
        assembled[within] = torch.nan
        assert assembled.isnan().all(), "nothing is given that was not asked for"


@st.composite
def window_axes(draw: st.DrawFn) -> WindowAxis:
    """Axes of one window or many, with up to three quarters in common; the margin is at least half of that."""
    window = draw(st.integers(4, 40))
    shared = draw(st.integers(window // 4 or 1, 3 * window // 4))
    return WindowAxis(draw(st.integers(1, 300)), window, shared, shared // 2 + draw(st.integers(0, 4)))


@given(window_axes(), st.integers(1, 4))
def test_weights_of_all_windows_add_up_to_one(axis: WindowAxis, scale: int) -> None:
    total = np.zeros(scale * (axis.size + 2 * axis.margin + 2 * axis.window))
    for start in axis.starts:
        first = scale * (start + axis.margin)
        total[first : first + scale * axis.length] += axis.weights(start, scale)
    inside = slice(scale * axis.margin, scale * (axis.margin + axis.size))
    np.testing.assert_allclose(total[inside], 1, atol=1e-6)


@given(window_axes(), st.data())
def test_windows_that_cover_a_part_are_all_that_count_there(axis: WindowAxis, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, axis.size - 1))
    stop = data.draw(st.integers(first + 1, axis.size))
    covering = axis.covering(first, stop)
    for start in axis.starts:
        here = axis.weights(start)[max(first - start, 0) : max(stop - start, 0)]
        assert (start in covering) == bool(here.any())


def test_weights_are_a_raised_cosine_between_edges_of_nothing() -> None:
    weights = WindowAxis(size=100, window=16, shared=8, margin=4).weights(20)
    ramp = [np.sin(np.pi * (i + 0.5) / 8) ** 2 for i in range(4)]
    np.testing.assert_allclose(weights, [0, 0, *ramp, 1, 1, 1, 1, *ramp[::-1], 0, 0], atol=1e-6)


def test_windows_begin_on_one_grid() -> None:
    assert list(WindowAxis(size=600, window=256, shared=64, margin=32).starts) == [-32, 160, 352, 544]
    assert list(WindowAxis(size=256, window=256, shared=64, margin=32).starts) == [-16]
