"""What a noise is, and what there is to know about one: its class says it all, and registers itself.

A noise has parameters that are fixed or drawn anew for each image, and a seed that replays it. Images are ``(..., Y,
X)`` arrays or tensors with values in [0, 1]; parameters count in grey levels of an 8-bit image, where 1.0 is level 255.
The first of four or more dimensions counts images, ``(batch, frames, Y, X)`` or ``(batch, channels, Z, Y, X)``, each of
which gets its own parameters; its frames share them, and differ in their noise.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy
import torch
from monai.config import NdarrayOrTensor
from monai.transforms import Randomizable, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from pssr2_monai.crappify.distributions import Parameter, distribution_of, places_of
from pssr2_monai.errors import InputError
from pssr2_monai.randomness import Seeded

GREY_LEVELS = 255.0  # grey level that 1.0 stands for
NOISES: dict[str, type[Noise]] = {}  # by short name, in the order of definition; a subclass of ``Noise`` adds itself
FloatArray = npt.NDArray[np.floating]
_SEED_END = 2**32 - 1
_CURVE_LEVELS, _CURVE_SEED = 256, 0
_CURVE_IMAGES, _CURVE_IMAGE_SIDE = 18, 96  # flat images to measure a noise without formula on; pixels


@dataclass(frozen=True)
class Slider:
    """How the strength of a noise is set by hand."""

    label: str  # name for microscopists
    maximum: float  # where the slider ends; it starts at 0
    step: float  # by which it moves
    unit: str  # unit and meaning of the value
    first: bool = False  # whether the noise acts before all others, as the beam does


@dataclass(frozen=True)
class Equivalent:
    """A parameter that sets the strength of a noise in another unit."""

    convert: Callable[[float], float]  # to the strength
    inverse: Callable[[float], float]
    unit: str


@dataclass(frozen=True)
class Fitting:
    """How a calibration finds the strength of a noise."""

    search_to: float  # the search covers values up to this, at least
    terms: frozenset[str] = frozenset()  # of ``profile_terms`` needed besides spread, distribution and mean
    power: int = 2  # of the parameter that the variance goes with
    # Other parameters that it finds, too, each with the value to which the search covers it, at least.
    besides: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NoiseCurve:
    """What becomes of flat images, in grey levels of 0 to 255."""

    clean: FloatArray  # brightness before the noise, rising
    mean: FloatArray  # brightness after it
    variance: FloatArray  # of the pixels after it
    blur: float = 0.0  # standard deviation, in LR pixels, of the blurs among the noises
    lost: float = 0.0  # share of the pixels that become black or white whatever they were

    def response(self, grey: FloatArray) -> FloatArray:
        """Return the mean of what clean grey levels become; beyond 0 to 255 the curve continues straight."""
        return np.asarray(scipy.interpolate.make_interp_spline(self.clean, self.mean, k=1)(grey))

    def variance_at(self, grey: FloatArray) -> FloatArray:
        """Return the variance where the noisy image has these grey levels on average."""
        return np.asarray(np.interp(grey, self.mean, self.variance))

    def plus(self, variance: FloatArray | float, mean: float = 0.0) -> NoiseCurve:
        """Return the curve after independent noise of this variance and mean was added."""
        return replace(self, mean=self.mean + mean, variance=self.variance + variance)


class Noise(Seeded, Transform):
    """One noise of a crappifier: ``randomize`` draws parameters and a seed, ``apply`` uses them, replayably.

    A subclass declares its parameters in ``limits``, hands them to this constructor, and defines ``apply``; all else is
    optional. Once defined, it is in ``NOISES``; a name that starts with an underscore is left out. Its dictionary form
    is ``pssr2_monai.crappify.transforms.dictionary_form(TheNoise)``.

    Args:
        parameters: each parameter by name; see ``Parameter`` for the values.

    Attributes:
        short_name: name in models of calibration (``poisson+line``); by default the class's, without "Noise", in lower
            case with underscores.
        limits: the least and the greatest value that each parameter may have.
        strength: the parameter that a slider sets and a calibration finds.
        instead: parameters that may be given instead of the strength.
        slider: how it is set by hand; None for no slider.
        fitting: how a calibration finds it; None where calibration cannot.
        parameters: how each is drawn.
        drawn: the values of the last draw, one for each image.

    Raises:
        InputError: a parameter that the noise does not have, that is not a number, pair or mean and spread, or that may
            leave its limits; in a subclass's definition, a name that another noise has.

    Example:
        >>> class Hum(Noise):
        ...     '''Brightness that oscillates along each row.'''
        ...     limits = {"amplitude": (0.0, 255.0)}
        ...     def apply(self, levels, generator, **drawn):
        ...         return levels + drawn["amplitude"] * torch.sin(torch.arange(levels.shape[-1]))
        >>> NOISES.pop("hum")(amplitude=[2, 6]).set_random_state(0)(np.zeros((1, 8, 8))).shape
        (1, 8, 8)
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]
    short_name: ClassVar[str] = ""
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}
    strength: ClassVar[str] = ""
    instead: ClassVar[Mapping[str, Equivalent]] = {}
    slider: ClassVar[Slider | None] = None
    fitting: ClassVar[Fitting | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if (cls.slider or cls.fitting) and cls.strength not in cls.limits:
            raise TypeError(
                f"{cls.__name__}: strength {cls.strength!r} is not among its limits: {', '.join(cls.limits)}"
            )
        if "apply" in vars(cls) and "propagate" not in vars(cls):
            cls.propagate = Noise.propagate  # type: ignore[method-assign]  # the formula of the base may not hold
        if not cls.__name__.startswith("_"):
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
            cls.short_name = vars(cls).get("short_name") or words.removesuffix("_noise")
            _register(cls)

    def __init__(self, **parameters: Parameter) -> None:
        kind = type(self).__name__
        for name in parameters:
            if name not in self.limits:
                raise InputError(f"{kind}: there is no parameter {name!r}; it takes {' and '.join(self.limits)}")
        self.parameters = {
            name: distribution_of(f"{kind}: {name}", value, *self.limits[name]) for name, value in parameters.items()
        }
        self.drawn: dict[str, np.ndarray] = {}
        self.noise_seed = 0

    @classmethod
    def target(cls) -> str:
        """Return the ``_target_`` of configs and presets: ``pssr2_monai.Blur``; the path of classes elsewhere."""
        package = cls.__module__.partition(".")[0]
        return f"{package}.{cls.__name__}" if package == "pssr2_monai" else f"{cls.__module__}.{cls.__qualname__}"

    def randomize(self, data: Any, places: np.ndarray | None = None) -> None:
        """Draw each parameter, once for every image of ``data``, and the seed of the noise.

        ``places`` are those along lists, ``(images,)`` in [0, 1], which a crappifier draws once for all of its noises.
        """
        if places is None:
            places = places_of(data, self.R, self.parameters.values())
        self.drawn = {name: distribution.draw(self.R, places) for name, distribution in self.parameters.items()}
        self.noise_seed = int(self.R.randint(_SEED_END, dtype=np.uint32))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Add the noise to ``img``, ``(..., Y, X)`` in [0, 1]; with ``randomize=False``, that of the last draw."""
        if randomize:
            self.randomize(img)
        clean = convert_to_tensor(img, dtype=torch.float32, track_meta=False)
        shape = (-1,) + (1,) * (clean.ndim - 1)
        drawn = {name: clean.new_tensor(values).reshape(shape) for name, values in self.drawn.items()}
        generator = torch.Generator(clean.device).manual_seed(self.noise_seed)
        noisy = self.apply(clean * GREY_LEVELS, generator, **drawn) / GREY_LEVELS
        return convert_to_dst_type(noisy, img, dtype=torch.float32)[0]

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        """Return the noisy image for a clean one, both in grey levels; the drawn parameters broadcast against it."""
        raise NotImplementedError

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        """Return the curve of mean and variance after this noise; without a formula it is measured on flat images."""
        noise = copy.deepcopy(self).set_random_state(_CURVE_SEED)

        def apply(image: torch.Tensor) -> NdarrayOrTensor:
            noise.randomize(image)
            noise.drawn = {name: np.full(len(image), value) for name, value in values.items()}
            return noise(image, randomize=False)

        return _measured(curve, apply)


def _register(noise: type[Noise]) -> None:
    """Add a class to ``NOISES``; one that is defined again, as in a notebook, replaces itself."""
    for other in NOISES.values():
        same = (noise.__module__, noise.__qualname__) == (other.__module__, other.__qualname__)
        if not same and (noise.short_name == other.short_name or noise.__name__ == other.__name__):
            raise InputError(
                f"{noise.__module__}.{noise.__qualname__}: {other.target()} has the class name or the short name "
                f"{noise.short_name!r} already; choose others"
            )
    NOISES[noise.short_name] = noise


def noise_classes() -> dict[str, type[Noise]]:
    """Return every registered noise by the name of its class."""
    return {noise.__name__: noise for noise in NOISES.values()}


def noise_curve(noises: Sequence[Callable[[Any], Any]], share: float = 0.5) -> NoiseCurve:
    """Return the curve of noises applied in turn, each parameter at the same share of its range.

    Displaced rows (``LineJitter``) show at edges alone and are left out, as is what clipping takes off. Slow drift and
    lines count with their whole variance. Callables that are not a ``Noise`` are measured on flat images.

    Example:
        >>> from pssr2_monai.crappify import PoissonNoise
        >>> float(noise_curve([PoissonNoise(intensity=(0.5, 1.5))]).variance_at(np.float64(100)))
        100.0
    """
    clean = np.linspace(0, GREY_LEVELS, _CURVE_LEVELS)
    curve = NoiseCurve(clean, clean.copy(), np.zeros_like(clean))
    for noise in noises:
        if isinstance(noise, Noise):
            curve = noise.propagate(curve, {name: drawn.at(share) for name, drawn in noise.parameters.items()})
        else:
            if isinstance(noise, Randomizable):
                noise = copy.deepcopy(noise).set_random_state(_CURVE_SEED)
            curve = _measured(curve, noise)
    return curve


def noise_range(noises: Sequence[Callable[[Any], Any]]) -> tuple[float, float]:
    """Return the weakest and the strongest noise that is drawn, as factors of the standard deviation at the middle.

    Example:
        >>> from pssr2_monai.crappify import PoissonNoise
        >>> noise_range([PoissonNoise(intensity=(0.5, 1.5))])
        (0.5, 1.5)
    """
    middle = noise_curve(noises).variance
    noisy = middle > 0
    if not noisy.any():
        return 1.0, 1.0
    ends = [float(np.median(np.sqrt(noise_curve(noises, end).variance[noisy] / middle[noisy]))) for end in (0.0, 1.0)]
    return min(ends), max(ends)


def _measured(curve: NoiseCurve, noise: Callable[[Any], Any]) -> NoiseCurve:
    """The curve after a noise of unknown formula, which is applied to flat images."""
    places = np.linspace(0, _CURVE_LEVELS - 1, _CURVE_IMAGES).round().astype(int)
    flat = torch.from_numpy(curve.mean[places].astype(np.float32) / GREY_LEVELS)
    image = flat.reshape(-1, 1, 1, 1).expand(-1, 1, _CURVE_IMAGE_SIDE, _CURVE_IMAGE_SIDE).clone()
    grey = np.asarray(noise(image), dtype=np.float64).reshape(len(places), -1) * GREY_LEVELS
    mean = np.interp(curve.clean, curve.clean[places], np.maximum.accumulate(grey.mean(axis=1)))
    slope = np.gradient(mean) / np.maximum(np.gradient(curve.mean), 1e-6)
    variance = np.interp(curve.clean, curve.clean[places], grey.var(axis=1))
    return replace(curve, mean=mean, variance=slope**2 * curve.variance + variance)
