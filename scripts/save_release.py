"""Save small files as this release writes them, for ``tests/test_releases.py`` to read with every later release.

    python scripts/save_release.py tests/releases/0.2.0.zip

Run this before a release, and commit the file. It trains a tiny network of each kind for one epoch on images made by a
formula, calibrates on them, copies the presets, and saves what each network makes of a small input: some 70 KB, in a
minute. It uses the public names of the package alone, so that it runs with every release.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

import pssr2_monai

NETWORKS: dict[str, dict[str, object]] = {
    "resunet": {"network_def#channels": [2, 4], "network_def#depth": 1},
    "resunet_a": {"preset": "resunet_a", "network_def#channels": [2, 4], "network_def#depth": 1, "scale": 2}
    | {"network_def#dilations": [[1, 2], [1]], "network_def#pool_sizes": [1, 2]},
    "rdresunet": {"preset": "rdresunet", "network_def#channels": [4, 4], "network_def#depth": 1, "scale": 2}
    | {"network_def#stem_channels": 8, "network_def#growth_rates": [4, 4], "network_def#downsample": [False, True]}
    | {"network_def#squeeze_excite": [False, True], "network_def#n_blocks": 1},
    "rcan": {"preset": "rcan_small", "network_def#groups": 1, "network_def#blocks": 1}
    | {"network_def#features": 4, "network_def#reduction": 2, "scale": 2},
    "swinir": {"preset": "swinir_small", "network_def#embed_dim": 4, "network_def#depths": [1]}
    | {"network_def#heads": [1], "network_def#window": 4, "scale": 2},
    "denoise": {"preset": "denoise,fluorescence", "network_def#channels": [2, 4], "network_def#depth": 1},
}
"""Options of the training of each network."""

SIZE = 128
COUNT = 4


def image(number: int) -> np.ndarray:
    """Return an 8-bit image with structure of several sizes."""
    y, x = np.mgrid[:SIZE, :SIZE] + 17.0 * number
    waves = np.sin(x / 3) * np.cos(y / 5) + np.sin((x + y) / 11) + np.cos(x * y / 900)
    return np.clip(128 + 40 * waves, 0, 255).astype(np.uint8)


def network_input(frames: int) -> torch.Tensor:
    """Return the input of the networks, float32 ``(1, frames, 12, 12)`` in [0, 1]."""
    return torch.from_numpy(image(9)[:12, :12].astype(np.float32) / 255).expand(1, frames, 12, 12)


def save(folder: Path, presets: Path) -> None:
    """Write the files of a release into a folder; ``presets`` is the folder of its presets."""
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_pairs(work)
        outputs = {}
        for name, options in NETWORKS.items():
            small = {"epochs": 1, "tile": 32, "batch_size": 4, "num_workers": 0, "precision": "float32"}
            weights = pssr2_monai.train(work / "hr", work / name, **small, **options)
            shutil.copy(weights, folder / f"{name}.pt")
            network, record = pssr2_monai.load_weights(weights)
            with torch.inference_mode():
                outputs[name] = network(network_input(record.n_frames[0])).numpy().astype(np.float16)
        np.savez(folder / "outputs.npz", **outputs)
        pssr2_monai.calibrate(work / "lr", work / "scope.json", hr=work / "hr", model="poisson+gaussian+line", calls=12)
        shutil.copy(work / "scope.json", folder / "calibrated.json")
    for preset in presets.glob("*.json"):
        shutil.copy(preset, folder)


def write_pairs(folder: Path) -> None:
    """Write HR images and noisy LR images of half the size into the folders ``hr`` and ``lr``."""
    generator = np.random.default_rng(0)
    for name in ("hr", "lr"):
        (folder / name).mkdir()
    for number in range(COUNT):
        hr = image(number)
        lr = hr.reshape(SIZE // 2, 2, SIZE // 2, 2).mean((1, 3)) + generator.normal(0, 8, (SIZE // 2, SIZE // 2))
        Image.fromarray(hr).save(folder / "hr" / f"{number}.png")
        Image.fromarray(lr.clip(0, 255).astype(np.uint8)).save(folder / "lr" / f"{number}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the zip to write, named by the version")
    file = parser.parse_args().file
    with TemporaryDirectory() as folder:
        save(Path(folder), Path(pssr2_monai.__file__).parents[1] / "configs")
        shutil.make_archive(str(file.with_suffix("")), "zip", folder)
    print(f"{file}: {file.stat().st_size / 1000:.0f} KB, of {pssr2_monai.__version__}")


if __name__ == "__main__":
    main()
