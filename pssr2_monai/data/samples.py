"""Sample images: real electron microscopy sections, or generated images where these cannot be downloaded."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import platformdirs
import tifffile
from monai.apps.utils import check_hash, download_url
from scipy import ndimage

from pssr2_monai.images.writer import write_image

logger = logging.getLogger(__name__)
# MONAI's functions would log to stdout, which belongs to the answer of a command; their errors are logged here.
logging.getLogger("monai.apps").setLevel(logging.CRITICAL)

PACKAGE = "napari-pssr==0.1"  # PyPI package (MIT licence) whose wheel holds the sections
SHA256 = "4db26e0dbb01776711446922bc80ef11a445a9d6736234b07be392b49c2550e2"
SECTIONS = "napari_pssr/sample_data/LR/8nm_em_sample/"
BINNING = 2
PIXEL_SIZE = 0.008 * BINNING  # micrometres along Y and X of the binned sections
SCALE = 4


def cache_dir() -> Path:
    """Return the user's cache folder for this package."""
    # With neither author nor "Cache" in its path, it is on every system where version 0.1.0 kept its files.
    return platformdirs.user_cache_path("pssr2_monai", appauthor=False, opinion=False)


def sample_images(folder: Path) -> tuple[Path, Path]:
    """Return the folders of HR images to train on and to test with, which are kept in ``folder``.

    They hold the real sections, or generated images where those cannot be downloaded.
    """
    for kind in ("em", "made"):
        train_dir, test_dir = folder / kind / "train", folder / kind / "test"
        if train_dir.is_dir() and test_dir.is_dir():
            return train_dir, test_dir
        try:
            planes = _real_sections(cache_dir()) if kind == "em" else generate_images()
        except OSError as error:
            logger.warning("the real sections are not available (%s); generated images are used instead", error)
            continue
        # The test folder last, renamed into place: both exist only when all images are written.
        pixel_size = dict.fromkeys("YX", PIXEL_SIZE) if kind == "em" else {}
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder / kind) as temporary:
            for name, chosen in (("train", planes[:-1]), ("test", planes[-1:])):
                (Path(temporary) / name).mkdir()
                for number, plane in enumerate(chosen):
                    path = Path(temporary) / name / f"section_{number:02d}.tif"
                    write_image(path, plane, axes="YX", pixel_size=pixel_size)
                os.replace(Path(temporary) / name, folder / kind / name)
        return train_dir, test_dir
    raise AssertionError("generated images are always available")


def _real_sections(cache: Path) -> list[np.ndarray]:
    known = [path for path in cache.glob("napari_pssr-0.1-*.whl") if check_hash(path, SHA256, "sha256")]
    wheel = known[0] if known else _download(cache)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(SECTIONS) and name.endswith(".tif"))
        return [_binned(tifffile.imread(io.BytesIO(archive.read(name)))) for name in names]


def _download(cache: Path) -> Path:
    url = _wheel_url()
    wheel = cache / url.rsplit("/", 1)[-1]
    wheel.unlink(missing_ok=True)  # of another hash: MONAI's function would not replace it
    logger.info("downloading the sample sections (45 MB, PyPI package %s)", PACKAGE)
    try:
        download_url(url, wheel, hash_val=SHA256, hash_type="sha256", progress=sys.stderr.isatty())
    except (ValueError, RuntimeError) as error:
        raise OSError(f"{url}: {error}") from error
    return wheel


def _wheel_url() -> str:
    """Return the wheel's address from pip: machines behind a mirror reach the index only as pip is configured."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps"]
    done = subprocess.run([*command, "--quiet", "--report", "-", PACKAGE], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
        raise OSError(f"pip does not find {PACKAGE}: {lines[0] if lines else 'no answer'}")
    url: str = json.loads(done.stdout)["install"][0]["download_info"]["url"]
    return url


def _binned(plane: np.ndarray) -> np.ndarray:
    """The means of 2 x 2 pixels, cropped to a multiple of the scale."""
    step = BINNING * SCALE
    height, width = (side // step * step for side in plane.shape)
    blocks = plane[:height, :width].reshape(height // BINNING, BINNING, width // BINNING, BINNING)
    binned: np.ndarray = blocks.mean(axis=(1, 3)).round().astype(np.uint8)
    return binned


def generate_images(count: int = 6, side: int = 768) -> list[np.ndarray]:
    """Generate 8-bit images ``(side, side)`` with cells, membranes and granules, for machines without a network."""
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
