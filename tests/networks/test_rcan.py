"""RCAN: the paper's size, its arithmetic written out once more, and volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks import RCAN


def test_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        network = RCAN(in_channels=3, out_channels=3)
    # The authors' network for 4x has 15,592,379, of which 24 only shift RGB by its mean.
    assert sum(parameter.numel() for parameter in network.parameters()) == 15_592_379 - 24


def test_values_equal_the_network_written_out() -> None:
    torch.manual_seed(0)
    network = RCAN(2, 1, scale=3, groups=2, blocks=2, features=6, reduction=2, interpolate=False)
    weights = network.state_dict()

    def conv(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def attention(x: Tensor, name: str) -> Tensor:
        y = conv(conv(x, f"{name}.0").relu(), f"{name}.2")
        mean = y.mean((2, 3))
        inner = (mean @ weights[f"{name}.3.fc.0.weight"].T + weights[f"{name}.3.fc.0.bias"]).relu()
        gate = (inner @ weights[f"{name}.3.fc.2.weight"].T + weights[f"{name}.3.fc.2.bias"]).sigmoid()
        return x + y * gate[:, :, None, None]

    image = torch.rand(2, 2, 9, 11)
    head = x = conv(image * 2 - 1, "head")
    for group in range(2):
        y = x
        for block in range(2):
            y = attention(y, f"body.body.{group}.body.{block}.body")
        x = x + conv(y, f"body.body.{group}.body.2")
    x = head + conv(x, "body.body.2")
    x = conv(F.pixel_shuffle(conv(x, "upsample.0"), 3), "last")
    torch.testing.assert_close(network(image), (x + 1) / 2, rtol=1e-5, atol=1e-6)


def test_volumes_with_a_scale_for_each_axis() -> None:
    options = {"groups": 1, "blocks": 1, "features": 4, "reduction": 2, "spatial_dims": 3}
    x = torch.rand(1, 1, 3, 9, 10)
    expected = F.interpolate(x, scale_factor=(4.0, 1.0, 1.0), mode="trilinear")
    torch.testing.assert_close(RCAN(**options, scale=[4, 1, 1])(x), expected, rtol=0, atol=1e-6)
    assert RCAN(**options, scale=[1, 4, 2], interpolate=False)(x).shape == (1, 1, 3, 36, 20)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"reduction": 65}, "reduction"), ({"groups": 0}, "groups, blocks"), ({"scale": -2}, "scale")],
)
def test_wrong_arguments_are_named(options: dict[str, int], named: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=named):
        RCAN(**options)
