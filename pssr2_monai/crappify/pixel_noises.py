"""Noises of single pixels; those of the scan are in ``pssr2_monai.crappify.scan_noises``.

Images are ``(..., Y, X)`` arrays or tensors with values in [0, 1]; parameters count in grey levels of an 8-bit image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

import numpy as np
import torch

from pssr2_monai.crappify.distributions import Parameter
from pssr2_monai.crappify.noise import GREY_LEVELS, Equivalent, Fitting, Noise, NoiseCurve, Slider
from pssr2_monai.errors import InputError


class PoissonNoise(Noise):
    """Shot noise, by PSSR2's intensity or by the number of photons (electrons) that a white pixel counts.

    With an intensity, a pixel of grey level x becomes ``x * (1 - intensity) + Poisson(x) * intensity``, of mean x and
    variance ``x * intensity**2``. With photons it becomes ``Poisson(x * photons / 255) * 255 / photons``, of mean x and
    variance ``255 * x / photons``. A pixel below black has no noise and keeps its value.

    Args:
        intensity: share of the noisy image, at least 0; 1 where neither is given.
        photons: count at white, at least 0.1; instead of the intensity.

    Raises:
        InputError: both are given; see ``Noise`` for the rest.

    Source:
        Stites and Manor 2024 (PSSR2), whose ``intensity`` this is.

    Example:
        >>> import numpy as np
        >>> noise = PoissonNoise(intensity=(0.5, 1.0)).set_random_state(0)
        >>> bool(abs(noise(np.full((1, 64, 64), 0.5, dtype=np.float32)).mean() - 0.5) < 0.01)
        True
    """

    limits = {"intensity": (0.0, inf), "photons": (0.1, inf)}
    strength = "intensity"
    instead = {
        "photons": Equivalent(
            lambda photons: (GREY_LEVELS / photons) ** 0.5,
            lambda intensity: GREY_LEVELS / intensity**2,
            "photons at white",
        )
    }
    slider = Slider("Shot noise", 5.0, 0.05, "1 is that of 255 photons at white, 5 that of 10")
    fitting = Fitting(search_to=0.1)

    def __init__(
        self, intensity: Parameter | None = None, photons: Parameter | None = None, **unknown: Parameter
    ) -> None:
        if intensity is not None and photons is not None:
            raise InputError("PoissonNoise: intensity and photons both set the same strength; give one of them")
        if photons is not None:
            super().__init__(photons=photons, **unknown)
        else:
            super().__init__(intensity=1.0 if intensity is None else intensity, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        # Neither a rate below 0 nor NaN can be drawn from, and counts beyond 64 bits would come back negative. In the
        # order of the axes, so that the noise of a seed does not depend on the image's memory.
        clean = levels.nan_to_num(nan=0.0).clamp_(0.0, 1e12).contiguous()
        if "photons" in drawn:
            per_level = drawn["photons"] / GREY_LEVELS
            return levels + (torch.poisson(clean * per_level, generator) / per_level - clean)
        return torch.addcmul(levels, torch.poisson(clean, generator) - clean, drawn["intensity"])

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        factor = GREY_LEVELS / values["photons"] if "photons" in values else values["intensity"] ** 2
        return curve.plus(factor * np.maximum(curve.mean, 0))


class GaussianNoise(Noise):
    """Additive normal noise, the same at every brightness: mean ``x + gain``, variance ``sigma**2``.

    Args:
        sigma: standard deviation in grey levels, at least 0.
        gain: grey levels added to every pixel (PSSR2's word for an offset).

    Example:
        >>> import numpy as np
        >>> noise = GaussianNoise(sigma=25.5).set_random_state(0)
        >>> bool(abs(noise(np.zeros((1, 256, 256), dtype=np.float32)).std() - 0.1) < 0.001)
        True
    """

    limits = {"sigma": (0.0, inf), "gain": (-inf, inf)}
    strength = "sigma"
    slider = Slider("Read noise", 60.0, 0.5, "standard deviation, grey levels of 255")
    fitting = Fitting(search_to=1.0)

    def __init__(self, sigma: Parameter = 13.0, gain: Parameter = 0.0, **unknown: Parameter) -> None:
        super().__init__(sigma=sigma, gain=gain, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        normal = torch.randn(levels.shape, generator=generator, device=levels.device)
        return levels + drawn["gain"] + drawn["sigma"] * normal

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        return curve.plus(values["sigma"] ** 2, values["gain"])


class SaltPepperNoise(Noise):
    """Lost pixels, which become white or black with the same probability.

    Args:
        percent: how many of a hundred pixels, 0 to 100. With p their share, the mean is ``x + p * (127.5 - x)``.

    Example:
        >>> import numpy as np
        >>> noise = SaltPepperNoise(percent=10).set_random_state(0)
        >>> bool(abs((noise(np.full((1, 256, 256), 0.5, dtype=np.float32)) != 0.5).mean() - 0.1) < 0.01)
        True
    """

    limits = {"percent": (0.0, 100.0)}
    strength = "percent"
    slider = Slider("Dead pixels", 10.0, 0.1, "per cent of the pixels")
    fitting = Fitting(search_to=0.2, terms=frozenset({"tails"}), power=1)

    def __init__(self, percent: Parameter = 0.5, **unknown: Parameter) -> None:
        super().__init__(percent=percent, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        chance = torch.rand(levels.shape, generator=generator, device=levels.device)
        share = drawn["percent"] / 100
        white = torch.where(chance < share / 2, GREY_LEVELS, levels)
        return torch.where((chance >= share / 2) & (chance < share), 0.0, white)

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        return replace(curve, lost=1 - (1 - curve.lost) * (1 - values["percent"] / 100))


class Detector(Noise):
    """The detector's straight response to brightness: ``gain * x + offset``.

    Args:
        offset: grey levels added to every pixel.
        gain: factor, at least 0.

    Example:
        >>> import numpy as np
        >>> Detector(offset=25.5, gain=0.5)(np.ones((1, 1, 2), dtype=np.float32)).round(3)
        array([[[0.6, 0.6]]], dtype=float32)
    """

    limits = {"offset": (-inf, inf), "gain": (0.0, inf)}

    def __init__(self, offset: Parameter = 0.0, gain: Parameter = 1.0, **unknown: Parameter) -> None:
        super().__init__(offset=offset, gain=gain, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        return levels * drawn["gain"] + drawn["offset"]

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        mean = values["gain"] * curve.mean + values["offset"]
        return replace(curve, mean=mean, variance=values["gain"] ** 2 * curve.variance)


class Gamma(Noise):
    """The detector's curved response to brightness: ``255 * (x / 255)**gamma``; what is below black keeps its value.

    Args:
        gamma: exponent, 0.05 to 20; above 1 it darkens the middle greys.

    Example:
        >>> import numpy as np
        >>> Gamma(gamma=2)(np.full((1, 1, 2), 0.5, dtype=np.float32))
        array([[[0.25, 0.25]]], dtype=float32)
    """

    limits = {"gamma": (0.05, 20.0)}

    def __init__(self, gamma: Parameter = 1.0, **unknown: Parameter) -> None:
        super().__init__(gamma=gamma, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        curved = GREY_LEVELS * (levels.clamp(min=0) / GREY_LEVELS) ** drawn["gamma"]
        return torch.where(levels < 0, levels, curved)

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        light = np.maximum(curve.mean, 0) / GREY_LEVELS
        mean = np.where(curve.mean < 0, curve.mean, GREY_LEVELS * light ** values["gamma"])
        return replace(curve, mean=mean, variance=np.gradient(mean, curve.mean) ** 2 * curve.variance)
