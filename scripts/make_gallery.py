"""Make a gallery: what the bundled weights do to each kind of image, one row a specimen.

    python scripts/make_gallery.py ../shared/data gallery      real images that no bundled weights were trained on
    python scripts/make_gallery.py --generated docs            the picture of docs/gallery.md

A row shows the scan, what learns nothing (bicubic interpolation, or a Gaussian filter of the best width), the restored
and the slow scan, with PSNR and SSIM after the gain and offset that fit best. Where there is no fast scan, one is made
of the slow one with shot noise.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.data.samples import generate_images
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.evaluation.measures import psnr
from pssr2_monai.evaluation.structural_similarity import ssim
from pssr2_monai.images.image import open_image
from pssr2_monai.images.pictures import GAP_PX, grey_window, labelled_panel
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.restore import restore


@dataclass(frozen=True)
class Row:
    """A specimen: the files below DATA of its slow scan and, where there is one, of its fast scan."""

    specimen: str
    weights: str
    slow: str = ""
    fast: str = ""
    photons: float = 20  # at white, in a scan that is made of the slow one


PAIRS = "em_pairs/sem_real2x/train"
REAL = (
    Row("porous, SEM", "em_2x", f"{PAIRS}/HR/f29_*", f"{PAIRS}/LR/f29_*"),
    Row("fly nerve cord, TEM", "em_2x", "em_hr/isbi2012_train/25.png", photons=200),
    Row("fly nerve cord, TEM", "em_denoise", "em_hr/isbi2012_train/27.png"),
    Row("actin, confocal", "fluo_denoise", "fluo_pairs/hagen/actin-60x*high*", "fluo_pairs/hagen/actin-60x*low*"),
    Row("mitochondria, confocal", "fluo_denoise", "fluo_pairs/hagen/mito-20x*high*", "fluo_pairs/hagen/mito-20x*low*"),
    Row("cells, wide-field", "fluo_denoise", "fluo_pairs/w2s_train/060_1_avg400*", "fluo_pairs/w2s_train/060_1_avg1.*"),
    Row("cells, wide-field", "fluo_2x", "fluo_pairs/w2s_train/080_1_avg400*", photons=100),
)
GENERATED = (
    Row("a quarter of the lines", "em", photons=200),
    Row("half of the lines", "em_2x", photons=50),
    Row("noise alone", "em_denoise"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder of real images; none with --generated")
    parser.add_argument("out", type=Path, help="folder for gallery.png and table.md")
    parser.add_argument("--generated", action="store_true", help="of generated images")
    parser.add_argument("--side", type=int, default=192, help="of what is shown and scored, pixels of the slow scan")
    options = parser.parse_args()
    if options.generated == (options.data is not None):
        parser.error("give a folder of real images, or --generated")
    options.out.mkdir(parents=True, exist_ok=True)
    pictures, lines = [], ["| specimen | weights | input | baseline | restored |", "|---|---|---|---|---|"]
    for row, fast, slow in images_of(options.data, options.side):
        shown = restored_row(row, fast, slow)
        scores = [score(image, slow) if image.shape == slow.shape else "" for image in list(shown.values())[:3]]
        lines.append(f"| {row.specimen} | `{row.weights}` | {' | '.join(scores)} |")
        print(lines[-1], flush=True)
        pictures.append(
            labelled_panel({name: fitted(image, slow) for name, image in shown.items()}, *grey_window(slow))
        )
    joined(pictures).save(options.out / "gallery.png", optimize=True)
    if options.data is not None:
        (options.out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def images_of(data: Path | None, side: int) -> Iterator[tuple[Row, np.ndarray, np.ndarray]]:
    """Yield each row with its scan and its slow scan ``(Y, X)``, grey levels of 0 to 255."""
    for number, row in enumerate(GENERATED if data is None else REAL):
        _, record = load_weights(row.weights)
        assert isinstance(record.scale, int)
        slow = (
            generate_images(number + 1)[number][:side, :side].astype(np.float32)
            if data is None
            else read(data, row.slow, side)
        )
        slow = slow[: len(slow) // record.scale * record.scale, : slow.shape[1] // record.scale * record.scale]
        if row.fast:
            assert data is not None
            fast = read(data, row.fast, side // record.scale)
        else:
            small = Downsample(record.scale)(slow[None] / GREY_LEVELS)
            fast = PoissonNoise(photons=row.photons).set_random_state(number)(small)[0] * GREY_LEVELS
        yield row, np.asarray(fast).round().clip(0, GREY_LEVELS), slow


def read(data: Path, pattern: str, side: int) -> np.ndarray:
    """Read the middle of the first file that a pattern finds."""
    (path, *_) = sorted(data.glob(pattern))
    with open_image(path) as image:
        plane = image.read().reshape(image.shape[-2:]).astype(np.float32)
    top, left = ((length - min(side, length)) // 2 for length in plane.shape)
    return plane[top : top + side, left : left + side]


def restored_row(row: Row, fast: np.ndarray, slow: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scan, what learns nothing, what the weights restore, and the slow scan, by their names."""
    with tempfile.TemporaryDirectory() as folder:
        scan, target = Path(folder) / "scan.tif", Path(folder) / "restored.tif"
        write_image(scan, fast.astype(np.uint8), axes="YX", pixel_size={})
        restore(scan, target, row.weights)
        with open_image(target) as image:
            restored = image.read().astype(np.float32)
    if fast.shape == slow.shape:
        sigmas = np.arange(0.6, 3.1, 0.2)
        best = max(
            (gaussian_filter(fast, sigma) for sigma in sigmas),
            key=lambda image: psnr(fitted(image, slow), slow, GREY_LEVELS),
        )
        return {row.specimen: fast, "best Gaussian filter": best, row.weights: restored, "slow scan": slow}
    bicubic = upscale(fast[None], len(slow) // len(fast), "bicubic")[0]
    return {row.specimen: fast, "bicubic": bicubic, row.weights: restored, "slow scan": slow}


def fitted(image: np.ndarray, slow: np.ndarray) -> np.ndarray:
    """Fit gain and offset of an image to the slow scan, which may be larger."""
    times = len(slow) // len(image)
    target = slow.reshape(len(image), times, -1, times).mean(axis=(1, 3))
    gain, offset = np.polyfit(image.ravel(), target.ravel(), 1)
    return np.asarray(image * gain + offset, np.float32)


def score(image: np.ndarray, slow: np.ndarray) -> str:
    image = fitted(image, slow)
    return f"{psnr(image, slow, GREY_LEVELS):.1f} dB, {ssim(image, slow, GREY_LEVELS):.3f}"


def joined(pictures: list[Image.Image]) -> Image.Image:
    """Put pictures below one another."""
    height = sum(picture.height + GAP_PX for picture in pictures) - GAP_PX
    page, top = Image.new("L", (max(picture.width for picture in pictures), height), color=255), 0
    for picture in pictures:
        page.paste(picture, (0, top))
        top += picture.height + GAP_PX
    return page


if __name__ == "__main__":
    main()
