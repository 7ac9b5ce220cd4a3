"""The noises of a calibration: their names and order, the space of the search, and the crappified images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from pssr2_monai.calibration.noise_profiles import COMMON_TERMS, EDGE_TERMS, PIXEL_TERMS
from pssr2_monai.crappify import NOISES, Detector
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.crappify.noise import GREY_LEVELS, Fitting
from pssr2_monai.crappify.scan_noises import variance_kept_by_blur
from pssr2_monai.errors import InputError, nearest

AUTO = "auto"  # the name of the choice between ``CANDIDATES``
CANDIDATES = ("poisson+gaussian", "correlated", "poisson+correlated")  # the simplest first
STRONG = ("poisson", "gaussian", "correlated", "correlated intensity")  # unknowns that are strengths of every pixel
FloatArray = npt.NDArray[np.floating]


def key_of(noise: str, parameter: str) -> str:
    """Return the name of a noise's parameter among the values of a calibration: the noise's alone for its strength."""
    return noise if parameter == NOISES[noise].strength else f"{noise} {parameter}"


@dataclass(frozen=True)
class Unknown:
    """A parameter of a noise that is fitted."""

    noise: str  # short name
    parameter: str
    search_to: float  # the search covers values up to this, at least
    power: int  # of the parameter that is searched evenly

    @property
    def key(self) -> str:
        return key_of(self.noise, self.parameter)

    @property
    def limits(self) -> tuple[float, float]:
        return NOISES[self.noise].limits[self.parameter]


@dataclass(frozen=True)
class NoiseModel:
    names: tuple[str, ...]  # short names of noises that declare a ``fitting``

    @classmethod
    def parse(cls, text: str) -> NoiseModel:
        """Parse names joined by ``+``, such as ``poisson+gaussian``."""
        names = tuple(name.strip().lower().replace("-", "_") for name in text.split("+"))
        for number, name in enumerate(names):
            if name not in NOISES:
                known = ", ".join(name for name, noise in NOISES.items() if noise.fitting)
                raise InputError(
                    f"model {text!r}: there is no noise {name!r}{nearest(name, NOISES)} (there are {known})"
                )
            if name == "detector":
                raise InputError(f"model {text!r}: the detector's gain and offset are always fitted; leave it out")
            if NOISES[name].fitting is None:
                raise InputError(
                    f"model {text!r}: {name} cannot be separated from the contrast, which is fitted image by image; "
                    "leave it out, and add it to the preset by hand"
                )
            if name in names[:number]:
                raise InputError(f"model {text!r}: {name} is named twice; name it once")
        return cls(names)

    @property
    def terms(self) -> frozenset[str]:
        return COMMON_TERMS.union(*(fitting_of(name).terms for name in self.names))

    @property
    def by_pixel(self) -> bool:
        """Whether each pixel's noise depends on that pixel alone."""
        return self.terms <= PIXEL_TERMS

    @property
    def at_edges(self) -> bool:
        """Whether a noise shows at edges alone, so that edges must be looked at."""
        return bool(self.terms & EDGE_TERMS)

    @property
    def unknowns(self) -> tuple[Unknown, ...]:
        """The parameters that are fitted. What grows with brightness is the Poisson noise's where there is one."""
        unknowns = []
        for name in self.names:
            fitting = fitting_of(name)
            unknowns.append(Unknown(name, NOISES[name].strength, fitting.search_to, fitting.power))
            unknowns += [
                Unknown(name, parameter, search_to, 2 if parameter == "intensity" else 1)
                for parameter, search_to in fitting.besides.items()
                if parameter != "intensity" or "poisson" not in self.names
            ]
        return tuple(unknowns)

    @property
    def strengths(self) -> tuple[str | None, str | None]:
        """The keys of the noise that grows with brightness, and of that which does not."""
        keys = [unknown.key for unknown in self.unknowns]
        shot = next((key for key in ("poisson", "correlated intensity") if key in keys), None)
        return shot, next((key for key in ("gaussian", "correlated") if key in keys), None)

    @property
    def steps(self) -> list[str]:
        """The noises with the detector, whose offset follows what depends on the signal: Poisson or correlated noise.

        A Gaussian noise in that place adds the offset itself, by its ``gain``.
        """
        shot = (self.strengths[0] or "").split(" ")[0]
        place = self.names.index(shot) + 1 if shot else 0
        if self.names[place : place + 1] == ("gaussian",):
            return list(self.names)
        return [*self.names[:place], "detector", *self.names[place:]]

    @property
    def offset_step(self) -> int:
        return self.steps.index("detector" if "detector" in self.steps else "gaussian")

    def parameters_of(self, name: str, values: Mapping[str, float]) -> dict[str, float]:
        """Return the parameters of one noise out of the values of all."""
        return {unknown.parameter: values[unknown.key] for unknown in self.unknowns if unknown.noise == name}

    def variance(self, values: Mapping[str, float], signal: FloatArray) -> FloatArray:
        """The variance of the noises of every pixel at grey levels without offset."""
        chosen = {key: values[key] ** 2 for key in STRONG if key in values}
        growing = sum(chosen.get(key, 0.0) for key in ("poisson", "correlated intensity"))
        constant = sum(chosen.get(key, 0.0) for key in ("gaussian", "correlated"))
        return np.asarray(growing * np.maximum(signal, 0) + constant)

    def crappified(
        self,
        values: Mapping[str, float],
        clean: FloatArray,
        offsets: FloatArray,
        seed: int,
        black: float = 0.0,
        factors: FloatArray | None = None,
    ) -> FloatArray:
        """Add the noises to clean images ``(images, Y, X)``, grey levels without their offsets; without rounding.

        One seed draws the same random numbers whatever the parameters. The black level is taken off first, and added
        again with the offset. ``factors`` make the noise of each image so many times as strong.
        """
        image = torch.from_numpy(clean[:, None]) / GREY_LEVELS
        chain: list[Callable[[Any], Any]] = [Detector(offset=-black)] if black else []
        for number, name in enumerate(self.steps):
            noise = NOISES[name](**self.parameters_of(name, values))
            noise.set_random_state(seed + number)
            noise.randomize(image)
            if factors is not None:
                noise.drawn |= {key: noise.drawn[key] * factors for key in noise.drawn if strong(name, key)}
            if number == self.offset_step:
                noise.drawn["gain" if name == "gaussian" else "offset"] = offsets + black
            chain.append(partial(noise, randomize=False))
        noisy = Crappify(scale=1, noises=chain, clip=False)(image)  # the files' levels clip it
        return np.asarray(noisy[:, 0].numpy() * GREY_LEVELS)


