"""The demonstration: simulated fast scans of clean sections, restored by weights that are trained on for minutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pssr2_monai.data.samples import SCALE, cache_dir, sample_images
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.evaluation.evaluate import evaluate, table
from pssr2_monai.images.files import list_images
from pssr2_monai.images.image import open_image
from pssr2_monai.images.pictures import draw_scale_bar, grey_window, labelled_panel, repeat_pixels
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.preview import crappify_images
from pssr2_monai.training.train import train

START = "em_2x"  # bundled weights
FAST_SCAN = {
    "scale": SCALE,
    "crappifier#noises": [{"_target_": "pssr2_monai.PoissonNoise", "photons": 20}],
    "intensity#mode": "percentile",  # white is that of the image
}
SHOWN, SHOWN_PX = 2, 384  # number of the section in the picture, and side of what is shown of it, HR pixels


@dataclass(frozen=True)
class Demonstration:
    """What a demonstration has written, and its scores."""

    scores: Mapping[str, Any]  # the content of ``metrics.json``
    weights: Path
    scans: Path  # folder of the fast scans
    restored: Path  # folder of the restored ones
    picture: Path
    report: Path
    tensorboard: Path

    def __str__(self) -> str:
        lines = {
            "picture to look at": self.picture,
            "report, for a browser": self.report,
            "fast scans, restored": f"{self.scans}, {self.restored}",
            "weights": self.weights,
            "the training's curves": f"tensorboard --logdir {self.tensorboard}",
        }
        return "\n".join([table(self.scores), "", *(f"{name:22} {value}" for name, value in lines.items())])


def demonstrate(out: str | Path = "demo", minutes: float = 3.0, seed: int = 0) -> Demonstration:
    """Restore fast scans of electron microscopy sections, and compare with what learns nothing.

    The scans are simulated at 2x: a quarter of the points, 20 electrons at white. The bundled weights em_2x are trained
    on with six other places of the sections, and restore the six scans. An interrupted training is resumed. Without
    a connection to PyPI, from where the sections are downloaded once (45 MB), generated images take their place.

    Args:
        out: folder for all results; must not hold a finished demonstration.
        minutes: how long to train.
        seed: of the training and of the noise.

    Raises:
        InputError: the folder holds a finished demonstration.
    """
    folder = Path(out)
    if (folder / "evaluation" / "metrics.json").exists():
        raise InputError(f"{folder}: holds a demonstration already; remove the folder, or choose another --out")
    run, scans, restored = folder / "run", folder / "scans", folder / "restored"
    resume, trained = (run / "last.pt").exists(), scans.exists()
    train_dir, test_dir = sample_images(cache_dir() / "sample")
    crappifier: dict[str, Any] = {**FAST_SCAN, "seed": seed}
    weights = run / "model.pt"
    if not trained:  # what is made of the training is not there yet
        settings = {"start": START, "batch_size": 8, "val_fraction": 0, **crappifier}
        train(train_dir, run, minutes=minutes, resume=resume, **({} if resume else settings))
    crappify_images(test_dir, scans, overwrite=True, **crappifier)
    restore(scans, restored, weights, overwrite=True)
    scores = evaluate(test_dir, weights, folder / "evaluation", lr=scans)
    picture = folder / "demo.png"
    name = list_images(scans)[SHOWN].name
    comparison(scans / name, restored / name, test_dir / name).save(picture, optimize=True)
    return Demonstration(
        scores, weights, scans, restored, picture, folder / "evaluation" / "report.html", run / "tensorboard"
    )


def comparison(scan: Path, restored: Path, truth: Path, side: int = SHOWN_PX) -> Image.Image:
    """Show the middle of a scan, its bicubic interpolation, the restored and the true image, planes of 8 bits."""
    lr, sr, hr = (_plane(path) for path in (scan, restored, truth))
    bicubic = upscale(lr[None], SCALE, "bicubic")[0]
    images = {"fast scan": repeat_pixels(lr, sr.shape), "bicubic": bicubic, "restored": sr, "slow scan": hr}
    height, width = (min(side, size) for size in sr.shape)
    top, left = (sr.shape[0] - height) // 2, (sr.shape[1] - width) // 2
    shown = {name: image[top : top + height, left : left + width] for name, image in images.items()}
    picture = labelled_panel(shown, *grey_window(shown["slow scan"]))
    with open_image(truth) as image:
        if "X" in image.pixel_size:
            first = (0, 0, width, picture.height)
            part = picture.crop(first)
            draw_scale_bar(part, 1000 * image.pixel_size["X"])
            picture.paste(part, first)
    return picture


def _plane(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return image.read().astype(np.float32)
