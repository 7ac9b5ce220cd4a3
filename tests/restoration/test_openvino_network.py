"""Restoring by OpenVINO: the same image as by torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.restoration import openvino_network
from pssr2_monai.restoration.inferer import SeamlessInferer
from pssr2_monai.restoration.openvino_network import OpenVINONetwork
from pssr2_monai.restoration.restore import restore

openvino = pytest.importorskip("openvino", reason="OpenVINO is an extra")


@pytest.fixture(scope="module")
def network() -> ResUNet:
    torch.manual_seed(0)
    network = ResUNet(1, 1, channels=(4, 8), depth=1, scale=2).eval()
    torch.nn.init.normal_(network.reconstruction.conv.weight, std=0.1)
    return network


@pytest.mark.parametrize(("dtype", "grey_levels"), [(torch.float32, 0.01), (torch.bfloat16, 3.0)])
def test_it_computes_what_torch_does_at_any_size(network: ResUNet, dtype: torch.dtype, grey_levels: float) -> None:
    run = OpenVINONetwork(network, dtype)
    for shape in ((1, 1, 32, 32), (2, 1, 17, 40), (1, 1, 32, 32)):
        image = torch.rand(shape)
        with torch.inference_mode():
            expected = network(image)
            output = run(image)
        assert output.dtype == torch.float32
        assert 255 * float((output - expected).abs().max()) <= grey_levels


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


@pytest.mark.parametrize("brightness", [1.0, 0.1, 0.0])
def test_quantised_to_integers_it_stays_near_for_all_intensities(network: ResUNet, brightness: float) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = [brightness * torch.rand(1, 1, 32, 32, generator=generator) for _ in range(3)]
    image = torch.rand(2, 1, 40, 64, generator=generator)
    with torch.inference_mode():
        expected = network(image)
        error = 255 * (OpenVINONetwork(network, torch.float32, samples)(image) - expected).abs()
    assert 0 < float(error.mean()) < 1


def test_quantising_leaves_the_log_of_others_as_it_is(network: ResUNet) -> None:
    handler, nncf_log = logging.NullHandler(logging.INFO), logging.getLogger("nncf")
    nncf_log.addHandler(handler)  # as a program does that collects the logs of all packages
    try:
        before = logging.getLogger().level, logging.getLoggerClass()
        with torch.inference_mode():
            OpenVINONetwork(network, torch.float32, [torch.rand(1, 1, 32, 32)])(torch.rand(1, 1, 32, 32))
        assert handler.level == logging.INFO
        assert (logging.getLogger().level, logging.getLoggerClass()) == before
        assert nncf_log.getEffectiveLevel() == logging.ERROR
    finally:
        nncf_log.removeHandler(handler)


def test_all_windows_are_quantised_alike_and_once(network: ResUNet, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, calls = openvino_network.quantize, []

    def counting(model: Any, samples: Sequence[torch.Tensor]) -> Any:
        calls.append([float(sample.max()) for sample in samples])
        return quantized(model, samples)

    monkeypatch.setattr(openvino_network, "quantize", counting)
    inferer = SeamlessInferer(64, batch_size=2, precision="int8", backend="openvino")
    image = torch.linspace(0, 1, 120).expand(1, 1, 32, 120)
    with torch.inference_mode():
        inferer(image, network)
        inferer(image.flip(-1), network)
        assert [len(call) for call in calls] == [2, 2], "of a batch of two windows, and of one that is left"
        assert calls[0] == calls[1], "by the first windows"
        calls.clear()
        inferer.quantized_by([torch.full((1, 1, 64, 64), 0.5)])(image, network)
    assert calls == [[0.5], [0.5]]


def test_a_file_is_quantised_in_the_same_way_each_time(
    tiny_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 40, (5, 70, 150)).astype(np.uint8)
    image[-1, 40:, 80:] = 250  # far from where the first window lies
    write_image(tmp_path / "lr.tif", image, axes="ZYX", pixel_size={})
    options = {"window": 64, "backend": "openvino", "precision": "int8"}
    restore(tmp_path / "lr.tif", tmp_path / "float32.tif", tiny_weights, window=64, precision="float32")
    for name, workers in (("one.ome.zarr", None), ("two.ome.zarr", 2)):
        restore(tmp_path / "lr.tif", tmp_path / name, tiny_weights, workers=workers, **options)
    assert capfd.readouterr().out == "", "what a program reads is the result alone"
    images = []
    for name in ("float32.tif", "one.ome.zarr", "two.ome.zarr"):
        with open_image(tmp_path / name) as restored:
            images.append(restored.read().astype(int))
    assert 0 < np.abs(images[1] - images[0]).mean() < 2
    assert (images[1] != images[2]).mean() < 1e-3  # the workers have another number of threads


def test_integers_are_for_openvino_alone_and_need_what_finds_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="precision 'int8': needs backend 'openvino'; add that"):
        SeamlessInferer(precision="int8")
    find_spec = openvino_network.find_spec
    monkeypatch.setattr(openvino_network, "find_spec", lambda name: None if name == "nncf" else find_spec(name))
    SeamlessInferer(backend="openvino")
    with pytest.raises(InputError, match=r"nncf is not installed; pip install 'pssr2-monai\[openvino\]'"):
        SeamlessInferer(backend="openvino", precision="int8")
