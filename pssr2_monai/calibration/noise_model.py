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

from pssr2_monai.calibration.noise_profiles import COMMON_TERMS, EDGE_TERMS, PIXEL_TERMS, NoiseProfile, Scene
from pssr2_monai.crappify import NOISES, Detector
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.crappify.noise import GREY_LEVELS, Fitting
from pssr2_monai.crappify.scan_noises import variance_kept_by_blur
from pssr2_monai.errors import InputError, nearest
from pssr2_monai.images.noise_estimates import black_level, variance_line

FloatArray = npt.NDArray[np.floating]


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
    def steps(self) -> list[str]:
        """The noises with the detector, whose offset follows what depends on the signal: Poisson noise.

        A Gaussian noise in that place adds the offset itself, by its ``gain``.
        """
        place = self.names.index("poisson") + 1 if "poisson" in self.names else 0
        if self.names[place : place + 1] == ("gaussian",):
            return list(self.names)
        return [*self.names[:place], "detector", *self.names[place:]]

    @property
    def offset_step(self) -> int:
        return self.steps.index("detector" if "detector" in self.steps else "gaussian")

    def crappified(
        self, values: Mapping[str, float], clean: FloatArray, offsets: FloatArray, seed: int, black: float = 0.0
    ) -> FloatArray:
        """Add the noises to clean images ``(images, Y, X)``, grey levels without their offsets; without rounding.

        One seed draws the same random numbers whatever the parameters. The black level is taken off first, and added
        again with the offset.
        """
        image = torch.from_numpy(clean[:, None]) / GREY_LEVELS
        chain: list[Callable[[Any], Any]] = [Detector(offset=-black)] if black else []
        for number, name in enumerate(self.steps):
            noise = NOISES[name](**({NOISES[name].strength: values[name]} if name in values else {}))
            noise.set_random_state(seed + number)
            noise.randomize(image)
            if number == self.offset_step:
                noise.drawn["gain" if name == "gaussian" else "offset"] = offsets + black
            chain.append(partial(noise, randomize=False))
        noisy = Crappify(scale=1, noises=chain, clip=False)(image)  # the files' levels clip it
        return np.asarray(noisy[:, 0].numpy() * GREY_LEVELS)


def fitting_of(name: str) -> Fitting:
    return cast(Fitting, NOISES[name].fitting)  # NoiseModel.parse takes no noise without one


@dataclass(frozen=True)
class SearchSpace:
    """The unit box of a search, and the parameters that its points stand for.

    Noises add up by their variances: the coordinates are proportional to them. Of Poisson and Gaussian noise
    together they are the variance that both have at the mean brightness, and the share of Poisson noise in it: a
    distance decides these two well, and the two intensities badly.
    """

    names: tuple[str, ...]  # of the noises
    brightness: float  # mean, grey levels, without the offset
    highest: Mapping[str, float]  # the greatest value of each parameter
    behind_blur: float | None = None  # sigma of the guess where a blur follows the noises, searched by what it leaves

    def values(self, point: Sequence[float]) -> dict[str, float]:
        """Return the parameters at a point of the unit box."""
        place = dict(zip(self.names, (min(max(float(x), 0.0), 1.0) for x in point), strict=True))
        values = {name: self.highest[name] * x ** (1 / fitting_of(name).power) for name, x in place.items()}
        if {"poisson", "gaussian"} <= place.keys():
            variance, share = place["gaussian"] * self.highest["gaussian"] ** 2, place["poisson"]
            values["poisson"] = math.sqrt(variance * share / self.brightness)
            values["gaussian"] = math.sqrt(variance * (1 - share))
        factor = self._before_blur(values)
        return {name: value * factor if name in ("poisson", "gaussian") else value for name, value in values.items()}

    def point(self, values: Mapping[str, float]) -> list[float]:
        """Return the point of the unit box that stands for some parameters, or the nearest."""
        factor = self._before_blur(values)
        behind = {name: values[name] / (factor if name in ("poisson", "gaussian") else 1.0) for name in self.names}
        place = {name: (behind[name] / self.highest[name]) ** fitting_of(name).power for name in self.names}
        if {"poisson", "gaussian"} <= place.keys():
            shot, steady = behind["poisson"] ** 2 * self.brightness, behind["gaussian"] ** 2
            place["poisson"] = shot / (shot + steady) if shot + steady > 0 else 0.5
            place["gaussian"] = (shot + steady) / self.highest["gaussian"] ** 2
        return [min(max(place[name], 0.0), 1.0) for name in self.names]

    def _before_blur(self, values: Mapping[str, float]) -> float:
        """The factor by which noise must be stronger to be as strong behind the blur as behind that of the guess."""
        if self.behind_blur is None:
            return 1.0
        return math.sqrt(variance_kept_by_blur(self.behind_blur) / variance_kept_by_blur(values["blur"]))


def first_guess(
    model: NoiseModel, scene: Scene, profile: NoiseProfile, offset: float
) -> tuple[dict[str, float], float]:
    """Return parameters from the moments of a profile, where the search begins, and the black level of the images."""
    values, variance = {}, profile.bin_spread**2
    along_x, along_y = profile.neighbours.mean(axis=1).tolist()
    if "salt_pepper" in model.names:
        values["salt_pepper"] = 100 * float(profile.tails.mean())
        # Lost pixels count with the reach of their bin.
        variance = np.maximum(variance - profile.tails * profile.reach**2, 0.1 * variance)
    if "line" in model.names:
        # What a row has in common correlates along X, and not along Y.
        values["line"] = profile.spread * math.sqrt(max(along_x - along_y, 0.0))
        variance = np.maximum(variance - values["line"] ** 2, 0.1 * variance)
    if "jitter" in model.names:
        values["jitter"] = float(profile.shifts.mean())
    if "blur" in model.names[1:]:  # of other noise, and not only the beam's
        # White noise behind a Gaussian blur correlates by exp(-1 / (4 sigma**2)) with its neighbour.
        values["blur"] = math.sqrt(-1 / (4 * math.log(min(max((along_x + along_y) / 2, 0.05), 0.95))))
        variance = variance / variance_kept_by_blur(values["blur"])
    elif "blur" in model.names:
        values["blur"] = math.sqrt(max(2 * float(profile.sharpness.mean()), 0.1))
    brightness = scene.brightness - offset
    black = black_level(brightness, variance) if "poisson" in model.names else 0.0
    values |= variance_line(brightness - black, variance, model.names)
    return {name: values.get(name, fitting_of(name).search_to / 2) for name in model.names}, black


def search_space(model: NoiseModel, guess: Mapping[str, float], brightness: float) -> SearchSpace:
    """Return the space around a guess: up to 1.5 times the standard deviation that it gives each noise, at least."""
    highest = {name: max(1.5 * guess[name], fitting_of(name).search_to) for name in model.names}
    if {"poisson", "gaussian"} <= highest.keys():
        highest["gaussian"] = 1.5 * math.hypot(guess["poisson"] * math.sqrt(brightness), guess["gaussian"], 1.0)
    return SearchSpace(model.names, max(brightness, 1.0), highest, guess["blur"] if "blur" in model.names[1:] else None)
