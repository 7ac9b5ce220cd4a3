"""The demonstration: train on real electron microscopy sections, and restore one within minutes.

The six sections (8 nm, 4106 x 2126) are those of the PyPI package ``napari-pssr`` 0.1 (MIT licence), and are downloaded
from there. They are noisy: binned 2 x 2 they serve as high-resolution images, five for training and one for the test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pssr2_monai.cli.arguments import Answer
from pssr2_monai.data.samples import SCALE, cache_dir, sample_images
from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.evaluate import evaluate, table
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.preview import crappify_images
from pssr2_monai.training.train import train


def demo(out: str | Path = "demo", minutes: float = 4.5, seed: int = 0) -> Answer:
    """Train at 4x on real electron microscopy sections, and restore one that was held out.

    An interrupted training is resumed. The restored section is compared with bilinear and bicubic interpolation.

    Args:
        out: folder for all results; must not hold a finished demonstration.
        minutes: how long to train.
        seed: of the training and of the noise.
    """
    out = Path(out)
    if (out / "evaluation" / "metrics.json").exists():
        raise InputError(f"{out}: holds a demonstration already; remove the folder, or choose another --out")
    resume = (out / "run" / "last.pt").exists()
    train_dir, test_dir = sample_images(cache_dir() / "sample")
    options: dict[str, Any] = {"preset": "resunet_small", "seed": seed, "scale": SCALE}
    weights = train(train_dir, out / "run", minutes=minutes, resume=resume, **({} if resume else options))
    crappify_images(test_dir, out / "lr", overwrite=True, **options)
    restored = restore(out / "lr", out / "restored", weights, overwrite=True)
    result = evaluate(test_dir, weights, out / "evaluation", lr=out / "lr")
    paths = {
        "weights": weights,
        "restored": restored[0],
        "picture": next((out / "evaluation" / "pictures").glob("*.png")),
        "tensorboard": out / "run" / "tensorboard",
    }
    text = (
        f"{table(result)}\n\n"
        f"restored file              {paths['restored']}\n"
        f"LR | bicubic | restored | HR  {paths['picture']}\n"
        f"TensorBoard                tensorboard --logdir {paths['tensorboard']}"
    )
    return Answer(text, {"mean": result["mean"], "table": table(result), **paths})
