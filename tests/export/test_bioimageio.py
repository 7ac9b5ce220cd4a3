"""BioImage.IO packages pass the test of their own core, and give the grey levels of the network in its runner."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.export.bioimageio import Package
from pssr2_monai.export.export import export
from pssr2_monai.export.grey_levels import PackageSettings
from pssr2_monai.images.image import open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.windows import fit_image_intensity
from pssr2_monai.networks.record import Record

core = pytest.importorskip("bioimageio.core")
pytest.importorskip("onnxruntime")

HALO = 32


@pytest.fixture(scope="module")
def made(
    save_in: Callable[..., tuple[nn.Module, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, Path]:
    """A network and the package of it with all settings as they are, moved away from where it was made."""
    folder = tmp_path_factory.mktemp("made")
    network, weights = save_in(folder, "resunet")
    torch.manual_seed(12345)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    done = export(weights, folder / "model.zip")
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.initial_seed() == 12345  # which the core's test sets, too
    assert (done.format, len(done.shapes)) == ("bioimageio", 4)
    assert done.difference < 1e-3
    assert done.takes == "takes uint8 images, 0 is black and 255 white"
    return network, Path(shutil.move(done.path, tmp_path_factory.mktemp("elsewhere")))


def scan(*shape: int) -> np.ndarray:
    """Texture in [0, 1]."""
    texture = gaussian_filter(np.random.default_rng(1).normal(size=shape), 1.5)
    return 0.5 + 0.5 * texture / np.abs(texture).max()


def described(package: Path) -> dict[str, Any]:
    with zipfile.ZipFile(package) as archive:
        return yaml.safe_load(archive.read("rdf.yaml"))


def predicted(package: Path, image: np.ndarray, weights: str | None = None, **options: Any) -> np.ndarray:
    """What BioImage.IO's own runner gives."""
    model = core.load_model_description(package, perform_io_checks=False)
    pipeline = core.create_prediction_pipeline(model, weights_format=weights)
    return core.predict(model=pipeline, inputs=image, **options).members["pred"].data.to_numpy()


def whole_levels(network: nn.Module, image: np.ndarray, low: float, high: float, top: float) -> np.ndarray:
    """What should be given of ``(batch, frames, Y, X)``, in numpy's arithmetic."""
    with torch.inference_mode():
        pred = network(torch.from_numpy(((image - low) / (high - low)).astype(np.float32))).numpy()
    return np.clip(np.rint(pred.astype(np.float64) * (high - low) + low), 0, top)


