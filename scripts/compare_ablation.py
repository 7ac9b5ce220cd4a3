r"""Which part of PSSR2's recipe matters on real images?

Trainings on HR images alone that differ in one thing restore real LR images that none of them saw. One scorer judges
the files that they write, after a least-squares gain and offset. Finished parts are not repeated.

    pssr2 register --hr ../shared/data/em_pairs/sem_real2x/train/HR --lr ../shared/data/em_pairs/sem_real2x/train/LR \
        --out PAIRS
    python scripts/compare_ablation.py PAIRS --scale 2 --test 'f(2[89]|3)' --epochs 9 --out OUT
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from compare_calibration import interpolated, score, split, table

from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.train import train

DRAWN, FIXED = [0.8, 1.2], 1.0


def poisson(intensity: Any) -> dict[str, Any]:
    return {"_target_": "pssr2_monai.PoissonNoise", "intensity": intensity}


def ways(scale: int, epochs: int) -> dict[str, dict[str, Any]]:
    """Return the overrides by which each training differs from the first."""
    noise_first = {
        "_target_": "monai.transforms.Compose",
        "transforms": [poisson(DRAWN), {"_target_": "pssr2_monai.Downsample", "scale": scale}],
    }
    return {
        "noise after downsampling, drawn intensity, mix 0.4": {},
        "noise before downsampling": {"crappifier": noise_first},
        "fixed intensity": {"crappifier#noises": [poisson(FIXED)]},
        "wide intensity": {"crappifier#noises": [poisson([0.0, 2.0])]},
        "L1 alone": {"loss#mix": 0.0},
        "mix 0.8": {"loss#mix": 0.8},
        "MS-SSIM alone": {"loss#mix": 1.0},
        "ResUNet 32-64-128-256, depth 3": {"network_def#channels": [32, 64, 128, 256], "network_def#depth": 3},
        "a quarter of the epochs": {"epochs": max(1, epochs // 4)},
        "three times the epochs": {"epochs": 3 * epochs},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="folder that holds LR and HR images of the same names")
    parser.add_argument("--test", required=True, help="regular expression of the names that are held out")
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--tile", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    split(options.pairs, options.test, options.out)
    held_out = options.out / "test"
    scores = {"bicubic": [interpolated(held_out, options.scale)]}
    for seed in options.seeds:
        for number, (way, changed) in enumerate(ways(options.scale, options.epochs).items()):
            out = options.out / f"{number}_{seed}"
            if not (out / "done").exists():
                shutil.rmtree(out, ignore_errors=True)
                common = {"epochs": options.epochs, "scale": options.scale, "tile": options.tile, "batch_size": 8}
                common |= {"preset": "resunet_small", "val_fraction": 0, "seed": seed, "num_workers": 0}
                common |= {"loss#mix": 0.4}
                weights = train(options.out / "train" / "HR", out, **(common | changed))
                restore(held_out / "LR", out / "restored", weights, precision="float32")
                (out / "done").touch()
            scores.setdefault(way, []).append(score(out / "restored", held_out / "HR"))
            print(seed, way, scores[way][-1], flush=True)
    (options.out / "scores.json").write_text(json.dumps(scores, indent=2))
    print(table("", scores))


if __name__ == "__main__":
    main()
