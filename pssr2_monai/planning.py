"""What a training would do, told before it is done."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pssr2_monai.checkpoints import BEST, LAST
from pssr2_monai.handlers import UNLIMITED_EPOCHS
from pssr2_monai.precision import choose_precision
from pssr2_monai.workflow import CONFIG, told_plainly, training_workflow

__all__ = ["TrainingPlan", "plan_training"]


@dataclass(frozen=True)
class TrainingPlan:
    """What ``train`` with the same arguments would do.

    Attributes:
        images: files that tiles are taken from.
        training_tiles: in an epoch.
        validation_tiles: likewise.
        tile: side in HR pixels.
        batch_size: tiles in a step.
        steps: in an epoch.
        epochs: at most; None where only the minutes end it.
        minutes: at most; None where only the epochs end it.
        network: its dotted name.
        parameters: that the network has.
        scale: HR size over LR size.
        device: that computes.
        precision: of its convolutions and products.
        outputs: files and folders to be.
        config: the merged config.
    """

    images: tuple[Path, ...]
    training_tiles: int
    validation_tiles: int
    tile: int
    batch_size: int
    steps: int
    epochs: int | None
    minutes: float | None
    network: str
    parameters: int
    scale: int | Sequence[int]
    device: str
    precision: str
    outputs: tuple[Path, ...]
    config: dict[str, Any]

    def __str__(self) -> str:
        ends = [f"{end:g} {unit}" for end, unit in ((self.epochs, "epochs"), (self.minutes, "minutes")) if end]
        told = {
            "images": f"{len(self.images)} in {self.images[0].parent}",
            "tiles": f"{self.training_tiles} to train on, {self.validation_tiles} to validate, {self.tile} px wide",
            "steps": f"{self.steps} an epoch, {self.batch_size} tiles each",
            "ends after": " or ".join(ends),
            "network": f"{self.network}, {self.parameters:,} parameters, scale {self.scale}",
            "device": f"{self.device}, {self.precision}",
            "writes": ", ".join(map(str, self.outputs)),
        }
        plan = "\n".join(f"{name:12}{value}" for name, value in told.items())
        return f"{json.dumps(self.config, indent=4, default=str)}\n\n{plan}"


def plan_training(
    data: str | Path,
    out: str | Path,
    *,
    preset: str | Sequence[str] | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    **overrides: Any,
) -> TrainingPlan:
    """What ``train`` with the same arguments would do: the images' headers are read, nothing is written or trained.

    Raises:
        InputError: what ``train`` would refuse.

    Example:
        >>> plan = plan_training("images", "run", epochs=2, tile=32, batch_size=8)
        >>> len(plan.images), plan.steps
        (5, 18)
    """
    out = Path(out).absolute()
    parser = training_workflow(data, out, preset, epochs, minutes, resume, overrides).parser
    with told_plainly():
        lists, device, network = (parser.get_parsed_content(name) for name in ("lists", "device", "network_def"))
        names = ("tile", "batch_size", "epochs", "minutes", "scale", "precision")
        found = {name: parser.get_parsed_content(name) for name in names}
    files = dict.fromkeys(item["label"] for item in (*lists.training, *lists.validation))
    unlimited = found["epochs"] >= UNLIMITED_EPOCHS
    return TrainingPlan(
        images=tuple(map(Path, files)),
        training_tiles=len(lists.training),
        validation_tiles=len(lists.validation),
        tile=found["tile"],
        batch_size=found["batch_size"],
        steps=math.ceil(len(lists.training) / found["batch_size"]),
        epochs=None if unlimited else found["epochs"],
        minutes=found["minutes"],
        network=f"{type(network).__module__}.{type(network).__qualname__}",
        parameters=sum(each.numel() for each in network.parameters()),
        scale=found["scale"],
        device=str(device),
        precision=str(choose_precision(found["precision"], device)).removeprefix("torch."),
        outputs=tuple(out / name for name in (BEST, LAST, CONFIG, "tensorboard")),
        config=parser.get(),
    )
