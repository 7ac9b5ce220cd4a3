"""Train this package's default network for some minutes, and restore a folder of LR images with it.

Run by `compare_restoring.py` in a process of its own, like its counterpart for the original, `pssr_training.py`.
"""

from __future__ import annotations

import argparse
import ast
import shutil
from pathlib import Path

import torch

from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hr", type=Path, help="folder of the images to train on")
    parser.add_argument("lr", type=Path, help="folder of the images to restore")
    parser.add_argument(
        "out", type=Path, help="folder for the restored files; the training goes into a folder next to it"
    )
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--sigma", type=float, help="sigma of Gaussian noise; Poisson noise by default")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("ID", "VALUE"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    overrides = {id_: value_of(text) for id_, text in options.set}
    if options.sigma:
        noise = {"_target_": "pssr2_monai.GaussianNoise", "sigma": options.sigma}
        overrides["crappifier#noises"] = [noise]
    out = options.out.parent / "training"
    shutil.rmtree(out, ignore_errors=True)  # left by an interrupted run
    weights = train(
        options.hr,
        out,
        minutes=options.minutes,
        seed=options.seed,
        scale=options.scale,
        val_fraction=0.05,
        **overrides,
    )
    restore(options.lr, options.out, weights, overwrite=True)


def value_of(text: str) -> object:
    """Return the number, list or truth value that the text represents, otherwise the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


if __name__ == "__main__":
    main()
