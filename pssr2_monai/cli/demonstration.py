"""The demonstration: train on real electron microscopy sections, and restore one within minutes.

The six sections (8 nm, 4106 x 2126) are those of the PyPI package ``napari-pssr`` 0.1 (MIT licence), and are downloaded
from there. They are noisy: binned 2 x 2 they serve as high-resolution images, five for training and one for the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pssr2_monai.data.samples import PIXEL_SIZE, SCALE, cache_dir, sample_images
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.evaluate import evaluate, table
from pssr2_monai.images.image import list_images, open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.weights import load_weights
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.train import train


@dataclass(frozen=True)
class Demonstration:
    """The result of the demonstration."""

    mean: dict[str, dict[str, float]]  # scores by method
    table: str  # the scores and the verdict as text
    weights: Path
    restored: Path
    picture: Path  # LR | bicubic | restored | HR
    tensorboard: Path  # folder of the event files

    def __str__(self) -> str:
        return (
            f"{self.table}\n\n"
            f"restored file              {self.restored}\n"
            f"LR | bicubic | restored | HR  {self.picture}\n"
            f"TensorBoard                tensorboard --logdir {self.tensorboard}"
        )


def demo(out: str | Path = "demo", minutes: float = 4.5, seed: int = 0) -> Demonstration:
    """Train at 4x on real electron microscopy sections, and restore one that was held out.

    An interrupted training is resumed. The restored section is compared with bilinear and bicubic interpolation.

    Args:
        out: folder for all results; must not hold a finished demonstration.
        minutes: how long to train.
        seed: of the training and of the noise.

    Returns:
        The scores and the paths; as text, what the command prints.

    Raises:
        InputError: the folder holds a finished demonstration.
    """
    out = Path(out)
    if (out / "evaluation" / "metrics.json").exists():
        raise InputError(f"{out}: holds a demonstration already; remove the folder, or choose another --out")
    resume = (out / "run" / "last.pt").exists()
    train_dir, test_dir = sample_images(cache_dir() / "sample")
    options = {} if resume else {"preset": "resunet_small", "seed": seed, "scale": SCALE}
    weights = train(train_dir, out / "run", minutes=minutes, resume=resume, **options)  # type: ignore[arg-type]
    lr_dir = out / "lr"
    lr_dir.mkdir(parents=True, exist_ok=True)
    _, record = load_weights(weights)
    crappify = record.build_crappifier().set_random_state(seed)
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
