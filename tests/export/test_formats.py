"""Formats by name and suffix, the images that files are compared with, and the comparison itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pssr2_monai.errors import InputError
from pssr2_monai.export.formats import (
    CASE_SHAPES,
    FORMATS,
    format_of,
    largest_difference,
    make_cases,
    without_torch_messages,
)
from pssr2_monai.networks.record import Record


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_keeps_its_network_and_its_record(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = nn.Conv2d(2, 3, 3, padding=1).eval()
    path = tmp_path / f"model{FORMATS[name].suffix}"
    with without_torch_messages(), torch.no_grad():
        FORMATS[name].write(network, torch.rand(2, 2, 8, 9), {0: "batch", 2: "height", 3: "width"}, path, '{"a": "µ"}')
        run, record = FORMATS[name].read(path)
        image = torch.rand(1, 2, 5, 12)
        torch.testing.assert_close(run(image), network(image), rtol=0, atol=1e-6)
    assert record == '{"a": "µ"}'


def test_the_format_is_the_named_one_or_that_of_the_suffix() -> None:
    assert format_of(Path("model.ts"), None) == "torchscript"
    assert format_of(Path("model.pt2"), None) == "torch_export"
    assert format_of(Path("model.bin"), "torchscript") == "torchscript"


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pssr2_monai.export.formats.find_spec", lambda name: None if name.startswith("onnx") else name)
    expected = r"onnx, onnxscript, onnxruntime missing; install with pip install 'pssr2-monai\[export\]'"
    with pytest.raises(InputError, match=expected):
        format_of(tmp_path / "model.onnx", None)


def test_missing_packages_of_bioimageio_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pssr2_monai.export.formats.find_spec", lambda name: None if name.startswith("bio") else name)
    expected = r"bioimageio\.core missing; install with pip install 'pssr2-monai\[bioimageio\]'"
    with pytest.raises(InputError, match=expected):
        format_of(tmp_path / "model.zip", None)


def test_cases_are_images_of_all_shapes_with_the_networks_output() -> None:
    cases = make_cases(nn.Upsample(scale_factor=2), Record({}, 2, (3, 3)), "model.pt")
    assert [tuple(image.shape) for image, _ in cases] == [(b, 3, y, x) for b, _, y, x in CASE_SHAPES]
    for image, pred in cases:
        torch.testing.assert_close(pred, image.repeat_interleave(2, 2).repeat_interleave(2, 3))
    volumes = make_cases(nn.Identity(), Record({}, [1, 1, 1]), "model.pt")
    assert [tuple(image.shape) for image, _ in volumes] == list(CASE_SHAPES)


class Even(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % 2:
            raise ValueError("width is odd,\n  give an even one")
        return x


def test_sizes_that_a_network_refuses_are_left_out() -> None:
    assert [image.shape[-1] for image, _ in make_cases(Even(), Record({}, 1), "model.pt")] == [8, 96]


def test_the_largest_difference_of_all_cases_counts() -> None:
    image = torch.zeros(1, 1, 2, 2)
    cases = [(image, image), (image + 1, image + 1.25)]
    assert largest_difference(lambda x: x, cases) == 0.25
    assert largest_difference(lambda x: x[..., :1], cases) == math.inf
    assert math.isnan(largest_difference(lambda x: x * math.nan, cases))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match=r"--format tensorrt: there is no such format; use torchscript, torch_export"):
        format_of(Path("model.ts"), "tensorrt")
