"""Noise profiles: the difference between real LR images and downsampled HR images, in figures that can be compared.

All values are grey levels of an 8-bit image (0 to 255); images come as one stack ``(images, Y, X)``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_gradient_magnitude, laplace

# Those of ``profile_terms``.
TERMS = ("spread", "distribution", "mean", "tails", "rows", "neighbours", "correlations", "sharpness", "shifts")
COMMON_TERMS = frozenset({"spread", "distribution", "mean"})  # those that every noise model is fitted by
PIXEL_TERMS = COMMON_TERMS | {"tails"}  # those that do not compare a pixel with its row or its neighbours
EDGE_TERMS = frozenset({"sharpness", "shifts"})  # those that are measured at edges
LAGS = ((0, 1), (0, 2), (0, 4), (1, 0), (2, 0), (4, 0))
"""Distances in Y and X, pixels, at which ``correlations`` are measured: along X, then along Y."""
BINS = 16
"""Bins of brightness. What is measured row by row is kept in as many groups of rows, so that every term is a mean of
as many numbers and shows how far chance alone moves it."""
SPARSE_SHARE = 0.4  # of the range of brightness in the bin at one of its ends, from which on that bin is divided
TAIL_SHARE = 1 / 8  # of the range of brightness, up to which bins at a divided end reach
TAIL_PIXELS = 200  # of each, before flat pixels are chosen, at least
SURE_PIXELS = 200  # of a bin: its spread has a standard error of a twentieth, as much as models are asked to explain
HISTOGRAM_HALF = 256  # bins of the histogram of noise values on either side of zero
HISTOGRAM_REACH = 8  # standard deviations of the noise to which the histogram reaches
BODY_REACH = 5.0
"""Standard deviations of its brightness bin within which noise is measured; what lies beyond is lost pixels, or
something that moved between the scans."""
FLOORS = {"spread": 0.5, "tails": 1e-4, "rows": 0.05, "sharpness": 0.02, "shifts": 0.01}
"""What the differences of a term are divided by at least: grey levels, share, grey levels, px**2, px."""
_NEXT = ((0, 1), (1, 0))
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Scene:
    """Clean images, and their pixels sorted by brightness."""

    clean: FloatArray  # (images, Y, X), downsampled HR images with the contrast of the LR images
    used: npt.NDArray[np.bool_]  # which pixels are measured
    bins: npt.NDArray[np.intp]  # the brightness bin of each of those pixels
    counts: npt.NDArray[np.intp]  # how many pixels each bin has
    brightness: FloatArray  # their mean brightness, from dark to bright

    def windows(self, numbers: npt.NDArray[np.intp]) -> Scene:
        """Return the scene of some of the images."""
        ends = np.cumsum(self.used.sum(axis=(1, 2)))
        parts = np.split(self.bins, ends[:-1])
        bins = np.concatenate([parts[number] for number in numbers])
        counts = np.bincount(bins, minlength=len(self.counts))
        return Scene(self.clean[numbers], self.used[numbers], bins, counts, self.brightness)


@dataclass(frozen=True)
class NoiseProfile:
    """Figures of noise; ``(BINS,)`` are 16 bins of brightness (fewer where many pixels are alike, more where few are
    bright or dark).
    """

    spread: float  # standard deviation over all pixels
    reach: FloatArray  # (BINS,) noise beyond which a pixel is lost: in mean and spread it counts with this value
    cumulative: FloatArray  # share of the pixels whose noise is below each of ``edges``
    edges: FloatArray  # noise values, grey levels
    bin_mean: FloatArray  # (BINS,) mean of the noise
    bin_spread: FloatArray  # (BINS,) standard deviation of the noise
    counts: npt.NDArray[np.intp]  # (BINS,) pixels
    tails: FloatArray  # (BINS,) share of the pixels that are lost
    rows: FloatArray  # (16,) standard deviation of the means of rows, from the differences of neighbouring ones
    neighbours: FloatArray  # (2, 16) correlation with the next pixel along X and along Y
    correlations: FloatArray  # (LAGS, 16) correlation with the pixel at each of ``LAGS``
    # (16,) coefficient of the clean image's second derivative in the noise: half the variance of a Gaussian blur, px**2
    sharpness: FloatArray
    shifts: FloatArray  # (16,) standard deviation of the rows' displacements along X, px


def sort_pixels(clean: FloatArray, good: npt.NDArray[np.bool_], flat_only: bool = True) -> Scene:
    """Sort the good pixels by brightness, into bins of about as many pixels each, and finer ones of few bright pixels.

    ``flat_only`` measures the flatter half of each bin alone: residuals of a registration at edges are not noise.
    """
    levels = clean[good]
    cuts = _cuts(levels)
    bins = np.searchsorted(cuts, levels, side="right")
    used = good
    if flat_only:
        # The blur keeps noise of the HR image from deciding which pixels are flat.
        steepness = np.stack([gaussian_gradient_magnitude(image, sigma=1.5, truncate=3) for image in clean])[good]
        flat = np.zeros(len(levels), dtype=bool)
        for inside in _members(bins, len(cuts) + 1):
            flat[inside[np.argpartition(steepness[inside], len(inside) // 2)[: len(inside) // 2 + 1]]] = True
        used = good.copy()
        used[good] = flat
        levels, bins = levels[flat], bins[flat]
    counts = np.bincount(bins, minlength=len(cuts) + 1)
    brightness = np.bincount(bins, weights=levels, minlength=len(counts)) / np.maximum(counts, 1)
    return Scene(clean, used, bins, counts, brightness)


def _cuts(levels: FloatArray) -> FloatArray:
    """Brightness between one bin and the next.

    Where next to all pixels are background, 16 bins of as many pixels show how noise grows with brightness as little as
    their brightness differs; the few that are bright show it, and have bins of their own.
    """
    ordered = np.sort(levels)
    bright, dark = _tail_cuts(ordered), -_tail_cuts(-ordered[::-1])
    cuts = np.unique([*np.quantile(ordered, np.linspace(0, 1, BINS + 1)[1:-1]), *bright, *dark])
    return cuts[cuts > ordered[0]]


def _tail_cuts(ordered: FloatArray) -> FloatArray:
    """Cuts that halve the pixels at the upper end of rising levels again and again, where they reach far."""
    cuts, span, most = [], float(ordered[-1] - ordered[0]), SPARSE_SHARE
    start = len(ordered) - len(ordered) // BINS
    while len(ordered) - start >= 2 * TAIL_PIXELS and ordered[-1] - ordered[start] > most * span:
        start, most = (start + len(ordered)) // 2, TAIL_SHARE
        cuts.append(float(ordered[start]))
    return np.array(cuts)


def summarise(
    scene: Scene, noise: FloatArray, like: NoiseProfile | None = None, terms: Collection[str] = TERMS
) -> NoiseProfile:
    """Return the profile of noise ``(images, Y, X)``, with edges and reach of ``like``; other ``terms`` stay 0."""
    values = noise[scene.used]
    counts = np.maximum(scene.counts, 1)
    reach = _reach(scene, values) if like is None else like.reach
    limit = reach.astype(values.dtype)[scene.bins]
    body = np.clip(values, -limit, limit)
    tails, mean, square = (
        np.bincount(scene.bins, weights=weights, minlength=len(counts)) / counts
        for weights in (np.abs(values) > limit, body, body * body)
    )
    spread = float(body.std(dtype=np.float64))
    ends = HISTOGRAM_REACH * max(spread, FLOORS["spread"])
    edges = np.linspace(-ends, ends, 2 * HISTOGRAM_HALF + 1) if like is None else like.edges
    # Evenly spaced edges: a division finds the bin. What lies beyond them is counted at the ends.
    bins = np.clip((values - edges[0]) / (edges[1] - edges[0]) + 1, 0, len(edges)).astype(np.intp)
    cumulative = np.cumsum(np.bincount(bins, minlength=len(edges) + 1))[:-1] / max(len(values), 1)
    lags = LAGS if "correlations" in terms else _NEXT if "neighbours" in terms else ()
    correlations = np.zeros((len(LAGS), BINS))
    correlations[[LAGS.index(lag) for lag in lags]] = _correlations(scene, noise, lags)
    return NoiseProfile(
        spread=spread,
        reach=reach,
        cumulative=cumulative,
        edges=edges,
        bin_mean=mean,
        bin_spread=np.sqrt(np.maximum(square - mean**2, 0)),
        counts=scene.counts,
        tails=tails,
        rows=_row_spread(scene, noise) if "rows" in terms else np.zeros(BINS),
        neighbours=correlations[[LAGS.index(lag) for lag in _NEXT]],
        correlations=correlations,
        sharpness=_sharpness(scene, noise) if "sharpness" in terms else np.zeros(BINS),
        shifts=_shift_spread(scene, noise) if "shifts" in terms else np.zeros(BINS),
    )


def profile_terms(real: NoiseProfile, trial: NoiseProfile) -> dict[str, float]:
    """Return the terms of the distance between two profiles of one scene; the distance is the root of their sum.

    Where the noise of one is stronger than that of the other by the small share e at every brightness, each of the
    first two terms is e**2; the others are on that scale. With F the cumulative distribution and s the standard
    deviation of the noise, m_k and s_k its mean and standard deviation in brightness bin k, and _r for the real one:

    - ``spread``: mean over k of ((s_k - s_k_r) / s_k_r)**2, bins of few pixels weighing less
    - ``distribution``: 4 sqrt(pi) / s_r * integral of (F - F_r)**2, which is e**2 for normal noise
    - ``mean``: mean over k of ((m_k - m_k_r) / s_r)**2, by the number of pixels, as ``tails``
    - ``tails`` (salt and pepper): mean over k of ((t_k - t_k_r) / t_r)**2, t the share of lost pixels
    - ``rows`` (line noise): mean over groups of rows of ((R - R_r) / R_r)**2, R the spread of row means
    - ``neighbours`` (blur): that of the squared differences of the correlations with the next pixel, X and Y added
    - ``correlations`` (correlated noise): likewise at the distances of ``LAGS``, means over those along X and along Y
    - ``sharpness`` (blur): that of ((c - c_r) / (2 c_r))**2, c the coefficient of the second derivative, which goes
      with the square of the blur's sigma
    - ``shifts`` (jitter): that of ((u - u_r) / u_r)**2, u the spread of the rows' displacements

    t_r, R_r, c_r and u_r are means over bins or groups; denominators are kept from 0. ``spread`` tells Poisson from
    Gaussian noise; PSSR2 compares ``distribution`` and ``mean`` alone, as a histogram's counts and the mean over all
    pixels.
    """
    scale = max(real.spread, FLOORS["spread"])
    apart = float(np.sum((trial.cumulative - real.cumulative) ** 2) * (real.edges[1] - real.edges[0]))
    relative = (trial.bin_spread - real.bin_spread) / np.maximum(real.bin_spread, FLOORS["spread"])
    sure = bin_weights(real.counts)
    return {
        "spread": float(np.average(relative**2, weights=sure)),
        "distribution": 4 * math.sqrt(math.pi) * apart / scale,
        "mean": float(np.average(((trial.bin_mean - real.bin_mean) / scale) ** 2, weights=real.counts)),
        "tails": _relative(real.tails, trial.tails, FLOORS["tails"], real.counts),
        "rows": _relative(real.rows, trial.rows, FLOORS["rows"]),
        "neighbours": float(np.mean((trial.neighbours - real.neighbours) ** 2, axis=1).sum()),
        "correlations": 2 * float(np.mean((trial.correlations - real.correlations) ** 2)),
        "sharpness": _relative(real.sharpness, trial.sharpness, FLOORS["sharpness"]) / 4,
        "shifts": _relative(real.shifts, trial.shifts, FLOORS["shifts"]),
    }


def _reach(scene: Scene, values: FloatArray) -> FloatArray:
    """How far the noise of each bin reaches, from its quartiles, which lost pixels do not move."""
    reach = []
    for inside in _members(scene.bins, len(scene.counts)):
        low, high = np.percentile(values[inside], [25, 75]) if len(inside) else (0.0, 0.0)
        reach.append(BODY_REACH * max(float(high - low) / 1.349, FLOORS["spread"]))
    return np.array(reach)


def _members(bins: npt.NDArray[np.intp], count: int) -> list[npt.NDArray[np.intp]]:
    """The indices of the members of each of so many bins."""
    order = np.argsort(bins.astype(np.int16), kind="stable")
    return np.split(order, np.cumsum(np.bincount(bins, minlength=count))[:-1])


def bin_weights(counts: npt.NDArray[np.intp]) -> FloatArray:
    """The weight of bins of so many pixels: 1, and less where chance moves their spread by more than a twentieth."""
    return np.asarray((counts + 1e-6) / (counts + SURE_PIXELS))


def _relative(real: FloatArray, trial: FloatArray, floor: float, weights: npt.NDArray[np.intp] | None = None) -> float:
    return float(np.average((trial - real) ** 2, weights=weights) / max(abs(float(real.mean())), floor) ** 2)


def _grouped(values: FloatArray) -> FloatArray:
    """Sums over the rows ``(images, rows)`` of each group, which takes every sixteenth."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return np.asarray(np.bincount(np.arange(len(flat)) % BINS, weights=flat, minlength=BINS), dtype=np.float64)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _row_spread(scene: Scene, noise: FloatArray) -> FloatArray:
    """From neighbouring rows, so that slow changes of brightness do not count."""
    pixels = scene.used.sum(axis=2)
    means = np.einsum("nyx,nyx->ny", noise, scene.used) / np.maximum(pixels, 1)
    enough = pixels >= 0.25 * noise.shape[2]
    both = enough[:, 1:] & enough[:, :-1]
    return np.sqrt(_ratio(_grouped(np.diff(means, axis=1) ** 2 * both) / 2, _grouped(both)))


