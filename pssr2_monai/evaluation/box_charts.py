"""Box plots of an evaluation: how each method's scores spread over the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pssr2_monai.charts import BLUE, GREY, ORANGE, Chart
from pssr2_monai.evaluation.comparing import METHODS
from pssr2_monai.metrics.measures import METRICS

__all__ = ["BOXES", "COLOURS", "FEW", "NAMES", "box_charts"]

NAMES = {"bilinear": "bilinear", "bicubic": "bicubic", "model": "restored"}
COLOURS = {"bilinear": GREY, "bicubic": ORANGE, "model": BLUE}
BOXES = ("psnr_fitted", "ssim_fitted", "ms_ssim", "frc_resolution")
FEW = 3
"""Images that have a spread, at least."""


def box_charts(result: Mapping[str, Any], size: tuple[int, int]) -> list[Chart]:
    """One chart a metric of ``BOXES``, with a box a method; none of fewer than ``FEW`` images.

    Args:
        result: what ``evaluating.evaluate`` gives.
        size: width and height of each, pixels.
    """
    units = result["samples"] or result["images"]
    charts: list[Chart] = []
    for name in BOXES if len(units) >= FEW else ():
        metric = METRICS[name]
        found = {method: np.array([unit[method][name] for unit in units], dtype=float) for method in METHODS}
        values = {method: each[np.isfinite(each)] for method, each in found.items()}
        if not all(each.size for each in values.values()):
            continue
        chart = Chart(
            metric.label, "", metric.unit, size, x_range=(-0.5, len(METHODS) - 0.5), x_names=tuple(NAMES.values())
        )
        together = np.concatenate(list(values.values()))
        room = 0.08 * float(np.ptp(together)) or 0.5
        chart.y_range = (float(together.min()) - room, float(together.max()) + room)
        for place, method in enumerate(METHODS):
            chart.box(place, values[method], COLOURS[method])
        charts.append(chart)
    return charts
