r"""Which recipe restores real images best after equal CPU seconds of training?

Each recipe is a list of presets and ids that differ from the task's default. It trains in this process, with one thread
and no loader processes, for the same seconds of this process's CPU time: other programs on the machine decide nothing,
and the learning rate falls by the same clock. The images are those of ``train_bundled_weights.py``; none of what is
scored is among them. Real pairs are scored as in ``compare_real.py``; ISBI 2012 at scale 4 crappified as by the preset
``em``. Every finished training is written to ``race.json``: an interrupted race resumes with the first that is missing.

    python scripts/race_recipes.py ../shared/data --task fluo --seconds 600 --seeds 0 1 2 --out runs/race
    python scripts/race_recipes.py ../shared/data --task em_2x --recipes default nafnet --seconds 600 --out runs/race
    python scripts/race_recipes.py ../shared/data --task fluo --seconds 600 --out runs/race --table
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from compare_real import Pair, crappified_pairs, real_pairs, restored, score
from monai.bundle import ConfigParser
from train_bundled_weights import EM, FLUORESCENCE, link_images

from pssr2_monai.networks.weights import load_weights, read_checkpoint
from pssr2_monai.training.checkpoints import LAST
from pssr2_monai.training.config import config_files
from pssr2_monai.training.train import train


@dataclass(frozen=True)
class Task:
    """What is trained, and the groups of pairs of ``compare_real.py`` that it is scored on."""

    presets: str
    scale: int
    sources: dict[str, str]
    tile: int
    groups: tuple[str, ...] = ()
    crappified: str = ""  # a folder in the data folder, for the preset's own crappifier


@dataclass(frozen=True)
class Recipe:
    """How a training differs from the task's default.

    Attributes:
        presets: the network's preset, which is merged after the task's.
        overrides: ids of the training's config.
        without_noise: the noise of the crappifier that is left out.
    """

    presets: str = "resunet_small"
    overrides: dict[str, Any] = field(default_factory=dict)
    without_noise: str = ""


TASKS = {
    "fluo": Task("denoise,fluorescence", 1, FLUORESCENCE, 128, ("w2s", "hagen")),
    "em_2x": Task("em", 2, EM, 128, ("sem_real2x",)),
    "em_4x": Task("em", 4, EM, 192, crappified="em_hr/isbi2012_train"),
}
RECIPES = {
    "default": Recipe(),
    "nafnet": Recipe("nafnet_small"),
    "nafnet_slow": Recipe("nafnet_small", {"lr": 0.001}),
    "restormer": Recipe("restormer_small"),
    "rdresunet": Recipe("rdresunet_small"),
    "swinir": Recipe("swinir_small"),
    "wide": Recipe(overrides={"network_def#channels": [48, 96, 192]}),
    "no_fold": Recipe(overrides={"fold": 1}),
    "fold": Recipe(overrides={"fold": 2}),
    "mix": Recipe(overrides={"loss#mix": 0.8}),
    "mse": Recipe(overrides={"loss": {"_target_": "torch.nn.MSELoss"}}),
    "no_zoom": Recipe(overrides={"zoom": [1.0, 1.0]}),
    "shrink": Recipe(overrides={"zoom": [0.5, 1.0]}),
    "no_contrast": Recipe(overrides={"contrast": [1.0, 1.0], "brightness": [0.0, 0.0]}),
    "no_correlated": Recipe(without_noise="CorrelatedNoise"),
    "average": Recipe(overrides={"average": 0.02}),
    "clipped": Recipe(overrides={"crappifier#clip": True}),
    "no_freeze": Recipe(overrides={"freeze_norm": None}),
    "freeze_early": Recipe(overrides={"freeze_norm": 0.25}),
}
DEFAULT_RECIPES = {
    "fluo": [name for name in RECIPES if name not in ("fold", "nafnet_slow", "swinir")],
    "em_2x": ["default", "nafnet", "restormer", "fold", "mix", "no_zoom"],
    "em_4x": ["default", "nafnet", "restormer", "mix", "no_zoom"],
}


@dataclass(frozen=True)
class Run:
    """A training that was scored: by group, the mean PSNR in dB and the mean SSIM."""

    task: str
    recipe: str
    seed: int
    seconds: float
    steps: int
    cpu_seconds: float
    parameters: int
    scores: dict[str, tuple[float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with em_hr, em_pairs, fluo_pairs and hr_crops")
    parser.add_argument("--task", choices=TASKS, default="fluo")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, help="by default those that suit the task")
    parser.add_argument("--seconds", type=float, required=True, help="CPU seconds of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print what there is, and train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.recipes or DEFAULT_RECIPES[options.task]
    results = options.out / "race.json"
    runs = [Run(**entry) for entry in json.loads(results.read_text(encoding="utf-8"))] if results.is_file() else []
    wanted = [(options.task, name, seed, options.seconds) for seed in options.seeds for name in names]
    done = {(run.task, run.recipe, run.seed, run.seconds) for run in runs}
    if not options.table and not done.issuperset(wanted):
        task = TASKS[options.task]
        folder = link_images(options.data, task.sources, options.out / f"{options.task}_HR")
        pairs = pairs_of(task, options.data)
        for _, name, seed, seconds in [one for one in wanted if one not in done]:
            runs.append(one_run(options.task, name, seed, seconds, folder, pairs, options.out))
            results.write_text(json.dumps([asdict(run) for run in runs], indent=2) + "\n", encoding="utf-8")
    print(table([run for run in runs if (run.task, run.recipe, run.seed, run.seconds) in wanted]))


def pairs_of(task: Task, data: Path) -> list[Pair]:
    """The pairs that the task's trainings are scored on."""
    pairs = list(real_pairs(data, task.groups, "f(2[89]|3)"))
    if task.crappified:
        pairs += crappified_pairs(data / task.crappified, task.presets, seed=0)
    return pairs


