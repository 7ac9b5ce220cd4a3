"""Denoise images by a package that needs an environment of its own; run by `compare_real.py` with that one's Python.

FOLDER holds noisy images as NAME.npy, which are replaced by the results. This script needs nothing but numpy and the
package: `bm3d`, for noise of the variance 1, or `tk_r_em`, for one of whose networks the method is named.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", help="bm3d, or the name of a network of tk_r_em")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    denoise = bm3d() if options.method == "bm3d" else tk_r_em(options.method)
    for path in sorted(options.folder.glob("*.npy")):
        np.save(path, denoise(np.load(path)))


def bm3d() -> Callable[[np.ndarray], np.ndarray]:
    from bm3d import bm3d

    return lambda image: bm3d(image, sigma_psd=1.0)


def tk_r_em(name: str) -> Callable[[np.ndarray], np.ndarray]:
    from tk_r_em import load_network

    network = load_network(name).base_model

    def denoise(image: np.ndarray) -> np.ndarray:
        even = np.pad(image, [(0, length % 2) for length in image.shape], mode="edge")
        result = np.asarray(network(even[None, :, :, None].astype(np.float32), training=False))[0, :, :, 0]
        return result[: image.shape[0], : image.shape[1]]

    return denoise


if __name__ == "__main__":
    main()
