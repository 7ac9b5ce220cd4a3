"""Crappifiers: what makes a low-resolution, noisy scan out of a high-resolution image, and the noises that they add."""

from __future__ import annotations

from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.crappify.noise import GREY_LEVELS, Noise, Parameter
from pssr2_monai.crappify.pixelwise import Detector, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.crappify.scan import Blur, Drift, LineJitter, LineNoise

__all__ = [
    "GREY_LEVELS",
    "NOISES",
    "Blur",
    "Crappify",
    "Detector",
    "Downsample",
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
