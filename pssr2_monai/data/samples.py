"""Sample images: clean electron microscopy sections, or generated images where these cannot be downloaded.

The sections are noisy themselves. So that there is a truth to compare with, their noise is taken away by non-local
means (Buades et al. 2005), a filter that knows no other image: a network gains nothing from it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
import tifffile
from monai.apps.utils import check_hash, download_url
from scipy import ndimage
from skimage.restoration import denoise_nl_means

from pssr2_monai.images.writer import write_image
from pssr2_monai.machine import cores

logger = logging.getLogger(__name__)
# MONAI's functions would log to stdout, which belongs to the answer of a command; their errors are logged here.
logging.getLogger("monai.apps").setLevel(logging.CRITICAL)

PACKAGE = "napari-pssr==0.1"  # PyPI package (MIT licence) whose wheel holds the sections
SHA256 = "4db26e0dbb01776711446922bc80ef11a445a9d6736234b07be392b49c2550e2"
SECTIONS = "napari_pssr/sample_data/LR/8nm_em_sample/"
PIXEL_SIZE = 0.008  # micrometres along Y and X
NOISE, STRENGTH = 13.0, 9.0  # grey levels: that of the sections, and that of the filter which removes it
TRAINING_PX, TEST_PX = 1152, 640  # sides of the windows of each section
COUNT = 6  # sections, and generated images of each kind
SCALE = 2  # of the demonstration


def cache_dir() -> Path:
    """Return the user's cache folder for this package."""
    # With neither author nor "Cache" in its path, it is on every system where version 0.1.0 kept its files.
    return platformdirs.user_cache_path("pssr2_monai", appauthor=False, opinion=False)


def sample_images(folder: Path) -> tuple[Path, Path]:
    """Return the folders of HR images to train on and to test with, which are kept in ``folder``.

    They hold windows of the real sections, or generated images where those cannot be downloaded. Windows to test with
    are places that no section shows in training.
    """
    for kind in ("sections", "made"):
        train_dir, test_dir = folder / kind / "train", folder / kind / "test"
        if train_dir.is_dir() and test_dir.is_dir():
            return train_dir, test_dir
        try:
            training, test = _real_sections(cache_dir()) if kind == "sections" else _generated()
        except OSError as error:
            logger.warning("the real sections are not available (%s); generated images are used instead", error)
            continue
        # The test folder last, renamed into place: both exist only when all images are written.
        pixel_size = dict.fromkeys("YX", PIXEL_SIZE) if kind == "sections" else {}
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder / kind) as temporary:
            for name, planes in (("train", training), ("test", test)):
                (Path(temporary) / name).mkdir()
                for number, plane in enumerate(planes):
                    path = Path(temporary) / name / f"section_{number:02d}.tif"
                    write_image(path, plane, axes="YX", pixel_size=pixel_size)
                os.replace(Path(temporary) / name, folder / kind / name)
        return train_dir, test_dir
    raise AssertionError("generated images are always available")


def _real_sections(cache: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    known = [path for path in cache.glob("napari_pssr-0.1-*.whl") if check_hash(path, SHA256, "sha256")]
    wheel = known[0] if known else _download(cache)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(SECTIONS) and name.endswith(".tif"))
        sections = [tifffile.imread(io.BytesIO(archive.read(name))) for name in names]
    logger.info("removing the noise of the sections, once")
    with ThreadPoolExecutor(cores()) as threads:
        clean = list(threads.map(without_noise, [*training_windows(sections), *windows_to_test(sections)]))
    return clean[: len(sections)], clean[len(sections) :]


def training_windows(sections: Sequence[np.ndarray], side: int = TRAINING_PX) -> list[np.ndarray]:
    """Cut the middle of the upper edge out of each section."""
    left = [max(0, (section.shape[1] - side) // 2) for section in sections]
    return [section[:side, first : first + side] for section, first in zip(sections, left, strict=True)]


def windows_to_test(sections: Sequence[np.ndarray], side: int = TEST_PX) -> list[np.ndarray]:
    """Cut a window near the lower edge out of each section, of six in turn another place of three times two."""
    windows = []
    for number, section in enumerate(sections):
        below, right = divmod(number % 6, 3)
        bottom = section.shape[0] - side * below
        left = (section.shape[1] - 3 * side) // 2 + side * right
        windows.append(section[bottom - side : bottom, left : left + side])
    return windows


def without_noise(plane: np.ndarray) -> np.ndarray:
    """Remove the noise of a section ``(Y, X)`` in grey levels by non-local means."""
    settings = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
    clean = denoise_nl_means(plane.astype(np.float32), h=STRENGTH, sigma=NOISE, **settings)
    return np.asarray(clean.round().clip(0, 255), np.uint8)


def _generated() -> tuple[list[np.ndarray], list[np.ndarray]]:
    images = generate_images()
    return images[:COUNT], images[COUNT:]


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
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"  # not stdout, where pip colours it if a notebook asks for colours
        command += ["--report", str(report), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise OSError(f"pip does not find {PACKAGE}: {lines[0] if lines else 'no answer'}")
        url: str = json.loads(report.read_text(encoding="utf-8"))["install"][0]["download_info"]["url"]
    return url


def generate_images(count: int = 2 * COUNT, side: int = TEST_PX) -> list[np.ndarray]:
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
