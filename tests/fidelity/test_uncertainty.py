"""Mean and spread over orientations and networks."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pssr2_monai.errors import InputError
from pssr2_monai.fidelity.uncertainty import MeanAndSpread, load_ensemble, restore_with_uncertainty
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.windows import oriented
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer


class Directed(torch.nn.Module):
    """Enlarges twofold, and adds a gradient along X to what it sees: no orientation gives what another does."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(slope))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = F.interpolate(x, scale_factor=2, mode="nearest")
        return large + self.slope * torch.linspace(0, 1, large.shape[-1])


def _by_hand(image: np.ndarray, network: torch.nn.Module) -> np.ndarray:
    """Every orientation turned by numpy, restored, and turned back by undoing the swap before the flips."""
    outputs = []
    for number in range(8):
        turned = torch.from_numpy(np.ascontiguousarray(oriented(image, number)))[None, None]
        output = network(turned)[0, 0].detach().numpy()
        output = output.T if number & 4 else output
        flips = [axis for bit, axis in ((1, 0), (2, 1)) if number & bit]
        outputs.append(np.flip(output, flips))
    return np.stack(outputs)


def test_mean_and_spread_are_those_of_all_orientations_and_networks() -> None:
    image = np.random.default_rng(0).random((6, 10)).astype(np.float32)
    networks = [Directed(0.5), Directed(-0.2)]
    outputs = np.concatenate([_by_hand(image, network) for network in networks])
    found = MeanAndSpread(networks)(torch.from_numpy(image)[None, None]).detach().numpy()[0, :, 0]
    np.testing.assert_allclose(found[0], outputs.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found[1], outputs.std(axis=0, ddof=1), atol=1e-6)


def test_a_network_without_directions_has_no_spread() -> None:
    found = MeanAndSpread([Directed(0.0)])(torch.rand(2, 3, 8, 8))
    assert found.shape == (2, 2, 3, 16, 16)
    assert float(found[:, 1].max()) < 1e-6


def test_one_output_has_no_spread_to_tell() -> None:
    with pytest.raises(InputError, match="one network in one orientation has no spread"):
        MeanAndSpread([Directed(0.0)], orientations=1)
    with pytest.raises(InputError, match="orientations: 3 is not 1, 4 or 8"):
        MeanAndSpread([Directed(0.0)], orientations=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_files_hold_mean_and_spread_in_grey_levels(dtype: type, tmp_path: Path) -> None:
    top = np.iinfo(dtype).max
    stack = np.random.default_rng(0).integers(top // 4, top // 2, (3, 40, 40)).astype(dtype)
    write_image(tmp_path / "in.ome.tif", stack, axes="ZYX", pixel_size={"Z": 0.05, "Y": 0.01, "X": 0.01})
    record = Record(network={}, scale=2, intensity=IntensitySettings("dtype"))
    network = Directed(0.3)
    mean, spread = restore_with_uncertainty(
        tmp_path / "in.ome.tif", tmp_path / "out.ome.tif", [network], record, SeamlessInferer(precision="float32")
    )
    # The window reaches beyond the image by 16 LR pixels, where it is mirrored.
    wide = np.pad(stack.astype(np.float32) / top, [(0, 0), (16, 16), (16, 16)], mode="symmetric")
    outputs = np.stack([_by_hand(frame, network) for frame in wide])[..., 32:-32, 32:-32]
    with open_image(mean) as image:
        assert (image.dtype, image.axes) == (np.dtype(dtype), "ZYX")
        np.testing.assert_allclose(image.read(), top * outputs.mean(axis=1), atol=0.51)
    with open_image(spread) as image:
        assert (spread.name, image.dtype) == ("out_uncertainty.ome.tif", np.dtype(np.float32))
        assert image.pixel_size == pytest.approx({"Z": 0.05, "Y": 0.005, "X": 0.005})
        np.testing.assert_allclose(image.read(), top * outputs.std(axis=1, ddof=1), rtol=1e-4)


def test_volumes_have_a_spread_too(tmp_path: Path) -> None:
    class Deeper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(0.4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.repeat_interleave(2, dim=1) + self.slope * torch.linspace(0, 1, x.shape[-1])

    volume = np.full((5, 24, 24), 100, np.uint8)
    write_image(tmp_path / "in.tif", volume, axes="ZYX", pixel_size={})
    record = Record(network={}, scale=[2, 1, 1])
    inferer = SeamlessInferer(precision="float32", volume=True)
    _, spread = restore_with_uncertainty(tmp_path / "in.tif", tmp_path / "out.tif", [Deeper()], record, inferer)
    ramp = 0.4 * np.linspace(0, 1, 24 + 2 * 8)[8:-8]  # the window reaches beyond the volume
    turned = np.stack([np.broadcast_to(each, (24, 24)) for each in (ramp, ramp[::-1])] * 2)
    outputs = np.concatenate([turned, turned.swapaxes(1, 2)])
    with open_image(spread) as image:
        assert image.shape == (10, 24, 24)
        np.testing.assert_allclose(image.read()[7], 255 * outputs.std(axis=0, ddof=1), atol=1e-2)


def test_an_ensemble_restores_the_same_images(tiny_weights: Path, tmp_path: Path) -> None:
    networks, record = load_ensemble([tiny_weights, tiny_weights])
    assert len(networks) == 2
    assert record.scale == 4
    saved = torch.load(tiny_weights, weights_only=True)
    saved["record"]["json"] = saved["record"]["json"].replace('"stack": "TZ"', '"stack": "ZT"')
    torch.save(saved, tmp_path / "other.pt")
    with pytest.raises(InputError, match="other.pt: has stack ZT, but .* has TZ; an ensemble"):
        load_ensemble([tiny_weights, tmp_path / "other.pt"])


def test_calibration_of_a_spread_that_tells_the_error(project_root: Path) -> None:
    script = project_root / "scripts" / "benchmark_fidelity.py"
    spread_calibration = runpy.run_path(str(script))["spread_calibration"]
    rng = np.random.default_rng(0)
    spread = rng.uniform(1, 5, (200, 200))
    found = spread_calibration(spread, 2 * spread * rng.normal(size=spread.shape), bins=8)
    np.testing.assert_allclose(np.array(found.error) / found.spread, 2, rtol=0.06)
    assert found.factor == pytest.approx(2, rel=0.03)
    assert found.correlation == pytest.approx(1)
    useless = spread_calibration(spread, rng.normal(size=spread.shape), bins=8)
    np.testing.assert_allclose(useless.error, 1, rtol=0.06)
    with pytest.raises(ValueError, match="3 spreads and 3 errors for 8 bins"):
        spread_calibration(spread[0, :3], spread[0, :3], bins=8)
