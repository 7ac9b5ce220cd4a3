"""`pssr2 crappify` and `pssr2 preprocess` write what training sees; `pssr2 napari` opens files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from PIL import Image

from pssr2_monai.cli import verbs
from pssr2_monai.cli.main import main
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.data.loading import TileDataset
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.training.config import config_files


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(exit_.value.code or 0), printed.out, printed.err


def _preset(folder: Path, **content: object) -> Path:
    path = folder / "scope.json"
    path.write_text(json.dumps(content))
    return path


GAUSSIAN = [{"_target_": "pssr2_monai.crappify.GaussianNoise", "sigma": 6, "gain": 10}]


@pytest.fixture
def stack() -> np.ndarray:
    """A 16-bit stack of 5 frames of 66 x 83 pixels."""
    y, x = np.mgrid[:66, :83]
    return np.stack([2000 + 100 * z + 20 * y + 10 * x for z in range(5)]).astype(np.uint16)


def test_a_folder_keeps_its_names_and_gets_the_noise_of_the_preset(
    hr_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = _preset(tmp_path, **{"crappifier#noises": GAUSSIAN, "scale": 4})
    out = tmp_path / "out"
    status, printed, err = _run(capsys, "crappify", hr_folder, out, "--preset", preset)
    assert status == 0, err
    assert printed.split() == [str(out / f"cell_{number}.png") for number in range(5)]
    left = []
    for number in range(5):
        hr, lr = (Image.open(folder / f"cell_{number}.png") for folder in (hr_folder, out))
        assert np.asarray(lr).dtype == np.uint8
        assert lr.size == (28, 24)
        left.append(np.asarray(lr, float) - np.asarray(hr.resize((28, 24), Image.Resampling.BILINEAR), float))
    noise = np.stack(left)
    # PIL rounds, and so does the file: a twelfth of a level squared each.
    variance = 36 + 2 / 12
    assert abs(noise.mean() - 10) < 5 * np.sqrt(variance / noise.size)
    assert abs(noise.var() - variance) < 5 * variance * np.sqrt(2 / noise.size)
    assert len({noise.tobytes() for noise in left}) == 5, "two files got the same noise"


def test_seeds_replay_and_names_decide(hr_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = hr_folder / "cell_0.png"
    images = []
    for name, seed in (("a.tif", 1), ("b.tif", 1), ("c.tif", 2)):
        assert _run(capsys, "crappify", source, tmp_path / name, "--seed", seed, "--scale", 2)[0] == 0
        images.append(tifffile.imread(tmp_path / name))
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    assert images[0].shape == (48, 56)


def test_a_stack_keeps_axes_dtype_scale_and_grows_its_pixels(
    stack: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without noise each frame is PIL's downsampling of what the scale divides, in the file's own grey levels."""
    write_image(tmp_path / "stack.ome.tif", stack, axes="ZYX", pixel_size={"Z": 0.05, "Y": 0.01, "X": 0.02})
    preset = _preset(tmp_path, **{"crappifier#noises": []})
    arguments = ["--preset", preset, "--scale", 4, "--format", "ome.zarr"]
    status, printed, err = _run(capsys, "crappify", tmp_path / "stack.ome.tif", tmp_path / "out", *arguments)
    assert status == 0, err
    assert printed.strip() == str(tmp_path / "out" / "stack.ome.zarr")
    with open_image(printed.strip()) as image:
        assert (image.axes, image.dtype, image.shape) == ("ZYX", np.uint16, (5, 16, 20))
        assert dict(image.pixel_size) == pytest.approx({"Z": 0.05, "Y": 0.04, "X": 0.08})
        crappified = image.read()
    for plane, lr in zip(stack, crappified, strict=True):
        floats = Image.fromarray(plane[:64, :80].astype(np.float32))
        expected = np.asarray(floats.resize((20, 16), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(lr, expected, atol=0.51)


def test_a_scale_along_z_equals_the_whole_volume(
    stack: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frame by frame, with neighbours where an antialiased frame reaches into them; the fifth frame is cut off."""
    write_image(tmp_path / "a.tif", stack, axes="ZYX", pixel_size={"Z": 0.05})
    preset = _preset(tmp_path, **{"crappifier#noises": [], "intensity#mode": "dtype"})
    arguments = ["--preset", preset, "--scale", "[2,1,1]"]
    status, _, err = _run(capsys, "crappify", tmp_path / "a.tif", tmp_path / "lr.tif", *arguments)
    assert status == 0, err
    expected = np.asarray(Crappify([2, 1, 1])(stack[:4].astype(np.float32)))
    with open_image(tmp_path / "lr.tif") as image:
        assert image.pixel_size["Z"] == pytest.approx(0.1)
        np.testing.assert_allclose(image.read(), expected, atol=0.51)


def test_one_intensity_scale_for_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What counts in grey levels is as strong in a dark file as in a bright one where they share a scale."""
    (tmp_path / "in").mkdir()
    ramp = np.tile(np.linspace(0, 1, 128), (128, 1))
    for name, top in (("bright", 40_000), ("dark", 4_000)):
        image = (ramp * top).astype(np.uint16)
        write_image(tmp_path / "in" / f"{name}.tif", image, axes="YX", pixel_size={})
    added = {}
    for scope in ("file", "dataset"):
        gain = [{"_target_": "pssr2_monai.crappify.Detector", "offset": 25.5}]
        content = {"scale": 1, "crappifier#noises": gain, "crappifier#clip": False, "intensity#scope": scope}
        preset = _preset(tmp_path, **content)
        assert _run(capsys, "crappify", tmp_path / "in", tmp_path / scope, "--preset", preset)[0] == 0
        for name in ("bright", "dark"):
            hr, lr = (tifffile.imread(tmp_path / folder / f"{name}.tif").astype(float) for folder in ("in", scope))
            added[scope, name] = np.median(lr - hr)
    # A tenth of the range, which is that of the means of blocks of 8 pixels.
    assert added["file", "bright"] == pytest.approx(4000 * 120 / 127, rel=0.01)
    assert added["file", "dark"] == pytest.approx(400 * 120 / 127, rel=0.01)
    assert added["dataset", "bright"] == pytest.approx(added["dataset", "dark"], abs=1)


def test_a_network_crappifies_files(hr_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset = _preset(tmp_path, crappifier={"_target_": "torch.nn.AvgPool2d", "kernel_size": 4})
    words = ("crappify", hr_folder / "cell_1.png", tmp_path / "a.tif", "--preset", preset)
    status, _, err = _run(capsys, *words)
    assert status == 1
    assert "crappifier#_target_: 'torch.nn.AvgPool2d' is neither" in err
    status, _, err = _run(capsys, *words, "--trust")
    assert status == 0, err
    hr = np.asarray(Image.open(hr_folder / "cell_1.png"), float).reshape(24, 4, 28, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(tifffile.imread(tmp_path / "a.tif"), hr, atol=0.501)
    arguments = ["--preset", preset, "--trust", "--scale", 2]
    status, _, err = _run(capsys, "crappify", hr_folder / "cell_1.png", tmp_path / "b.tif", *arguments)
    message = "shrinks 96 x 112 pixels to 24 x 28, which is not by the scale 2; give both the same scale"
    assert (status, err) == (1, f"pssr2: crappifier: {message}\n")
    assert not list(tmp_path.glob("b.tif*"))


def _training_samples(data: Path, epoch: int, **settings: object) -> list[dict[str, torch.Tensor]]:
    """What the loader hands to the trainer, from the config itself."""
    config = ConfigParser()
    config.read_config(config_files("train"))
    config.update({"dataset_dir": str(data), **settings})
    dataset: TileDataset = config.get_parsed_content("train#dataset")
    dataset.set_epoch(epoch)
    return [dataset[index] for index in range(len(dataset))]


def test_tiles_are_those_that_training_sees(
    hr_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--tile", 32, "--epoch", 2, "--seed", 5]
    status, printed, err = _run(capsys, "preprocess", hr_folder, tmp_path / "out", *arguments)
    assert status == 0, err
    samples = _training_samples(hr_folder, 2, tile=32, seed=5)
    assert printed.strip() == f"{tmp_path / 'out'}: {2 * len(samples)} files"
    for folder, key in (("LR", "image"), ("HR", "label")):
        files = sorted((tmp_path / "out" / folder).iterdir())
        assert len(files) == len(samples)
        for file, sample in zip(files, samples, strict=True):
            tile = tifffile.imread(file)
            assert tile.dtype == np.float32
            np.testing.assert_array_equal(tile, sample[key][0].numpy())
    # The name says where: there the sheet holds the tile, in one of its eight orientations, of another contrast.
    for file in sorted((tmp_path / "out" / "HR").iterdir())[::7]:
        _, sheet, number, frame, y, x = file.stem.split("_")
        plane = np.asarray(Image.open(hr_folder / f"{sheet}_{number}.png"), np.float32) / 255
        assert frame == "frame0"
        window = plane[int(y[1:]) :, int(x[1:]) :][:32, :32]
        turned = [np.rot90(tile, k) for tile in (window, window.T) for k in range(4)]
        written = tifffile.imread(file).ravel()
        assert max(np.corrcoef(written, tile.ravel())[0, 1] for tile in turned) > 1 - 1e-6


def test_real_pairs_and_central_frames_are_written_as_trained(
    stack: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, pixels, size in (("HR", stack[:, :64, :80], 0.01), ("LR", stack[:, :64:4, :80:4], 0.04)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        write_image(tmp_path / "data" / folder / "a.tif", pixels, axes="ZYX", pixel_size={"Y": size, "X": size})
    arguments = ["--preset", "paired", "--n_frames", "[3,1]", "--tile", 32, "--val_fraction", 0, "--limit", 2]
    status, printed, err = _run(capsys, "preprocess", tmp_path / "data", tmp_path / "out", *arguments)
    assert status == 0, err
    assert printed.strip().endswith(": 4 files")
    lr, hr = (sorted((tmp_path / "out" / folder).iterdir()) for folder in ("LR", "HR"))
    assert [path.name for path in lr] == [path.name for path in hr]
    assert tifffile.imread(lr[0]).shape == (3, 8, 8)
    assert tifffile.imread(hr[0]).shape == (32, 32)
    with open_image(lr[0]) as coarse, open_image(hr[0]) as fine:
        assert coarse.pixel_size["X"] == pytest.approx(4 * fine.pixel_size["X"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["crappify", "IMAGES", "OUT", "--preset", "denoize"], "did you mean 'denoise'"),
        (["crappify", "IMAGES", "OUT", "--preset", "MISSING"], "there is no such preset or file"),
        (["crappify", "IMAGES", "OUT", "--scalle", "4"], "did you mean 'scale'"),
        (["crappify", "IMAGES", "OUT", "--scale", "0"], "scale: 0 is neither a whole number"),
        (["crappify", "IMAGES", "OUT", "--scale", "200"], "cell_0.png: 96 x 112 pixels (YX) are fewer than the scale"),
        (["crappify", "IMAGES", "OUT", "--format", "jpg"], "'jpg' is not written"),
        (["crappify", "IMAGES", "IMAGES"], "is the input itself"),
        (["crappify", "MISSING", "OUT"], "no such f"),
        (["crappify", "IMAGES"], "TARGET must be given"),
        (["crappify", "IMAGES", "OUT", "--preset", "BAD"], "GaussianNoise: there is no parameter 'sgima'; it takes"),
        (["preprocess", "IMAGES", "OUT", "--preset", "denoize"], "did you mean 'denoise'"),
        (["preprocess", "MISSING", "OUT"], "no such folder"),
        (["preprocess", "IMAGES", "OUT", "--epoch", "0"], "epochs count from 1"),
        (["preprocess", "IMAGES", "OUT", "--tile", "30"], "tile: 30 does not divide"),
        (["preprocess", "IMAGES", "OUT", "--tiles", "3"], "--tiles 3: is a section of the config"),
        (["preprocess", "IMAGES", "FULL", "--tile", "32"], "holds files already"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], match: str, hr_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [{"_target_": "pssr2_monai.crappify.GaussianNoise", "sgima": 6}]
    places = {"IMAGES": hr_folder, "OUT": tmp_path / "out", "MISSING": tmp_path / "missing", "FULL": tmp_path / "full"}
    places["BAD"] = _preset(tmp_path, **{"crappifier#noises": bad})
    (tmp_path / "full" / "HR").mkdir(parents=True)
    (tmp_path / "full" / "HR" / "tile.tif").write_text("")
    status, out, err = _run(capsys, *(places.get(word, word) for word in arguments))
    usage = ("must be given", "did you mean", "is a section", "there is no such preset")
    assert (status, out) == (2 if any(words in match for words in usage) else 1, "")
    assert match in err
    assert len(err.splitlines()) == 1
    assert not places["OUT"].exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["HR"]


def test_any_number_of_files_is_taken_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("napari")
    opened: list[Any] = []
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr("napari.run", lambda: opened.append("run"))
    monkeypatch.setattr("pssr2_monai.napari.viewer.open_viewer", lambda files: opened.append(files))
    for words in ([], ["1e3", "a,b.tif", "[x].tif"]):
        with pytest.raises(SystemExit) as exit_:
            main(["napari", *words])
        assert exit_.value.code == 0
    assert opened == [(), "run", ("1e3", "a,b.tif", "[x].tif"), "run"]


@pytest.mark.parametrize(
    ("missing", "display", "message"),
    [(True, ":0", "pip install 'pssr2-monai[napari]'"), (False, "", "there is no screen")],
)
def test_napari_needs_its_package_and_a_screen(
    missing: bool, display: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verbs, "find_spec", lambda name: None if missing else object())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    for name in ("WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as exit_:
        main(["napari", "scan.tif"])
    assert exit_.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_nothing_else_imports_napari(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    script = tmp_path / "imports.py"
    script.write_text(
        "import sys, pkgutil, importlib, pssr2_monai\n"
        "for module in pkgutil.walk_packages(pssr2_monai.__path__, 'pssr2_monai.'):\n"
        "    if not module.name.startswith('pssr2_monai.napari') and not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print(sorted({'napari', 'qtpy', 'magicgui', 'PySide6'} & set(sys.modules)))"
    )
    run = run_python(script)
    assert run.end() == 0, run.stderr
    assert run.stdout.strip().endswith("[]")
