"""What every network promises: sizes, the start at interpolation, learning, scripts and exports."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.networks import (
    RCAN,
    NAFNet,
    RDResUNet,
    RDResUNetA,
    ResUNet,
    ResUNetA,
    ScaledNetwork,
    ScaledRestormer,
    SwinIR,
)
from pssr2_monai.networks.scaled import AsVolume, not_copying

RDNET: dict[str, Any] = {
    "stem_channels": 8,
    "growth_rates": (4, 6),
    "downsample": (False, True),
    "squeeze_excite": (False, True),
    "n_blocks": (1, 2),
}
Build = Callable[..., ScaledNetwork]

SMALL: dict[str, Build] = {
    "resunet": partial(ResUNet, channels=(8, 16, 32), depth=1),
    "resunet_a": partial(
        ResUNetA, channels=(8, 16), depth=0, dilations=((1, 3), (1,)), pool_sizes=(1, 4), encoder_pool=True
    ),
    "rdresunet": partial(RDResUNet, channels=(16, 8), depth=0, **RDNET),
    "rdresunet_a": partial(
        RDResUNetA, channels=(16, 8), depth=0, dilations=((1,), (1, 2)), pool_sizes=(1, 2), encoder_pool=True, **RDNET
    ),
    "swinir": partial(SwinIR, embed_dim=12, depths=(2, 2), heads=(2, 3), window=4, features=8, drop_path=0.0),
    "swinir_direct": partial(
        SwinIR,
        embed_dim=8,
        depths=(2,),
        heads=(2,),
        window=8,
        upsampler="pixelshuffledirect",
        conv="3conv",
        drop_path=0.0,
    ),
    "swinir_nearest": partial(
        SwinIR,
        embed_dim=8,
        depths=(2,),
        heads=(2,),
        window=5,
        upsampler="nearest+conv",
        features=8,
        drop_path=0.0,
    ),
    "rcan": partial(RCAN, groups=2, blocks=2, features=8, reduction=2),
    "nafnet": partial(NAFNet, width=8, encoder=(1, 1), middle=1, decoder=(1, 1), neighbourhood=4),
    "restormer": partial(ScaledRestormer, width=8, blocks=(1, 1), heads=(1, 2), refinement=1, neighbourhood=4),
}
small_networks = pytest.mark.parametrize("build", SMALL.values(), ids=SMALL.keys())


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@small_networks
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_starts_as_torchs_bilinear_interpolation_of_the_central_frames(build: Build, scale: int) -> None:
    network = build(in_channels=5, out_channels=3, scale=scale).eval()
    for size in ((8, 8), (17, 11), (9, 33)):
        x = random_image(2, 5, *size)
        expected = F.interpolate(x[:, 1:4], scale_factor=scale, mode="bilinear") if scale > 1 else x[:, 1:4]
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-6)


@small_networks
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_size_is_exactly_scale_times_the_input(build: Build, scale: int) -> None:
    network = build(in_channels=1, out_channels=2, scale=scale, interpolate=False).eval()
    for height, width in ((8, 8), (17, 11), (9, 33), (20, 16)):
        y = network(random_image(1, 1, height, width))
        assert y.shape == (1, 2, height * scale, width * scale)
        assert y.isfinite().all()


@small_networks
def test_more_frames_out_than_in_start_as_the_nearest(build: Build) -> None:
    x = random_image(1, 2, 8, 12)
    y = build(in_channels=2, out_channels=4, scale=1)(x)
    torch.testing.assert_close(y, x[:, [0, 0, 1, 1]], rtol=0, atol=1e-6)


@small_networks
def test_every_parameter_learns_after_one_step(build: Build) -> None:
    torch.manual_seed(0)
    network = build(scale=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, target = random_image(2, 1, 24, 24), torch.zeros(2, 1, 48, 48)
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(network(x), target).backward()
        optimizer.step()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("build", [SMALL[name] for name in SMALL if name != "restormer"])
def test_script_gives_the_same_for_other_sizes(build: Build) -> None:
    network = build(scale=3, interpolate=False).eval()
    scripted = torch.jit.script(network)
    for size in ((8, 8), (19, 30)):
        x = random_image(2, 1, *size)
        torch.testing.assert_close(scripted(x), network(x), rtol=1e-5, atol=1e-5)


@small_networks
@pytest.mark.parametrize("interpolate", [True, False])
def test_export_has_dynamic_batch_height_and_width(build: Build, interpolate: bool) -> None:
    network = build(scale=2, interpolate=interpolate).eval()
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(network, (random_image(2, 1, 21, 34),), dynamic_shapes={"x": sizes}).module()
    # An exported program takes no axis, however deep inside, to be one pixel long: 8x8 is too small for some.
    for size in ((1, 1, 17, 16), (3, 1, 40, 51)):
        x = random_image(*size)
        torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-5)


@small_networks
def test_channels_last_gives_the_same(build: Build) -> None:
    network = build(in_channels=3, scale=2, interpolate=False).eval()
    x = random_image(2, 3, 16, 20)
    expected = network(x)
    network = network.to(memory_format=torch.channels_last)
    y = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@small_networks
def test_unfit_input_is_refused_in_one_line(build: Build) -> None:
    network = build(in_channels=3)
    with pytest.raises(InputError, match=r"7x40 px.*at least 8x8"):
        network(random_image(1, 3, 7, 40))
    with pytest.raises(InputError, match=r"\(1, 1, 16, 16\).*3 frames"):
        network(random_image(1, 1, 16, 16))
    with pytest.raises(InputError, match=r"3 frames, Y, X"):
        network(random_image(3, 16, 16))


def test_networks_that_add_their_input_do_not_suit_blind_spots() -> None:
    network = ResUNet(channels=(8, 16), depth=0, scale=1, interpolate=False)
    assert not_copying(network) is network
    volume = AsVolume(ResUNet(channels=(8,), depth=0, spatial_dims=3))
    for copying in (ResUNet(channels=(8,), depth=0, scale=1), volume):
        with pytest.raises(InputError, match="interpolate"):
            not_copying(copying)
