"""Make the picture of README: a real section that the weights did not see, a scan made from it, and its restoration.

    python scripts/make_readme_picture.py run/model.pt

The section is the last plane of FIB-25 (FlyEM; Takemura et al. 2015, PNAS 112:13711; CC BY): train without it, on
planes 0 to 95, or by ``train_bundled_weights.py em --held-out fib25``. The scan is made by the record's crappifier and
restored like any file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.evaluation.measures import psnr
from pssr2_monai.evaluation.structural_similarity import ssim
from pssr2_monai.images.image import open_image
from pssr2_monai.images.pictures import grey_window, labelled_panel
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.restore import restore

ROOT = Path(__file__).resolve().parents[1]
SECTION = ROOT.parent / "shared/data/em_hr/fib25/medulla_train_z128.tif"
WIDEST = 1312
"""Largest width of the picture, pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="a model.pt of a scale above 1, for planes")
    parser.add_argument(
        "--section", type=Path, default=SECTION, help="an 8-bit image, or a stack, whose last plane is used"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the crappifier")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "readme.png", help="the PNG to write")
    options = parser.parse_args()
    _, record = load_weights(options.weights)
    scale = record.scale
    if not isinstance(scale, int) or scale < 2 or record.n_frames != (1, 1) or not record.crappifier:
        parser.error(
            f"{options.weights}: does not enlarge planes, or was trained without a crappifier; give other weights"
        )
    with open_image(options.section) as image:
        planes = image.read()
    plane = planes.reshape(-1, *planes.shape[-2:])[-1].astype(np.float32)
    hr = plane[: plane.shape[0] // scale * scale, : plane.shape[1] // scale * scale] / GREY_LEVELS
    lr = record.build_crappifier().set_random_state(options.seed)(hr[None])[0]
    lr = (lr * GREY_LEVELS).round() / GREY_LEVELS
    images = {
        "fast scan": lr,
        "bicubic": upscale(lr[None], scale, "bicubic")[0],
        "restored": _restored(lr, options.weights),
        "slow scan": hr,
    }
    enlarged = max(1, WIDEST // (len(images) * hr.shape[1]))
    shown = {name: _enlarged(image, enlarged * hr.shape[0] // image.shape[0]) for name, image in images.items()}
    labelled_panel(shown, *grey_window(hr)).save(options.out, optimize=True)
    for name in ("bicubic", "restored"):
        image = (images[name] * GREY_LEVELS).round().clip(0, GREY_LEVELS) / GREY_LEVELS
        print(f"{name:10}PSNR {psnr(image, hr, 1.0):.2f} dB, SSIM {ssim(image, hr, 1.0):.4f}")
    print(options.out)


def _restored(lr: np.ndarray, weights: Path) -> np.ndarray:
    """Return what ``pssr2 restore`` writes for an 8-bit file with the pixels ``lr``."""
    with tempfile.TemporaryDirectory() as folder:
        scan, target = Path(folder) / "scan.tif", Path(folder) / "restored.tif"
        write_image(scan, (lr * GREY_LEVELS).round().astype(np.uint8), axes="YX", pixel_size={})
        restore(scan, target, weights)
        with open_image(target) as image:
            return image.read().astype(np.float32) / GREY_LEVELS


def _enlarged(image: np.ndarray, times: int) -> np.ndarray:
    """An LR pixel stays a square; others are enlarged without showing their pixels' edges."""
    if times > 2:
        return image.repeat(times, 0).repeat(times, 1)
    size = (image.shape[1] * times, image.shape[0] * times)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
