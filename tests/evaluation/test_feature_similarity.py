"""FSIM against piq, and phase congruency by what defines it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from pssr2_monai.evaluation.feature_similarity import fsim, phase_congruency

WavyPair = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((96, 128), 0.8686624765), ((200, 180), 0.8680793643), ((400, 460), 0.8489539027)],  # the last one averaged down
)
def test_the_index_is_that_of_piq(wavy_pair: WavyPair, shape: tuple[int, int], expected: float) -> None:
    """``piq.fsim(image, target, data_range=1.0, chromatic=False)`` of piq 0.8.0 on these images, stored."""
    image, target = (planes[None] for planes in wavy_pair(*shape))
    assert fsim(image, target) == pytest.approx(expected, abs=1e-4)
    assert fsim(255 * image, 255 * target, 255) == pytest.approx(fsim(image, target), abs=1e-5)
    assert fsim(target, target) == pytest.approx(1)


def test_frames_are_averaged_and_small_images_have_none(wavy_pair: WavyPair) -> None:
    image, target = wavy_pair(64, 64)
    both = fsim(np.stack([image, target]), np.stack([target, target]))
    assert both == pytest.approx((fsim(image[None], target[None]) + 1) / 2)
    assert math.isnan(fsim(image[None, :47], target[None, :47]))
    flat = np.zeros((1, 64, 64), np.float32)
    assert math.isnan(fsim(flat, flat))


def test_phase_congruency_is_high_at_edges_whatever_their_contrast() -> None:
    plane = np.zeros((96, 96), np.float32)
    plane[:, 30:62] = 200
    strong, weak = phase_congruency(plane), phase_congruency(plane / 20)
    assert 0 <= strong.min() <= strong.max() <= 1
    assert strong[48, 29:31].min() > 2 * strong[48, 38]
    assert weak[48, 29:31] == pytest.approx(strong[48, 29:31], rel=0.02)
    assert phase_congruency(np.full((64, 64), 9, np.float32)).max() < 0.01
