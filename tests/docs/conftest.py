"""The folder that the documents' code blocks run in: tiny images, tiny weights, and a bundle that trains in a second.

The blocks run unchanged. Only their data are small: images of 192 pixels a side, and a copy of the bundle and the
presets with tiny networks and tiles, whose trainings end after one epoch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pssr2_monai import bundle
from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.images.writer import write_image

SCALE = 4
COUNT, SIDE = 5, 192
"""Number of HR images, and their side in pixels."""

FAST_SIDE = 256
"""Side of a scan without a partner, pixels."""

PIXEL_SIZE = {"Y": 0.01, "X": 0.01}

TINY: dict[str, dict[str, Any]] = {
    "bundle/configs/train.json": {
        "tile": 32,
        "batch_size": 8,
        "num_workers": 0,
        "precision": "float32",
        "val_tiles": 8,
        "network_def#channels": [8, 16],
        "network_def#depth": 1,
        "train#trainer#max_epochs": 1,
    },
    "configs/resunet_small.json": {"network_def#channels": [8, 16]},
    "configs/2.5d.json": {"tile": 32},
}
"""Values that are smaller than in the real bundle and presets, by file and id."""


@pytest.fixture
def world(tmp_path: Path, project_root: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a page's blocks, with the files that the documents mention."""
    folder = tmp_path
    _small_bundle(folder, project_root)
    with np.load(project_root / "tests" / "networks" / "pssr2_cases" / "rdresunet.npz") as numbers:
        tensors = {key: torch.from_numpy(numbers[key]) for key in numbers.files if key.startswith("tensor:")}
    torch.save({key.removeprefix("tensor:"): tensor for key, tensor in tensors.items()}, folder / "original.pth")
    (folder / "run").mkdir()
    shutil.copy(tiny_weights, folder / "run" / "model.pt")
    crappify = Crappify(SCALE, [PoissonNoise(1.0)]).set_random_state(0)
    coarse = {axis: size * SCALE for axis, size in PIXEL_SIZE.items()}
    planes = [_plane(number) for number in range(COUNT)]
    for number, plane in enumerate(planes):
        lr = crappify(plane.astype(np.float32)[None] / 255)[0]
        grey = (lr * 255).round().astype(np.uint8)
        for name in ("images", "test", "pairs/HR"):
            write_image(_create(folder / name) / f"cell_{number}.tif", plane, axes="YX", pixel_size=PIXEL_SIZE)
        for name in ("scans", "pairs/LR"):
            write_image(_create(folder / name) / f"cell_{number}.tif", grey, axes="YX", pixel_size=coarse)
    _write_scans_at_full_size(folder, planes)
    clean = _plane(COUNT, side=FAST_SIDE).astype(np.float32)[None] / 255
    fast = (PoissonNoise(1.0).set_random_state(0)(clean)[0] * 255).round().clip(0, 255).astype(np.uint8)
    for path in (_create(folder / "fast") / "overview.tif", folder / "scan.tif"):
        write_image(path, fast, axes="YX", pixel_size=coarse)
    for name, real in {"IMAGES": "images", "SCANS": "scans"}.items():
        (folder / "bundle" / name).symlink_to(folder / real)
    _create(folder / "stacks")
    write_image(folder / "stacks" / "stack.ome.tif", np.stack(planes * 2), axes="ZYX", pixel_size={})
    write_image(folder / "volume.ome.zarr", np.stack(planes)[:, ::4, ::4].copy(), axes="ZYX", pixel_size={})
    # The package looks for its bundle and presets here.
    monkeypatch.setattr(bundle, "_PACKAGE", folder / "pssr2_monai")
    monkeypatch.chdir(folder)
    return folder


def _write_scans_at_full_size(folder: Path, planes: Sequence[np.ndarray]) -> None:
    """Write two noisy scans of each plane as two folders and as one, and the first ones alone."""
    poisson = PoissonNoise(photons=20).set_random_state(0)
    for number, plane in enumerate(planes):
        for place, letter in (("first", "a"), ("second", "b")):
            scan = (poisson(plane.astype(np.float32)[None] / 255)[0] * 255).round().clip(0, 255).astype(np.uint8)
            paths = [f"{place}/f{number}.tif", f"repeats/f{number}_{letter}.tif"]
            for path in paths if letter == "b" else [*paths, f"noisy/f{number}.tif"]:
                _create((folder / path).parent)
                write_image(folder / path, scan, axes="YX", pixel_size=PIXEL_SIZE)


def _plane(number: int, side: int = SIDE) -> np.ndarray:
    """Return an 8-bit image with structure at several sizes."""
    noise = np.random.default_rng(number).normal(size=(side, side))
    image = sum(gaussian_filter(noise, sigma) * sigma for sigma in (1, 2, 4, 8))
    levels: np.ndarray = (128 + 60 * image / np.abs(image).max()).round().astype(np.uint8)
    return levels


def _small_bundle(folder: Path, root: Path) -> None:
    """Write copies of ``bundle`` and ``configs`` with tiny values."""
    shutil.copytree(root / "bundle" / "configs", folder / "bundle" / "configs")
    shutil.copytree(root / "configs", folder / "configs")
    for weights in (root / "bundle" / "models").glob("*.pt"):
        (_create(folder / "bundle" / "models") / weights.name).symlink_to(weights)
    for name, changes in TINY.items():
        config = json.loads((folder / name).read_text(encoding="utf-8"))
        for key, value in changes.items():
            *sections, last = key.split("#")
            section = config
            for key_of_section in sections:
                section = section[key_of_section]
            if last not in section:
                raise KeyError(f"{name}: there is no {key}")
            section[last] = value
        (folder / name).write_text(json.dumps(config), encoding="utf-8")


def _create(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
