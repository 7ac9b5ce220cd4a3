"""How the parameters of noises are drawn: fixed, from a range, or together with those of other noises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from pssr2_monai.errors import InputError

Parameter = float | Sequence[float] | Mapping[str, float | Sequence[float]]
"""A number; a pair ``[low, high]`` to draw from uniformly; ``{"log": [low, high]}``, evenly in the logarithm, for what
spans orders of magnitude; ``{"together": [first, ..., last]}``, a place along a list that is the same for all noises of
a crappifier, for what goes together; or ``{"mean": m, "spread": s}``, a normal distribution of standard deviation
``s``, clipped to the values that the parameter may have (as in PSSR2)."""
_NORMAL_REACH = 2.0  # standard deviations from the mean of a normally drawn parameter to the ends of its range


@dataclass(frozen=True)
class Uniform:
    """Equally likely anywhere from ``low`` to ``high``; a fixed number where the two are equal."""

    low: float
    high: float

    def draw(self, random: np.random.RandomState, places: np.ndarray) -> np.ndarray:
        return random.uniform(self.low, self.high, size=len(places))

    def at(self, share: float) -> float:
        """Return the value at a share of the range, 0 for its lower and 1 for its upper end."""
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class LogUniform:
    """Equally likely in every octave from ``low``, above 0, to ``high``."""

    low: float
    high: float

    def draw(self, random: np.random.RandomState, places: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(random.uniform(math.log(self.low), math.log(self.high), size=len(places))))

    def at(self, share: float) -> float:
        """Return the value at a share of the range's octaves."""
        return self.low * (self.high / self.low) ** share


@dataclass(frozen=True)
class Normal:
    """Normal about ``mean`` with standard deviation ``spread``, clipped to ``[least, greatest]``."""

    mean: float
    spread: float
    least: float
    greatest: float

    def draw(self, random: np.random.RandomState, places: np.ndarray) -> np.ndarray:
        return random.normal(self.mean, self.spread, size=len(places)).clip(self.least, self.greatest)

    def at(self, share: float) -> float:
        """Return the value at a share of the range, which ends two standard deviations from the mean."""
        value = self.mean + _NORMAL_REACH * (2 * share - 1) * self.spread
        return min(max(value, self.least), self.greatest)


@dataclass(frozen=True)
class Together:
    """At one place, from 0 to 1, of a list with those of other noises; between two entries evenly in the logarithm."""

    values: tuple[float, ...]

    def draw(self, random: np.random.RandomState, places: np.ndarray) -> np.ndarray:
        return np.array([self.at(float(place)) for place in places])

    def at(self, share: float) -> float:
        """Return the value at a share of the way along the list."""
        place = share * (len(self.values) - 1)
        number = min(int(place), len(self.values) - 2)
        between = LogUniform if min(self.values[number : number + 2]) > 0 else Uniform
        return between(*self.values[number : number + 2]).at(place - number)


Distribution = Uniform | LogUniform | Normal | Together


def places_of(data: Any, random: np.random.RandomState, distributions: Iterable[Distribution]) -> np.ndarray:
    """Return a place in [0, 1] for each image of ``data``, drawn if any of the distributions needs it."""
    images = data.shape[0] if data.ndim >= 4 else 1
    if any(isinstance(distribution, Together) for distribution in distributions):
        return random.uniform(size=images)
    return np.zeros(images)


def distribution_of(name: str, value: Parameter, least: float, greatest: float) -> Distribution:
    """Return how a parameter is drawn that a preset or a program gives; errors call it ``name``."""
    if isinstance(value, Mapping):
        if set(value) == {"together"}:
            return _together(f"{name}: together", value["together"], least, greatest)
        if set(value) == {"log"}:
            bounds = _range(f"{name}: log", value["log"], least, greatest)
            if bounds.low <= 0:
                raise InputError(f"{name}: log: {bounds.low:g} has no logarithm; the lower end must be above 0")
            return LogUniform(bounds.low, bounds.high)
        if set(value) != {"mean", "spread"}:
            raise InputError(
                f"{name}: found the keys {', '.join(map(str, value))}; a mapping has 'mean' and 'spread', or 'log', or "
                "'together'"
            )
        mean, spread = _number(name, value["mean"]), _number(f"{name}: spread", value["spread"])
        _check_within(f"{name}: mean", mean, least, greatest)
        _check_within(f"{name}: spread", spread, 0.0, math.inf)
        return Normal(mean, spread, least, greatest)
    return _range(name, value, least, greatest)


def _together(name: str, values: Any, least: float, greatest: float) -> Together:
    if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, str) or len(values) < 2:
        raise InputError(f"{name}: {values!r} is no list of two numbers or more")
    numbers = tuple(_number(name, value) for value in values)
    for number in numbers:
        _check_within(name, number, least, greatest)
    return Together(numbers)


def _range(name: str, value: Any, least: float, greatest: float) -> Uniform:
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        low = high = _number(name, value)
    elif len(value) != 2:
        raise InputError(f"{name}: expected a number or a pair [low, high], got {len(value)} values")
    else:
        low, high = (_number(name, end) for end in value)
    if low > high:
        raise InputError(f"{name}: the range [{low:g}, {high:g}] is upside down; write the lower end first")
    _check_within(name, low, least, greatest)
    _check_within(name, high, least, greatest)
    return Uniform(low, high)


def _number(name: str, value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(
            f"{name}: {value!r} is not a number; give one, a pair [low, high], "
            "{'log': [low, high]}, {'together': [...]} or {'mean': ..., 'spread': ...}"
        )
    return float(value)


def _check_within(name: str, value: float, least: float, greatest: float) -> None:
    if value < least:
        limit = f"is too small; it must be at least {least:g}" if least else "must not be negative"
        raise InputError(f"{name}: {value:g} {limit}")
    if value > greatest:
        raise InputError(f"{name}: {value:g} is too large; it must be at most {greatest:g}")
