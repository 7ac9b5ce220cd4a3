"""Files of weights: found, read, written, refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pssr2_monai.crappify import GaussianNoise, PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.data.samples import generate_images
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.evaluation.measures import psnr
from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import load_weights, read_checkpoint, save_atomically, save_plain

ARGUMENTS = {"in_channels": 3, "channels": [8, 16], "scale": 2, "depth": 1}


class _Harmful:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harmed",)


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


@pytest.mark.parametrize(("name", "scale"), [("em", 4), ("em_denoise", 1)])
def test_the_bundled_weights_restore_better_than_interpolation(name: str, scale: int) -> None:
    network, record = load_weights(name)
    assert (record.scale, network.scale) == (scale, [scale, scale])
    assert record.network["_target_"] == "ResUNet"
    assert [noise["_target_"] for noise in record.crappifier["noises"]][-1] == "LineNoise"
    assert len(record.build_crappifier().noises) == len(record.crappifier["noises"])
    hr = generate_images(1, side=256)[0].astype(np.float32) / 255
    degrade = Crappify(scale, [PoissonNoise(1.0), GaussianNoise(8.0)]).set_random_state(seed=0)
    lr = degrade(hr[None])
    with torch.no_grad():
        restored = network(torch.from_numpy(lr)[None])[0].numpy()
    plain = upscale(lr, scale, "bicubic")
    assert psnr(restored, hr[None], 1.0) > psnr(plain, hr[None], 1.0) + 1


def test_a_name_that_is_neither_a_file_nor_bundled_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="emm: there is no such file of weights; did you mean 'em'"):
        load_weights("emm")
    with pytest.raises(InputError, match="run/x.pt: there is no such file .* of a training, or em or em_denoise"):
        load_weights("run/x.pt")
