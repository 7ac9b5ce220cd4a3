r"""Train the bundled weights.

Each trains on the sources of INDEX.md of its kind whose terms allow it (ship-ok), but for those that it is scored on
afterwards by ``compare_real.py`` (sem_real2x, hagen); with ``--held-out`` another is left out, too. A training that was
interrupted resumes; one that came to its end is trained on from its weights under another ``--out`` by ``--start``.

    python scripts/train_bundled_weights.py fluo_denoise ../shared/data --minutes 60 --out runs/fluo_denoise
    python scripts/train_bundled_weights.py em_2x ../shared/data --minutes 60 --out runs/em_2x --bundle

``--bundle`` writes the weights into the bundle, in half precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from pssr2_monai.bundle import bundle_dir
from pssr2_monai.errors import InputError
from pssr2_monai.networks.weights import BUNDLED, read_checkpoint, save_atomically
from pssr2_monai.training.checkpoints import LAST
from pssr2_monai.training.train import train

EM = {
    "axon_em": "em_hr/axon_em/*.png",
    "hela_sbfsem": "em_hr/hela_sbfsem/*.png",
    "cem_crops": "em_hr/cem_crops/*.[pt][ni]*",
    "emdiffuse_demo": "em_hr/emdiffuse_demo/*.tif",
    "pssr_semisynthetic": "em_pairs/pssr_semisynthetic/*_HR.tif",
    "crops": "hr_crops/em/*/*.png",
}
FLUORESCENCE = {"crops": "hr_crops/fluo/*/*.png"}
"""Patterns of the HR images of each source in the data folder."""

RECIPES: dict[str, tuple[str, int, dict[str, str]]] = {
    "em": ("em", 4, EM),
    "em_2x": ("em", 2, EM),
    "em_denoise": ("em_denoise", 1, EM),
    "fluo_denoise": ("denoise,fluorescence", 1, FLUORESCENCE),
    "fluo_2x": ("fluorescence", 2, FLUORESCENCE),
}
"""Presets, scale and sources of each of the bundled weights; the network is that of ``resunet_small``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES, help="which weights")
    parser.add_argument("data", type=Path, help="folder with em_hr, em_pairs and hr_crops")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--held-out", default="", help="leave out images whose path contains this")
    parser.add_argument("--start", help="weights to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bundle", action="store_true", help="write the weights into the bundle")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    preset, scale, sources = RECIPES[options.name]
    folder = link_images(options.data, sources, options.out / "HR", options.held_out)
    run = options.out / "training"
    if (run / LAST).is_file():
        weights = train(folder, run, minutes=options.minutes, resume=True)
    else:
        overrides: dict[str, Any] = {"start": options.start} if options.start else {}
        weights = train(
            folder,
            run,
            preset=f"{preset},resunet_small",
            minutes=options.minutes,
            scale=scale,
            tile=128 if scale < 4 else 192,
            batch_size=8,
            seed=options.seed,
            val_fraction=0,  # whole sources are held out
            **overrides,
        )
    if options.bundle:
        weights = in_half_precision(weights, bundle_dir() / "models" / BUNDLED[options.name])
    print(weights)


def link_images(data: Path, sources: dict[str, str], folder: Path, held_out: str = "") -> Path:
    """Link the images of some sources into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, pattern in sources.items():
        paths = sorted(data.glob(pattern))
        if not paths:
            raise InputError(f"{data}: contains no {pattern}, the images of {source}; give the folder that does")
        for path in paths:
            link = folder / f"{source}_{path.parent.name}_{path.name}"
            if not link.is_symlink() and (not held_out or held_out not in str(path)):
                link.symlink_to(path.resolve())
    return folder


def in_half_precision(weights: Path, target: Path) -> Path:
    """Copy weights with numbers of half the size, which change restored values by less than their rounding."""
    saved = read_checkpoint(weights)
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in saved["model"].items()}
    save_atomically({"model": halves, "record": saved["record"]}, target)
    return target


if __name__ == "__main__":
    main()
