"""The demonstration: real electron microscopy sections, trained on and restored within minutes.

The six sections (8 nm, 4106 x 2126) come with the PyPI package ``napari-pssr`` 0.1 (MIT licence) and are fetched from
there. They are
noisy: binned 2 x 2 they serve as high-resolution images, five for training and one for the test.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.evaluating import evaluate, table
from pssr2_monai.io.image import list_images, open_image
from pssr2_monai.io.writer import write_image
from pssr2_monai.record import instantiate
from pssr2_monai.restoration.restoring import restore
from pssr2_monai.weights import load_weights
from pssr2_monai.workflow import train

__all__ = ["cache_dir", "demo", "made_images", "sample_images"]

PACKAGE = "napari-pssr==0.1"
SHA256 = "4db26e0dbb01776711446922bc80ef11a445a9d6736234b07be392b49c2550e2"
SECTIONS = "napari_pssr/sample_data/LR/8nm_em_sample/"
BINNING = 2
PIXEL_SIZE = 0.008 * BINNING
SCALE = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demonstration:
    """What came of it.

    Attributes:
        mean: the scores of each method.
        table: the same as text, with the verdict.
        weights: of the training.
        restored: the restored file.
        picture: LR | bicubic | restored | HR.
        tensorboard: folder of the event files.
    """

    mean: dict[str, dict[str, float]]
    table: str
    weights: Path
    restored: Path
    picture: Path
    tensorboard: Path

    def __str__(self) -> str:
        return "\n".join(
            [
                self.table,
                "",
                f"restored file              {self.restored}",
                f"LR | bicubic | restored | HR  {self.picture}",
                f"TensorBoard                tensorboard --logdir {self.tensorboard}",
            ]
        )


def demo(out: str | Path = "demo", minutes: float = 4.5, seed: int = 0) -> Demonstration:
    """Trains at 4x on the sample images, restores one that was not seen, and compares that with interpolation.

    Args:
        out: folder for everything that comes out of it; must not hold a demonstration yet.
        minutes: how long to train.
        seed: of the training.

    Returns:
        The scores and the paths; as text, what the command prints.
    """
    out = Path(out)
    if (out / "evaluation" / "metrics.json").exists():
        raise InputError(f"{out}: holds a demonstration already; remove the folder or give another --out")
    begun = (out / "run" / "last.pt").exists()
    train_dir, test_dir = sample_images(cache_dir() / "sample")
    options = {} if begun else {"preset": "resunet_small", "seed": seed, "scale": SCALE}
    weights = train(train_dir, out / "run", minutes=minutes, resume=begun, **options)  # type: ignore[arg-type]
    lr_dir = out / "lr"
    lr_dir.mkdir(parents=True, exist_ok=True)
    _, record = load_weights(weights)
    crappify = instantiate(record.crappifier).set_random_state(seed)
    for path in list_images(test_dir):
        with open_image(path) as image:
            lr = crappify(image.read().astype(np.float32)[None] / 255)[0]
        coarse = dict.fromkeys("YX", PIXEL_SIZE * SCALE)
        grey = (lr * 255).round().astype(np.uint8)
        write_image(lr_dir / path.name, grey, axes="YX", pixel_size=coarse, overwrite=True)
    restored = restore(lr_dir, out / "restored", weights, overwrite=True)
    result = evaluate(test_dir, weights, out / "evaluation", lr=lr_dir)
    picture = next((out / "evaluation" / "pictures").glob("*.png"))
    return Demonstration(result["mean"], table(result), weights, restored[0], picture, out / "run" / "tensorboard")


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
