"""Black and white levels: those of the clean image, whatever noise, hot pixels and padding do to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pssr2_monai.images.levels import black_and_white, noise_of


def _scene(side: int = 256, low: float = 1000, high: float = 9000) -> np.ndarray:
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), 12)
    return low + (high - low) * (smooth - smooth.min()) / np.ptp(smooth)


def _levels(*windows: np.ndarray) -> tuple[float, float]:
    levels = black_and_white(windows)
    assert levels is not None
    return levels


def _moved(levels: tuple[float, float], clean: tuple[float, float]) -> float:
    """By how much of their distance the levels of the clean image moved."""
    return max(abs(level - before) for level, before in zip(levels, clean, strict=True)) / (clean[1] - clean[0])


def test_the_levels_are_percentiles_of_block_means() -> None:
    scene = _scene(64)
    blocks = scene.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    assert _levels(scene) == pytest.approx(np.percentile(blocks, [0.1, 99.9]), abs=30)


@pytest.mark.parametrize("counts", [2, 10, 1000])
def test_photon_noise_moves_them_little(counts: float) -> None:
    scene = _scene(512)
    noisy = np.random.default_rng(1).poisson(scene / 9000 * counts) * 9000 / counts
    assert _moved(_levels(noisy), _levels(scene)) < (0.25 if counts < 5 else 0.1)
    # Percentiles of pixels would have moved by more than the whole range.
    if counts < 5:
        assert _moved(tuple(np.percentile(noisy, [0.1, 99.9])), _levels(scene)) > 1


@pytest.mark.parametrize("share", [0.0005, 0.002, 0.01])
@pytest.mark.parametrize("value", [65535, 0])
def test_hot_and_dead_pixels_do_not_move_them(share: float, value: int) -> None:
    scene = _scene()
    spoilt = np.where(np.random.default_rng(2).random(scene.shape) < share, value, scene)
    assert _moved(_levels(spoilt), _levels(scene)) < 0.02


@pytest.mark.parametrize("fill", [0, 65535, 4321, np.nan])
def test_padding_does_not_move_them(fill: float) -> None:
    scene = _scene()
    padded = np.full((512, 512), float(fill))
    padded[37 : 37 + 256, 101 : 101 + 256] = scene
    assert _moved(_levels(padded), _levels(scene)) < 0.03


def test_a_sparse_image_keeps_its_bright_spots() -> None:
    field = np.full((512, 512), 100.0) + np.random.default_rng(3).normal(0, 3, (512, 512))
    field[200:230, 300:330] += 4000
    black, white = _levels(field)
    assert black == pytest.approx(100, abs=5)
    assert white > 3500


def test_an_empty_field_spans_its_noise() -> None:
    black, white = _levels(np.random.default_rng(4).normal(500, 20, (256, 256)))
    assert (black + white) / 2 == pytest.approx(500, abs=5)
    assert white - black == pytest.approx(1.5 * 20, rel=0.1)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_noise_of_integers_is_that_of_numbers(dtype: str) -> None:
    scan = np.random.default_rng(5).normal(500, 20, (300, 300)).astype(dtype)
    assert noise_of([scan]) == pytest.approx(20, rel=0.03)


def test_constant_and_missing_pixels() -> None:
    assert _levels(np.full((32, 32), 7.0)) == (7, 8)
    assert black_and_white([np.full((32, 32), np.nan)]) is None
    assert black_and_white([]) is None
    flat = np.zeros((64, 64))
    flat[3, 5] = 9  # all but one block are constant
    assert _levels(flat) == (0, 9)


@given(gain=st.floats(1e-3, 1e4), offset=st.floats(-1e4, 1e4))
def test_they_follow_gain_and_offset(gain: float, offset: float) -> None:
    scene = _scene(64)
    expected = np.array(_levels(scene)) * gain + offset
    assert _levels(scene * gain + offset) == pytest.approx(expected, rel=1e-9, abs=1e-6 * gain)
