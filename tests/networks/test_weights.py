"""Files of weights: found, read, written, refused."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pssr2_monai import registered_names
from pssr2_monai.bundle import bundle_dir
from pssr2_monai.cli.main import main
from pssr2_monai.crappify import GaussianNoise, PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.data.samples import generate_images
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.evaluation.measures import psnr
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import BUNDLED, load_weights, read_checkpoint, save_atomically, save_plain

ARGUMENTS = {"in_channels": 3, "channels": [8, 16], "scale": 2, "depth": 1}


class _Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harmed",)


@pytest.mark.trust
@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"model": {}}, "holds no weights with a record"),
        ({"model": _Harmful()}, "read safely"),
        ("text", "read safely"),
        (None, "no such file"),
    ],
)
def test_what_is_not_a_file_of_weights_is_refused(content, match: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    if content == "text":
        path.write_text("no weights")
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=match):
        load_weights(path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.trust
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tmp_path: Path) -> None:
    network = ResUNet(channels=[8, 16], depth=1)
    record = Record({"_target_": "ResUNet", "channels": [8, 16], "depth": 1}, 4)
    name = next(name for name, tensor in network.state_dict().items() if tensor.ndim == 4)
    network.state_dict()[name].view(-1)[:2] = value
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=rf"model\.pt: 2 of the \d+ values of {re.escape(name)} are not finite"):
        load_weights(tmp_path / "model.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = ResUNet(3, 1, (8, 32), scale=2, depth=1)
    record = Record({"_target_": "ResUNet", **ARGUMENTS}, 2)
    torch.save({"model": other.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="do not fit the ResUNet"):
        load_weights(tmp_path / "model.pt")


def test_plain_weights_are_read_with_the_record_next_to_them(tmp_path: Path) -> None:
    network = ResUNet(**ARGUMENTS)
    record = Record({"_target_": "ResUNet", **ARGUMENTS}, 2, (3, 1))
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, tmp_path / "model.pt")
    save_plain(tmp_path / "model.pt", tmp_path / "plain.pt")
    assert torch.load(tmp_path / "plain.pt", weights_only=True).keys() == network.state_dict().keys()
    assert load_weights(tmp_path / "plain.pt")[1] == record
    assert read_checkpoint(tmp_path / "plain.pt").keys() == {"model", "record"}
    (tmp_path / "plain.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"plain\.pt"):
        load_weights(tmp_path / "plain.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "plain.json", "plain.pt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_next_to_weights_is_not_read(tmp_path: Path) -> None:
    torch.save(ResUNet(**ARGUMENTS).state_dict(), tmp_path / "plain.pt")
    os.mkfifo(tmp_path / "plain.json")
    with pytest.raises(InputError, match=r"plain\.pt"):
        load_weights(tmp_path / "plain.pt")


@pytest.mark.parametrize(
    ("name", "scale"), [("em", 4), ("em_2x", 2), ("em_denoise", 1), ("fluo_2x", 2), ("fluo_denoise", 1)]
)
def test_the_bundled_weights_restore_better_than_interpolation(name: str, scale: int) -> None:
    network, record = load_weights(name)
    assert (record.scale, network.scale) == (scale, [scale, scale])
    assert record.network["_target_"] == "ResUNet"
    correlated = "CorrelatedNoise" in [noise["_target_"] for noise in record.crappifier["noises"]]
    assert correlated == (name != "em")
    assert (bundle_dir() / "models" / BUNDLED[name]).stat().st_size < 1.6e6
    assert len(record.build_crappifier().noises) == len(record.crappifier["noises"])
    hr = generate_images(1, side=256)[0].astype(np.float32) / 255
    degrade = Crappify(scale, [PoissonNoise(1.0), GaussianNoise(8.0)]).set_random_state(seed=0)
    lr = degrade(hr[None])
    with torch.no_grad():
        restored = network(torch.from_numpy(lr)[None])[0].numpy()
    plain = upscale(lr, scale, "bicubic")
    assert psnr(restored, hr[None], 1.0) > psnr(plain, hr[None], 1.0) + 1


def test_a_network_of_your_own_is_loaded_if_you_name_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        registered_names, "_registered", {kind: dict(known) for kind, known in registered_names._registered.items()}
    )
    monkeypatch.setattr(registered_names, "_packages", set())
    (tmp_path / "lab_networks.py").write_text("from torch import nn\nclass Small(nn.Conv2d):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    arguments = {"in_channels": 1, "out_channels": 1, "kernel_size": 3, "padding": 1}
    record = Record({"_target_": "lab_networks.Small", **arguments}, 1)
    weights = tmp_path / "model.pt"
    save_atomically({"model": torch.nn.Conv2d(**arguments).state_dict(), "record": record.state_dict()}, weights)
    write_image(tmp_path / "scan.tif", np.full((40, 50), 7, np.uint8), axes="YX", pixel_size={})
    words = ["restore", str(tmp_path / "scan.tif"), str(tmp_path / "out.tif"), "--weights", str(weights)]

    def run(*more: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as status:
            main([*words, *more])
        return int(status.value.code or 0), capsys.readouterr().err

    assert run()[0] == 1
    assert "lab_networks" not in sys.modules
    for words_of_import in (["--import"], ["--import", "no_such_package"]):
        status, line = run(*words_of_import)
        assert status > 0
        assert "import: " in line
    assert run("--import", "lab_networks")[0] == 0
    with open_image(tmp_path / "out.tif") as image:
        assert image.shape == (40, 50)
    del sys.modules["lab_networks"]


def test_a_name_that_is_neither_a_file_nor_bundled_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="emm: there is no such file of weights; did you mean 'em'"):
        load_weights("emm")
    with pytest.raises(InputError, match="run/x.pt: there is no such file .* of a training, or one of em, em_2x"):
        load_weights("run/x.pt")
