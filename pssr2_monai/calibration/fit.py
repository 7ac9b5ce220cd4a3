"""Fitting a noise model to real pairs: the trials, and the search by Bayesian optimisation."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize
from skopt import Optimizer
from skopt.acquisition import gaussian_ei
from skopt.learning import GaussianProcessRegressor
from skopt.learning.gaussian_process.kernels import ConstantKernel, DotProduct, Matern
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pssr2_monai.calibration.grey_windows import Levels, evenly
from pssr2_monai.calibration.guesses import first_guess
from pssr2_monai.calibration.model_choice import JUDGED, Deviation, simplest
from pssr2_monai.calibration.noise_model import NoiseModel, SearchSpace, search_space
from pssr2_monai.calibration.noise_profiles import BINS, NoiseProfile, Scene, profile_terms, sort_pixels, summarise
from pssr2_monai.calibration.real_pairs import Pairs
from pssr2_monai.errors import InputError
from pssr2_monai.progress import report_progress

SAMPLED_PIXELS = 2**18  # pixels of a trial, where each pixel's noise depends on that pixel alone
WINDOW_PIXELS = 2**19  # likewise, where a trial needs whole windows
DEFAULT_NOISE = {"poisson": 1.0}  # what training degrades images by where nothing was calibrated
MIN_IMAGE_PIXELS = 100  # pixels that the spread of a single image is taken from, at least
SHARED_NOISE_WINDOWS = 16  # windows from which the share of the HR image's own noise is taken
OTHER_SEED = 1000  # added to that of the trials for noise that is independent of theirs
NEGLIGIBLE_GAIN = 0.02  # expected improvement over the least distance so far, below which the search has converged
CONVERGED_TRIALS = 2  # how many times in a row that must be so
BOX_VARIANCE = 1 / 12  # variance of a coordinate that may lie anywhere in the unit box
SURFACE_RISE = 8.0
"""The surface is fitted to points around the best one at which the squared distance has risen by about so many times
its scatter: far enough to tell a slope from chance, near enough for a parabola."""
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Trials:
    """Crappified images to compare with real ones."""

    scene: Scene  # the clean images as LR images would show them
    clean: FloatArray  # the same without their offsets
    offsets: FloatArray  # of each image
    levels: Levels  # of the LR files
    real: NoiseProfile  # of the real noise
    black: float  # the images' grey level without signal
    seed: int  # every trial draws the same random numbers, so that trials differ by their parameters alone

    def noisy(self, model: NoiseModel, values: Mapping[str, float]) -> FloatArray:
        """Return the crappified images, rounded and clipped as the files of the real ones are."""
        return self.levels.rounded(model.crappified(values, self.clean, self.offsets, self.seed, self.black))

    def distance(self, model: NoiseModel, values: Mapping[str, float]) -> float:
        """Return the distance between that noise's profile and the real one, over the terms the model is fitted by."""
        noise = self.noisy(model, values) - self.scene.clean
        return distance_of(profile_terms(self.real, summarise(self.scene, noise, self.real, model.terms)), model)

    def deviation(self, model: NoiseModel, values: Mapping[str, float]) -> Deviation:
        """Compare that noise's profile with the real one, and with that of as much noise of the same model."""
        profiles = []
        for trials in (self, replace(self, seed=self.seed + OTHER_SEED)):
            noise = trials.noisy(model, values) - self.scene.clean
            profiles.append(summarise(self.scene, noise, self.real, model.terms | JUDGED))
        return Deviation.of_terms(*(profile_terms(real, profiles[0]) for real in (self.real, profiles[1])))

    def windows(self, pixels: int) -> Trials:
        """Return trials on so many pixels in whole windows, spread over all."""
        count = max(1, pixels // self.clean[0].size)
        if count >= len(self.clean):
            return self
        chosen = np.array(evenly(len(self.clean), count))
        scene = self.scene.windows(chosen)
        levels = self.levels.of(chosen)
        return replace(self, scene=scene, clean=self.clean[chosen], offsets=self.offsets[chosen], levels=levels)

    def sample(self, count: int) -> Trials:
        """Return trials on so many of the pixels alone, each as an image of its own."""
        used = np.flatnonzero(self.scene.used)
        chosen = np.sort(np.random.default_rng(self.seed).choice(len(used), min(count, len(used)), replace=False))
        image = used[chosen] // self.scene.used[0].size
        bins = self.scene.bins[chosen]

        def pixels(stack: FloatArray) -> FloatArray:
            return stack.ravel()[used[chosen]].reshape(-1, 1, 1)

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
class SearchResult:
    best: FloatArray  # the lowest point of the fitted surface, in the unit box
    covariance: FloatArray  # of its coordinates
    points: FloatArray  # (evaluations, dimensions) in the order of their evaluation
    distances: FloatArray  # the distance at each
    explored: int  # how many of them the Gaussian process chose or began with; the rest lie around the best
    converged: bool  # whether the search stopped because there was nothing more to gain


@dataclass(frozen=True)
class Fit:
    model: NoiseModel
    values: dict[str, float]  # the parameters of the noises
    errors: dict[str, float]  # their standard errors
    guess: dict[str, float]  # from the moments alone
    black: float  # the LR images' grey level without signal
    trials: Trials  # of the windows of the pairs
    crappified: FloatArray  # the windows with the noise of the fitted model
    fitted: NoiseProfile  # of that noise
    default: NoiseProfile  # of the default crappifier's noise, on images of the pairs' contrast
    before: float  # distance of the default from the real profile
    after: float  # that of the fitted one
    terms: dict[str, float]  # of which ``after`` is made, and the terms that the model was not fitted by
    deviation: Deviation  # of the fitted noise from the real one
    search: SearchResult
    space: SearchSpace  # where it searched
    unevenness: float | None  # relative scatter of the noise's strength from image to image; None of a single image
    shared: float  # share of the noise's variance that goes with fine detail of the HR image: its own noise, or detail
    # that the LR images lack


def distance_of(terms: Mapping[str, float], model: NoiseModel) -> float:
    return math.sqrt(sum(terms[name] for name in model.terms))


def fit_noise(
    pairs: Pairs, models: Sequence[NoiseModel], calls: int, seed: int = 0, progress: str | None = None
) -> Fit:
    """Find the parameters for which crappified HR images have the noise of the real LR images, in ``calls`` trials.

    Of several models it is the simplest that explains the noise, judged by their direct estimates.
    """
    expected = pairs.expected
    scene = sort_pixels(expected, pairs.good, flat_only=not any(model.at_edges for model in models))
    noise = pairs.lr - expected
    real = summarise(scene, noise)
    if real.spread < 1e-3:
        raise InputError("the LR images hold no noise: they are the downsampled HR images; pair the right files")
    offset = float(np.median(pairs.offsets))
    guesses = [first_guess(model, scene, real, offset) for model in models]
    trials = [Trials(scene, pairs.clean, pairs.offsets, pairs.levels, real, black, seed) for _, black in guesses]
    deviations = (
        trial.windows(WINDOW_PIXELS).deviation(model, guess)
        for trial, model, (guess, _) in zip(trials, models, guesses, strict=True)
    )
    number = simplest(deviations) if len(models) > 1 else 0
    return _fit_model(pairs, models[number], guesses[number][0], trials[number], calls, progress)


def _fit_model(
    pairs: Pairs, model: NoiseModel, guess: dict[str, float], trials: Trials, calls: int, progress: str | None
) -> Fit:
    scene, real, seed = trials.scene, trials.real, trials.seed
    noise = pairs.lr - scene.clean
    brightness = float(scene.brightness.mean()) - float(np.median(pairs.offsets)) - trials.black
    space = search_space(model, guess, brightness)
    tried = trials.sample(SAMPLED_PIXELS) if model.by_pixel else trials.windows(WINDOW_PIXELS)
    result = search(lambda point: tried.distance(model, space.values(point)), space.point(guess), calls, seed, progress)
    values = space.values(result.best.tolist())
    crappified = trials.noisy(model, values)
    terms = profile_terms(real, fitted := summarise(scene, crappified - scene.clean, real))
    plain = replace(trials, black=0.0).noisy(NoiseModel(tuple(DEFAULT_NOISE)), DEFAULT_NOISE)
    default = summarise(scene, plain - scene.clean, real)
    return Fit(
        model=model,
        values=values,
        errors=standard_errors(space, result),
        guess=guess,
        black=trials.black,
        trials=trials,
        crappified=crappified,
        fitted=fitted,
        default=default,
        before=distance_of(profile_terms(real, default), model),
        after=distance_of(terms, model),
        terms=terms,
        deviation=trials.windows(WINDOW_PIXELS).deviation(model, values),
        search=result,
        space=space,
        unevenness=_unevenness(noise, crappified - scene.clean, scene, pairs.image),
        shared=_shared_with_hr(noise, scene),
    )


def standard_errors(space: SearchSpace, result: SearchResult) -> dict[str, float]:
    steps = np.diag(np.sqrt(np.diag(result.covariance)))
    slopes = np.zeros((len(space.keys), len(steps)))
    for axis, step in enumerate(steps):
        ends = [np.clip(result.best + sign * step, 0, 1).tolist() for sign in (-1, 1)]
        low, high = ([space.values(end)[key] for key in space.keys] for end in ends)
        slopes[:, axis] = np.subtract(high, low) / max(ends[1][axis] - ends[0][axis], 1e-12)
    variances = np.einsum("pi,ij,pj->p", slopes, result.covariance, slopes)
    return dict(zip(space.keys, np.sqrt(np.maximum(variances, 0)).tolist(), strict=True))


def _unevenness(real: FloatArray, fitted: FloatArray, scene: Scene, image: npt.NDArray[np.intp]) -> float | None:
    """Scatter of the ratio of the real to the fitted spread from image to image, less what chance makes of it."""
    pixels = np.bincount(image, weights=scene.used.sum(axis=(1, 2)))
    spreads = []
    for noise in (real, fitted):
        powers = np.einsum("nyx,nyx,nyx->n", noise, noise, scene.used, dtype=np.float64)
        spreads.append(np.sqrt(np.bincount(image, weights=powers) / np.maximum(pixels, 1)))
    enough = (pixels >= MIN_IMAGE_PIXELS) & (spreads[1] > 0)
    if enough.sum() < 2:
        return None
    low, high = np.percentile(spreads[0][enough] / spreads[1][enough], [16, 84])
    return math.sqrt(max(((float(high) - float(low)) / 2) ** 2 - float(np.mean(1 / pixels[enough])), 0.0))


def _shared_with_hr(noise: FloatArray, scene: Scene) -> float:
    """The share of the noise's fine detail that is the HR image's, with its sign reversed; from some of the windows."""
    product, power = 0.0, 0.0
    for number in range(0, len(noise), max(1, len(noise) // SHARED_NOISE_WINDOWS)):
        use = scene.used[number]
        detail, fine = (image - gaussian_filter(image, 1.5) for image in (noise[number], scene.clean[number]))
        product += float(detail[use] @ fine[use])
        power += float(detail[use] @ detail[use])
    return max(0.0, -product / power) if power > 0 else 0.0


def search(
    distance: Callable[[Sequence[float]], float],
    start: Sequence[float],
    calls: int,
    seed: int = 0,
    progress: str | None = None,
) -> SearchResult:
    """Find the point of the unit box with the least distance, in at most ``calls`` trials: at least 4 a dimension.

    First a Gaussian process (Matern 5/2) of the distance, by scikit-optimize, puts each evaluation where the expected
    improvement is greatest (Jones et al. 1998, J. Global Optim. 13:455), until that is negligible. Then a design of
    points around the best one is evaluated, and a second Gaussian process, whose covariance is that of parabolas, is
    fitted to the squared distance near it. The estimate is the lowest point of its
    mean, or a trial with a smaller distance; the covariance follows from
    its curvature H as in least squares: ``2 * S / (BINS - dimensions) * inverse(H)``, as the distance is a mean of BINS
    independent numbers, S the squared distance left over, which is chance and what no parameter can mend; and from the
    box, which no coordinate leaves. The distance must have no noise of its own (common random numbers).
    """
    points: list[list[float]] = []
    distances: list[float] = []
    around = min(2 * len(start) + 2 * math.comb(len(start), 2) + 1, calls // 2)
    with (
        threadpool_limits(1),
        warnings.catch_warnings(),
        tqdm(total=calls, desc=progress, disable=None if progress else True, unit="trial") as bar,
    ):
        # That the process reaches the bounds of its parameters, and points that it has seen, is normal here.
        warnings.simplefilter("ignore")

        def evaluate(point: Sequence[float]) -> float:
            points.append([min(max(float(x), 0.0), 1.0) for x in point])
            distances.append(distance(points[-1]))
            bar.update()
            report_progress(progress or "", len(points) / calls)
            bar.set_postfix_str(f"distance {min(distances):.3f}")
            return distances[-1]

        converged = _explore(evaluate, start, calls - around - 1, seed, distances)
        explored = len(points)
        for point in _design(points, distances, around):
            evaluate(point)
        best, covariance = _surface(np.array(points), np.array(distances) ** 2)
        evaluate(best.tolist())
        bar.total = len(points)
    if distances[-1] > min(distances):
        best = np.array(points[int(np.argmin(distances))])
    return SearchResult(best, covariance, np.array(points), np.array(distances), explored, converged)


def _explore(
    evaluate: Callable[[Sequence[float]], float],
    start: Sequence[float],
    calls: int,
    seed: int,
    distances: Sequence[float],
) -> bool:
    """Run the Bayesian optimisation; return whether it converged before ``evaluate`` appended all its calls."""
    dimensions = len(start)
    kernel = ConstantKernel(1.0, (1e-2, 1e4)) * Matern(np.full(dimensions, 0.5), (0.02, 20.0), nu=2.5)
    process = GaussianProcessRegressor(kernel, normalize_y=True, noise="gaussian", random_state=seed)
    optimizer = Optimizer(
        [(0.0, 1.0)] * dimensions,
        base_estimator=process,
        n_initial_points=2 * dimensions + 2,
        acq_func="EI",
        acq_func_kwargs={"xi": 0.0},
        acq_optimizer="lbfgs",
        acq_optimizer_kwargs={"n_points": 250, "n_restarts_optimizer": 1},
        random_state=seed,
    )
    # The start, a point on either side of it along each axis, and one far from it.
    sides = [0.25 * sign * axis for axis in np.eye(dimensions) for sign in (-1, 1)]
    first = [np.clip(start + side, 0, 1).tolist() for side in (np.zeros(dimensions), *sides)]
    first.append([x + 0.5 if x < 0.5 else x - 0.5 for x in start])
    for point in first[: max(1, calls)]:
        optimizer.tell(point, evaluate(point))
    negligible = 0
    while len(distances) < calls:
        point = optimizer.ask()
        transformed = optimizer.space.transform([point])
        gain = float(gaussian_ei(transformed, optimizer.models[-1], y_opt=min(distances), xi=0.0)[0])
        negligible = negligible + 1 if gain < NEGLIGIBLE_GAIN * min(distances) else 0
        if negligible >= CONVERGED_TRIALS:
            return True
        optimizer.tell(point, evaluate(point))
    return False


def _design(points: Sequence[Sequence[float]], distances: Sequence[float], size: int) -> list[list[float]]:
    """Points on the axes and diagonals around the best so far, as far off as the squared distance has risen enough."""
    best, covariance = _surface(np.array(points), np.array(distances) ** 2)
    reach = np.clip(np.sqrt(SURFACE_RISE * np.diag(covariance)), 0.01, 0.25)
    axes = np.eye(len(best))
    steps = [np.zeros(len(best)), *(sign * axis for axis in axes for sign in (-1, 1))]
    steps += [0.7 * sign * (one + two) for one, two in itertools.combinations(axes, 2) for sign in (-1, 1)]
    return [np.clip(best + reach * step, 0, 1).tolist() for step in steps[:size]]


def _surface(points: FloatArray, squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The lowest point of the parabola through the points around the best, and the covariance of its coordinates."""
    dimensions = points.shape[1]
    lowest = int(np.argmin(squares))
    near = np.argsort(squares)[: max(6, 2 * math.comb(dimensions + 2, 2))]
    reach = np.maximum(np.abs(points[near] - points[lowest]).max(axis=0), 1e-3)
    places = (points[near] - points[lowest]) / reach
    # The parabola need not hold where the distance is great.
    doubt = 0.05 * np.maximum(squares[near], squares[lowest]) / max(float(squares[near].std()), 1e-12)
    kernel = ConstantKernel(1.0, "fixed") * DotProduct(1.0, "fixed") ** 2
    alpha = np.maximum(doubt, 1e-5) ** 2
    surface = GaussianProcessRegressor(kernel, alpha=alpha, normalize_y=True, noise=None).fit(places, squares[near])

    def mean(place: FloatArray) -> float:
        return float(surface.predict(np.atleast_2d(place))[0])

    within = [(max(-1.0, -x / r), min(1.0, (1 - x) / r)) for x, r in zip(points[lowest], reach, strict=True)]
    minimum = minimize(mean, np.zeros(dimensions), bounds=within, method="L-BFGS-B").x
    curvature = _curvature(mean, minimum)
    least = max(float(squares.min()), 1e-12)
    precision = max(BINS - dimensions, 1) / (2 * least) * curvature / np.outer(reach, reach)
    return points[lowest] + minimum * reach, np.linalg.inv(precision + np.eye(dimensions) / BOX_VARIANCE)


def _curvature(mean: Callable[[FloatArray], float], place: FloatArray, step: float = 0.1) -> FloatArray:
    """Second derivatives, exact for a parabola; no direction counts as flatter than a thousandth of the steepest."""
    axes = np.eye(len(place)) * step

    def mixed(u: FloatArray, v: FloatArray) -> float:
        return mean(place + u + v) - mean(place + u - v) - mean(place - u + v) + mean(place - u - v)

    derivatives = np.array([[mixed(u, v) for v in axes] for u in axes]) / (4 * step**2)
    values, vectors = np.linalg.eigh((derivatives + derivatives.T) / 2)
    values = np.maximum(values, max(float(values.max()) / 1000, 1e-9))
    return np.asarray(vectors @ np.diag(values) @ vectors.T)
