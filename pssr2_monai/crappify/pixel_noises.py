"""Noises of single pixels; those of the scan are in ``pssr2_monai.crappify.scan_noises``.

Images are ``(..., Y, X)`` arrays or tensors with values in [0, 1]; parameters count in grey levels of an 8-bit image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import inf

import numpy as np
import torch
from scipy.special import gammaln, xlogy

from pssr2_monai.crappify.noise import GREY_LEVELS, Fitting, Noise, NoiseCurve, Parameter, Slider
from pssr2_monai.errors import InputError

MAX_TABLE_RATE = 255  # the largest rate in the table; a power of two less one, as the shifts below need
TABLE_REACH = 128  # counts in the table below and above a rate: the chance of one beyond them is less than 1e-14
MIN_TABLE_DRAWS = 4096  # below so many numbers torch is faster
COLUMN_BITS, CHANCE_BITS = 8, 16  # of a random number, that choose a cell of the table, and one of its two counts


def poisson(rate: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw a Poisson number for each rate, a finite float32 of at least 0; the result is a float32, too.

    On a processor this is for speed, in half the time of ``torch.poisson``: the number is the sum of Poisson numbers of
    the rate's whole part, drawn from Walker's alias table (Vose, IEEE Trans. Softw. Eng. 17:972, 1991); of its
    fraction, by inversion; and of what exceeds 255, by torch. Chances below 2e-6 for each pixel are neglected, and the
    generator's initial seed alone decides. On other devices, and for few numbers, torch draws them all.
    """
    if rate.device.type != "cpu" or rate.numel() < MIN_TABLE_DRAWS:
        return torch.poisson(rate, generator=generator)
    exceeds = float(rate.max()) > MAX_TABLE_RATE
    tabulated = (rate.clamp(max=MAX_TABLE_RATE) if exceeds else rate).numpy().reshape(-1)
    words = np.random.SFC64(generator.initial_seed()).random_raw(tabulated.size).view(np.uint32)
    whole = tabulated.astype(np.uint32)
    counts = _draw_whole(whole, words[: tabulated.size])
    counts += _draw_fractions(tabulated - whole.astype(np.float32), words[tabulated.size :])
    drawn = torch.from_numpy(counts.astype(np.float32)).reshape(rate.shape)
    if exceeds:
        drawn += torch.poisson((rate - MAX_TABLE_RATE).clamp(min=0), generator=generator)
    return drawn


def _draw_whole(rate: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Poisson numbers of whole rates, one for each random word of 32 bits."""
    column = words & (2**COLUMN_BITS - 1)
    cell = _table().take((rate << COLUMN_BITS) | column, mode="clip")
    itself = words >> (32 - CHANCE_BITS) < cell >> COLUMN_BITS
    counts = np.where(itself, column, cell & (2**COLUMN_BITS - 1))
    counts += rate - np.minimum(rate, TABLE_REACH)
    return counts


def _draw_fractions(rate: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Poisson numbers of rates below 1: how many steps of their distribution a random word of 32 bits lies above."""
    chance = words.astype(np.float32)
    chance *= np.float32(2.0**-32)
    reached = np.exp(-rate)
    counts = (chance >= reached).astype(np.uint32)
    reached += reached * rate
    rest = np.flatnonzero(chance >= reached)  # one pixel in ten
    rate, chance, reached = rate[rest], chance[rest], reached[rest]
    step = reached * (rate / (1 + rate))
    more = np.zeros(rest.size, np.uint32)
    for number in range(2, 9):
        more += chance >= reached
        step *= rate / np.float32(number)
        reached += step
    counts[rest] += more
    return counts


@cache
def _table() -> np.ndarray:
    """Alias tables of the rates 0 to 255, end to end, small enough to stay in a processor's cache.

    Each cell stands for a count, by its place, and another, in its lowest bits, counted from ``rate - TABLE_REACH`` or
    from 0; the bits above are how many times of 65536 the former is drawn.
    """
    columns = 2**COLUMN_BITS
    table = np.empty((MAX_TABLE_RATE + 1, columns), np.uint32)
    for rate in range(MAX_TABLE_RATE + 1):
        counts = max(rate - TABLE_REACH, 0) + np.arange(columns)
        probability = np.exp(xlogy(counts, rate) - gammaln(counts + 1) - rate)
        height, alias = _alias_table(probability / probability.sum())
        table[rate] = ((height * 2**CHANCE_BITS).round().astype(np.uint32) << COLUMN_BITS) | alias
    return table.reshape(-1)


def _alias_table(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of equal height that hold one count or two, by Vose's method: a fuller one fills what another lacks."""
    height = (probability * len(probability)).tolist()
    alias = list(range(len(height)))
    low = [column for column, size in enumerate(height) if size < 1]
    full = [column for column, size in enumerate(height) if size >= 1]
    while low and full:
        column, donor = low.pop(), full[-1]
        alias[column] = donor
        height[donor] -= 1 - height[column]
        if height[donor] < 1:
            low.append(full.pop())
    for column in low + full:  # what rounding leaves is 1
        height[column] = 1.0
    return np.asarray(height), np.asarray(alias, np.uint32)


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
    slider = Slider("Shot noise", 5.0, 0.05, "1 is that of as many counts as grey levels")
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
        # Neither a rate below 0 nor NaN can be drawn from, and counts beyond 64 bits would come back negative.
        clean = levels.nan_to_num(nan=0.0).clamp_(0.0, 1e12)
        if "photons" in drawn:
            per_level = drawn["photons"] / GREY_LEVELS
            return levels + (poisson(clean * per_level, generator) / per_level - clean)
        return torch.addcmul(levels, poisson(clean, generator) - clean, drawn["intensity"])

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