def one_run(
    task_name: str, name: str, seed: int, seconds: float, folder: Path, pairs: Sequence[Pair], out: Path
) -> Run:
    """Train a recipe for some CPU seconds, and score it."""
    task, recipe = TASKS[task_name], RECIPES[name]
    run = out / f"{task_name}_{name}_{seconds:g}s_seed{seed}"
    shutil.rmtree(run, ignore_errors=True)  # left by an interrupted race
    begun = time.process_time()
    weights = train(
        folder,
        run,
        preset=f"{task.presets},{recipe.presets}",
        minutes=seconds / 60,
        seed=seed,
        **overrides_of(task, recipe),
    )
    cpu_seconds = time.process_time() - begun
    last = read_checkpoint(run / LAST)
    (run / LAST).unlink()  # three times the size of the weights
    images = restored(pairs, str(weights))
    by_group: dict[str, list[tuple[float, float]]] = {}
    for pair in pairs:
        by_group.setdefault(pair.group, []).append(score(images[pair.name], pair.hr))
    scores = {
        group: (statistics.fmean(psnr for psnr, _ in values), statistics.fmean(ssim for _, ssim in values))
        for group, values in by_group.items()
    }
    parameters = sum(parameter.numel() for parameter in load_weights(weights)[0].parameters())
    found = Run(task_name, name, seed, seconds, last["trainer"]["iteration"], cpu_seconds, parameters, scores)
    print(found, flush=True)
    return found


def overrides_of(task: Task, recipe: Recipe) -> dict[str, Any]:
    """The ids of a recipe's training: nothing but this process trains, nothing is held out, CPU time is the clock."""
    overrides: dict[str, Any] = {
        "scale": task.scale,
        "tile": task.tile,
        "batch_size": 8,
        "val_fraction": 0,  # whole sources are held out
        "num_workers": 0,
        "device": "cpu",
        "schedule#clock": {"_target_": "time.process_time", "_mode_": "callable"},
    }
    if recipe.without_noise:
        parser = ConfigParser()
        parser.read_config(config_files("train", f"{task.presets},{recipe.presets}"))
        overrides["crappifier#noises"] = [
            noise for noise in parser["crappifier#noises"] if not noise["_target_"].endswith(recipe.without_noise)
        ]
    return overrides | recipe.overrides


def table(runs: Sequence[Run]) -> str:
    """The means over seeds, with the smallest and the largest value, as Markdown; the best first."""
    if not runs:
        return "no training is finished yet"
    groups = list(runs[0].scores)
    header = ["recipe", "parameters (M)", "seeds", "steps", "CPU s", *(f"{group}, dB / SSIM" for group in groups)]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    by_recipe: dict[str, list[Run]] = {}
    for run in runs:
        by_recipe.setdefault(run.recipe, []).append(run)
    ranked = sorted(
        by_recipe.items(),
        key=lambda item: -statistics.fmean(run.scores[group][0] for run in item[1] for group in groups),
    )
    for name, of_recipe in ranked:
        cells = [
            f"`{name}`",
            f"{of_recipe[0].parameters / 1e6:.2f}",
            str(len(of_recipe)),
            f"{statistics.fmean(run.steps for run in of_recipe):.0f}",
            f"{statistics.fmean(run.cpu_seconds for run in of_recipe):.0f}",
        ]
        for group in groups:
            psnr, ssim = zip(*(run.scores[group] for run in of_recipe), strict=True)
            spread = f" ({min(psnr):.2f} to {max(psnr):.2f})", f" ({min(ssim):.3f} to {max(ssim):.3f})"
            cells.append(f"{statistics.fmean(psnr):.2f}{spread[0]} / {statistics.fmean(ssim):.3f}{spread[1]}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
