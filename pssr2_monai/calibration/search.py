"""The search of a calibration: Bayesian optimisation with a Gaussian process over a unit box of a few dimensions."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from skopt import Optimizer
from skopt.acquisition import gaussian_ei
from skopt.learning import GaussianProcessRegressor
from skopt.learning.gaussian_process.kernels import ConstantKernel, DotProduct, Matern
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pssr2_monai.progress import report_progress

NEGLIGIBLE = 0.02
"""Expected improvement, as a share of the least distance so far, below which the search has found its place."""
QUIET = 2
"""How many times in a row that must be so."""
BOX_VARIANCE = 1 / 12
"""Variance of a coordinate of which nothing is known but that it lies in the unit box."""
RISE = 8.0
"""The surface is fitted to points around the best one at which the squared distance has risen by about so many times
its scatter: far enough to tell a slope from chance, near enough for a parabola."""
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        best: the lowest point of the fitted surface, in the unit box.
        covariance: of its coordinates.
        points: ``(evaluations, dimensions)`` in the order of their evaluation.
        distances: the distance at each.
        explored: how many of them the Gaussian process chose or began with; the rest were laid around the best.
        converged: whether the search stopped because there was nothing more to gain.
    """

    best: FloatArray
    covariance: FloatArray
    points: FloatArray
    distances: FloatArray
    explored: int
    converged: bool


