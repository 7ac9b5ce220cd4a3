"""Exported files give what the network gives, at sizes and batches they were not made with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.export.export import Exported, export
from pssr2_monai.export.formats import FORMATS
from pssr2_monai.networks.record import Record

every_format = pytest.mark.parametrize("format", FORMATS)


def random_image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@every_format
def test_every_network_exports_to_every_format(
    network_name: str, format: str, saved: Callable[..., tuple[nn.Module, Path]], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    network, weights = saved(network_name)
    if (network_name, format) == ("restormer", "torchscript"):  # MONAI's code cannot be scripted
        with pytest.raises(InputError, match="cannot be exported as torchscript, try another format"):
            export(weights, tmp_path / "model.ts")
        return
    done = export(weights, tmp_path / f"model{FORMATS[format].suffix}")
    assert done.format == format
    assert done.difference < 1e-3
    assert (1, 1, 8, 8) in done.shapes
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["model.pt", done.path.name])
    run, record = FORMATS[format].read(done.path)
    assert Record.from_state(record, "record").state_dict() == torch.load(weights, weights_only=True)["record"]
    # Sizes that the export did not try: single windows and pixels deep inside, long and thin, and larger than made.
    for batch, depth, height, width in ((1, 2, 8, 8), (1, 1, 16, 13), (4, 5, 11, 8), (1, 7, 100, 24), (5, 3, 70, 111)):
        x = random_image(batch, depth if network_name.endswith("volume") else 1, height, width)
        with torch.inference_mode():
            expected = network(x)
            assert expected.std() > 0.01
            torch.testing.assert_close(run(x), expected, rtol=0, atol=1e-3 / 255)


def test_frames_of_a_stack_in_a_file_of_any_name(saved: Callable[..., tuple[nn.Module, Path]], tmp_path: Path) -> None:
    network, weights = saved("resunet", frames=5)
    run, record = FORMATS["torchscript"].read(export(weights, tmp_path / "model", "torchscript").path)
    assert Record.from_state(record, "record").n_frames == (5, 1)
    x = random_image(1, 5, 12, 9)
    with torch.inference_mode():
        torch.testing.assert_close(run(x), network(x), rtol=0, atol=1e-3 / 255)


def test_onnx_says_what_it_takes(saved: Callable[..., tuple[nn.Module, Path]], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network, weights = saved("resunet")
    done = export(weights, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(done.path)
    (image,), (pred,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(float)", ["batch", 1, "height", "width"])
    assert (pred.name, pred.shape) == ("pred", ["batch", 1, "2*height", "2*width"])
    assert json.loads(json.loads(session.get_modelmeta().custom_metadata_map["record.json"])["json"])["scale"] == 2
    x = random_image(2, 1, 10, 15)
    with torch.inference_mode():
        expected = network(x).numpy()
    np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], expected, rtol=0, atol=1e-5)


def test_weights_of_a_training(tiny_weights: Path, tmp_path: Path) -> None:
    done = export(tiny_weights, tmp_path / "model.ts")
    assert isinstance(done, Exported)
    script = torch.jit.load(str(done.path))
    assert script(random_image(1, 1, 21, 8)).shape == (1, 1, 84, 32)


def test_the_command_tells_what_was_checked_or_what_is_wrong(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.ts"
    told = re.escape(f"{target}: ") + r"(0|\de-0[5-9]) grey levels of 255 off at most, at 4 sizes\n"
    for status, printed in ((0, told), (1, "")):
        with pytest.raises(SystemExit) as exit_:
            main(["export", str(tiny_weights), str(target)])
        shown = capsys.readouterr()
        assert exit_.value.code == status
        assert re.fullmatch(printed, shown.out)
    assert shown.err.splitlines()[-1] == f"pssr2: {target}: exists already; give another name"


class Fixed(nn.Module):
    """A network that takes images of 64 x 96 pixels only, for `test_other_networks`."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] != 64:
            raise ValueError("not 64 pixels high")
        return 2 * x


class Unscriptable(nn.Module):
    def forward(self, x: Tensor, *others: Tensor, **more: Tensor) -> Tensor:
        return x


class Listing(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x]


class NotFinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0 - x / 0


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[nn.Module], Path]:
    """A function from a network that no preset knows to a file of its weights, as if its package were imported."""

    def make(network: nn.Module) -> Path:
        record = Record({"_target_": "foreign.Network"}, 1)
        monkeypatch.setattr("pssr2_monai.export.export.load_weights", lambda path: (network.eval(), record))
        return tmp_path / "foreign.pt"

    return make


def test_other_networks_are_tried_at_the_sizes_they_take(foreign: Callable[[nn.Module], Path], tmp_path: Path) -> None:
    done = export(foreign(Fixed()), tmp_path / "model.ts")
    assert done.shapes == [(2, 1, 64, 96)]
    torch.nn.init.dirac_((conv := nn.Conv2d(1, 1, 3, padding=1)).weight)
    done = export(foreign(conv), tmp_path / "model.onnx")
    assert len(done.shapes) == 4


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (Unscriptable(), "its network cannot be exported as torchscript, try another format: "),
        (NotFinite(), "as torchscript it differs from the network by nan grey levels"),
        (Listing(), "its network takes no images of 8x8 to 64x96 px: its output is not a tensor"),
        (nn.Conv2d(3, 1, 1), "its network takes no images of 8x8 to 64x96 px: Given groups=1"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    network: nn.Module, match: str, foreign: Callable[[nn.Module], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=match) as error:
        export(foreign(network), tmp_path / "model.ts")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_gives_other_values_is_refused(
    saved: Callable[..., tuple[nn.Module, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, weights = saved("resunet")
    read = FORMATS["torchscript"].read

    def brighter(path: Path) -> tuple[Callable[[Tensor], Tensor], str]:
        run, record = read(path)
        return (lambda x: run(x) + 0.02 / 255), record

    monkeypatch.setitem(FORMATS, "torchscript", replace(FORMATS["torchscript"], read=brighter))
    with pytest.raises(InputError, match=r"differs from the network by 0\.02 grey levels of 255, more than 0\.01"):
        export(weights, tmp_path / "model.ts")
    assert not (tmp_path / "model.ts").exists()


@pytest.mark.parametrize(
    ("target", "format", "match"),
    [
        ("model.bin", None, r"model\.bin: \.bin names no format; use \.ts, \.pt2, \.onnx, \.zip, or give --format"),
        ("model", None, "no suffix names no format"),
        (
            "model.ts",
            "tensorrt",
            "--format tensorrt: .*; use torchscript, torch_export, onnx, bioimageio",
        ),
        ("there.ts", None, r"there\.ts: exists already"),
        ("nowhere/model.ts", None, "there is no folder .*nowhere; make it first"),
        ("model.ts", None, r"missing\.pt: there is no such file of weights"),
    ],
)
def test_bad_input_is_told_in_one_line(target: str, format: str | None, match: str, tmp_path: Path) -> None:
    (tmp_path / "there.ts").touch()
    with pytest.raises(InputError, match=match):
        export(tmp_path / "missing.pt", tmp_path / target, format)
    assert [each.name for each in tmp_path.iterdir()] == ["there.ts"]
