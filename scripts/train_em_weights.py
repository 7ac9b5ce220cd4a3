r"""Train the bundled weights, and score them on sources that they have not seen.

The sources are those of INDEX.md whose terms allow it (ship-ok). With ``--held-out`` a source is left out of the
training and scored afterwards by ``pssr2 evaluate``, next to interpolation; ``each`` does so for all in turn. Without
this option all sources are used for training. Finished parts are not repeated.

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
"""Patterns of each source's HR images in the data folder."""

SHOWN = ("psnr", "ssim", "ms_ssim", "frc_resolution")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with em_hr and em_pairs")
    parser.add_argument("--preset", default="em,resunet_small", help="presets, separated by commas")
    parser.add_argument("--held-out", choices=[*SOURCES, "each"], help="source to score on instead of training on it")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.held_out is None:
        print(train_on(options, list(SOURCES), options.out / "all"))
        return
    results = {}
    for source in SOURCES if options.held_out == "each" else [options.held_out]:
        folder = options.out / f"without_{source}"
        weights = train_on(options, [name for name in SOURCES if name != source], folder)
        scores = folder / "scores" / "metrics.json"
        if not scores.exists():
            evaluate(link_images(options.data, [source], folder / "test"), weights, scores.parent)
        results[source] = json.loads(scores.read_text())
    print(table(results))


def train_on(options: argparse.Namespace, sources: list[str], folder: Path) -> Path:
    """Train on some sources, and return the weights."""
    weights = folder / "training" / BEST
    if not (folder / "trained").exists():
        shutil.rmtree(weights.parent, ignore_errors=True)  # left by an interrupted run
        train(
            link_images(options.data, sources, folder / "HR"),
            weights.parent,
            preset=options.preset,
            minutes=options.minutes,
            seed=options.seed,
            val_fraction=0,  # whole sources are held out
        )
        (folder / "trained").touch()
    return weights


def link_images(data: Path, sources: list[str], folder: Path) -> Path:
    """Link the images of some sources into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        paths = sorted(data.glob(SOURCES[source]))
        if not paths:
            raise InputError(
                f"{data}: contains no {SOURCES[source]}, the images of {source}; give the folder that contains them"
            )
        for path in paths:
            link = folder / f"{source}_{path.name}"
            if not link.is_symlink():
                link.symlink_to(path.resolve())
    return folder


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the mean of each metric by source: bilinear, bicubic, restored."""
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
