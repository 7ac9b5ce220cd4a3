"""Poisson numbers for a whole image, in half the time that torch takes for them on a processor."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.special import gammaln, xlogy

__all__ = ["poisson"]

_COLUMNS = 512
"""Counts that the tables know: a rate of 255 exceeds them with a probability below 1e-40."""

_LARGEST = 255
"""The largest rate that the tables know."""

_BITS = 24
"""Bits of a random fraction, as many as a float32 holds exactly."""


def poisson(rate: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A Poisson number for each rate, float32 like the rates, which must be finite and not negative.

    On a processor, ``Poisson(rate)`` is the sum of Poisson numbers of the rate's whole part, drawn from Walker's alias
    tables (Vose, IEEE Trans. Softw. Eng. 17:972, 1991); of its fraction, by inversion; and of what exceeds 255, by
    torch. Chances below 1e-7 a pixel are neglected. Elsewhere torch draws them all.
    """
    if rate.device.type != "cpu":
        return torch.poisson(rate, generator=generator)
    known = rate.clamp(max=_LARGEST).numpy()
    # Of its 64 bits each random number gives 9 for the column, 24 for the fraction's and 24 for the column's chance.
    raw = np.random.SFC64(generator.initial_seed()).random_raw(known.size).reshape(known.shape)
    whole = known.astype(np.int32)
    column = (raw & (_COLUMNS - 1)).astype(np.int32)
    chances, aliases = _tables()
    cell = whole * _COLUMNS + column
    counts = np.where(_fraction(raw >> 40) < chances.take(cell), column, aliases.take(cell)).astype(np.float32)
    counts += _of_fractions(known - whole, _fraction(raw >> 9))
    drawn = torch.from_numpy(counts)
    excess = rate - _LARGEST
    if bool((excess > 0).any()):
        drawn += torch.poisson(excess.clamp(min=0), generator=generator)
    return drawn


def _fraction(bits: np.ndarray) -> np.ndarray:
    """The lowest 24 bits as a number in [0, 1)."""
    return (bits.astype(np.int32) & (2**_BITS - 1)) * np.float32(2.0**-_BITS)


def _of_fractions(rate: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Poisson numbers of rates below 1 by inversion: how many steps of the distribution a chance lies above."""
    step = np.exp(-rate)
    reached = step.copy()
    counts = (chance >= reached).astype(np.float32)
    step *= rate
    reached += step
    # One pixel in ten gets more than 1; only these go on.
    rest = np.flatnonzero(chance >= reached)
    if rest.size:
        rate, chance, step, reached = (each.reshape(-1)[rest] for each in (rate, chance, step, reached))
        more = np.zeros(rest.size, np.float32)
        for number in range(2, 10):
            more += chance >= reached
            step *= rate / number
            reached += step
        counts.reshape(-1)[rest] += more
    return counts


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Alias tables of the rates 0 to 255, end to end: for each count its chance to stay, and what it else becomes."""
    counts = np.arange(_COLUMNS)
    chances = np.empty((_LARGEST + 1, _COLUMNS), np.float32)
    aliases = np.empty((_LARGEST + 1, _COLUMNS), np.int16)
    for rate in range(_LARGEST + 1):
        probability = np.exp(xlogy(counts, rate) - gammaln(counts + 1) - rate)
        chances[rate], aliases[rate] = _alias_table(probability / probability.sum())
    return chances.reshape(-1), aliases.reshape(-1)


def _alias_table(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of equal height that hold one count or two, Vose's way: what lacks in one is taken from a fuller one."""
    height = (probability * len(probability)).tolist()
    alias = list(range(len(height)))
    low = [column for column, each in enumerate(height) if each < 1]
    full = [column for column, each in enumerate(height) if each >= 1]
    while low and full:
        column, other = low.pop(), full[-1]
        alias[column] = other
        height[other] -= 1 - height[column]
        if height[other] < 1:
            low.append(full.pop())
    for column in low + full:  # what rounding leaves is 1
        height[column] = 1.0
    return np.asarray(height), np.asarray(alias)
