"""The contrast between HR and LR: unbiased where both are noisy, cut off, or tell little."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.data.scales import Contrast, blocks_of, fit_contrasts

SHAPE = (1, 256, 256)


def _scene(seed: int = 0, centre: float = 120.0, reach: float = 60.0) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), (0, 8, 8))
    return centre + reach * smooth / np.abs(smooth).max()


def _fitted(hr: np.ndarray, lr: np.ndarray, good: np.ndarray | None = None) -> Contrast:
    usable = np.ones(hr.shape, dtype=bool) if good is None else good
    blocks = blocks_of(hr.astype(np.float32), lr.astype(np.float32), usable)
    return fit_contrasts([blocks], (0.0, 255.0))[0]


def test_a_noisy_hr_image_does_not_flatten_the_line() -> None:
    scene, rng = _scene(), np.random.default_rng(1)
    hr, lr = scene + rng.normal(0, 12, SHAPE), 0.8 * scene + 15 + rng.normal(0, 12, SHAPE)
    found = _fitted(hr, lr)
    naive = np.polyfit(hr.ravel(), lr.ravel(), 1)[0]
    assert naive < 0.65
    assert found.gain == pytest.approx(0.8, rel=0.02)
    assert found.offset == pytest.approx(15, abs=2.5)
    assert found.correlation > 0.98


def test_noise_that_the_detector_cuts_off_does_not_bend_the_line() -> None:
    scene = _scene(centre=60.0, reach=70.0).clip(0)
    lr = np.clip(scene + np.random.default_rng(2).normal(0, 20, SHAPE), 0, 255)
    found = _fitted(scene, lr)
    assert found.gain == pytest.approx(1, abs=0.03)
    assert found.offset == pytest.approx(0, abs=1.5)


def test_blocks_with_saturated_pixels_are_left_out() -> None:
    scene = _scene()
    lr, good = scene + 7, np.ones(SHAPE, dtype=bool)
    lr[:, :100, :100], good[:, :100, :100] = 0, False
    found = _fitted(scene, lr, good)
    assert (found.gain, found.offset) == pytest.approx((1, 7), abs=1e-3)


def test_images_without_structure_take_the_gain_of_the_others() -> None:
    rng, pairs = np.random.default_rng(3), []
    for number in range(6):
        scene = _scene(number) if number else np.full(SHAPE, 100.0) + rng.normal(0, 0.3, SHAPE)
        lr = 0.7 * scene + 20 + rng.normal(0, 6, SHAPE)
        pairs.append(blocks_of(scene.astype(np.float32), lr.astype(np.float32), np.ones(SHAPE, dtype=bool)))
    found = fit_contrasts(pairs, (0.0, 255.0))
    assert found[0].gain == pytest.approx(0.7, abs=0.02)
    assert found[0].structure < 1
    # One gain for all is found to be one, and so are the offsets better than image by image.
    assert np.std([each.offset for each in found]) < 0.5


def test_gains_that_differ_stay_different() -> None:
    rng, truth, pairs = np.random.default_rng(4), [0.6, 0.8, 1.0, 1.2], []
    for number, gain in enumerate(truth):
        scene = _scene(number)
        lr = (gain * scene + rng.normal(0, 6, SHAPE)).astype(np.float32)
        pairs.append(blocks_of(scene.astype(np.float32), lr, np.ones(SHAPE, dtype=bool)))
    found = fit_contrasts(pairs, (-100.0, 400.0))
    assert [each.gain for each in found] == pytest.approx(truth, abs=0.02)


def test_constant_and_unusable_images_are_no_error() -> None:
    flat = np.full(SHAPE, 50.0)
    assert _fitted(flat, flat).structure == 0
    assert _fitted(flat, flat, np.zeros(SHAPE, dtype=bool)).correlation == 0
