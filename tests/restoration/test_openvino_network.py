"""Restoring by OpenVINO: the same image as by torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.io.image import open_image
from pssr2_monai.io.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.restoration import openvino_network
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.openvino_network import OpenVINONetwork
from pssr2_monai.restoration.restoring import restore

openvino = pytest.importorskip("openvino", reason="OpenVINO is an extra")


@pytest.fixture(scope="module")
def network() -> ResUNet:
    torch.manual_seed(0)
    made = ResUNet(1, 1, channels=(4, 8), depth=1, scale=2).eval()
    torch.nn.init.normal_(made.reconstruction.conv.weight, std=0.1)
    return made


@pytest.mark.parametrize(("dtype", "grey_levels"), [(torch.float32, 0.01), (torch.bfloat16, 3.0)])
def test_it_computes_what_torch_does_at_any_size(network: ResUNet, dtype: torch.dtype, grey_levels: float) -> None:
    run = OpenVINONetwork(network, dtype)
    for shape in ((1, 1, 32, 32), (2, 1, 17, 40), (1, 1, 32, 32)):
        image = torch.rand(shape)
        with torch.inference_mode():
            expected = network(image)
            found = run(image)
        assert found.dtype == torch.float32
        assert 255 * float((found - expected).abs().max()) <= grey_levels


def test_a_file_restored_by_it_equals_that_of_torch(tiny_weights: Path, tmp_path: Path) -> None:
    write_image(
        tmp_path / "lr.tif",
        np.random.default_rng(0).integers(0, 255, (70, 150)).astype(np.uint8),
        axes="YX",
        pixel_size={},
    )
    for backend in ("torch", "openvino"):
        restore(
            tmp_path / "lr.tif",
            tmp_path / f"{backend}.tif",
            tiny_weights,
            window=64,
            precision="float32",
            backend=backend,
        )
    images = []
    for backend in ("torch", "openvino"):
        with open_image(tmp_path / f"{backend}.tif") as image:
            images.append(image.read((slice(None), slice(None))).astype(int))
    assert images[0].shape == (280, 600)
    assert np.abs(images[0] - images[1]).max() <= 1


def test_what_it_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="backend: 'onnx' is unknown; use torch or openvino"):
        SeamlessInferer(backend="onnx")
    monkeypatch.setattr(openvino_network, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'pssr2-monai\[openvino\]'"):
        SeamlessInferer(backend="openvino")
