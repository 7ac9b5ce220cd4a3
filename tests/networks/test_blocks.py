"""The blocks against torch's and MONAI's own, and against their definitions."""

from __future__ import annotations

import pytest
import torch
from monai.networks.utils import pixelshuffle
from torch import Tensor
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks.blocks import (
    AtrousBlock,
    ChannelNorm,
    LocalMean,
    PixelShuffle,
    PyramidPool,
    Reconstruction,
    shuffled_upsampling,
    upsampling_steps,
)


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_pixel_shuffle_equals_torchs_and_monais() -> None:
    x = random_image(2, 18, 5, 7)
    torch.testing.assert_close(PixelShuffle([3, 3])(x), torch.nn.PixelShuffle(3)(x), rtol=0, atol=0)
    volume = random_image(2, 16, 3, 5, 4)
    torch.testing.assert_close(PixelShuffle([2, 2, 2])(volume), pixelshuffle(volume, 3, 2), rtol=0, atol=0)


def test_pixel_shuffle_with_a_factor_for_each_axis() -> None:
    x = random_image(1, 2 * 4 * 3, 2, 3, 5)
    y = PixelShuffle([4, 1, 3])(x)
    assert y.shape == (1, 2, 8, 3, 15)
    for frame, z, row, column in ((0, 0, 0, 0), (1, 7, 2, 14), (1, 5, 1, 7), (0, 3, 2, 10)):
        channel = frame * 12 + (z % 4) * 3 + column % 3
        assert y[0, frame, z, row, column] == x[0, channel, z // 4, row, column // 3]


def test_steps_of_a_scale_multiply_to_it() -> None:
    assert upsampling_steps([1, 4, 4]) == [[1, 2, 2], [1, 2, 2]]
    assert upsampling_steps([8, 8]) == [[2, 2]] * 3
    assert upsampling_steps([6, 3]) == [[2, 3], [3, 1]]
    assert upsampling_steps([1, 1]) == []
    assert shuffled_upsampling(2, 4, [4, 2])(random_image(1, 4, 3, 3)).shape == (1, 4, 12, 6)


def test_reconstruction_starts_without_a_checkerboard() -> None:
    block = Reconstruction(2, in_channels=5, features=3, out_channels=1, scale=[2, 4])
    fine = block.shuffle(block.pre(random_image(1, 5, 4, 4)))
    torch.testing.assert_close(fine, F.interpolate(fine[..., ::2, ::4], scale_factor=(2, 4)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("scale", "frames", "size"), [([4, 4], 1, (37, 13)), ([2, 3], 2, (16, 9)), ([1, 1], 1, (5, 40))]
)
def test_reconstruction_by_its_definition(scale: list[int], frames: int, size: tuple[int, int]) -> None:
    """Without gradients it is computed in another way on a processor: in strips of rows."""
    block = Reconstruction(2, in_channels=5, features=6, out_channels=frames, scale=scale)
    x = random_image(2, 5, *size).requires_grad_()
    wide = F.conv2d(x, block.pre.weight, block.pre.bias, padding=1).relu()
    merged = wide.view(2, 6, *scale, *size).permute(0, 1, 4, 2, 5, 3).reshape(2, 6, size[0] * scale[0], -1)
    expected = F.conv2d(merged, block.conv.weight, block.conv.bias, padding=1)
    torch.testing.assert_close(block(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(block(x), expected)
    parameters = [x, *block.parameters()]
    gradients = [
        torch.autograd.grad(output.square().sum(), parameters, retain_graph=True) for output in (block(x), expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_pyramid_pool_by_its_definition() -> None:
    pool = PyramidPool(2, 4, [1, 2, 3], norm="").eval()
    x = random_image(1, 4, 7, 9) - 0.5
    assert pool.widths == [2, 1, 1]
    parts = []
    for part, size, conv in zip(x.split([2, 1, 1], 1), (1, 2, 3), pool.convs, strict=True):
        pooled = F.interpolate(F.max_pool2d(part, size), size=(7, 9), mode="bilinear")
        parts.append(F.conv2d(pooled, conv[0].weight, conv[0].bias).relu())
    expected = F.conv2d(torch.cat(parts, 1), pool.out[0].weight, pool.out[0].bias).relu()
    torch.testing.assert_close(pool(x), expected)
    with pytest.raises(InputError, match="pool_sizes"):
        PyramidPool(2, 4, [0, 1], norm="")


def test_atrous_block_without_norm_leaves_its_input_alone() -> None:
    block = AtrousBlock(2, 2, 3, dilations=[1, 2], depth=0, norm="")
    x = random_image(1, 2, 6, 6) - 0.5
    before = x.clone()
    expected = F.conv2d(x, block.residual.weight, block.residual.bias)
    for branch, dilation in zip(block.branches, (1, 2), strict=True):
        conv = branch[2]
        expected = expected + F.conv2d(x.relu(), conv.weight, conv.bias, padding=dilation, dilation=dilation)
    torch.testing.assert_close(block(x), expected.relu())
    assert torch.equal(x, before)


def test_channels_of_each_pixel_are_normalised() -> None:
    x = random_image(2, 6, 3, 5)
    y = ChannelNorm(6)(x)
    torch.testing.assert_close(y, (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5) ** 0.5)


def test_local_means_of_a_ramp_are_the_ramp_between_the_middles_of_cells() -> None:
    x = torch.arange(24.0).expand(1, 2, 8, 24)
    y = LocalMean(4).spread(LocalMean(4).cells(x))
    torch.testing.assert_close(y, x.clamp(1.5, 21.5))
    whole = LocalMean(None)
    assert whole.spread(whole.cells(x)).flatten().tolist() == [11.5, 11.5]
    assert torch.equal(LocalMean(1).spread(LocalMean(1).cells(x)), x)
