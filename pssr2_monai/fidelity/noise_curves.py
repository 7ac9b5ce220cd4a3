"""The noise that a crappifier adds, as a curve: mean and variance of a noisy pixel for each brightness.

The noises of this package are followed by their formulas; any other is laid over flat images with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Randomizable

from pssr2_monai.crappify import (
    GREY_LEVELS,
    Blur,
    Detector,
    Drift,
    Gamma,
    GaussianNoise,
    LineJitter,
    LineNoise,
    PoissonNoise,
    SaltPepperNoise,
)
from pssr2_monai.crappify.noise import Noise, Normal, Uniform

LEVELS = 256
SIDE = 96
SEED = 0
REACH = 2.0
"""Standard deviations that the ends of a normally drawn parameter lie from its mean."""
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class NoiseCurve:
    """What becomes of flat images, in grey levels of 0 to 255.

    Attributes:
        clean: brightness before the noise, rising.
        mean: brightness after it.
        variance: of the pixels after it.
        blur: standard deviation, in LR pixels, of the blurs among the noises.
        lost: share of the pixels that become black or white whatever they were.
    """

    clean: FloatArray
    mean: FloatArray
    variance: FloatArray
    blur: float = 0.0
    lost: float = 0.0

    def response(self, grey: FloatArray) -> FloatArray:
        """Mean of what clean grey levels become; beyond 0 to 255 the curve goes on straight."""
        (first, second), (before, last) = self.mean[:2], self.mean[-2:]
        step = self.clean[1] - self.clean[0]
        inside = np.interp(grey, self.clean, self.mean)
        below = np.minimum(grey - self.clean[0], 0) * (second - first) / step
        above = np.maximum(grey - self.clean[-1], 0) * (last - before) / step
        return np.asarray(inside + below + above)

    def variance_at(self, grey: FloatArray) -> FloatArray:
        """Variance where the noisy image has these grey levels on average."""
        return np.asarray(np.interp(grey, self.mean, self.variance))


def noise_curve(noises: Sequence[Callable[[Any], Any]], share: float = 0.5) -> NoiseCurve:
    """The curve of noises applied in turn, each parameter at the same place of its range.

    Displaced rows (``LineJitter``) show at edges alone and are left out, as is what clipping takes off. Slow drift and
    lines count with their whole variance.

    Args:
        noises: of a crappifier.
        share: 0 for the lower ends of all ranges, 0.5 for their middle, 1 for the upper ends.

    Example:
        >>> float(noise_curve([PoissonNoise(intensity=(0.5, 1.5))]).variance_at(np.float64(100)))
        100.0
    """
    clean = np.linspace(0, GREY_LEVELS, LEVELS)
    curve = NoiseCurve(clean, clean.copy(), np.zeros_like(clean))
    for noise in noises:
        follow = _FORMULAS.get(type(noise))
        if isinstance(noise, Noise) and follow is not None:
            curve = follow(curve, {name: _value(each, share) for name, each in noise.parameters.items()})
        else:
            curve = _measured(curve, noise, share)
    return curve


def noise_range(noises: Sequence[Callable[[Any], Any]]) -> tuple[float, float]:
    """The weakest and the strongest noise that is drawn, as factors of the standard deviation at the middle.

    Example:
        >>> noise_range([PoissonNoise(intensity=(0.5, 1.5))])
        (0.5, 1.5)
    """
    middle = noise_curve(noises).variance
    seen = middle > 0
    if not seen.any():
        return 1.0, 1.0
    ends = [float(np.median(np.sqrt(noise_curve(noises, end).variance[seen] / middle[seen]))) for end in (0.0, 1.0)]
    return min(ends), max(ends)


def _value(drawn: Uniform | Normal, share: float) -> float:
    if isinstance(drawn, Uniform):
        return drawn.low + share * (drawn.high - drawn.low)
    reached = drawn.mean + REACH * (2 * share - 1) * drawn.spread
    return min(max(reached, drawn.least), drawn.greatest)


def _poisson(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    factor = GREY_LEVELS / values["photons"] if "photons" in values else values["intensity"] ** 2
    return replace(curve, variance=curve.variance + factor * np.maximum(curve.mean, 0))


def _gaussian(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    return replace(curve, mean=curve.mean + values["gain"], variance=curve.variance + values["sigma"] ** 2)


def _added(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    return replace(curve, variance=curve.variance + values["sigma"] ** 2)


def _detector(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    mean, variance = values["gain"] * curve.mean + values["offset"], values["gain"] ** 2 * curve.variance
    return replace(curve, mean=mean, variance=variance)


def _gamma(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    light = np.maximum(curve.mean, 0) / GREY_LEVELS
    mean = np.where(curve.mean < 0, curve.mean, GREY_LEVELS * light ** values["gamma"])
    slope = np.gradient(mean, curve.mean)
    return replace(curve, mean=mean, variance=slope**2 * curve.variance)


def _blur(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    squares = np.arange(-200, 201, dtype=np.float64) ** 2
    kernel = np.exp(-squares / (2 * max(values["sigma"], 1e-3) ** 2))
    kept = float((kernel @ kernel) / kernel.sum() ** 2) ** 2
    blur = float(np.hypot(curve.blur, values["sigma"]))
    return replace(curve, variance=kept * curve.variance, blur=blur)


def _lost(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    return replace(curve, lost=1 - (1 - curve.lost) * (1 - values["percent"] / 100))


def _unchanged(curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
    return curve


_FORMULAS: dict[type, Callable[[NoiseCurve, Mapping[str, float]], NoiseCurve]] = {
    PoissonNoise: _poisson,
    GaussianNoise: _gaussian,
    LineNoise: _added,
    Drift: _added,
    Detector: _detector,
    Gamma: _gamma,
    Blur: _blur,
    SaltPepperNoise: _lost,
    LineJitter: _unchanged,
}


def _measured(curve: NoiseCurve, noise: Callable[[Any], Any], share: float) -> NoiseCurve:
    """The curve after a noise of unknown formula, which is laid over flat images."""
    places = np.linspace(0, LEVELS - 1, 18).round().astype(int)
    flat = torch.from_numpy(curve.mean[places].astype(np.float32) / GREY_LEVELS)
    image = flat.reshape(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE).clone()
    if isinstance(noise, Randomizable):
        noise.set_random_state(SEED)
    if isinstance(noise, Noise):
        noise.randomize(image)
        values = {name: _value(each, share) for name, each in noise.parameters.items()}
        noise.drawn = {name: np.full(len(places), value) for name, value in values.items()}
        noisy = noise(image, randomize=False)
    else:
        noisy = noise(image)
    grey = np.asarray(noisy, dtype=np.float64).reshape(len(places), -1) * GREY_LEVELS
    mean = np.interp(curve.clean, curve.clean[places], np.maximum.accumulate(grey.mean(axis=1)))
    slope = np.gradient(mean) / np.maximum(np.gradient(curve.mean), 1e-6)
    own = np.interp(curve.clean, curve.clean[places], grey.var(axis=1))
    return replace(curve, mean=mean, variance=slope**2 * curve.variance + own)
