r"""Trains the weights that the bundle brings along, and shows what they are worth on sources they have not seen.

The sources are those of INDEX.md whose terms allow it (ship-ok). With ``--held-out`` a source is left out of the
training and scored afterwards beside interpolation, by ``pssr2 evaluate``; ``each`` does so for all in turn. Without it
all sources train. What is finished is not done again.

    python scripts/train_em_weights.py ../shared/data --minutes 5 --held-out each --out runs/em
    python scripts/train_em_weights.py ../shared/data --minutes 20 --out runs/em
    python scripts/train_em_weights.py ../shared/data --preset em_denoise,resunet_small --minutes 20 --out runs/denoise
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.evaluate import evaluate
from pssr2_monai.evaluation.measures import METRICS
from pssr2_monai.training.checkpoints import BEST
from pssr2_monai.training.train import train

SOURCES = {
    "fib25": "em_hr/fib25/*.tif",
    "axon_em": "em_hr/axon_em/*.png",
    "hela_sbfsem": "em_hr/hela_sbfsem/*.png",
    "cem_crops": "em_hr/cem_crops/*.[pt][ni]*",
    "emdiffuse_demo": "em_hr/emdiffuse_demo/*.tif",
    "pssr_semisynthetic": "em_pairs/pssr_semisynthetic/*_HR.tif",
    "sem_real2x": "em_pairs/sem_real2x/train/HR/*.png",
}
"""Where the HR images of each source lie in the data folder."""

SHOWN = ("psnr", "ssim", "ms_ssim", "frc_resolution")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds em_hr and em_pairs")
    parser.add_argument("--preset", default="em,resunet_small", help="presets, divided by commas")
    parser.add_argument("--held-out", choices=[*SOURCES, "each"], help="source to score on instead of training on it")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.held_out is None:
        print(trained(options, list(SOURCES), options.out / "all"))
        return
    results = {}
    for source in SOURCES if options.held_out == "each" else [options.held_out]:
        folder = options.out / f"without_{source}"
        weights = trained(options, [name for name in SOURCES if name != source], folder)
        scores = folder / "scores" / "metrics.json"
        if not scores.exists():
            evaluate(linked(options.data, [source], folder / "test"), weights, scores.parent)
        results[source] = json.loads(scores.read_text())
    print(table(results))


def trained(options: argparse.Namespace, sources: list[str], folder: Path) -> Path:
    """The weights of a training on some sources."""
    weights = folder / "training" / BEST
    if not (folder / "trained").exists():
        shutil.rmtree(weights.parent, ignore_errors=True)  # of a run that was interrupted
        train(
            linked(options.data, sources, folder / "HR"),
            weights.parent,
            preset=options.preset,
            minutes=options.minutes,
            seed=options.seed,
            val_fraction=0,  # what is held out is a source
        )
        (folder / "trained").touch()
    return weights


def linked(data: Path, sources: list[str], folder: Path) -> Path:
    """A folder with links to the images of some sources, named after them."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        paths = sorted(data.glob(SOURCES[source]))
        if not paths:
            raise InputError(f"{data}: holds no {SOURCES[source]}, the images of {source}; give the folder that does")
        for path in paths:
            link = folder / f"{source}_{path.name}"
            if not link.is_symlink():
                link.symlink_to(path.resolve())
    return folder


def table(results: dict[str, dict[str, Any]]) -> str:
    """By source the mean of each metric: bilinear, bicubic, restored."""
    heads = [f"{METRICS[name].label}" for name in SHOWN]
    rows = [f"| held out | images | {' | '.join(heads)} |", "|---" * (2 + len(SHOWN)) + "|"]
    for source, result in results.items():
        cells = [
            ", ".join(f"{result['mean'][method][name]:.{METRICS[name].digits}f}" for method in result["mean"])
            for name in SHOWN
        ]
        rows.append(f"| {source} | {result['settings']['compared']} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
