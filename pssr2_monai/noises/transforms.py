"""Dictionary forms of the noises, for pipelines that chain them by themselves."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from pssr2_monai.noises import (
    Blur,
    Detector,
    Drift,
    Gamma,
    GaussianNoise,
    LineJitter,
    LineNoise,
    Noise,
    Parameter,
    PoissonNoise,
    SaltPepperNoise,
)

__all__ = [
    "Blurd",
    "Detectord",
    "Driftd",
    "Gammad",
    "GaussianNoised",
    "LineJitterd",
    "LineNoised",
    "PoissonNoised",
    "SaltPepperNoised",
]


class _Noised(Randomizable, MapTransform):
    """Dictionary form of one noise: all keys get the same draw.

    Args:
        keys: images to add the noise to.
        values: and ``parameters``: those of the array form.
        allow_missing_keys: skip keys that an item does not have.
    """

    noise_type: ClassVar[type[Noise]]
    backend = Noise.backend

    def __init__(
        self, keys: KeysCollection, *values: Parameter, allow_missing_keys: bool = False, **parameters: Parameter
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.noise = self.noise_type(*values, **parameters)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> _Noised:
        self.noise.set_random_state(seed=seed, state=state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for number, key in enumerate(self.key_iterator(d)):
            d[key] = self.noise(d[key], randomize=number == 0)
        return d


class Blurd(_Noised):
    """Dictionary form of ``pssr2_monai.noises.Blur``."""

    noise_type = Blur


class Detectord(_Noised):
    """Dictionary form of ``pssr2_monai.noises.Detector``."""

    noise_type = Detector


class Driftd(_Noised):
    """Dictionary form of ``pssr2_monai.noises.Drift``."""

    noise_type = Drift


class Gammad(_Noised):
    """Dictionary form of ``pssr2_monai.noises.Gamma``."""

    noise_type = Gamma


class GaussianNoised(_Noised):
    """Dictionary form of ``pssr2_monai.noises.GaussianNoise``."""

    noise_type = GaussianNoise


class LineJitterd(_Noised):
    """Dictionary form of ``pssr2_monai.noises.LineJitter``."""

    noise_type = LineJitter


class LineNoised(_Noised):
    """Dictionary form of ``pssr2_monai.noises.LineNoise``."""

    noise_type = LineNoise


class PoissonNoised(_Noised):
    """Dictionary form of ``pssr2_monai.noises.PoissonNoise``."""

    noise_type = PoissonNoise


class SaltPepperNoised(_Noised):
    """Dictionary form of ``pssr2_monai.noises.SaltPepperNoise``."""

    noise_type = SaltPepperNoise
