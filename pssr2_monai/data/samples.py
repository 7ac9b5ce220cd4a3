"""Sample images: real electron microscopy sections, or generated images where these cannot be downloaded."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from pssr2_monai.images.writer import write_image

logger = logging.getLogger(__name__)

PACKAGE = "napari-pssr==0.1"
SHA256 = "4db26e0dbb01776711446922bc80ef11a445a9d6736234b07be392b49c2550e2"
SECTIONS = "napari_pssr/sample_data/LR/8nm_em_sample/"
BINNING = 2
PIXEL_SIZE = 0.008 * BINNING
SCALE = 4


def cache_dir() -> Path:
    """The user's cache folder for this package."""
    home = {"win32": os.environ.get("LOCALAPPDATA"), "darwin": str(Path.home() / "Library" / "Caches")}
    base = os.environ.get("XDG_CACHE_HOME") or home.get(sys.platform) or str(Path.home() / ".cache")
    return Path(base) / "pssr2_monai"


def sample_images(folder: Path) -> tuple[Path, Path]:
    """Folders of HR images to train on and to test with: the real sections, or made images where these cannot be had.

    Args:
        folder: where they are kept; what is there already is used again.
    """
    for kind in ("em", "made"):
        train_dir, test_dir = folder / kind / "train", folder / kind / "test"
        if train_dir.is_dir() and test_dir.is_dir():
            return train_dir, test_dir
        try:
            planes = _real_sections(cache_dir()) if kind == "em" else made_images()
        except OSError as error:
            logger.warning("the real sections cannot be had (%s); images made here are used instead", error)
            continue
        # The test folder last, renamed into place: both exist only when all images are written.
        pixel_size = dict.fromkeys("YX", PIXEL_SIZE) if kind == "em" else {}
        with tempfile.TemporaryDirectory(dir=_made(folder / kind)) as beside:
            for name, chosen in (("train", planes[:-1]), ("test", planes[-1:])):
                for number, plane in enumerate(chosen):
                    path = _made(Path(beside) / name) / f"section_{number:02d}.tif"
                    write_image(path, plane, axes="YX", pixel_size=pixel_size)
                os.replace(Path(beside) / name, folder / kind / name)
        return train_dir, test_dir
    raise AssertionError("images made here can always be had")


def _real_sections(cache: Path) -> list[np.ndarray]:
    """The binned sections.

    Raises:
        OSError: the package cannot be fetched or is not the one that is known.
    """
    wheel = _fetch(cache)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(SECTIONS) and name.endswith(".tif"))
        return [_binned(tifffile.imread(io.BytesIO(archive.read(name)))) for name in names]


def _fetch(cache: Path) -> Path:
    """The wheel, from the cache or by pip, its hash checked."""
    known = [path for path in cache.glob("napari_pssr-0.1-*.whl") if _sha256(path) == SHA256]
    if known:
        return known[0]
    logger.info("fetching the sample sections (45 MB, PyPI package %s)", PACKAGE)
    with tempfile.TemporaryDirectory(dir=_made(cache)) as beside:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", beside, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(beside).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise OSError(f"pip could not fetch {PACKAGE}: {lines[0] if lines else 'no answer'}")
        if _sha256(wheels[0]) != SHA256:
            raise OSError(f"{wheels[0].name} has another SHA-256 than the known one")
        kept = cache / wheels[0].name
        os.replace(wheels[0], kept)
        return kept


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _binned(plane: np.ndarray) -> np.ndarray:
    """The mean of each 2 x 2 pixels, cropped so that the scale divides it."""
    step = BINNING * SCALE
    height, width = (side // step * step for side in plane.shape)
    blocks = plane[:height, :width].reshape(height // BINNING, BINNING, width // BINNING, BINNING)
    binned: np.ndarray = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return binned


def made_images(count: int = 6, side: int = 768) -> list[np.ndarray]:
    """Images with cells, membranes and granules, for a machine that reaches no network."""
    images = []
    for number in range(count):
        rng = np.random.default_rng(number)
        seeds = np.zeros((side, side), dtype=np.int32)
        seeds[tuple(rng.integers(0, side, size=(2, 120)))] = np.arange(1, 121)
        warp = ndimage.gaussian_filter(rng.normal(size=(2, side, side)), (0, 12, 12)) * 160
        nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        cells = seeds[tuple(nearest)]
        cells = ndimage.map_coordinates(cells, np.indices(cells.shape) + warp, order=0, mode="mirror")
        membranes = ndimage.gaussian_gradient_magnitude(cells.astype(float), 1) > 0.5
        brightness = rng.uniform(140, 200, size=121)[cells]
        granules = ndimage.gaussian_filter(rng.normal(size=(side, side)), 3) > 0.12
        image = np.where(granules, brightness - 60, brightness)
        image = np.where(ndimage.binary_dilation(membranes), 50, image)
        images.append(np.clip(ndimage.gaussian_filter(image, 0.8), 0, 255).round().astype(np.uint8))
    return images


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
