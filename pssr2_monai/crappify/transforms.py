"""Dictionary forms of the crappifier and of single noises."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple_rep
from torch.profiler import record_function

from pssr2_monai.crappify.crappify import Downsample
from pssr2_monai.crappify.noise import Noise, Parameter
from pssr2_monai.crappify.pixelwise import Detector, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.crappify.scan import Blur, Drift, LineJitter, LineNoise


class Downsampled(MapTransform):
    """Dictionary form of ``pssr2_monai.crappify.crappify.Downsample``."""

    backend = Downsample.backend

    def __init__(
        self,
        keys: KeysCollection,
        scale: int | Sequence[int],
        mode: str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.downsample = Downsample(scale, mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.downsample(d[key])
        return d


class Crappifyd(Randomizable, MapTransform):
    """Makes the LR input from the HR target.

    Args:
        keys: HR images, as a rule ``label``.
        crappifier: a ``Crappify``; or any callable that takes and returns an image ``(frames, Y, X)`` in [0, 1]; or a
            network that does so with ``(batch, frames, Y, X)``, on the images' device, which gets no gradient.
        output_keys: where the LR images go, as a rule ``image``.
        allow_missing_keys: skip keys that an item does not have.

    Example:
        >>> import torch
        >>> from pssr2_monai.crappify.crappify import Crappify
        >>> from pssr2_monai.crappify import PoissonNoise
        >>> crappify = Crappifyd("label", Crappify(4, [PoissonNoise()]), output_keys="image").set_random_state(seed=0)
        >>> crappify({"label": torch.rand(1, 64, 64)})["image"].shape
        torch.Size([1, 16, 16])
    """

    def __init__(
        self,
        keys: KeysCollection,
        crappifier: Callable[[NdarrayOrTensor], NdarrayOrTensor],
        output_keys: KeysCollection = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crappifier = crappifier
        self.output_keys = ensure_tuple_rep(output_keys, len(self.keys))

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Crappifyd:
        """Seeds the crappifier, which alone draws."""
        if isinstance(self.crappifier, Randomizable):
            self.crappifier.set_random_state(seed=seed, state=state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            with record_function("crappify"):
                if isinstance(self.crappifier, torch.nn.Module):
                    with torch.no_grad():
                        d[output_key] = self.crappifier(torch.as_tensor(d[key])[None])[0]
                else:
                    d[output_key] = self.crappifier(d[key])
        return d


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
    """Dictionary form of ``pssr2_monai.crappify.Blur``."""

    noise_type = Blur


class Detectord(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.Detector``."""

    noise_type = Detector


class Driftd(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.Drift``."""

    noise_type = Drift


class Gammad(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.Gamma``."""

    noise_type = Gamma


class GaussianNoised(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.GaussianNoise``."""

    noise_type = GaussianNoise


class LineJitterd(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.LineJitter``."""

    noise_type = LineJitter


class LineNoised(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.LineNoise``."""

    noise_type = LineNoise


class PoissonNoised(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.PoissonNoise``."""

    noise_type = PoissonNoise


class SaltPepperNoised(_Noised):
    """Dictionary form of ``pssr2_monai.crappify.SaltPepperNoise``."""

    noise_type = SaltPepperNoise
