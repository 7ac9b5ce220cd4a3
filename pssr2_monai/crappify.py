"""Crappifiers: what makes a low-resolution, noisy scan out of a high-resolution image.

The order is PSSR2's (Stites and Manor 2024): downsample first, add noise afterwards. Noise added before downsampling is
averaged away by it, and leaves the training inputs too clean.

Images are ``(..., Y, X)`` arrays or tensors with values in [0, 1]; noise parameters count in grey levels of an 8-bit
image, where 1.0 is level 255. Four dimensions are a batch ``(batch, frames, Y, X)``, each of whose images gets
parameters of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.transforms import Randomizable, RandomizableTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch.nn.functional import interpolate

from pssr2_monai.errors import InputError

__all__ = ["GREY_LEVELS", "Crappify", "Downsample", "GaussianNoise", "Noise", "PoissonNoise"]

GREY_LEVELS = 255.0
"""Grey level that 1.0 stands for."""

_SEED_END = 2**32 - 1


class Downsample(Transform):
    """Shrinks Y and X by a whole factor, antialiased bilinear: ``PIL.Image.resize(BILINEAR)`` without its rounding.

    Args:
        scale: how many HR pixels make one LR pixel along Y and along X; 1 leaves the image as it is.

    Example:
        >>> import numpy as np
        >>> Downsample(scale=4)(np.ones((1, 64, 48), dtype=np.float32)).shape
        (1, 16, 12)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(self, scale: int) -> None:
        if scale != int(scale) or scale < 1:
            raise InputError(f"scale: {scale!r} is not a whole number of at least 1")
        self.scale = int(scale)

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Shrinks ``img`` (..., Y, X).

        Raises:
            InputError: Y or X does not divide by the scale.
        """
        if self.scale == 1:
            return img
        height, width = img.shape[-2:]
        if height % self.scale or width % self.scale:
            raise InputError(
                f"an image of {height} x {width} pixels does not divide by the scale {self.scale}; crop it"
            )
        size = (height // self.scale, width // self.scale)
        hr = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        lr = interpolate(hr.reshape(1, -1, height, width), size, mode="bilinear", antialias=True)
        return convert_to_dst_type(lr.reshape(*img.shape[:-2], *size), img, dtype=torch.float32)[0]


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


class Crappify(Randomizable, Transform):
    """Makes an LR image from an HR one: downsampling, then one noise after another, clipped after each.

    Args:
        scale: HR size over LR size; 1 for denoising alone.
        noises: transforms that take and return an image in [0, 1] at LR size, applied in turn.
        clip: whether what leaves the detector's range is cut off after each noise: [0, 1], or as far beyond it as the
            clean image reaches, where 1 is a percentile and not the detector's limit.

    Example:
        >>> import numpy as np
        >>> crappify = Crappify(scale=4, noises=[PoissonNoise(intensity=(0.5, 1.0))]).set_random_state(seed=0)
        >>> crappify(np.full((1, 128, 128), 0.5, dtype=np.float32)).shape
        (1, 32, 32)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]

    def __init__(
        self, scale: int, noises: Sequence[Callable[[NdarrayOrTensor], NdarrayOrTensor]] = (), clip: bool = True
    ) -> None:
        self.downsample = Downsample(scale)
        self.noises = tuple(noises)
        self.clip = clip

    @property
    def scale(self) -> int:
        """HR size over LR size."""
        return self.downsample.scale

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Crappify:
        """Seeds this crappifier, and each of its noises from it."""
        super().set_random_state(seed=seed, state=state)
        for noise in self.noises:
            if isinstance(noise, Randomizable):
                noise.set_random_state(seed=int(self.R.randint(_SEED_END, dtype=np.uint32)))
        return self

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Crappifies ``img``, ``(frames, Y, X)`` or ``(batch, frames, Y, X)`` in [0, 1]."""
        lr = self.downsample(img)
        low, high = min(0.0, float(lr.min())), max(1.0, float(lr.max()))
        for noise in self.noises:
            lr = noise(lr)
            if self.clip:
                lr = lr.clip(low, high)
        return lr


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
