r"""Quality after equal minutes of training: this package, the original, interpolation and filters.

Trains on some images of a folder and scores on the others, which are crappified once. All write files, and one scorer
judges these: PSNR and SSIM (Gaussian window) of the whole image. At scale 1, filters of scikit-image, with a parameter
tuned on the training images, are scored as well. Finished parts are not repeated, so an interrupted comparison resumes.

    python scripts/compare_restoring.py ../shared/data/em_hr/isbi2012_train --test '2[2-9]' --minutes 12 --out OUT
    python scripts/compare_restoring.py ../shared/data/em_hr/isbi2012_train --test '2[2-9]' --scale 1 --sigma 25 \
        --original-tile 192 --minutes 12 --out OUT
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from compare_calibration import read, table
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from turns import pssr_python

from pssr2_monai.crappify import GaussianNoise, PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.evaluation.compare import INTERPOLATIONS, upscale
from pssr2_monai.evaluation.measures import psnr
from pssr2_monai.evaluation.structural_similarity import ssim
from pssr2_monai.images.files import list_images
from pssr2_monai.machine import cores

OURS, ORIGINAL = "pssr2_monai", "pssr 2.4.0"
Filter = Callable[[np.ndarray, float], np.ndarray]

FILTERS: dict[str, tuple[Filter, list[float]]] = {
    "Gaussian filter": (gaussian_filter, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2]),
    "non-local means": (
        lambda image, h: denoise_nl_means(image, patch_size=5, patch_distance=6, h=h, sigma=25, fast_mode=True),
        [8, 10, 12, 15, 18, 22],
    ),
    "total variation": (
        lambda image, weight: denoise_tv_chambolle(image / 255, weight=weight) * 255,
        [0.03, 0.045, 0.06, 0.08, 0.1, 0.13],
    ),
}
"""Filters that need no training, with the candidate values of their parameter."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of HR images")
    parser.add_argument("--test", required=True, help="regular expression of the names that are held out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--sigma", type=float, help="sigma of Gaussian noise; Poisson noise by default")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--original-tile", type=int, default=512, help="side of the original's tiles in pixels")
    parser.add_argument(
        "--original-rate-falls", action="store_true", help="decay its learning rate along half a cosine"
    )
    parser.add_argument("--pssr-python", metavar="PATH", help="a Python that has pssr 2.4.0, else one is installed")
    parser.add_argument("--without-pssr", action="store_true", help="leave the original out")
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("ID", "VALUE"),
        help="override an id of this package's training config",
    )
    options = parser.parse_args()
    prepare(options)
    scores: dict[str, list[list[float]]] = {}
    for name, restored in without_training(options):
        scores[name] = [score(restored, options.out)]
        print(name, *scores[name], flush=True)
    for seed in options.seeds:
        for name, command in trainings(options, seed).items():
            restored = options.out / f"{name.split()[0]}_{seed}" / "restored"
            if not (restored / "done").exists():
                subprocess.run([*command, restored], check=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
                (restored / "done").touch()
            scores.setdefault(name, []).append(score(restored, options.out))
            print(seed, name, scores[name][-1], flush=True)
    (options.out / "scores.json").write_text(json.dumps(scores, indent=2))
    print(table("", scores))


def crappifier(options: argparse.Namespace) -> Crappify:
    """Return the crappifier of the test images; trainings of this package draw the intensity from a range around it."""
    noise = GaussianNoise(options.sigma) if options.sigma else PoissonNoise(1.0)
    return Crappify(options.scale, [noise])


def prepare(options: argparse.Namespace) -> None:
    """Write the images as TIFF, which the original reads: those for training, and those for testing with their LR."""
    crappify = crappifier(options)
    crappify.set_random_state(0)
    for path in list_images(options.images):
        hr = read(path)
        name = f"{path.stem}.tif"
        if not re.search(options.test, path.name):
            write(options.out / "train" / name, hr)
            continue
        write(options.out / "test" / "HR" / name, hr)
        lr = crappify(hr[None].astype(np.float32) / 255)[0]
        write(options.out / "test" / "LR" / name, to_grey_levels(np.asarray(lr) * 255))


def without_training(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """Yield folders of LR images enlarged by interpolation or denoised by filters."""
    lr_files = sorted((options.out / "test" / "LR").iterdir())
    if options.scale > 1:
        for mode in INTERPOLATIONS:
            for path in lr_files:
                enlarged = upscale(read(path)[None].astype(np.float32), options.scale, mode)[0]
                write(options.out / mode / path.name, to_grey_levels(enlarged))
            yield mode, options.out / mode
        return
    for name, (apply, values) in FILTERS.items():
        value = tuned(apply, values, options)
        for path in lr_files:
            write(options.out / name / path.name, to_grey_levels(apply(read(path).astype(float), value)))
        yield f"{name} {value}", options.out / name


def tuned(apply: Filter, values: list[float], options: argparse.Namespace) -> float:
    """Return the value of a filter's parameter with the best PSNR on four of the training images."""
    files = sorted((options.out / "train").iterdir())[::6]
    crappify = crappifier(options)
    crappify.set_random_state(1)
    pairs = [(np.asarray(crappify(read(path)[None].astype(np.float32) / 255))[0] * 255, read(path)) for path in files]
    scores = [
        np.mean([measure(to_grey_levels(apply(lr.astype(float), value)), hr)[0] for lr, hr in pairs])
        for value in values
    ]
    return values[int(np.argmax(scores))]


def trainings(options: argparse.Namespace, seed: int) -> dict[str, list[Any]]:
    """Return the command of each training without its last argument, the folder for the restored images."""
    train, lr = options.out / "train", options.out / "test" / "LR"
    common = ["--minutes", options.minutes, "--seed", seed, "--scale", options.scale, "--threads", options.threads]
    common += ["--sigma", options.sigma] if options.sigma else []
    here = Path(__file__)
    ours = [sys.executable, here.with_name("train_and_restore.py"), *common]
    ours += [word for id_, value in options.set for word in ("--set", id_, value)]
    commands = {OURS: [*ours, train, lr]}
    if python := pssr_python(options):
        chosen = ["--tile", options.original_tile] + ([] if options.original_rate_falls else ["--constant-rate"])
        commands[ORIGINAL] = [python, here.with_name("pssr_training.py"), *common, *chosen, train, lr]
    return {name: [str(word) for word in command] for name, command in commands.items()}


def score(restored: Path, out: Path) -> list[float]:
    """Return the mean PSNR and SSIM of the files of a folder."""
    hr = out / "test" / "HR"
    return np.mean([measure(read(path), read(hr / path.name)) for path in sorted(restored.glob("*.tif"))], 0).tolist()


def measure(image: np.ndarray, hr: np.ndarray) -> tuple[float, float]:
    """Return PSNR in dB and SSIM of an image in grey levels."""
    planes = [plane[None].astype(float) for plane in (image, hr)]
    return psnr(*planes, data_range=255), ssim(*planes, data_range=255)


def to_grey_levels(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image)


if __name__ == "__main__":
    main()
