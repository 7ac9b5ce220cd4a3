"""Noises of a point scanner's beam, detector and scan: blur, correlated noise, lines that differ, and slow drift.

Rows run along Y, the slow axis of the scan; X is the fast one. Images are ``(..., Y, X)`` arrays or tensors with values
in [0, 1]; parameters count in grey levels of an 8-bit image, or in LR pixels; see ``pssr2_monai.crappify.noise``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import torch

from pssr2_monai.crappify.distributions import Parameter
from pssr2_monai.crappify.noise import Fitting, Noise, NoiseCurve, Slider
from pssr2_monai.images.windows import reflect_indices

KERNEL_REACH = 4.0  # standard deviations at which the blur's kernel ends, as in scipy
DRIFT_WAVES = 8  # waves that add up to a drift
ROW_REACH = 8.0  # how many times further a drift reaches along a row than from row to row


class Blur(Noise):
    """The beam's point spread: a Gaussian over Y and X, mirrored at the edges as by scipy in mode "reflect".

    Args:
        sigma: standard deviation in LR pixels, 0 to 50.

    Example:
        >>> import numpy as np
        >>> spot = np.zeros((1, 9, 9), dtype=np.float32)
        >>> spot[0, 4, 4] = 1
        >>> bool(abs(Blur(sigma=1)(spot).max() - 1 / (2 * np.pi)) < 0.001)
        True
    """

    limits = {"sigma": (0.0, 50.0)}
    strength = "sigma"
    slider = Slider("Blur", 4.0, 0.05, "standard deviation, LR pixels", first=True)
    fitting = Fitting(search_to=0.6, terms=frozenset({"neighbours", "sharpness"}))

    def __init__(self, sigma: Parameter = 1.0, **unknown: Parameter) -> None:
        super().__init__(sigma=sigma, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        weights = _gaussian_weights(drawn["sigma"])
        for axis in (-1, -2):
            levels = _filter(_mirrored(levels, len(weights) - 1, axis), weights, axis)
        return levels

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        variance = variance_kept_by_blur(values["sigma"]) * curve.variance
        return replace(curve, variance=variance, blur=float(np.hypot(curve.blur, values["sigma"])))


class CorrelatedNoise(Noise):
    """Normal noise whose neighbours are alike, as after a detector of limited bandwidth or after drift correction.

    White noise filtered by a Gaussian over X and Y, of mean x and variance ``sigma**2 + intensity**2 * x``, whatever
    the widths. The noise of two pixels in a row has the correlation of the kernel with itself, from 0.6 pixels on in
    good approximation ``exp(-(distance / along)**2 / 4)``; likewise in a column. The image itself is not blurred.

    Args:
        sigma: standard deviation in grey levels, at least 0.
        intensity: share that grows with brightness, at least 0; 1 has the variance of as many counts as grey levels.
        along: standard deviation of the filter along X, the fast axis of the scan, in LR pixels, 0 to 10.
        across: that along Y.

    Example:
        >>> import numpy as np
        >>> noise = CorrelatedNoise(sigma=10, along=1, across=0).set_random_state(0)
        >>> field = noise(np.zeros((1, 256, 256), dtype=np.float32))[0]
        >>> bool(abs((field[:, 1:] * field[:, :-1]).mean() / field.var() - np.exp(-1 / 4)) < 0.02)
        True
    """

    limits = {"sigma": (0.0, inf), "intensity": (0.0, inf), "along": (0.0, 10.0), "across": (0.0, 10.0)}
    strength = "sigma"
    slider = Slider("Correlated noise", 60.0, 0.5, "standard deviation, grey levels of 255")
    fitting = Fitting(
        search_to=1.0,
        terms=frozenset({"correlations"}),
        besides={"intensity": 0.1, "along": 0.5, "across": 0.5},
    )

    def __init__(
        self,
        sigma: Parameter = 8.0,
        intensity: Parameter = 0.0,
        along: Parameter = 0.6,
        across: Parameter = 0.6,
        **unknown: Parameter,
    ) -> None:
        super().__init__(sigma=sigma, intensity=intensity, along=along, across=across, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        kernels = {-1: _gaussian_weights(drawn["along"]), -2: _gaussian_weights(drawn["across"])}
        # A torus, so that the same random numbers serve all widths; images that a kernel exceeds are cut out of it.
        sides = [max(levels.shape[axis], 2 * len(kernels[axis]) - 1) for axis in (-2, -1)]
        field = torch.randn((*levels.shape[:-2], *sides), generator=generator, device=levels.device)
        for axis, weights in kernels.items():
            margin, side = len(weights) - 1, field.shape[axis]
            index = torch.arange(-margin, side + margin, device=field.device) % side
            norm = _kernel_sum([weight**2 for weight in weights]).sqrt()
            field = _filter(field.index_select(axis, index), weights, axis).div_(norm)
        field = field[..., : levels.shape[-2], : levels.shape[-1]]
        variance = drawn["sigma"] ** 2 + drawn["intensity"] ** 2 * levels.clamp(min=0)
        return levels + field * variance.sqrt()

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        return curve.plus(values["sigma"] ** 2 + values["intensity"] ** 2 * np.maximum(curve.mean, 0))


class LineNoise(Noise):
    """Rows that are brighter or darker than they should be, each by a normal offset of its own.

    Args:
        sigma: standard deviation of the rows' offsets in grey levels, at least 0. Mean x, variance ``sigma**2``.

    Example:
        >>> import numpy as np
        >>> noisy = LineNoise(sigma=10).set_random_state(0)(np.full((1, 8, 8), 0.5, dtype=np.float32))
        >>> bool(noisy.std(axis=-1).max() < 1e-6), bool(noisy.std(axis=-2).min() > 0.01)
        (True, True)
    """

    limits = {"sigma": (0.0, inf)}
    strength = "sigma"
    slider = Slider("Line noise", 30.0, 0.5, "standard deviation, grey levels of 255")
    fitting = Fitting(search_to=1.0, terms=frozenset({"rows"}))

    def __init__(self, sigma: Parameter = 5.0, **unknown: Parameter) -> None:
        super().__init__(sigma=sigma, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        return levels + drawn["sigma"] * _normal_of_rows(levels, generator)

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        return curve.plus(values["sigma"] ** 2)


class LineJitter(Noise):
    """Rows that begin too early or too late: each is displaced along X by a normal distance of its own.

    Between the pixels the row is interpolated by Keys' cubic convolution (IEEE Trans. ASSP 29:1153, 1981), which blurs
    less than a straight line does; beyond its ends it is mirrored.

    Args:
        sigma: standard deviation of the displacements in LR pixels, at least 0.

    Example:
        >>> import numpy as np
        >>> ramp = np.tile(np.linspace(0, 1, 101, dtype=np.float32), (1, 8, 1))
        >>> shift = (LineJitter(sigma=0.5).set_random_state(0)(ramp) - ramp)[0, :, 50] * 100
        >>> bool(0.2 < shift.std() < 1)
        True
    """

    short_name = "jitter"
    limits = {"sigma": (0.0, inf)}
    strength = "sigma"
    slider = Slider("Line jitter", 4.0, 0.05, "standard deviation, LR pixels")
    fitting = Fitting(search_to=0.2, terms=frozenset({"shifts"}))

    def __init__(self, sigma: Parameter = 0.3, **unknown: Parameter) -> None:
        super().__init__(sigma=sigma, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        width = levels.shape[-1]
        shift = (drawn["sigma"] * _normal_of_rows(levels, generator)).expand(*levels.shape[:-1], 1)
        whole = shift.floor()
        t = shift - whole
        first = torch.arange(width, device=levels.device) + whole.long() - 1
        cubic = (
            ((2 - t) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        )
        displaced = torch.zeros_like(levels)
        period = max(2 * (width - 1), 1)  # of a row that is mirrored beyond its ends, without repeating the edge
        for step, weight in enumerate(cubic):
            index = (first + step) % period
            displaced += weight * levels.gather(-1, torch.minimum(index, period - index))
        return displaced

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        return curve


class Drift(Noise):
    """Brightness that drifts while the image is scanned: a smooth random field added to it.

    The field is Gaussian in good approximation, with mean 0, variance ``sigma**2`` and the correlation ``exp(-(dy /
    length)**2 / 2 - (dx / (8 * length))**2 / 2)``: a sum of random waves (Rahimi and Recht 2007, random features of the
    Gaussian kernel).

    Args:
        sigma: standard deviation in grey levels, at least 0.
        length: rows over which the drift stays alike, at least 1.

    Example:
        >>> import numpy as np
        >>> drift = Drift(sigma=10, length=50).set_random_state(0)(np.zeros((1, 200, 200), dtype=np.float32))
        >>> bool(np.abs(np.diff(drift, axis=-2)).max() < 0.01)
        True
    """

    limits = {"sigma": (0.0, inf), "length": (1.0, inf)}

    def __init__(self, sigma: Parameter = 5.0, length: Parameter = 100.0, **unknown: Parameter) -> None:
        super().__init__(sigma=sigma, length=length, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        height, width = levels.shape[-2:]
        shape = (*levels.shape[:-2], 1, DRIFT_WAVES)
        normal = torch.randn((4, *shape), generator=generator, device=levels.device)
        along_y = normal[0] / drawn["length"] * torch.arange(height, device=levels.device)[:, None]
        along_x = normal[1] / (ROW_REACH * drawn["length"]) * torch.arange(width, device=levels.device)[:, None]
        even, odd = normal[2] / math.sqrt(DRIFT_WAVES), normal[3] / math.sqrt(DRIFT_WAVES)
        # even * cos(y + x) + odd * sin(y + x), as a product of factors of the rows and of the columns.
        rows = torch.cat([even * along_y.cos() + odd * along_y.sin(), odd * along_y.cos() - even * along_y.sin()], -1)
        columns = torch.cat([along_x.cos(), along_x.sin()], -1)
        return levels + drawn["sigma"] * (rows @ columns.transpose(-1, -2))

    def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
        return curve.plus(values["sigma"] ** 2)


def variance_kept_by_blur(sigma: float) -> float:
    """Return the share of the variance of white noise that a Gaussian blur of ``sigma`` pixels leaves."""
    squares = np.arange(-200, 201, dtype=np.float64) ** 2
    kernel = np.exp(-squares / (2 * max(sigma, 1e-3) ** 2))
    return float((kernel @ kernel) / kernel.sum() ** 2) ** 2


def _normal_of_rows(levels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn((*levels.shape[:-1], 1), generator=generator, device=levels.device)


def _gaussian_weights(sigma: torch.Tensor) -> list[torch.Tensor]:
    """A Gaussian kernel for each image, from its centre outwards; with a sigma of 0 no neighbour is in reach."""
    sigma = sigma.clamp(min=1e-3)
    radius = int(KERNEL_REACH * float(sigma.max()) + 0.5)
    weights = [
        torch.exp(-((offset / sigma) ** 2) / 2) * (offset <= KERNEL_REACH * sigma + 0.5) for offset in range(radius + 1)
    ]
    total = _kernel_sum(weights)
    return [weight / total for weight in weights]


def _kernel_sum(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum over a whole kernel of its weights from the centre outwards."""
    return weights[0] + 2 * sum(weights[1:], torch.zeros_like(weights[0]))


def _mirrored(levels: torch.Tensor, margin: int, axis: int) -> torch.Tensor:
    """Continue an image at both ends of an axis, mirrored."""
    length = levels.shape[axis]
    index = torch.from_numpy(reflect_indices(-margin, length + 2 * margin, length)).to(levels.device)
    return levels.index_select(axis, index)


def _filter(levels: torch.Tensor, weights: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Filter along an axis where the kernel lies inside; the weights are those from its centre outwards."""
    radius = len(weights) - 1
    length = levels.shape[axis] - 2 * radius
    filtered = weights[0] * levels.narrow(axis, radius, length)
    for offset, weight in enumerate(weights[1:], start=1):
        before = levels.narrow(axis, radius - offset, length)
        filtered += weight * (before + levels.narrow(axis, radius + offset, length))
    return filtered
