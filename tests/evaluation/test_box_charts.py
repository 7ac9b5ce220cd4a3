"""Box plots of scores: which there are, and that every score lies within their axes."""

from __future__ import annotations

from typing import Any

import pytest

from pssr2_monai.evaluation.report import BOXES, box_charts


def _result(images: int) -> dict[str, Any]:
    scores = [dict.fromkeys(BOXES, 20.0 + number) for number in range(images)]
    return {"samples": [], "images": [dict.fromkeys(("bilinear", "bicubic", "model"), each) for each in scores]}


def test_few_images_have_no_spread() -> None:
    assert box_charts(_result(2), (300, 200)) == []


def test_each_metric_has_a_chart_that_holds_all_its_scores() -> None:
    charts = box_charts(_result(5), (300, 200))
    assert len(charts) == len(BOXES)
    for chart in charts:
        assert chart.y_range == pytest.approx((20 - 0.32, 24 + 0.32))
        assert chart.image().size == (300, 200)


def test_what_has_no_number_is_left_out() -> None:
    result = _result(4)
    result["images"][0] = {method: dict.fromkeys(BOXES) for method in ("bilinear", "bicubic", "model")}
    charts = box_charts(result, (300, 200))
    assert [chart.y_range for chart in charts] == [pytest.approx((21 - 0.16, 23 + 0.16))] * len(BOXES)
    for image in result["images"]:
        image["model"] = image["model"] | {"ms_ssim": float("nan")}
    assert len(box_charts(result, (300, 200))) == len(BOXES) - 1
