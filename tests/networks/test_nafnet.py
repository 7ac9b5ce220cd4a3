"""NAFNet: the paper's size, its arithmetic written out once more, and attention that stays near its pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks import NAFNet

SMALL = {"width": 4, "encoder": [2, 1], "middle": 2, "decoder": [1, 2], "interpolate": False}


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def with_all_layers_at_work(network: NAFNet) -> NAFNet:
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def test_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        network = NAFNet(3, 3, 1, width=32, encoder=[2, 2, 4, 8], middle=12, decoder=[2, 2, 2, 2], neighbourhood=None)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(29.16, abs=0.005)


def interpolated_cells(x: Tensor, side: int) -> Tensor:
    """The means of cells, interpolated between their middles by numpy, one axis after the other."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, height // side, side, width // side, side).mean((3, 5)).numpy()
    for axis, size in ((2, height), (3, width)):
        middles = side * np.arange(size // side) + side / 2
        cells = np.apply_along_axis(lambda line: np.interp(np.arange(size) + 0.5, middles, line), axis, cells)  # noqa: B023
    return torch.from_numpy(cells).float()


def written_out(network: NAFNet, x: Tensor, neighbourhood: int | None) -> Tensor:
    """The network once more, from its parameters alone."""
    weights = network.state_dict()

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), **options)

    def normalised(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        centred = centred / torch.sqrt((centred**2).mean(1, keepdim=True) + 1e-5)
        return centred * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]

    def gate(x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return x[:, :half] * x[:, half:]

    def block(x: Tensor, name: str, level: int) -> Tensor:
        y = conv(normalised(x, f"{name}.norm1"), f"{name}.expand")
        y = gate(conv(y, f"{name}.depthwise", padding=1, groups=y.shape[1]))
        side = None if neighbourhood is None else neighbourhood // (network.fold * 2**level)
        mean = y.mean((2, 3), keepdim=True) if side is None else interpolated_cells(y, side)
        x = x + weights[f"{name}.beta"] * conv(y * conv(mean, f"{name}.attention"), f"{name}.project")
        y = gate(conv(normalised(x, f"{name}.norm2"), f"{name}.expand2"))
        return x + weights[f"{name}.gamma"] * conv(y, f"{name}.project2")

    x = conv(F.pixel_unshuffle(x * 2 - 1, network.fold), "encoder.0.0", padding=1)
    first = x = block(block(x, "encoder.0.1", 0), "encoder.0.2", 0)
    second = x = block(conv(x, "encoder.1.0", stride=2), "encoder.1.1", 1)
    x = block(block(conv(x, "middle.0", stride=2), "middle.1", 2), "middle.2", 2)
    x = F.pixel_shuffle(conv(x, "middle.3"), 2) + second
    x = F.pixel_shuffle(conv(block(x, "decoder.0.0", 1), "decoder.0.1"), 2) + first
    x = block(block(x, "decoder.1.0", 0), "decoder.1.1", 0)
    return (F.pixel_shuffle(conv(x, "last", padding=1), network.scale[0] * network.fold) + 1) / 2


@pytest.mark.parametrize(("scale", "fold"), [(1, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("neighbourhood", [None, 8, 16])
def test_values_equal_the_network_written_out(scale: int, fold: int, neighbourhood: int | None) -> None:
    network = with_all_layers_at_work(NAFNet(2, 1, scale, **SMALL, fold=fold, neighbourhood=neighbourhood))
    x = random_image(2, 2, 32, 48)
    with torch.no_grad():
        y, expected = network(x), written_out(network, x, neighbourhood)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_scale_for_each_axis() -> None:
    x = random_image(1, 1, 9, 17)
    assert NAFNet(scale=[1, 3], **SMALL)(x).shape == (1, 1, 9, 51)
    expected = F.interpolate(x, scale_factor=(1.0, 3.0), mode="bilinear")
    torch.testing.assert_close(NAFNet(scale=[1, 3], **SMALL | {"interpolate": True})(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("neighbourhood", "depends"), [(16, False), (None, True)])
def test_what_is_far_away_does_not_change_a_pixel(neighbourhood: int | None, depends: bool) -> None:
    network = with_all_layers_at_work(NAFNet(1, 1, 1, 4, [1], 1, [1], neighbourhood=neighbourhood, interpolate=False))
    x = random_image(1, 1, 16, 256)
    changed = x.clone()
    changed[..., 160:] = 0
    with torch.no_grad():
        difference = (network(changed) - network(x))[..., :64].abs().max()
    assert (difference > 1e-4) == depends


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"decoder": [1]}, "decoder: found .* and \\[1\\]"),
        ({"middle": 0}, "middle"),
        ({"fold": 0}, "fold"),
        ({"neighbourhood": 12, "fold": 2}, "neighbourhood: found 12; give None or a multiple of 8"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], named: str) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=named):
        NAFNet(**SMALL | options)
