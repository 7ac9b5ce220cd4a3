"""The bundle as users of MONAI run it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

from pssr2_monai.bundle import preset_names
from pssr2_monai.crappify.transforms import Crappifyd
from pssr2_monai.images.axes import factors, frames_of, scaled_shape
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.config import config_files
from pssr2_monai.training.train import train


def _workflow(project_root: Path, names: list[str], run_id: str, **overrides: object) -> ConfigWorkflow:
    configs = project_root / "bundle" / "configs"
    return ConfigWorkflow(
        config_file=[str(configs / f"{name}.json") for name in names],
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        run_id=run_id,
        workflow_type="infer" if "inference" in names else "train",
        bundle_root=str(project_root / "bundle"),
        **overrides,
    )


@pytest.fixture
def run_bundle(run_python: Callable[..., Any]) -> Callable[..., tuple[int, str]]:
    """A function that runs ``python -m monai.bundle run`` in a folder; it returns the exit status and the messages."""

    def run(cwd: Path, *arguments: object) -> tuple[int, str]:
        process = run_python("-m", "monai.bundle", "run", *arguments, cwd=cwd)
        return process.end(), process.stderr

    return run


def test_the_bundle_fits_the_noise_to_scans(
    project_root: Path,
    hr_folder: Path,
    tiny_options: dict[str, object],
    tmp_path: Path,
    run_bundle: Callable[..., tuple[int, str]],
) -> None:
    options = [word for key, value in tiny_options.items() for word in (f"--{key}", str(value))]
    options += ["--dataset_dir", str(hr_folder), "--epochs", "1", "--scans", str(hr_folder), "--scale", "1"]
    arguments = ["training", "--config_file", "bundle/configs/train.json", "--bundle_root", "bundle"]
    folders = ["--ckpt_dir", tmp_path, "--output_dir", tmp_path]
    status, messages = run_bundle(project_root, *arguments, *options, *folders)
    assert status == 0, messages
    fitted = json.loads((tmp_path / "scans.json").read_text(encoding="utf-8"))["crappifier#noises"]
    noises = load_weights(tmp_path / "model.pt")[1].crappifier["noises"]
    assert [noise["_target_"] for noise in fitted] == [f"pssr2_monai.{noise['_target_']}" for noise in noises]


def test_training_from_the_root_and_from_inside_the_bundle(
    project_root: Path,
    hr_folder: Path,
    tiny_options: dict[str, object],
    tmp_path: Path,
    run_bundle: Callable[..., tuple[int, str]],
) -> None:
    options = [word for key, value in tiny_options.items() for word in (f"--{key}", str(value))]
    options += ["--dataset_dir", str(hr_folder), "--epochs", "1"]
    ways = {
        "root": (project_root, ["training", "--config_file", "bundle/configs/train.json", "--bundle_root", "bundle"]),
        "zoo": (project_root / "bundle", ["--config_file", "configs/train.json"]),
    }
    for name, (cwd, arguments) in ways.items():
        out = tmp_path / name
        status, messages = run_bundle(cwd, *arguments, *options, "--ckpt_dir", out, "--output_dir", out)
        assert status == 0, messages
        assert "epoch 1/1 | loss" in messages
        assert (out / "model.pt").is_file()


def test_evaluating_gives_the_figures_of_the_training(
    project_root: Path, hr_folder: Path, tiny_weights: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    workflow = _workflow(
        project_root,
        ["train", "evaluate"],
        "evaluating",
        dataset_dir=str(hr_folder),
        weights=str(tiny_weights),
        output_dir=str(tmp_path),
        **tiny_options,
    )
    workflow.initialize()
    workflow.run()
    figures = dict(line.split(",") for line in (tmp_path / "metrics.csv").read_text().split())
    best = torch.load(tiny_weights.parent / "last.pt", weights_only=True)["best_score"]
    assert float(figures["val_ssim"]) == pytest.approx(best, abs=1e-6)
    assert float(figures["val_psnr"]) > 10
    assert (tmp_path / "val_ssim_raw.csv").is_file()
    # Of the tiles that were scored, each by itself.
    tiles = (tmp_path / "val_frc_resolution_raw.csv").read_text().split()[1:]
    resolutions = [float(line.replace("\t", ",").split(",")[1]) for line in tiles]
    assert float(figures["val_frc_resolution"]) == pytest.approx(np.mean(resolutions), rel=1e-4)
    assert min(resolutions) >= 2
    assert float(figures["val_psnr_fitted"]) >= float(figures["val_psnr"])
    assert 0 < float(figures["val_ms_ssim"]) < 1


def test_evaluating_takes_the_crappifier_of_the_weights(
    project_root: Path, hr_folder: Path, tiny_weights: Path, tiny_options: dict[str, object]
) -> None:
    workflow = _workflow(
        project_root,
        ["train", "evaluate"],
        "evaluating",
        dataset_dir=str(hr_folder),
        weights=str(tiny_weights),
        **{**tiny_options, "crappifier#noises": []},
    )
    workflow.initialize()
    own = load_weights(tiny_weights)[1].build_crappifier()
    (crappify,) = (
        transform
        for transform in workflow.parser.get_parsed_content("validate#preprocessing").transforms
        if isinstance(transform, Crappifyd)
    )
    assert [type(noise) for noise in crappify.crappifier.noises] == [type(noise) for noise in own.noises]
    assert own.noises


def test_inference_restores_a_folder(project_root: Path, hr_folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    workflow = _workflow(
        project_root,
        ["inference"],
        "inference",
        dataset_dir=str(hr_folder),
        output_dir=str(tmp_path / "restored"),
        weights=str(tiny_weights),
    )
    workflow.initialize()
    workflow.run()
    assert {path.name for path in (tmp_path / "restored").iterdir()} == {path.name for path in hr_folder.iterdir()}
    (expected,) = restore(hr_folder / "cell_4.png", tmp_path / "cell_4.png", tiny_weights)
    with open_image(tmp_path / "restored" / "cell_4.png") as restored, open_image(expected) as image:
        assert restored.shape == (4 * 96, 4 * 112)
        np.testing.assert_array_equal(restored.read(), image.read())


@pytest.mark.parametrize(("name", "value"), [("axes", "YX"), ("overwrite", "True"), ("skip_bad", "True")])
def test_old_names_of_overrides_are_refused_with_the_new_ones(
    name: str,
    value: str,
    project_root: Path,
    hr_folder: Path,
    tiny_weights: Path,
    tmp_path: Path,
    run_bundle: Callable[..., tuple[int, str]],
) -> None:
    paths = ["--dataset_dir", str(hr_folder), "--output_dir", str(tmp_path / "out"), "--weights", str(tiny_weights)]
    config = ["--config_file", "configs/inference.json"]
    status, messages = run_bundle(project_root / "bundle", *config, *paths, f"--evaluator#{name}", value)
    assert status != 0
    assert f"give options#{name} instead of evaluator#{name}" in messages
    assert not (tmp_path / "out").exists()


@pytest.fixture
def preset_data(hr_folder: Path, tmp_path: Path) -> dict[str, Path]:
    """A folder that suits each preset that does not take a plain folder of images."""
    pairs, stack = tmp_path / "pairs", tmp_path / "stack"
    (pairs / "LR").mkdir(parents=True)
    stack.mkdir()
    (pairs / "HR").symlink_to(hr_folder)
    frames = []
    for path in sorted(hr_folder.iterdir()):
        image = Image.open(path)
        image.resize((image.width // 4, image.height // 4), Image.Resampling.BILINEAR).save(pairs / "LR" / path.name)
        frames.append(np.asarray(image))
    write_image(stack / "stack.tif", np.stack(8 * frames), axes="ZYX", pixel_size={})
    return {"paired": pairs, **dict.fromkeys(("2.5d", "volume", "isotropic", "noise2noise"), stack)}


RDNET = {
    "channels": [16, 8],
    "stem_channels": 8,
    "growth_rates": [4, 8],
    "downsample": [False, True],
    "squeeze_excite": [False, True],
    "n_blocks": 1,
}
SWINIR = {"embed_dim": 12, "depths": [2, 2], "heads": [2, 2], "window": 4}
TINY_NETWORKS: dict[str, dict[str, object]] = {
    "resunet_a": {"channels": [8, 16], "dilations": [[1, 3], [1]], "pool_sizes": [1, 2], "depth": 0},
    "rdresunet": RDNET | {"depth": 0},
    "rdresunet_a": RDNET | {"depth": 0, "dilations": [[1], [1, 3]], "pool_sizes": [1, 2]},
    "swinir": SWINIR | {"features": 8},
    "swinir_lightweight": SWINIR,
    "swinir_medium": SWINIR | {"features": 8},
    "rcan": {"groups": 1, "blocks": 1, "features": 8, "reduction": 4},
    "volume": {"network#channels": [8, 16]},
    "isotropic": {"network#channels": [8, 16]},
}
"""Arguments that make the networks of presets small; of the others `tiny_options` does, but the small ones stay."""


@pytest.mark.parametrize("preset", [None, *preset_names()])
def test_every_preset_trains_for_an_epoch(
    preset: str | None,
    hr_folder: Path,
    preset_data: dict[str, Path],
    tiny_options: dict[str, object],
    tmp_path: Path,
) -> None:
    data = preset_data.get(preset or "", hr_folder)
    options = dict(tiny_options)
    if preset in TINY_NETWORKS or str(preset).endswith("_small"):
        options = {key: value for key, value in options.items() if "network_def" not in key}
        options |= {f"network_def#{key}": value for key, value in TINY_NETWORKS.get(str(preset), {}).items()}
    weights = train(data, tmp_path / "run", preset=preset, epochs=1, **options)
    network, record = load_weights(weights)
    image = torch.rand(1, record.n_frames[0], 12, 9)
    _, along_y, along_x = factors(record.scale)
    assert network(image).shape == (1, record.n_frames[1], 12 * along_y, 9 * along_x)
    assert bool(record.crappifier) == (preset not in ("paired", "noise2noise", "blind_spot"))
    source = next(path for path in sorted(data.rglob("*")) if path.is_file())
    source = source if preset != "paired" else data / "LR" / "cell_0.png"
    (restored,) = restore(source, tmp_path / "restored", weights)
    with open_image(source) as before, open_image(restored) as after:
        scale = frames_of(before.axes, before.shape).scale_by_axis(record.scale)
        assert after.shape == scaled_shape(before.axes, before.shape, scale)
        assert (after.axes, after.dtype) == (before.axes, before.dtype)


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("resunet", 59.9), ("resunet_a", 64.4), ("rdresunet", 115.7), ("rdresunet_a", 131.8), ("swinir", 2.0)]
    + [("swinir_lightweight", 0.91), ("swinir_medium", 11.9), ("rcan", 15.6)]
    + [(name, None) for name in preset_names() if name.endswith("_small")],
)
def test_network_presets_have_the_size_of_the_papers_or_are_small(preset: str, millions: float | None) -> None:
    parser = ConfigParser()
    parser.read_config(config_files("train", preset))
    with torch.device("meta"):  # as PSSR2 and the papers count them, for one channel; no memory is taken
        network = parser.get_parsed_content("network_def")
    found = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert 0.3 < found < 1.5 if millions is None else found == pytest.approx(millions, rel=0.01)
    assert parser.get("lr") <= 0.002


@pytest.mark.parametrize(
    "presets", ["paired,fluorescence", "fluorescence,paired", "denoise,paired", "2.5d,fluorescence"]
)
def test_presets_stack(presets: str, hr_folder: Path, preset_data: dict[str, Path], tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(config_files("train", presets))
    data = preset_data.get("paired" if "paired" in presets else "2.5d", hr_folder)
    scale = 4 if "paired" in presets else 2
    parser.update({"dataset_dir": str(data), "tile": 32, "scale": scale, "batch_size": 2})
    sample = parser.get_parsed_content("train#dataset")[0]
    assert sample["label"].shape[-1] == scale * sample["image"].shape[-1] == 32
    record = parser.get_parsed_content("record")
    assert bool(record.crappifier) == ("paired" not in presets)


def test_configs_hold_each_key_once(project_root: Path) -> None:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), keys
        return dict(pairs)

    for path in [*(project_root / "bundle" / "configs").glob("*.json"), *(project_root / "configs").glob("*.json")]:
        json.loads(path.read_text(), object_pairs_hook=unique)


@pytest.mark.parametrize("names", [["train"], ["train", "multi_gpu_train"], ["train", "evaluate"], ["inference"]])
def test_the_properties_that_the_zoo_asks_for_are_there(
    names: list[str], project_root: Path, hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    options = {"dataset_dir": str(hr_folder), "output_dir": str(tmp_path / "out")}
    options |= {"weights": str(tiny_weights)} if names != ["train"] else {}
    options |= {} if names == ["inference"] else {"tile": 32}
    workflow = _workflow(project_root, names, "run", **options)
    workflow.initialize()
    assert not workflow.check_properties()
