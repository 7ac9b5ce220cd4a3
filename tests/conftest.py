"""Fixtures that every test may use."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

# Two test processes on two cores must not spin against each other; read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import subprocess
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from pssr2_monai import machine

# One process runs all tests: it must give back what each of them freed.
machine.keep_memory = lambda: None
# A process started by vfork from this large one was seen to end it; a fork is slower and was not.
subprocess._USE_VFORK = False

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the project; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real images of ../shared/data are not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def wavy_pair() -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
    """A function that computes an image and its target, of a height and a width, from which stored scores are."""

    def draw(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        y, x = np.mgrid[:height, :width].astype(float)
        checks = np.sin(x / 17) * np.sin(y / 23)
        target = 0.5 + 0.25 * np.sin(x / 3 + np.sin(y / 9)) * np.cos(y / 5) + 0.2 * np.sign(checks)
        image = 0.45 + 0.2 * np.sin(x / 3 + 0.3 + np.sin(y / 9)) * np.cos(y / 5) + 0.15 * np.tanh(4 * checks)
        return (image + 0.04 * np.sin(1.7 * x * y)).astype(np.float32), target.astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds bundle/ and configs/."""
    return ROOT


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A function that imports a file of scripts/ by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def hr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five 8-bit images of 96 x 112 pixels with structure at several sizes."""
    folder = tmp_path_factory.mktemp("hr")
    for number in range(5):
        noise = np.random.default_rng(number).normal(size=(96, 112))
        image = sum(gaussian_filter(noise, sigma) * sigma for sigma in (1, 2, 4))
        levels = 128 + 60 * image / np.abs(image).max()
        Image.fromarray(levels.round().astype(np.uint8)).save(folder / f"cell_{number}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_options() -> dict[str, object]:
    """Config overrides that make a training of seconds."""
    return {
        "tile": 32,
        "batch_size": 8,
        "num_workers": 0,
        "precision": "float32",
        "network_def#channels": [8, 16],
        "network_def#depth": 1,
    }


@pytest.fixture(scope="session")
def tiny_weights(hr_folder: Path, tiny_options: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small 4x ResUNet after two epochs on `hr_folder`."""
    from pssr2_monai.training.train import train

    return train(hr_folder, tmp_path_factory.mktemp("run") / "run", epochs=2, **tiny_options)


@pytest.fixture(scope="session")
def write_ome_set() -> Callable[..., list[Path]]:
    """A function that writes a ZYX stack as an OME-TIFF set of one plane a file and returns the files."""

    def write(
        folder: Path, stack: np.ndarray, names: Sequence[str] = (), layouts: Sequence[Mapping[str, Any]] = ()
    ) -> list[Path]:
        folder.mkdir(exist_ok=True)
        names = names or [f"z{z}.ome.tif" for z in range(len(stack))]
        depth, height, width = stack.shape
        places = "".join(
            f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
            for z, name in enumerate(names)
        )
        for name, plane, layout in zip(names, stack, layouts or [{}] * depth, strict=True):
            xml = (
                '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
                f'UUID="urn:uuid:{name}"><Image ID="Image:0" Name="stack"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
                f'Type="{stack.dtype}" SizeX="{width}" SizeY="{height}" SizeZ="{depth}" SizeC="1" SizeT="1">'
                f'<Channel ID="Channel:0" SamplesPerPixel="1"/>{places}</Pixels></Image></OME>'
            )
            tifffile.imwrite(folder / name, plane, description=xml, metadata=None, **layout)
        return [folder / name for name in names]

    return write
