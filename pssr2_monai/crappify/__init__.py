"""Crappifiers: what makes a low-resolution, noisy scan out of a high-resolution image, and the noises that they add."""

from __future__ import annotations

from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.crappify.noise import NOISES, Noise, noise_classes
from pssr2_monai.crappify.pixel_noises import Detector, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.crappify.scan_noises import Blur, CorrelatedNoise, Drift, LineJitter, LineNoise
from pssr2_monai.registered_names import register

__all__ = [
    "NOISES",
    "Blur",
    "CorrelatedNoise",
    "Crappify",
    "Detector",
    "Downsample",
    "Drift",
    "Gamma",
    "GaussianNoise",
    "LineJitter",
    "LineNoise",
    "Noise",
    "PoissonNoise",
    "SaltPepperNoise",
    "noise_classes",
]

register("crappifier", Crappify, Downsample)