def strong(noise: str, parameter: str) -> bool:
    """Whether a parameter is the strength of a noise of every pixel, which differs from image to image."""
    return key_of(noise, parameter) in STRONG


def fitting_of(name: str) -> Fitting:
    return cast(Fitting, NOISES[name].fitting)  # NoiseModel.parse takes no noise without one


@dataclass(frozen=True)
class SearchSpace:
    """The unit box of a search, and the parameters that its points stand for.

    Noises add up by their variances: the coordinates are proportional to them, but to widths themselves. Of noise that
    grows with brightness and noise that does not they are the variance that both have at the mean brightness, and the
    share of the former in it: a distance decides these two well, and the two intensities badly.
    """

    model: NoiseModel
    brightness: float  # mean, grey levels, without the offset
    highest: Mapping[str, float]  # the greatest value of each parameter
    behind_blur: float | None = None  # sigma of the guess where a blur follows the noises, searched by what it leaves

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.highest)

    @property
    def _powers(self) -> dict[str, int]:
        return {unknown.key: unknown.power for unknown in self.model.unknowns}

    def values(self, point: Sequence[float]) -> dict[str, float]:
        """Return the parameters at a point of the unit box."""
        place = dict(zip(self.keys, (min(max(float(x), 0.0), 1.0) for x in point), strict=True))
        values = {key: self.highest[key] * x ** (1 / self._powers[key]) for key, x in place.items()}
        shot, steady = self.model.strengths
        if shot is not None and steady is not None:
            variance, share = place[steady] * self.highest[steady] ** 2, place[shot]
            values[shot] = math.sqrt(variance * share / self.brightness)
            values[steady] = math.sqrt(variance * (1 - share))
        factor = self._before_blur(values)
        return {key: value * factor if key in STRONG else value for key, value in values.items()}

    def point(self, values: Mapping[str, float]) -> list[float]:
        """Return the point of the unit box that stands for some parameters, or the nearest."""
        factor = self._before_blur(values)
        behind = {key: values[key] / (factor if key in STRONG else 1.0) for key in self.keys}
        place = {key: (behind[key] / self.highest[key]) ** self._powers[key] for key in self.keys}
        shot, steady = self.model.strengths
        if shot is not None and steady is not None:
            growing, constant = behind[shot] ** 2 * self.brightness, behind[steady] ** 2
            place[shot] = growing / (growing + constant) if growing + constant > 0 else 0.5
            place[steady] = (growing + constant) / self.highest[steady] ** 2
        return [min(max(place[key], 0.0), 1.0) for key in self.keys]

    def _before_blur(self, values: Mapping[str, float]) -> float:
        """The factor by which noise must be stronger to be as strong behind the blur as behind that of the guess."""
        if self.behind_blur is None:
            return 1.0
        return math.sqrt(variance_kept_by_blur(self.behind_blur) / variance_kept_by_blur(values["blur"]))


def search_space(model: NoiseModel, guess: Mapping[str, float], brightness: float) -> SearchSpace:
    """Return the space around a guess: up to 1.5 times the standard deviation that it gives each noise, at least."""
    highest = {
        unknown.key: min(max(1.5 * guess[unknown.key], unknown.search_to), unknown.limits[1])
        for unknown in model.unknowns
    }
    shot, steady = model.strengths
    if shot is not None and steady is not None:
        highest[steady] = 1.5 * math.hypot(guess[shot] * math.sqrt(max(brightness, 0.0)), guess[steady], 1.0)
    behind_blur = guess["blur"] if "blur" in model.names[1:] else None
    return SearchSpace(model, max(brightness, 1.0), highest, behind_blur)
