"""RDResUNet and the atrous networks: their defaults, and arguments that do not fit together.

Their values are held against the original package in test_pssr2.py.
"""

from __future__ import annotations

import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.networks import RDResUNet, RDResUNetA, ResUNet, ResUNetA, ScaledNetwork
from pssr2_monai.networks.rdresunet import RDNet, multiple_of_eight, stages_of


@pytest.mark.parametrize(
    ("kind", "parameters"),
    # Counted in the original package, pssr 2.4.0.
    [(ResUNetA, 64_378_057), (RDResUNet, 115_744_923), (RDResUNetA, 131_800_553)],
)
def test_defaults_have_the_parameters_of_pssr2(kind: type[ScaledNetwork], parameters: int) -> None:
    with torch.device("meta"):
        network = kind()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_encoder_gives_the_features_before_each_halving() -> None:
    stages = stages_of((8, 8, 8), (False, False, True), (False,) * 3, (1, 2, 1))
    encoder = RDNet(2, 16, 4, stages, 2, 0.5)
    found = encoder(torch.rand(1, 2, 16, 32))
    # stem 16 + 8 = 24, half is 8 (multiples of eight) + 2 * 8 = 24, half again 8 + 8 = 16
    assert [tuple(x.shape) for x in found] == [(1, 24, 4, 8), (1, 16, 2, 4)]
    assert encoder.widths == [24, 16]
    assert encoder.stride == 8


@pytest.mark.parametrize(
    ("channels", "ratio", "expected"), [(100, 0.5, 48), (16, 4, 64), (10, 4, 40), (30, 0.3, 8), (3, 0.5, 8)]
)
def test_widths_are_multiples_of_eight(channels: int, ratio: float, expected: int) -> None:
    assert multiple_of_eight(channels, ratio) == expected


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (RDResUNet, {"channels": (64, 64)}, "channels: found 2"),
        (RDResUNet, {"n_blocks": (1, 2)}, "n_blocks: found 2 entries for 7"),
        (RDResUNet, {"growth_rates": (8, 8)}, "downsample: found 7 entries for 2"),
        (RDResUNet, {"channels": (8,) * 5, "downsample": (True,) * 4 + (False,) * 3}, "downsample: the first"),
        (RDResUNet, {"encoder_pool": True}, "encoder_pool: needs pool_sizes"),
        (ResUNet, {"encoder_pool": True}, "encoder_pool: needs pool_sizes"),
        (ResUNetA, {"channels": (8, 16)}, "dilations: .*for each of the 2 levels"),
        (ResUNetA, {"channels": (8,), "dilations": [[0]]}, "dilations"),
    ],
)
def test_arguments_that_do_not_fit(kind: type[ScaledNetwork], options: dict[str, object], named: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=named):
        kind(**options)
