"""SwinIR: the paper's sizes, and windows that keep the ends of the image apart.

Its values are held against the original package in test_pssr2.py.
"""

from __future__ import annotations

import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.networks import SwinIR
from pssr2_monai.networks.swinir import SwinBlock, WindowAttention


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 1_986_049),  # counted in pssr 2.4.0
        # Of the authors' networks for RGB at 4x: 11.9 M (classical) and 930 k (lightweight).
        ({"in_channels": 3, "out_channels": 3, "embed_dim": 180, "depths": [6] * 6, "heads": [6] * 6}, 11_900_199),
        (
            {
                "in_channels": 3,
                "out_channels": 3,
                "embed_dim": 60,
                "depths": [6] * 4,
                "heads": [6] * 4,
                "upsampler": "pixelshuffledirect",
            },
            929_628,
        ),
    ],
)
def test_parameter_counts(options: dict[str, object], parameters: int) -> None:
    with torch.device("meta"):
        network = SwinIR(**options)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def reach(block: SwinBlock, row: int, column: int, height: int, width: int) -> torch.Tensor:
    """Which pixels of the input change the output at one pixel."""
    x = torch.rand(1, height, width, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    block(x)[0, row, column].sum().backward()
    return x.grad[0].abs().amax(-1) > 1e-12


def test_shifted_windows_reach_their_window_and_never_around_the_ends() -> None:
    torch.manual_seed(0)
    block = SwinBlock(4, WindowAttention(4, 2, 4, 2, True, None), 2, 0)
    # Shifted by 2, windows begin at -2, 2, 6, ...: the first and the last of an axis are half as long.
    spans = {0: (0, 2), 1: (0, 2), 2: (2, 6), 5: (2, 6), 6: (6, 10), 9: (6, 10), 10: (10, 12), 11: (10, 12)}
    for row, (top, bottom) in spans.items():
        for column, (left, right) in spans.items():
            expected = torch.zeros(12, 12, dtype=torch.bool)
            expected[top:bottom, left:right] = True
            assert torch.equal(reach(block, row, column, 12, 12), expected), (row, column)


def test_one_window_is_cut_by_the_shift_too() -> None:
    torch.manual_seed(0)
    block = SwinBlock(4, WindowAttention(4, 1, 8, 4, False, 0.5), 1, 0)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:, :4] = True
    assert torch.equal(reach(block, 6, 1, 8, 8), expected)


def test_stochastic_depth_drops_whole_samples_in_training_only() -> None:
    torch.manual_seed(0)
    block = SwinBlock(4, WindowAttention(4, 1, 4, 0, True, None), 1, 0.5)
    x = torch.rand(64, 4, 4, 4)
    change = (block._dropped(x) / x).flatten(1)
    assert set(change[:, 0].unique().tolist()) == {0.0, 2.0}
    assert (change == change[:, :1]).all()
    assert torch.equal(block.eval()._dropped(x), x)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"heads": (6, 6)}, "heads: found 2 for 4 depths"),
        ({"heads": (5, 5, 5, 5)}, "heads: .*divide embed_dim 96"),
        ({"upsampler": "bilinear"}, "upsampler: found 'bilinear'"),
        ({"upsampler": ""}, "upsampler: none"),
        ({"conv": "2conv"}, "conv: found '2conv'"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], named: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=named):
        SwinIR(**options)
