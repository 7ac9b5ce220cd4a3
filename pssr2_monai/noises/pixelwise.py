"""Noises of single pixels.

What depends on the pixels around, or on the scanning, is in ``pssr2_monai.noises.scan``. Images are ``(..., Y, X)``
arrays or tensors with values in [0, 1]; parameters count in grey levels of an 8-bit image; see
``pssr2_monai.noises.noise``.
"""

from __future__ import annotations

from math import inf

import torch

from pssr2_monai.errors import InputError
from pssr2_monai.noises.noise import GREY_LEVELS, Noise, Parameter
from pssr2_monai.noises.poisson import poisson


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

    def __init__(
        self, intensity: Parameter | None = None, photons: Parameter | None = None, **unknown: Parameter
    ) -> None:
        if intensity is not None and photons is not None:
            raise InputError("PoissonNoise: intensity and photons tell the same thing twice; give one of them")
        if photons is not None:
            super().__init__(photons=photons, **unknown)
        else:
            super().__init__(intensity=1.0 if intensity is None else intensity, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        # Neither a rate below 0 nor NaN can be drawn from, and counts beyond 64 bits would come back negative.
        clean = levels.nan_to_num(nan=0.0).clamp_(0.0, 1e12)
        if "photons" in drawn:
            per_level = drawn["photons"] / GREY_LEVELS
            return levels + (poisson(clean * per_level, generator) / per_level - clean)
        return torch.addcmul(levels, poisson(clean, generator) - clean, drawn["intensity"])


class GaussianNoise(Noise):
    """Additive normal noise, the same at every brightness: mean ``x + gain``, variance ``sigma**2``.

    Args:
        sigma: standard deviation in grey levels, at least 0.
        gain: grey levels added to every pixel (PSSR2's word for an offset).

    Raises:
        InputError: see ``Noise``.

    Example:
        >>> import numpy as np
        >>> noise = GaussianNoise(sigma=25.5).set_random_state(0)
        >>> bool(abs(noise(np.zeros((1, 256, 256), dtype=np.float32)).std() - 0.1) < 0.001)
        True
    """

    limits = {"sigma": (0.0, inf), "gain": (-inf, inf)}

    def __init__(self, sigma: Parameter = 13.0, gain: Parameter = 0.0, **unknown: Parameter) -> None:
        super().__init__(sigma=sigma, gain=gain, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        normal = torch.randn(levels.shape, generator=generator, device=levels.device)
        return levels + drawn["gain"] + drawn["sigma"] * normal


class SaltPepperNoise(Noise):
    """Pixels that are lost: each becomes white or black, with the same probability.

    Args:
        percent: how many of a hundred pixels, 0 to 100. With p their share, the mean is ``x + p * (127.5 - x)``.

    Example:
        >>> import numpy as np
        >>> noise = SaltPepperNoise(percent=10).set_random_state(0)
        >>> bool(abs((noise(np.full((1, 256, 256), 0.5, dtype=np.float32)) != 0.5).mean() - 0.1) < 0.01)
        True
    """

    limits = {"percent": (0.0, 100.0)}

    def __init__(self, percent: Parameter = 0.5, **unknown: Parameter) -> None:
        super().__init__(percent=percent, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        chance = torch.rand(levels.shape, generator=generator, device=levels.device)
        share = drawn["percent"] / 100
        white = torch.where(chance < share / 2, GREY_LEVELS, levels)
        return torch.where((chance >= share / 2) & (chance < share), 0.0, white)


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
