"""The scores of one image of an evaluation, and means of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pssr2_monai.evaluation.compare import Comparison
from pssr2_monai.evaluation.fourier_ring_correlation import MIN_FRC_SIDE_PX, single_image_correlation
from pssr2_monai.evaluation.measures import scores
from pssr2_monai.fidelity.decorrelation import decorrelation_resolution
from pssr2_monai.images.axes import factors
from pssr2_monai.networks.record import Record
from pssr2_monai.progress import allow_stop

FREQUENCIES = np.linspace(1 / 128, 0.5, 64)  # of curves of Fourier ring correlation, in periods per HR pixel
Scores = dict[str, dict[str, float]]  # by method and metric


@dataclass
class ScoredImage:
    """The scores of one image. No pixels are kept, so that any number of images may be evaluated."""

    name: str
    pixel_size_nm: float | None
    ranges: list[tuple[float, float]]  # for each channel, the grey levels of HR that scores count as 0 and 1
    samples: list[Scores] = field(default_factory=list)
    curves: dict[str, list[np.ndarray]] = field(default_factory=dict)
    single_image_resolutions: dict[str, list[float]] = field(default_factory=dict)
    decorrelation_resolutions: dict[str, list[float]] = field(default_factory=dict)

    def add(self, comparison: Comparison, record: Record, normalise: str, names: Sequence[str]) -> None:
        """Score a sample by the metrics of these names, and HR (and LR, at scale 1) by themselves."""
        correlations = comparison.correlations()
        sample = {}
        for method, planes in comparison.restored.items():
            allow_stop()
            curve = correlations.get(method)
            known = {"frc_resolution": math.nan if curve is None else curve.resolution()}
            if "decorrelation" in names:
                known["decorrelation"] = decorrelation_resolution(comparison.detail_planes(planes))
            sample[method] = scores(planes, comparison.hr, normalise, names, comparison.lr, known, comparison.counted)
            if curve is not None:
                self.curves.setdefault(method, []).append(curve.at(FREQUENCIES))
        self.samples.append(sample)
        # The resolution of a single image needs fine sampling, which an LR image that is to be enlarged does not have.
        images = {"hr": comparison.detail_planes(comparison.hr)}
        if max(factors(record.scale)) == 1:
            images["lr"] = comparison.lr
        for image, planes in images.items():
            if min(planes.shape[-2:]) >= 2 * MIN_FRC_SIDE_PX:
                resolution = single_image_correlation(planes).resolution()
                self.single_image_resolutions.setdefault(image, []).append(resolution)
            if "decorrelation" in names:
                self.decorrelation_resolutions.setdefault(image, []).append(decorrelation_resolution(planes))

    def mean(self) -> Scores:
        return {method: mean_scores([sample[method] for sample in self.samples]) for method in self.samples[0]}

    def described(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self.name, "samples": len(self.samples), "pixel_size_nm": self.pixel_size_nm}
        entry["range"] = self.ranges
        for key in ("single_image_resolution", "decorrelation_resolution"):
            columns = getattr(self, f"{key}s")
            entry[key] = {image: mean_scores([{image: value} for value in columns[image]])[image] for image in columns}
        return {**entry, **self.mean()}


def mean_scores(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the samples that have it (see `counted`), infinite where all are."""
    columns = {name: np.array([sample[name] for sample in samples]) for name in samples[0]}
    return {
        name: float(values[counted(values)].mean()) if counted(values).any() else math.nan
        for name, values in columns.items()
    }


def counted(values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which scores count in a mean: a constant image has neither an FRC nor, restored as it is, a finite PSNR."""
    finite = np.isfinite(values)
    return finite if finite.any() else ~np.isnan(values)
