"""Train the original `pssr` 2.4.0 for some minutes, and restore a folder of LR images with it.

Run by `compare_restoring.py` in that package's own environment. Uses its ResUNet 32-64-128-256, MS-SSIM + L1 loss, data
set, crappifier and `train_paired`, and AdamW at its learning rate of 0.001: constant or, which favours it, decaying
along half a cosine over the given time (its command multiplies the rate by 0.7 per epoch, which would stop learning
after 50 steps). Results are rounded, not truncated as the original does.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
from pssr.crappifiers import AdditiveGaussian, Poisson
from pssr.data import SlidingDataset
from pssr.models import ResUNet
from pssr.train import train_paired
from pssr.util import SSIMLoss


class TimeIsOver(Exception):
    """Ends a training from its callback."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hr", type=Path, help="folder of the TIFF files to train on")
    parser.add_argument("lr", type=Path, help="folder of the TIFF files to restore")
    parser.add_argument("out", type=Path, help="folder for the restored files")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--sigma", type=float, help="sigma of Gaussian noise; Poisson noise by default")
    parser.add_argument("--tile", type=int, required=True)
    parser.add_argument("--constant-rate", action="store_true", help="constant learning rate instead of a decaying one")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(options.seed)
    network = ResUNet(hidden=[32, 64, 128, 256], scale=options.scale)
    train(network, options)
    network.eval()
    options.out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for path in sorted(options.lr.iterdir()):
            image = torch.from_numpy(tifffile.imread(path).astype(np.float32))
            restored = network(image[None, None])[0, 0].clamp(0, 255).round()
            tifffile.imwrite(options.out / path.name, restored.numpy().astype(np.uint8))


def train(network: torch.nn.Module, options: argparse.Namespace) -> None:
    """Train until the minutes are over, including validation between epochs, as the package itself does."""
    dataset = SlidingDataset(
        options.hr,
        hr_res=options.tile,
        lr_scale=options.scale,
        overlap=options.tile // 2,
        crappifier=AdditiveGaussian(options.sigma) if options.sigma else Poisson(),
        val_split=0.05,
    )
    # Creating a data set sets numpy's seed.
    np.random.seed(options.seed)  # noqa: NPY002
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    began = time.perf_counter()
    steps = 0

    def after_step() -> None:
        nonlocal steps
        steps += 1
        progress = (time.perf_counter() - began) / (60 * options.minutes)
        if progress >= 1:
            raise TimeIsOver
        for group in [] if options.constant_rate else optimizer.param_groups:
            group["lr"] = 1e-3 * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * progress)))

    try:
        train_paired(network, dataset, options.batch, SSIMLoss(), optimizer, 10**6, callbacks=[after_step])
    except TimeIsOver:
        print(f"{steps} steps")


if __name__ == "__main__":
    main()
