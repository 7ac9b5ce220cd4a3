"""Fitting a noise model to real pairs: the trials of the search, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from pssr2_monai.calibration.grey_windows import Levels
from pssr2_monai.calibration.noise_model import NoiseModel, SearchSpace, first_guess, search_space
from pssr2_monai.calibration.noise_profiles import (
    BINS,
    TERMS,
    NoiseProfile,
    Scene,
    profile_terms,
    sort_pixels,
    summarise,
)
from pssr2_monai.calibration.real_pairs import Pairs
from pssr2_monai.calibration.search import Found, search
from pssr2_monai.errors import InputError

SAMPLE = 2**18
"""Pixels of a trial, where noise goes pixel by pixel."""
DEFAULT = ("poisson", 1.0)
"""What training degrades images by where nothing was calibrated."""
FEWEST_PIXELS = 100
"""Pixels that an image's own spread is taken from, at least."""
SHARED_WINDOWS = 16
"""Windows from which the share of the HR image's own noise is taken."""
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Trials:
    """Crappified images beside real ones.

    Attributes:
        scene: the clean images as LR images would show them.
        clean: the same without their offsets.
        offsets: of each image.
        levels: that the LR files can hold.
        real: the profile of the real noise.
        black: the images' grey level without signal.
        seed: of the noise; every trial draws the same random numbers (common random numbers), so that two trials
            differ by their parameters alone.
    """

    scene: Scene
    clean: FloatArray
    offsets: FloatArray
    levels: Levels
    real: NoiseProfile
    black: float
    seed: int

    def noisy(self, model: NoiseModel, values: Mapping[str, float]) -> FloatArray:
        """The crappified images, rounded and cut off as the files of the real ones are."""
        return self.levels.rounded(model.crappified(values, self.clean, self.offsets, self.seed, self.black))

    def profile(self, model: NoiseModel, values: Mapping[str, float], terms: Sequence[str]) -> NoiseProfile:
        """The profile of the noise that some parameters make."""
        return summarise(self.scene, self.noisy(model, values) - self.scene.clean, self.real, terms)

    def distance(self, model: NoiseModel, values: Mapping[str, float]) -> float:
        """Between that and the real one, over the terms that the model is fitted by."""
        return root_of(profile_terms(self.real, self.profile(model, values, sorted(model.terms))), model)

    def sample(self, count: int) -> Trials:
        """Trials on so many of the pixels alone, each as an image of its own."""
        at = np.flatnonzero(self.scene.used)
        chosen = np.sort(np.random.default_rng(self.seed).choice(len(at), min(count, len(at)), replace=False))
        image = at[chosen] // self.scene.used[0].size
        bins = self.scene.bins[chosen]

        def pixels(stack: FloatArray) -> FloatArray:
            return stack.ravel()[at[chosen]].reshape(-1, 1, 1)

        scene = Scene(
            clean=pixels(self.scene.clean),
            used=np.ones((len(chosen), 1, 1), dtype=bool),
            bins=bins,
            counts=np.bincount(bins, minlength=len(self.scene.counts)),
            brightness=self.scene.brightness,
        )
        levels = self.levels.of(image)
        return Trials(scene, pixels(self.clean), self.offsets[image], levels, self.real, self.black, self.seed)


@dataclass(frozen=True)
class Fit:
    """A noise model fitted to pairs.

    Attributes:
        values: the parameter of each noise.
        errors: their standard errors.
        guess: what the moments alone gave.
        trials: of the windows of the pairs.
        made: the windows crappified by the fitted model.
        fitted: the profile of their noise.
        default: that of the noise of the default crappifier, on images of the pairs' contrast.
        before: distance of the default from the real profile.
        after: that of the fitted one.
        terms: what ``after`` is made of, and the terms that the model was not fitted by.
        found: the search.
        space: where it searched.
        unevenness: how far the strength of the noise differs from image to image, as a share; None of a single image.
        shared: share of the noise's variance that goes with fine detail of the HR image: its own noise, or detail that
            the LR images lack.
    """

    values: dict[str, float]
    errors: dict[str, float]
    guess: dict[str, float]
    trials: Trials
    made: FloatArray
    fitted: NoiseProfile
    default: NoiseProfile
    before: float
    after: float
    terms: dict[str, float]
    found: Found
    space: SearchSpace
    unevenness: float | None
    shared: float


def root_of(terms: Mapping[str, float], model: NoiseModel) -> float:
    """The distance that a model is fitted by."""
    return math.sqrt(sum(terms[name] for name in model.terms))


