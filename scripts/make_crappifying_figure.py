"""Make the figure of docs/crappifying.md: the same noise added before and after downsampling, and what is left of it.

python scripts/make_crappifying_figure.py ../shared/data/em_hr/hela_sbfsem/hela_z0030.png docs/crappifying.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.crappify.noise import GREY_LEVELS
from pssr2_monai.images.image import open_image
from pssr2_monai.images.pictures import BLUE, ORANGE, grey_window, labelled_panel, new_figure, to_image

SCALE = 4
SIDE = 64
"""Side of the region shown, in LR pixels."""

ENLARGED = 5
"""Factor by which LR pixels are enlarged."""

BIN = 0.5
"""Width of the histograms' bins, grey levels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path, help="an 8-bit HR image")
    parser.add_argument("figure", type=Path, help="the PNG to write")
    parser.add_argument(
        "--place", type=int, nargs=2, default=(108, 150), help="row and column of the corner, LR pixels"
    )
    options = parser.parse_args()
    with open_image(options.image) as image:
        plane = image.read()
    height, width = (side // SCALE * SCALE for side in plane.shape)
    hr = plane[:height, :width].astype(np.float32)[None] / GREY_LEVELS
    downsample, noise = Downsample(SCALE), PoissonNoise(1.0).set_random_state(0)
    clean = downsample(hr)
    variants = {"noise first": downsample(noise(hr)), "noise last": noise(clean)}
    left = {name: (lr - clean).ravel() * GREY_LEVELS for name, lr in variants.items()}
    pictures = _pictures(hr, {"downsampled": clean, **variants}, options.place)
    chart = _chart(left, (pictures.width, 240))
    figure = Image.new("RGB", (pictures.width, pictures.height + chart.height), "white")
    figure.paste(pictures.convert("RGB"), (0, 0))
    figure.paste(chart, (0, pictures.height))
    figure.quantize(256).save(options.figure, optimize=True)
    print(", ".join(f"{name}: {values.std():.2f} grey levels" for name, values in left.items()))


def _pictures(hr: np.ndarray, variants: dict[str, np.ndarray], place: tuple[int, int]) -> Image.Image:
    """Return HR and its variants side by side, with the contrast of HR."""
    row, column = place
    fine = hr[0, row * SCALE : (row + SIDE) * SCALE, column * SCALE : (column + SIDE) * SCALE]
    size = (SIDE * ENLARGED, SIDE * ENLARGED)
    shown = {"HR": np.asarray(Image.fromarray(fine).resize(size, Image.Resampling.BICUBIC))}
    for name, lr in variants.items():
        crop = lr[0, row : row + SIDE, column : column + SIDE]
        shown[name] = crop.repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    return labelled_panel(shown, *grey_window(fine))


def _chart(left: dict[str, np.ndarray], size: tuple[int, int]) -> Image.Image:
    """Return the histograms of the differences from the clean LR image."""
    figure, (axes,) = new_figure(*size)
    edges = np.arange(-40 - BIN / 2, 40 + BIN, BIN)
    for (name, values), colour in zip(left.items(), (ORANGE, BLUE), strict=True):
        share = np.histogram(values, edges)[0] / values.size * 100
        axes.plot(edges[:-1] + BIN / 2, share, color=colour, label=f"{name}: sigma {values.std():.1f}")
    axes.set(title="What is left of the noise", xlabel="LR - downsampled HR, grey levels", ylabel="share of pixels, %")
    axes.legend()
    return to_image(figure)


if __name__ == "__main__":
    main()
