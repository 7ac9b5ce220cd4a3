"""What a noise is: parameters that are fixed or drawn anew for each image, and a seed that replays it.

Images are ``(..., Y, X)`` arrays or tensors with values in [0, 1]; parameters count in grey levels of an 8-bit image,
where 1.0 is level 255. The first of four or more dimensions counts images, ``(batch, frames, Y, X)`` or ``(batch,
channels, Z, Y, X)``, each of which gets parameters of its own; its frames share them, and differ in their noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from pssr2_monai.errors import InputError
from pssr2_monai.randomness import Seeded

GREY_LEVELS = 255.0
"""Grey level that 1.0 stands for."""
Parameter = float | Sequence[float] | Mapping[str, float]
"""A number; a pair ``[low, high]`` to draw from uniformly; or ``{"mean": m, "spread": s}``, a normal distribution of
standard deviation ``s``, whose values beyond what the parameter may be become the nearest that it may (as in PSSR2)."""
_SEED_END = 2**32 - 1


@dataclass(frozen=True)
class Uniform:
    """Equally likely anywhere from ``low`` to ``high``; a fixed number where the two are one."""

    low: float
    high: float

    def draw(self, random: np.random.RandomState, count: int) -> np.ndarray:
        """``count`` values."""
        return random.uniform(self.low, self.high, size=count)


@dataclass(frozen=True)
class Normal:
    """Normal about ``mean`` with standard deviation ``spread``, clipped to ``[least, greatest]``."""

    mean: float
    spread: float
    least: float
    greatest: float

    def draw(self, random: np.random.RandomState, count: int) -> np.ndarray:
        """``count`` values."""
        return random.normal(self.mean, self.spread, size=count).clip(self.least, self.greatest)


class Noise(Seeded, Transform):
    """One noise of a crappifier: ``randomize`` draws parameters and a seed, ``apply`` uses them, replayably.

    A subclass names its parameters in ``limits``, hands them to this constructor, and defines ``apply``.

    Args:
        parameters: each parameter by name; see ``Parameter`` for what may be given.

    Attributes:
        limits: the least and the greatest value that each parameter may have.
        parameters: how each is drawn.
        drawn: the values of the last draw, one an image.

    Raises:
        InputError: a parameter that the noise does not have, that is no number, pair or mean and spread, or that may
            leave its limits.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def __init__(self, **parameters: Parameter) -> None:
        kind = type(self).__name__
        for name in parameters:
            if name not in self.limits:
                raise InputError(f"{kind}: there is no parameter {name!r}; it takes {' and '.join(self.limits)}")
        self.parameters = {
            name: _distribution(f"{kind}: {name}", value, *self.limits[name]) for name, value in parameters.items()
        }
        self.drawn: dict[str, np.ndarray] = {}
        self.noise_seed = 0

    def randomize(self, data: Any) -> None:
        """Draws each parameter, once for every image of ``data``, and the seed of the noise."""
        images = data.shape[0] if data.ndim >= 4 else 1
        self.drawn = {name: each.draw(self.R, images) for name, each in self.parameters.items()}
        self.noise_seed = int(self.R.randint(_SEED_END, dtype=np.uint32))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Adds the noise to ``img``, ``(..., Y, X)`` in [0, 1]; with ``randomize=False``, that of the last draw."""
        if randomize:
            self.randomize(img)
        clean = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        shape = (-1,) + (1,) * (clean.ndim - 1)
        drawn = {name: clean.new_tensor(values).reshape(shape) for name, values in self.drawn.items()}
        generator = torch.Generator(clean.device).manual_seed(self.noise_seed)
        noisy = self.apply(clean * GREY_LEVELS, generator, **drawn) / GREY_LEVELS
        return convert_to_dst_type(noisy, img, dtype=torch.float32)[0]

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        """Noisy image from a clean one, both in grey levels; the drawn parameters broadcast against it."""
        raise NotImplementedError


def _distribution(name: str, value: Parameter, least: float, greatest: float) -> Uniform | Normal:
    """How a parameter is drawn, checked."""
    if isinstance(value, Mapping):
        if set(value) != {"mean", "spread"}:
            raise InputError(f"{name}: found the keys {', '.join(map(str, value))}; a mapping has 'mean' and 'spread'")
        mean, spread = _number(name, value["mean"]), _number(f"{name}: spread", value["spread"])
        _check_within(f"{name}: mean", mean, least, greatest)
        _check_within(f"{name}: spread", spread, 0.0, math.inf)
        return Normal(mean, spread, least, greatest)
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        low = high = _number(name, value)
    elif len(value) != 2:
        raise InputError(f"{name}: expected a number or a pair [low, high], got {len(value)} values")
    else:
        low, high = (_number(name, each) for each in value)
    if low > high:
        raise InputError(f"{name}: the range [{low:g}, {high:g}] is upside down; write the lower end first")
    _check_within(name, low, least, greatest)
    _check_within(name, high, least, greatest)
    return Uniform(low, high)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(
            f"{name}: {value!r} is no number; give one, a pair [low, high], or {{'mean': ..., 'spread': ...}}"
        )
    return float(value)


def _check_within(name: str, value: float, least: float, greatest: float) -> None:
    if value < least:
        raise InputError(
            f"{name}: {value:g} must not be negative"
            if least == 0
            else f"{name}: {value:g} is too small; it must be at least {least:g}"
        )
    if value > greatest:
        raise InputError(f"{name}: {value:g} is too large; it must be at most {greatest:g}")