def fit_noise(pairs: Pairs, model: NoiseModel, calls: int, seed: int = 0, progress: str | None = None) -> Fit:
    """Finds the parameters of a noise model for which crappified HR images have the noise of the real LR images.

    Args:
        pairs: windows of them.
        model: the noises.
        calls: trials, at most.
        seed: of the noise and of the search.
        progress: what to call the progress bar.

    Raises:
        InputError: LR images without noise.
    """
    expected = pairs.expected
    scene = sort_pixels(expected, pairs.good, flat_only=not model.at_edges)
    noise = pairs.lr - expected
    real = summarise(scene, noise)
    if real.spread < 1e-3:
        raise InputError("the LR images hold no noise: they are the downsampled HR images; pair the right files")
    offset = float(np.median(pairs.offsets))
    guess, black = first_guess(model, scene, real, offset)
    space = search_space(model, guess, float(scene.brightness.mean()) - offset - black)
    trials = Trials(scene, pairs.clean, pairs.offsets, pairs.levels, real, black, seed)
    tried = trials.sample(SAMPLE) if model.by_pixel else trials
    found = search(
        lambda point: tried.distance(model, space.values(point)),
        space.point(guess),
        calls,
        seed=seed,
        freedom=BINS,
        progress=progress,
    )
    values = space.values(found.best.tolist())
    made = trials.noisy(model, values)
    fitted = summarise(scene, made - expected, real)
    terms = profile_terms(real, fitted)
    default = replace(trials, black=0.0).profile(NoiseModel((DEFAULT[0],)), dict([DEFAULT]), TERMS)
    return Fit(
        values=values,
        errors=_errors(space, found),
        guess=guess,
        trials=trials,
        made=made,
        fitted=fitted,
        default=default,
        before=root_of(profile_terms(real, default), model),
        after=root_of(terms, model),
        terms=terms,
        found=found,
        space=space,
        unevenness=_unevenness(noise, made - expected, scene, pairs.image),
        shared=_shared_with_hr(noise, scene),
    )


def _errors(space: SearchSpace, found: Found) -> dict[str, float]:
    """Standard errors of the parameters, by their slopes over a standard error of the coordinates."""
    steps = np.sqrt(np.diag(found.covariance))
    slopes: dict[str, list[float]] = {name: [] for name in space.names}
    for axis, step in enumerate(steps):
        ends = [np.clip(found.best + sign * step * (np.arange(len(steps)) == axis), 0, 1).tolist() for sign in (-1, 1)]
        low, high = (space.values(end) for end in ends)
        width = max(ends[1][axis] - ends[0][axis], 1e-12)
        for name in space.names:
            slopes[name].append((high[name] - low[name]) / width)
    return {name: math.sqrt(max(float(np.array(s) @ found.covariance @ s), 0.0)) for name, s in slopes.items()}


def _unevenness(real: FloatArray, made: FloatArray, scene: Scene, image: npt.NDArray[np.intp]) -> float | None:
    """Scatter of the ratio of the real to the fitted spread from image to image, less what chance makes of it."""
    pixels = np.bincount(image, weights=scene.used.sum(axis=(1, 2)))
    spreads = []
    for noise in (real, made):
        powers = np.einsum("nyx,nyx,nyx->n", noise, noise, scene.used, dtype=np.float64)
        spreads.append(np.sqrt(np.bincount(image, weights=powers) / np.maximum(pixels, 1)))
    enough = (pixels >= FEWEST_PIXELS) & (spreads[1] > 0)
    if enough.sum() < 2:
        return None
    low, high = np.percentile(spreads[0][enough] / spreads[1][enough], [16, 84])
    return math.sqrt(max(((float(high) - float(low)) / 2) ** 2 - float(np.mean(1 / pixels[enough])), 0.0))


def _shared_with_hr(noise: FloatArray, scene: Scene) -> float:
    """The share of the noise's fine detail that is the HR image's, turned round; from some of the windows."""
    product, power = 0.0, 0.0
    for number in range(0, len(noise), max(1, len(noise) // SHARED_WINDOWS)):
        use = scene.used[number]
        detail, fine = (each - gaussian_filter(each, 1.5) for each in (noise[number], scene.clean[number]))
        product += float(detail[use] @ fine[use])
        power += float(detail[use] @ detail[use])
    return max(0.0, -product / power) if power > 0 else 0.0
