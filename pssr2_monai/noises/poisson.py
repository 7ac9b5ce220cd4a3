"""Poisson numbers for a whole image, in half the time that torch takes for them on a processor."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.special import gammaln, xlogy

__all__ = ["poisson"]

LARGEST = 255
"""The largest rate that the table knows; a power of two less one, as the shifts below count on."""

REACH = 128
"""Counts that the table knows below and above a rate: the chance of one beyond them is less than 1e-14."""

FEW = 4096
"""Below so many numbers torch is the quicker."""

COLUMN_BITS, CHANCE_BITS = 8, 16
"""Bits of a random number that choose a cell of the table, and one of the two counts that the cell holds."""


def poisson(rate: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A Poisson number for each rate; rates are float32, finite and not negative, numbers float32, too.

    On a processor, ``Poisson(rate)`` is the sum of Poisson numbers of the rate's whole part, drawn from Walker's alias
    table (Vose, IEEE Trans. Softw. Eng. 17:972, 1991); of its fraction, by inversion; and of what exceeds 255, by
    torch. Chances below 2e-6 a pixel are neglected. On other devices, and of few numbers, torch draws them all.
    """
    if rate.device.type != "cpu" or rate.numel() < FEW:
        return torch.poisson(rate, generator=generator)
    beyond = float(rate.max()) > LARGEST
    known = (rate.clamp(max=LARGEST) if beyond else rate).numpy().reshape(-1)
    words = np.random.SFC64(generator.initial_seed()).random_raw(known.size).view(np.uint32)
    whole = known.astype(np.uint32)
    counts = _of_whole(whole, words[: known.size])
    counts += _of_fractions(known - whole.astype(np.float32), words[known.size :])
    drawn = torch.from_numpy(counts.astype(np.float32)).reshape(rate.shape)
    if beyond:
        drawn += torch.poisson((rate - LARGEST).clamp(min=0), generator=generator)
    return drawn


def _of_whole(rate: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Poisson numbers of whole rates, one for each random word of 32 bits."""
    column = words & (2**COLUMN_BITS - 1)
    cell = _table().take((rate << COLUMN_BITS) | column, mode="clip")
    itself = words >> (32 - CHANCE_BITS) < cell >> COLUMN_BITS
    counts = np.where(itself, column, cell & (2**COLUMN_BITS - 1))
    counts += rate - np.minimum(rate, REACH)
    return counts


def _of_fractions(rate: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Poisson numbers of rates below 1: how many steps of their distribution a random word of 32 bits lies above."""
    chance = words.astype(np.float32)
    chance *= np.float32(2.0**-32)
    reached = np.exp(-rate)
    counts = (chance >= reached).astype(np.uint32)
    reached += reached * rate
    rest = np.flatnonzero(chance >= reached)  # one pixel in ten goes on
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

    Each cell stands for a count, by its place, and another, in its lowest bits, counted from ``rate - REACH`` or from
    0; the bits above tell how many times of 65536 the former is meant.
    """
    columns = 2**COLUMN_BITS
    table = np.empty((LARGEST + 1, columns), np.uint32)
    for rate in range(LARGEST + 1):
        counts = max(rate - REACH, 0) + np.arange(columns)
        probability = np.exp(xlogy(counts, rate) - gammaln(counts + 1) - rate)
        height, alias = _alias_table(probability / probability.sum())
        table[rate] = ((height * 2**CHANCE_BITS).round().astype(np.uint32) << COLUMN_BITS) | alias
    return table.reshape(-1)


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
    return np.asarray(height), np.asarray(alias, np.uint32)
