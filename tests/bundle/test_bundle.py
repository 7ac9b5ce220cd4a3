"""The bundle as users of MONAI run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from pssr2_monai.io.image import open_image
from pssr2_monai.presets import preset_names


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


def _run(cwd: Path, project_root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai.bundle", "run", *arguments]
    environment = os.environ | {"PYTHONPATH": str(project_root)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_training_from_the_root_and_from_inside_the_bundle(
    project_root: Path, hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path
) -> None:
    options = [word for key, value in tiny_options.items() for word in (f"--{key}", str(value))]
    options += ["--dataset_dir", str(hr_folder), "--epochs", "1"]
    ways = {
        "root": (project_root, ["training", "--config_file", "bundle/configs/train.json", "--bundle_root", "bundle"]),
        "zoo": (project_root / "bundle", ["--config_file", "configs/train.json"]),
    }
    for name, (cwd, arguments) in ways.items():
        out = tmp_path / name
        done = _run(cwd, project_root, *arguments, *options, "--ckpt_dir", str(out), "--output_dir", str(out))
        assert done.returncode == 0, done.stderr[-2000:]
        assert "epoch 1/1 | loss" in done.stderr
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
    best = workflow.parser.get_parsed_content("validate#evaluator").state.metrics
    assert float(figures["val_ssim"]) == pytest.approx(best["val_ssim"])
    assert float(figures["val_psnr"]) > 10
    assert (tmp_path / "val_ssim_raw.csv").is_file()


def test_inference_restores_a_folder(
    project_root: Path, hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
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
    with open_image(tmp_path / "restored" / "cell_4.png") as restored:
        assert restored.shape == (4 * 96, 4 * 112)


@pytest.mark.parametrize("preset", [None, *preset_names()])
def test_every_preset_builds(preset: str | None, project_root: Path, hr_folder: Path, tmp_path: Path) -> None:
    files = [project_root / "bundle" / "configs" / "train.json"]
    files += [project_root / "configs" / f"{preset}.json"] if preset else []
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update({"dataset_dir": str(hr_folder), "tile": 32, "output_dir": str(tmp_path), "ckpt_dir": str(tmp_path)})
    trainer = parser.get_parsed_content("train#trainer")
    sample = next(iter(trainer.data_loader))
    scale = parser.get_parsed_content("scale")
    assert sample["label"].shape[-1] == scale * sample["image"].shape[-1] == 32


def test_configs_hold_each_key_once(project_root: Path) -> None:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), keys
        return dict(pairs)

    for path in [*(project_root / "bundle" / "configs").glob("*.json"), *(project_root / "configs").glob("*.json")]:
        json.loads(path.read_text(), object_pairs_hook=unique)


@pytest.mark.parametrize("names", [["train"], ["train", "evaluate"], ["inference"]])
def test_the_properties_that_the_zoo_asks_for_are_there(
    names: list[str], project_root: Path, hr_folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    options = {"dataset_dir": str(hr_folder), "output_dir": str(tmp_path / "out")}
    options |= {"weights": str(tiny_weights)} if names != ["train"] else {}
    options |= {} if names == ["inference"] else {"tile": 32}
    workflow = _workflow(project_root, names, "run", **options)
    workflow.initialize()
    assert not workflow.check_properties()
