"""ResUNet: what it starts as, its sizes, its parameters, and that all of it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks import ResUNet, ResUNetA

SMALL = {"channels": (8, 16, 32), "depth": 1}


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def plain_resunet(network: ResUNet, x: Tensor) -> Tensor:
    """The network written out once more with torch's functions, from its parameters alone (2-D, evaluation)."""
    weights = network.state_dict()

    def normalised(x: Tensor, name: str) -> Tensor:
        mean, var, gain, shift = (
            weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * gain + shift

    def block(x: Tensor, name: str) -> Tensor:
        y = x
        depth = len(network.get_submodule(f"{name}.conv"))
        for i in range(depth):
            y = F.conv2d(y, weights[f"{name}.conv.{i}.conv.weight"], weights[f"{name}.conv.{i}.conv.bias"], padding=1)
            y = normalised(y, f"{name}.conv.{i}.adn.N")
            y = y.relu() if i < depth - 1 else y
        return (y + F.conv2d(x, weights[f"{name}.residual.weight"], weights[f"{name}.residual.bias"])).relu()

    x = normalised(F.pixel_unshuffle(x * 2 - 1, network.fold), "norm")
    skips = [x]
    for level in range(len(network.encoder)):
        x = block(x if level == 0 else F.max_pool2d(x, 2), f"encoder.{level}")
        skips.append(x)
    skips.pop()
    for level in range(len(network.decoder)):
        x = block(torch.cat([F.pixel_shuffle(x, 2), skips.pop()], 1), f"decoder.{level}")
    x = torch.cat([x, skips.pop()], 1)
    x = F.conv2d(x, weights["reconstruction.pre.weight"], weights["reconstruction.pre.bias"], padding=1).relu()
    x = F.pixel_shuffle(x, network.scale[0] * network.fold)
    x = F.conv2d(x, weights["reconstruction.conv.weight"], weights["reconstruction.conv.bias"], padding=1)
    return (x + 1) / 2


@pytest.mark.parametrize(("scale", "fold"), [(1, 1), (4, 1), (1, 2), (2, 2)])
def test_values_equal_the_network_written_out(scale: int, fold: int) -> None:
    network = ResUNet(2, 1, **SMALL, scale=scale, fold=fold, interpolate=False)
    network(random_image(4, 2, 16, 24))  # gives BatchNorm statistics that are not 0 and 1
    network.eval()
    x = random_image(2, 2, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(x), plain_resunet(network, x), rtol=1e-5, atol=1e-5)


def test_default_has_the_parameters_of_pssr2() -> None:
    assert sum(parameter.numel() for parameter in ResUNet().parameters()) == 59_937_347


@pytest.mark.parametrize("channels", [(6, 10, 7), (5,), (12, 9), (3, 4, 5, 6)])
def test_widths_need_not_double(channels: tuple[int, ...]) -> None:
    network = ResUNet(channels=channels, depth=0, scale=2, interpolate=False).eval()
    assert network(random_image(1, 1, 17, 9)).shape == (1, 1, 34, 18)
    assert network.multiple == 2 ** (len(channels) - 1)


def test_a_folded_network_takes_any_size() -> None:
    network = ResUNet(channels=(6, 8), depth=0, scale=1, fold=2).eval()
    x = random_image(1, 1, 17, 9)
    assert network.multiple == 4
    torch.testing.assert_close(network(x), x)  # a new network adds nothing


def test_padding_reflects_at_the_far_end_only() -> None:
    network = ResUNet(**SMALL, scale=2, interpolate=False).eval()
    x = random_image(1, 1, 13, 18)
    padded = F.pad(x, (0, 2, 0, 3), mode="reflect")
    torch.testing.assert_close(network(x), network(padded)[..., :26, :36], rtol=0, atol=0)


def test_volumes_with_a_scale_for_each_axis() -> None:
    network = ResUNet(channels=(8, 16), depth=1, scale=[4, 1, 2], spatial_dims=3).eval()
    x = random_image(1, 1, 3, 9, 10)
    expected = F.interpolate(x, scale_factor=(4.0, 1.0, 2.0), mode="trilinear")
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d)])
def test_the_input_and_every_convolution_of_a_block_are_normalised(norm: str, kind: type[nn.Module]) -> None:
    modules = list(ResUNet(**SMALL, norm=norm).modules())
    norms = [module for module in modules if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d)]
    assert [type(module) for module in norms] == [kind] * (1 + 2 * 5)  # two convolutions in each of five blocks


def test_instance_norm_takes_away_gain_and_offset_which_stay_without_a_norm() -> None:
    x = random_image(2, 1, 16, 24)
    normalised = ResUNet(**SMALL, scale=2, norm="instance", interpolate=False).eval()
    torch.testing.assert_close(normalised(0.4 * x + 0.3), normalised(x), rtol=0, atol=1e-3)
    plain = ResUNet(**SMALL, scale=2, norm="", interpolate=False).eval()
    assert (plain(0.4 * x + 0.3) - plain(x)).abs().max() > 1e-2
    assert not any(isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) for module in plain.modules())


def test_the_atrous_network_pools_each_axis_by_its_own_factor_too() -> None:
    options = {"channels": (8, 16), "depth": 0, "dilations": ((1, 2), (1,)), "pool_sizes": (1, 2), "spatial_dims": 3}
    network = ResUNetA(**options, scale=[1, 2, 2], pool=[1, 2, 2]).eval()
    assert network.pool == [1, 2, 2]
    assert network.multiple == 2
    x = random_image(1, 1, 3, 9, 10)
    expected = F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="trilinear")
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="pool: found 0"):
        ResUNetA(**options, pool=0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"channels": ()}, "channels"),
        ({"scale": 0}, "scale"),
        ({"scale": 1.5}, "scale"),
        ({"scale": [2, 2, 2]}, "scale"),
        ({"spatial_dims": 1}, "spatial_dims"),
        ({"in_channels": 0}, "in_channels"),
        ({"value_range": (1, 1)}, "value_range"),
        ({"fold": 0}, "fold"),
        ({"fold": 2, "spatial_dims": 3}, "fold"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ResUNet(**{**SMALL, **options})
