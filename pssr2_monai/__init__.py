"""Point-scanning super-resolution for microscopy, on MONAI.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pssr2_monai.calibration.calibrating import calibrate
    from pssr2_monai.crappify import Crappify, Downsample
    from pssr2_monai.errors import InputError
    from pssr2_monai.evaluation.evaluating import evaluate
    from pssr2_monai.info import describe
    from pssr2_monai.io.image import open_image
    from pssr2_monai.io.writer import write_image
    from pssr2_monai.losses import MSSSIML1Loss
    from pssr2_monai.networks import ResUNet
    from pssr2_monai.noises import GaussianNoise, PoissonNoise
    from pssr2_monai.restoration.restoring import restore
    from pssr2_monai.weights import load_weights
    from pssr2_monai.workflow import train

__all__ = [
    "Crappify",
    "Downsample",
    "GaussianNoise",
    "InputError",
    "MSSSIML1Loss",
    "PoissonNoise",
    "ResUNet",
    "calibrate",
    "describe",
    "evaluate",
    "load_weights",
    "open_image",
    "restore",
    "train",
    "write_image",
]

_HOMES = {
    "Crappify": "crappify",
    "Downsample": "crappify",
    "GaussianNoise": "noises",
    "InputError": "errors",
    "MSSSIML1Loss": "losses",
    "PoissonNoise": "noises",
    "ResUNet": "networks",
    "calibrate": "calibration.calibrating",
    "describe": "info",
    "evaluate": "evaluation.evaluating",
    "load_weights": "weights",
    "open_image": "io.image",
    "restore": "restoration.restoring",
    "train": "workflow",
    "write_image": "io.writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