def _correlations(scene: Scene, noise: FloatArray, lags: Sequence[tuple[int, int]]) -> FloatArray:
    """The correlation of the noise with that at each distance in Y and X, ``(lags, BINS)``."""
    correlations = np.zeros((len(lags), BINS))
    if not lags:
        return correlations
    centred = np.where(scene.used, noise - noise[scene.used].mean(), 0)
    squares = centred**2
    for number, (down, right) in enumerate(lags):
        height, width = noise.shape[1:]
        before, after = np.s_[:, : max(height - down, 0), : max(width - right, 0)], np.s_[:, down:, right:]
        both = scene.used[before] & scene.used[after]
        power = np.einsum("nyx,nyx->ny", squares[before] + squares[after], both) / 2
        product = np.einsum("nyx,nyx->ny", centred[before], centred[after])
        correlations[number] = _ratio(_grouped(product), _grouped(power))
    return correlations


def _sharpness(scene: Scene, noise: FloatArray) -> FloatArray:
    curvature = np.stack([laplace(image, mode="mirror") for image in scene.clean])
    above, below = (np.einsum("nyx,nyx->ny", image, curvature) for image in (noise, curvature))
    return _ratio(_grouped(above), _grouped(below))


def _shift_spread(scene: Scene, noise: FloatArray) -> FloatArray:
    """Each row's displacement is the coefficient of its slope in its noise; rows with more structure count for more."""
    slope = np.gradient(scene.clean, axis=2)
    along, power = (np.einsum("nyx,nyx->ny", image, slope) for image in (noise, slope))
    return np.sqrt(_ratio(_grouped(_ratio(along**2, power)), _grouped(power)))