def assert_alike(given: np.ndarray, expected: np.ndarray) -> None:
    """Equal, but for values that lie so close to the middle between two levels that they were rounded to either."""
    difference = np.abs(given.astype(np.float64) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert given.std() > 2


def test_its_own_core_finds_it_valid_and_reproducible(made: tuple[nn.Module, Path]) -> None:
    summary = core.test_description(made[1], expected_type="model")
    assert summary.status == "passed"
    assert not [error for detail in summary.details for error in detail.errors]
    told = {detail.name for detail in summary.details}
    assert {f"Reproduce test outputs from test inputs ({kind})" for kind in ("onnx", "torchscript")} <= told


@pytest.mark.parametrize("weights", ["torchscript", "onnx"])
def test_its_runner_gives_the_networks_grey_levels(weights: str, made: tuple[nn.Module, Path]) -> None:
    network, package = made
    image = np.rint(scan(101, 67) * 255).astype(np.uint8)
    given = predicted(package, image[None, None], weights)
    assert (given.dtype, given.shape) == (np.uint8, (1, 1, 202, 134))
    # The runner continues the image by reflection as far as the halo reaches, and cuts it off again.
    around = np.pad(image, HALO, mode="symmetric")[None, None]
    expected = whole_levels(network, around, 0, 255, 255)[..., 2 * HALO : -2 * HALO, 2 * HALO : -2 * HALO]
    assert_alike(given, expected)


def test_blocks_have_no_seams(made: tuple[nn.Module, Path]) -> None:
    image = np.rint(scan(1, 1, 256, 192) * 255).astype(np.uint8)
    whole = predicted(made[1], image, "torchscript").astype(float)
    # 128 pixels, of which 64 lie within the halo.
    blocks = predicted(made[1], image, "torchscript", blocksize_parameter=63).astype(float)
    difference = np.abs(blocks - whole)[0, 0]
    border = difference[:, 126:130].mean()
    assert difference.mean() < 0.5
    assert border < difference.mean() + 0.5


def test_it_describes_itself(made: tuple[nn.Module, Path]) -> None:
    content = described(made[1])
    y, x = content["inputs"][0]["axes"][2:]
    assert (y["scale"], y["unit"], y["size"]) == (8.0, "nanometer", {"min": 65, "step": 1})
    assert (x["scale"], x.get("unit")) == (2.0, None)  # unknown: the ratio alone
    y, x = content["outputs"][0]["axes"][2:]
    assert (y["scale"], y["unit"], y["halo"]) == (4.0, "nanometer", 64)
    assert (x["scale"], x.get("unit"), x["halo"]) == (1.0, None, 64)
    assert content["license"] == "Apache-2.0"
    assert {"10.1186/s44330-024-00020-5", "10.48550/arXiv.2211.02701"} <= {each["doi"] for each in content["cite"]}
    assert content["config"]["pssr2_monai"]["crappifier"] == {"scale": 4}
    with zipfile.ZipFile(made[1]) as archive:
        assert "## Validation" in archive.read("README.md").decode()
        assert Image.open(archive.open("cover.png")).size == (512, 256)
        text = b"".join(archive.read(name) for name in ("rdf.yaml", "README.md"))
    assert str(Path.home()).encode() not in text
    assert os.uname().nodename.encode() not in text


def test_the_command_takes_scale_and_example_from_a_stack(
    saved: Callable[..., tuple[nn.Module, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, weights = saved("resunet", frames=5, pixel_size={"Z": 0.05, "Y": 0.1, "X": 0.1})
    stack = np.rint(1000 + 3000 * scan(7, 90, 140)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "scan.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    options = [
        "--example",
        str(tmp_path / "scan.tif"),
        "--authors",
        "Ada Lovelace; C. Babbage",
        "--license",
        "CC-BY-4.0",
    ]
    options += ["--cite", "Lovelace 1843, Notes, 10.1234/abcd", "--name", "Engine 1"]
    with pytest.raises(SystemExit) as exit_:
        main(["export", str(weights), str(tmp_path / "model.zip"), *options])
    shown = capsys.readouterr()
    assert exit_.value.code == 0, shown.err
    with open_image(tmp_path / "scan.tif") as image:
        (scale,) = fit_image_intensity(image, IntensitySettings())
    low, high = scale.low, scale.high
    assert f"takes uint16 images, {low:g} is black and {high:g} white" in shown.out
    content = described(tmp_path / "model.zip")
    assert [each["name"] for each in content["authors"]] == ["Ada Lovelace", "C. Babbage"]
    assert {"text": "Lovelace 1843, Notes", "doi": "10.1234/abcd"} in content["cite"]
    assert (content["license"], content["name"]) == ("CC-BY-4.0", "Engine 1")
    z_in, z_out = (content[end][0]["axes"][2] for end in ("inputs", "outputs"))
    assert (z_in["size"], z_in["scale"], z_out["size"], z_out["scale"]) == (5, 50.0, 1, 50.0)
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        example = np.load(archive.open("test_input.npy"))
        restored = np.load(archive.open("test_output.npy"))
        archive.extract("sample_output.tif", tmp_path)
    np.testing.assert_array_equal(example[0, 0], stack[1:6, :, 6:134])
    assert_alike(restored[0], whole_levels(network, example[0], low, high, 65535))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "sample_output.tif"), restored[0, 0, 0])
    around = np.pad(example[0, 0], ((0, 0), (HALO, HALO), (HALO, HALO)), mode="symmetric")[None]
    expected = whole_levels(network, around, low, high, 65535)[..., 2 * HALO : -2 * HALO, 2 * HALO : -2 * HALO]
    assert_alike(predicted(tmp_path / "model.zip", example)[0], expected)


@pytest.mark.slow
def test_volumes_of_floats(saved: Callable[..., tuple[nn.Module, Path]], tmp_path: Path) -> None:
    network, weights = saved("rcan_volume")
    done = export(weights, tmp_path / "model.zip", package=PackageSettings(dtype="float32", low=-1, high=3))
    assert done.difference < 1e-3
    volume = (4 * scan(19, 66, 70) - 1).astype(np.float32)
    given = predicted(done.path, volume[None, None])
    assert given.shape == (1, 1, 19, 132, 140)
    around = np.pad(volume, ((8, 8), (HALO, HALO), (HALO, HALO)), mode="symmetric")
    with torch.inference_mode():
        expected = network(torch.from_numpy((around[None] + 1) / 4)).numpy() * 4 - 1
    np.testing.assert_allclose(given[0], expected[:, 8:-8, 64:-64, 64:-64], rtol=0, atol=1e-4)


PERCENTILES = {"intensity": IntensitySettings("percentile")}


@pytest.mark.parametrize(
    ("recorded", "settings", "match"),
    [
        ({}, {"license": "my own"}, r"--license my own: the specification of BioImage\.IO refuses it: "),
        ({}, {"name": "4x: the best"}, r"--name 4x: the best: the specification"),
        ({}, {"authors": "A/B"}, r"--authors .*A/B.*: the specification"),
        ({}, {"cite": "Lovelace 1843"}, "--cite 'Lovelace 1843': ends with no DOI; write it as"),
        ({}, {"dtype": "float16"}, "--dtype float16: a package cannot take it; use uint8, int8, uint16"),
        ({}, {"low": 5.0}, "--low and --high go together"),
        ({}, {"low": 5.0, "high": 5.0}, r"high 5 must lie above low 5"),
        ({}, {"cover": "nowhere.png"}, r"--cover nowhere\.png: there is no such file"),
        (
            {},
            {"example": "small.tif"},
            r"small\.tif: 40 x 90 pixels are too few for an example; give a scan of 65 x 65",
        ),
        ({}, {"example": "double.tif"}, r"double\.tif: its pixels are float64, not uint8 or int8"),
        ({}, {"example": "small.tif", "dtype": "uint16"}, r"small\.tif: its pixels are uint8, not uint16"),
        ({}, {"dtype": "uint16"}, r"was trained with each file scaled by itself.* give --example SCAN, or --low and"),
        (PERCENTILES, {}, r"was trained with each file scaled by itself"),
    ],
)
def test_what_a_user_got_wrong_is_refused_before_any_work(
    recorded: dict[str, Any], settings: dict[str, Any], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("small.tif", np.zeros((40, 90), np.uint8))
    tifffile.imwrite("double.tif", np.zeros((90, 90)))
    with pytest.raises(InputError, match=match) as error:
        Package(nn.Identity(), Record({}, 1, **recorded), "model.pt", PackageSettings(**settings))
    assert "\n" not in str(error.value)


def test_settings_are_for_packages_alone(tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--name, --low: for bioimageio packages alone, not torchscript; leave out"):
        export(tiny_weights, tmp_path / "model.ts", package=PackageSettings(name="Engine 1", low=2.0))