def search(
    distance: Callable[[Sequence[float]], float],
    start: Sequence[float],
    calls: int,
    seed: int = 0,
    freedom: int = 16,
    progress: str | None = None,
) -> Found:
    """Finds the point of the unit box with the least distance.

    First a Gaussian process (Matern 5/2) of the distance, asked and told by scikit-optimize, puts each evaluation where
    the expected improvement is greatest (Jones et al. 1998, J. Global Optim. 13:455), until that is negligible. Then a
    design of points around the best one is evaluated, and a second Gaussian process, whose covariance is that of
    parabolas, is fitted to the squared distance near it. The estimate is the lowest point of its mean; the covariance
    follows from its curvature H as in least squares: ``2 * S / (freedom - dimensions) * inverse(H)``, S the squared
    distance left over, which is chance and what no parameter can mend; and from the box, which no coordinate leaves.

    Args:
        distance: of a point; without noise of its own (common random numbers).
        start: where to begin.
        calls: evaluations, at most; at least 4 a dimension.
        seed: of the search.
        freedom: how many independent numbers the distance is a mean of.
        progress: what to call the progress bar; none without a name.
    """
    dimensions = len(start)
    points: list[list[float]] = []
    distances: list[float] = []
    around = min(_design_size(dimensions), calls // 2)
    with (
        threadpool_limits(1),
        warnings.catch_warnings(),
        tqdm(total=calls, desc=progress, disable=None if progress else True, unit="trial") as bar,
    ):
        # The process meets the bounds of its own parameters, and points that it knows already, as a matter of course.
        warnings.simplefilter("ignore")

        def evaluate(point: Sequence[float]) -> float:
            points.append([min(max(float(x), 0.0), 1.0) for x in point])
            distances.append(distance(points[-1]))
            bar.update()
            report_progress(progress or "", len(points) / calls)
            bar.set_postfix_str(f"distance {min(distances):.3f}")
            return distances[-1]

        converged = _explore(evaluate, start, calls - around, seed, points, distances)
        explored = len(points)
        for point in _design(points, distances, freedom, around):
            evaluate(point)
        bar.total = len(points)
    best, covariance = _surface(np.array(points), np.array(distances) ** 2, freedom)
    return Found(best, covariance, np.array(points), np.array(distances), explored, converged)


def _explore(
    evaluate: Callable[[Sequence[float]], float],
    start: Sequence[float],
    calls: int,
    seed: int,
    points: Sequence[Sequence[float]],
    distances: Sequence[float],
) -> bool:
    """Bayesian optimisation; tells whether it ended before its calls did."""
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
    first = _first_points(start)[: max(1, calls)]
    for point in first:
        optimizer.tell(point, evaluate(point))
    quiet = 0
    while len(points) < calls:
        point = optimizer.ask()
        at = optimizer.space.transform([point])
        gain = float(gaussian_ei(at, optimizer.models[-1], y_opt=min(distances), xi=0.0)[0])
        quiet = quiet + 1 if gain < NEGLIGIBLE * min(distances) else 0
        if quiet >= QUIET:
            return True
        optimizer.tell(point, evaluate(point))
    return False


def _first_points(start: Sequence[float]) -> list[list[float]]:
    """The start, a point on either side of it along each axis, and one far from it."""
    found = [list(start)]
    for axis, step in itertools.product(range(len(start)), (-0.25, 0.25)):
        found.append([min(max(x + step * (k == axis), 0.0), 1.0) for k, x in enumerate(start)])
    return [*found, [x + 0.5 if x < 0.5 else x - 0.5 for x in start]]


def _design_size(dimensions: int) -> int:
    return 2 * dimensions + 2 * math.comb(dimensions, 2) + 1


def _design(
    points: Sequence[Sequence[float]], distances: Sequence[float], freedom: int, size: int
) -> list[list[float]]:
    """Points on the axes and diagonals around the best so far, as far off as the squared distance has risen enough."""
    best, covariance = _surface(np.array(points), np.array(distances) ** 2, freedom)
    reach = np.clip(np.sqrt(RISE * np.diag(covariance)), 0.01, 0.25)
    axes = range(len(best))
    steps = [np.zeros(len(best))]
    for axis, sign in itertools.product(axes, (-1, 1)):
        steps.append(np.where(np.arange(len(best)) == axis, sign, 0))
    for pair, sign in itertools.product(itertools.combinations(axes, 2), (-1, 1)):
        steps.append(np.where(np.isin(np.arange(len(best)), pair), 0.7 * sign, 0))
    return [np.clip(best + reach * step, 0, 1).tolist() for step in steps[:size]]


def _surface(points: FloatArray, squares: FloatArray, freedom: int) -> tuple[FloatArray, FloatArray]:
    """The lowest point of the parabola through the points around the best, and the covariance of its coordinates."""
    dimensions = points.shape[1]
    lowest = int(np.argmin(squares))
    near = np.argsort(squares)[: max(6, 2 * math.comb(dimensions + 2, 2))]
    reach = np.maximum(np.abs(points[near] - points[lowest]).max(axis=0), 1e-3)
    at = (points[near] - points[lowest]) / reach
    # The parabola need not hold where the distance is great.
    doubt = 0.05 * np.maximum(squares[near], squares[lowest]) / max(float(squares[near].std()), 1e-12)
    kernel = ConstantKernel(1.0, "fixed") * DotProduct(1.0, "fixed") ** 2
    alpha = np.maximum(doubt, 1e-5) ** 2
    surface = GaussianProcessRegressor(kernel, alpha=alpha, normalize_y=True, noise=None).fit(at, squares[near])

    def mean(where: FloatArray) -> float:
        return float(surface.predict(np.atleast_2d(where))[0])

    within = [(max(-1.0, -x / r), min(1.0, (1 - x) / r)) for x, r in zip(points[lowest], reach, strict=True)]
    found = minimize(mean, np.zeros(dimensions), bounds=within, method="L-BFGS-B")
    curvature = _curvature(mean, found.x)
    left = max(float(squares.min()), 1e-12)
    precision = max(freedom - dimensions, 1) / (2 * left) * curvature / np.outer(reach, reach)
    return points[lowest] + found.x * reach, np.linalg.inv(precision + np.eye(dimensions) / BOX_VARIANCE)


def _curvature(mean: Callable[[FloatArray], float], at: FloatArray, step: float = 0.1) -> FloatArray:
    """Second derivatives, exact for a parabola; no direction is let off flatter than a thousandth of the steepest."""
    axes = np.eye(len(at)) * step
    derivatives = np.array(
        [
            [
                mean(at + one + other) - mean(at + one - other) - mean(at - one + other) + mean(at - one - other)
                for other in axes
            ]
            for one in axes
        ]
    ) / (4 * step**2)
    values, vectors = np.linalg.eigh((derivatives + derivatives.T) / 2)
    values = np.maximum(values, max(float(values.max()) / 1000, 1e-9))
    return np.asarray(vectors @ np.diag(values) @ vectors.T)
