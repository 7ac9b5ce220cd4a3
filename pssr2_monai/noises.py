"""Noises: what a microscope adds to an image, each with parameters that are fixed or drawn anew for each image.

Images are ``(..., Y, X)`` arrays or tensors with values in [0, 1]; parameters count in grey levels of an 8-bit image,
where 1.0 is level 255. Four dimensions are a batch ``(batch, frames, Y, X)``, each of whose images gets parameters of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from pssr2_monai.errors import InputError

__all__ = ["GREY_LEVELS", "GaussianNoise", "Noise", "PoissonNoise"]

GREY_LEVELS = 255.0
"""Grey level that 1.0 stands for."""

_SEED_END = 2**32 - 1


class Noise(RandomizableTransform):
    """One noise of a crappifier: ``randomize`` draws parameters and a seed, ``apply`` uses them, replayably.

    Args:
        parameters: name of each parameter with its value, or the range ``(low, high)`` from which it is drawn anew
            for each image.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, **parameters: float | Sequence[float]) -> None:
        super().__init__(prob=1.0)
        self.ranges = {name: _as_range(f"{type(self).__name__}: {name}", value) for name, value in parameters.items()}
        self.drawn: dict[str, np.ndarray] = {}
        self.noise_seed = 0

    def randomize(self, data: Any) -> None:
        """Draws each parameter, once for every image of ``data``, and the seed of the noise."""
        images = data.shape[0] if data.ndim == 4 else 1
        self.drawn = {name: self.R.uniform(low, high, size=images) for name, (low, high) in self.ranges.items()}
        self.noise_seed = int(self.R.randint(_SEED_END, dtype=np.uint32))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Adds the noise to ``img``, ``(..., Y, X)`` in [0, 1]; with ``randomize=False``, that of the last draw."""
        if randomize:
            self.randomize(img)
        clean = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        shape = (-1, 1, 1, 1) if clean.ndim == 4 else (1,) * clean.ndim
        drawn = {name: clean.new_tensor(values).reshape(shape) for name, values in self.drawn.items()}
        generator = torch.Generator(clean.device).manual_seed(self.noise_seed)
        noisy = self.apply(clean * GREY_LEVELS, generator, **drawn) / GREY_LEVELS
        return convert_to_dst_type(noisy, img, dtype=torch.float32)[0]

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        """Noisy image from a clean one, both in grey levels; the drawn parameters broadcast against it."""
        raise NotImplementedError


class PoissonNoise(Noise):
    """Shot noise as in PSSR2: ``x * (1 - intensity) + Poisson(x) * intensity``, x in grey levels.

    At intensity 1 a pixel of grey level x has mean x and variance x.

    Args:
        intensity: share of the noisy image, at least 0; a pair is a range to draw from.

    Example:
        >>> import numpy as np
        >>> noise = PoissonNoise(intensity=(0.5, 1.0)).set_random_state(0)
        >>> bool(abs(noise(np.full((1, 64, 64), 0.5, dtype=np.float32)).mean() - 0.5) < 0.01)
        True
    """

    def __init__(self, intensity: float | Sequence[float] = 1.0) -> None:
        super().__init__(intensity=intensity)
        if self.ranges["intensity"][0] < 0:
            raise InputError(f"PoissonNoise: intensity {intensity!r} must not be negative")

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        intensity = drawn["intensity"]
        return levels * (1 - intensity) + torch.poisson(levels.clamp(min=0), generator=generator) * intensity


class GaussianNoise(Noise):
    """Additive normal noise, the same at every brightness.

    Args:
        sigma: standard deviation in grey levels, at least 0; a pair is a range to draw from.
        gain: grey levels added to every pixel (PSSR2's word for an offset); a pair is a range to draw from.

    Example:
        >>> import numpy as np
        >>> noise = GaussianNoise(sigma=25.5).set_random_state(0)
        >>> bool(abs(noise(np.zeros((1, 256, 256), dtype=np.float32)).std() - 0.1) < 0.001)
        True
    """

    def __init__(self, sigma: float | Sequence[float] = 13.0, gain: float | Sequence[float] = 0.0) -> None:
        super().__init__(sigma=sigma, gain=gain)
        if self.ranges["sigma"][0] < 0:
            raise InputError(f"GaussianNoise: sigma {sigma!r} must not be negative")

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        normal = torch.randn(levels.shape, generator=generator, device=levels.device)
        return levels + drawn["gain"] + drawn["sigma"] * normal


def _as_range(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    """A number as the range that holds it alone; a pair as it is."""
    if isinstance(value, (int, float)):
        return float(value), float(value)
    if len(value) != 2:
        raise InputError(f"{name}: expected a number or a pair [low, high], got {len(value)} values")
    low, high = float(value[0]), float(value[1])
    if low > high:
        raise InputError(f"{name}: the range [{low:g}, {high:g}] is upside down; write the lower end first")
    return low, high
