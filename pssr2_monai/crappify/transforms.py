"""Dictionary forms of the crappifier and of single noises."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable
from monai.utils import ensure_tuple_rep
from torch.profiler import record_function

from pssr2_monai.crappify.crappify import Downsample, crappified
from pssr2_monai.crappify.distributions import Parameter
from pssr2_monai.crappify.noise import Noise
from pssr2_monai.crappify.pixel_noises import Detector, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.crappify.scan_noises import Blur, CorrelatedNoise, Drift, LineJitter, LineNoise


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
    """Make the LR input from the HR target.

    Args:
        keys: HR images, as a rule ``label``.
        crappifier: a ``Crappify``; or any callable that takes and returns an image ``(frames, Y, X)`` in [0, 1]; or a
            network from and to ``(batch, frames, Y, X)`` on the images' device, which gets no gradient.
        output_keys: where the LR images go, as a rule ``image``.
        limits_key: where an item has the ends of the detector's range, if it has them; see ``Crappify``.
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
        limits_key: str = "limits",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crappifier = crappifier
        self.limits_key = limits_key
        self.output_keys = ensure_tuple_rep(output_keys, len(self.keys))

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Crappifyd:
        """Seed the crappifier; nothing else draws."""
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
                    d[output_key] = crappified(self.crappifier, d[key], d.get(self.limits_key))
        return d


class NoiseTransform(Randomizable, MapTransform):
    """Base of the dictionary forms of noises, which ``dictionary_form`` makes: all keys get the same draw."""

    noise_type: ClassVar[type[Noise]]
    backend = Noise.backend

    def __init__(
        self, keys: KeysCollection, *values: Parameter, allow_missing_keys: bool = False, **parameters: Parameter
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.noise = self.noise_type(*values, **parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.noise_type,), vars(self)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> NoiseTransform:
        self.noise.set_random_state(seed=seed, state=state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for number, key in enumerate(self.key_iterator(d)):
            d[key] = self.noise(d[key], randomize=number == 0)
        return d


@cache
def dictionary_form(noise: type[Noise]) -> type[NoiseTransform]:
    """Return the dictionary form of a noise: ``keys``, then the noise's parameters, then ``allow_missing_keys``.

    Example:
        >>> from pssr2_monai.crappify import Blur
        >>> inspect.signature(dictionary_form(Blur)).parameters.keys()
        odict_keys(['keys', 'sigma', 'allow_missing_keys'])
    """
    kinds = inspect.Parameter
    parameters = inspect.signature(noise).parameters.values()
    signature = inspect.Signature(
        [
            kinds("keys", kinds.POSITIONAL_OR_KEYWORD, annotation=KeysCollection),
            *(parameter for parameter in parameters if parameter.kind is not kinds.VAR_KEYWORD),
            kinds("allow_missing_keys", kinds.KEYWORD_ONLY, default=False, annotation=bool),
        ]
    )
    summary, _, details = (inspect.getdoc(noise) or noise.__name__).partition("\n")
    details = details.partition("\nExample:")[0].partition("\nSource:")[0]
    arguments = "Args:\n    keys: images to add the noise to; all get the same draw.\n"
    document = f"Dictionary form of ``{noise.__name__}``. {summary}\n{details.replace('Args:' + chr(10), arguments)}"
    body = {"noise_type": noise, "__doc__": document.rstrip(), "__signature__": signature, "__module__": __name__}
    return type(f"{noise.__name__}d", (NoiseTransform,), body)


def _unpickled(noise: type[Noise]) -> NoiseTransform:
    """A dictionary form without its state, which pickle adds: the forms of users' noises have no module."""
    form = dictionary_form(noise)  # type: ignore[arg-type] # mypy takes a class for not hashable
    return form.__new__(form)


Blurd = dictionary_form(Blur)
CorrelatedNoised = dictionary_form(CorrelatedNoise)
Detectord = dictionary_form(Detector)
Driftd = dictionary_form(Drift)
Gammad = dictionary_form(Gamma)
GaussianNoised = dictionary_form(GaussianNoise)
LineJitterd = dictionary_form(LineJitter)
LineNoised = dictionary_form(LineNoise)
PoissonNoised = dictionary_form(PoissonNoise)
SaltPepperNoised = dictionary_form(SaltPepperNoise)
