"""``pssr2 train`` and ``pssr2 demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pssr2_monai.commands.answer import Answer

__all__ = ["demo", "train"]


def train(
    data: str,
    *,
    out: str,
    preset: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    dry_run: bool = False,
    **overrides: Any,
) -> Answer:
    """Train a network on a folder of high-resolution images.

    pssr2 train DATA --out RUN [--preset NAME,...] [--epochs N] [--minutes M] [--resume] [--dry-run] [--ID VALUE ...]

    DATA       folder of high-resolution images
    --out      folder for the weights (model.pt), the state to resume from (last.pt) and the TensorBoard files
    --preset   presets laid over the training config: names or JSON files, divided by commas
    --epochs   how many epochs; with --minutes alone there is no bound
    --minutes  stop after so many minutes
    --resume   go on with the training in --out
    --dry-run  tell the merged config, the tiles, the steps, the network and the files to come, and train nothing
    --ID       any id of the config: --scale 2, --tile 192, --batch_size 8, --lr 3e-4, --seed 1, ...

    Example: pssr2 train images/ --out run/ --minutes 15 --scale 4
    """
    options = {"preset": preset, "epochs": epochs, "minutes": minutes, "resume": resume, **overrides}
    if dry_run:
        from pssr2_monai.planning import plan_training

        plan = plan_training(data, out, **options)
        return Answer(str(plan), plan)
    from pssr2_monai.workflow import train as run

    weights = run(data, out, **options)
    beside = {"last": "last.pt", "config": "config.json", "tensorboard": "tensorboard"}
    return Answer(str(weights), {"weights": weights, **{name: Path(out) / file for name, file in beside.items()}})


def demo(*, out: str = "demo", minutes: float = 4.5, seed: int = 0) -> Answer:
    """Train on real electron microscopy sections and restore one that was not seen.

    pssr2 demo [--out demo] [--minutes 4.5] [--seed 0]

    --out      folder for everything that comes out of it
    --minutes  how long to train
    --seed     of the training

    Example: pssr2 demo --minutes 4.5
    """
    from pssr2_monai.demo import demo as run

    shown = run(out, minutes=minutes, seed=seed)
    return Answer(str(shown), shown)
