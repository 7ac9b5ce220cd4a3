"""MONAI's Restormer at a scale: its attention against its definition, and a pixel that does not see the whole image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.blocks.cablock import CABlock
from torch import Tensor
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks import ScaledRestormer
from pssr2_monai.networks.restormer import ChannelAttention

SMALL = {"width": 4, "blocks": [1, 2], "heads": [1, 2], "refinement": 1}


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def attention_written_out(layer: ChannelAttention, x: Tensor, side: int | None) -> Tensor:
    """For each pixel, the value after the attention of the cells around, by loops over cells and heads."""
    _, channels, height, width = x.shape
    parts = layer.qkv_dwconv(layer.qkv(x))[0].reshape(3, layer.heads, -1, height, width)
    along_y, along_x = (height, width) if side is None else (side, side)
    rows, columns = height // along_y, width // along_x
    mixed = torch.zeros(layer.heads, channels // layer.heads, height, width)
    for row in range(rows):
        for column in range(columns):
            # Tents around the middle of the cell; at the ends of the image the last cell counts alone.
            tents = [
                np.interp(np.arange(size) + 0.5, along * np.arange(count) + along / 2, np.eye(count)[number])
                for size, along, count, number in ((height, along_y, rows, row), (width, along_x, columns, column))
            ]
            weight = torch.from_numpy(np.outer(*tents)).float()
            cell = parts[..., row * along_y : (row + 1) * along_y, column * along_x : (column + 1) * along_x]
            for head in range(layer.heads):
                query, key = (part / part.norm(dim=1, keepdim=True) for part in cell[:2, head].flatten(2))
                scores = (query @ key.T * layer.temperature[head]).exp()
                attention = scores / scores.sum(1, keepdim=True)
                mixed[head] += weight * torch.einsum("cd,dyx->cyx", attention, parts[2, head])
    return layer.project_out(mixed.reshape(1, channels, height, width))


@pytest.mark.parametrize("side", [None, 2, 8])
def test_attention_equals_its_definition(side: int | None) -> None:
    torch.manual_seed(0)
    layer = ChannelAttention(CABlock(2, 6, 2, bias=True), side)
    torch.nn.init.uniform_(layer.temperature, 1, 4)
    x = random_image(1, 6, 16, 24) - 0.5
    with torch.no_grad():
        torch.testing.assert_close(layer(x), attention_written_out(layer, x, side), rtol=1e-4, atol=1e-5)


def test_attention_of_the_whole_input_is_monais() -> None:
    pytest.importorskip("einops", reason="MONAI's attention needs einops")
    torch.manual_seed(0)
    block = CABlock(2, 8, 2, bias=False)
    x = random_image(2, 8, 9, 7)
    torch.testing.assert_close(ChannelAttention(block, None)(x), block(x))


@pytest.mark.parametrize(("neighbourhood", "depends"), [(16, False), (None, True)])
def test_what_is_far_away_does_not_change_a_pixel(neighbourhood: int | None, depends: bool) -> None:
    torch.manual_seed(0)
    options = {"width": 8, "blocks": [1, 1], "heads": [1, 2], "refinement": 1, "interpolate": False}
    network = ScaledRestormer(scale=1, **options, neighbourhood=neighbourhood).eval()
    x = random_image(1, 1, 16, 256)
    changed = x.clone()
    changed[..., 192:] = 0
    with torch.no_grad():
        difference = (network(changed) - network(x))[..., :48].abs().max()
    assert (difference > 1e-5) == depends


def test_a_scale_for_each_axis_and_a_folded_one() -> None:
    x = random_image(1, 2, 9, 17)
    expected = F.interpolate(x[:, :1], scale_factor=(1.0, 3.0), mode="bilinear")
    torch.testing.assert_close(ScaledRestormer(2, 1, [1, 3], **SMALL)(x), expected, rtol=0, atol=1e-6)
    folded = ScaledRestormer(2, 2, 1, **SMALL, fold=2, interpolate=False)
    assert folded.restormer.patch_embed.conv.in_channels == 8
    assert folded(x).shape == x.shape


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"heads": [1]}, "heads.* found \\[1, 2\\], \\[1\\]"),
        ({"blocks": [1], "heads": [1]}, "at least two"),
        ({"width": 6}, "width, heads: found 6"),
        ({"heads": [3, 2]}, "width, heads"),
        ({"refinement": 0}, "refinement"),
        ({"neighbourhood": 6}, "neighbourhood: found 6; give None or a multiple of 4"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], named: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=named):
        ScaledRestormer(**SMALL | options)
