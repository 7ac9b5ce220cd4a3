"""Noises that a crappifier adds to an LR image, and their short names."""

from __future__ import annotations

from pssr2_monai.noises.noise import GREY_LEVELS, Noise, Parameter
from pssr2_monai.noises.pixelwise import Detector, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.noises.scan import Blur, Drift, LineJitter, LineNoise

__all__ = [
    "GREY_LEVELS",
    "NOISES",
    "Blur",
    "Detector",
    "Drift",
    "Gamma",
    "GaussianNoise",
    "LineJitter",
    "LineNoise",
    "Noise",
    "Parameter",
    "PoissonNoise",
    "SaltPepperNoise",
]

NOISES: dict[str, type[Noise]] = {
    "poisson": PoissonNoise,
    "gaussian": GaussianNoise,
    "salt_pepper": SaltPepperNoise,
    "blur": Blur,
    "line": LineNoise,
    "jitter": LineJitter,
    "drift": Drift,
    "detector": Detector,
    "gamma": Gamma,
}
"""Every noise by its short name."""
