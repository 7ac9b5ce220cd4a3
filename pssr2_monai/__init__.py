"""Point-scanning super-resolution for microscopy, on MONAI.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pssr2_monai.calibration.calibrate import calibrate
    from pssr2_monai.crappify import (
        Blur,
        CorrelatedNoise,
        Crappify,
        Detector,
        Downsample,
        Drift,
        Gamma,
        GaussianNoise,
        LineJitter,
        LineNoise,
        PoissonNoise,
        SaltPepperNoise,
    )
    from pssr2_monai.data.blind_spot import BlindSpot
    from pssr2_monai.data.info import describe
    from pssr2_monai.errors import InputError
    from pssr2_monai.evaluation.evaluate import evaluate
    from pssr2_monai.images.image import open_image
    from pssr2_monai.images.writer import write_image
    from pssr2_monai.networks import ResUNet
    from pssr2_monai.networks.weights import load_weights
    from pssr2_monai.restoration.restore import restore
    from pssr2_monai.training.losses import MaskedLoss, MSSSIML1Loss
    from pssr2_monai.training.train import train

__all__ = [
    "BlindSpot",
    "Blur",
    "CorrelatedNoise",
    "Crappify",
    "Detector",
    "Downsample",
    "Drift",
    "Gamma",
    "GaussianNoise",
    "InputError",
    "LineJitter",
    "LineNoise",
    "MSSSIML1Loss",
    "MaskedLoss",
    "PoissonNoise",
    "ResUNet",
    "SaltPepperNoise",
    "calibrate",
    "describe",
    "evaluate",
    "load_weights",
    "open_image",
    "restore",
    "train",
    "write_image",
]

_HOMES = {  # of names that no room registers
    "BlindSpot": "data.blind_spot",
    "InputError": "errors",
    "MSSSIML1Loss": "training.losses",
    "MaskedLoss": "training.losses",
    "calibrate": "calibration.calibrate",
    "describe": "data.info",
    "evaluate": "evaluation.evaluate",
    "load_weights": "networks.weights",
    "open_image": "images.image",
    "restore": "restoration.restore",
    "train": "training.train",
    "write_image": "images.writer",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name[:1].isupper():  # configs and presets name every registered class so, wherever its module is
        for room in ("crappify", "networks"):
            if name in (module := import_module(f"{__name__}.{room}")).__all__:
                return getattr(module, name)
    if name == "noises":  # presets of release 0.1.0 name pssr2_monai.noises.PoissonNoise
        return import_module(f"{__name__}.crappify")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
