"""Noise profiles: each figure against a formula, and distances on one scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from pssr2_monai.calibration.noise_profiles import NoiseProfile, Scene, profile_terms, sort_pixels, summarise

SHAPE = (8, 128, 128)
PIXELS = float(np.prod(SHAPE))


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Images with structure, grey levels 40 to 200."""
    rough = np.random.default_rng(0).normal(size=SHAPE)
    smooth = ndimage.gaussian_filter(rough, (0, 4, 4))
    return (120 + 80 * smooth / np.abs(smooth).max()).astype(np.float32)


@pytest.fixture(scope="module")
def scene(clean: np.ndarray) -> Scene:
    """All of their pixels."""
    return sort_pixels(clean, np.ones(SHAPE, dtype=bool), flat_only=False)


def _normal(sigma: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, SHAPE).astype(np.float32)


def test_bins_hold_as_many_pixels_each_and_rise_in_brightness(clean: np.ndarray, scene: Scene) -> None:
    assert scene.counts.sum() == PIXELS
    np.testing.assert_allclose(scene.counts, PIXELS / 16, rtol=0.01)
    assert (np.diff(scene.brightness) > 0).all()
    weighted = float(scene.brightness @ scene.counts) / PIXELS
    assert weighted == pytest.approx(float(clean.mean()), abs=0.01)


def test_the_flatter_half_of_each_bin_leaves_edges_out() -> None:
    step = np.full((1, 64, 64), 50, np.float32)
    step[:, :, 32:] = 150
    flat = sort_pixels(step, np.ones_like(step, dtype=bool))
    assert not flat.used[:, :, 30:34].any()
    assert flat.counts.sum() == pytest.approx(step.size / 2, abs=2)


def test_pixels_that_are_not_good_are_not_looked_at(clean: np.ndarray) -> None:
    good = np.ones(SHAPE, dtype=bool)
    good[:, :64] = False
    halved = sort_pixels(clean, good)
    assert not halved.used[:, :64].any()
    noise = _normal(5.0)
    noise[:, :64] = 1000
    assert summarise(halved, noise).spread == pytest.approx(5, rel=0.02)


def test_few_bright_pixels_have_bins_that_show_how_noise_grows_with_brightness() -> None:
    levels = np.full(2**17, 10.0)
    levels[: 2**11] = np.random.default_rng(1).uniform(10, 900, 2**11)
    sparse = levels.reshape(2, 256, 256).astype(np.float32)
    for image in (sparse, 910 - sparse):
        scene = sort_pixels(image, np.ones_like(image, dtype=bool), flat_only=False)
        assert len(scene.brightness) > 3
        assert np.ptp(scene.brightness) > 500
        noise = np.sqrt(400 + 2 * image) * np.random.default_rng(2).normal(size=image.shape)
        profile = summarise(scene, noise)
        expected = np.sqrt(400 + 2 * scene.brightness)
        assert (np.abs(profile.bin_spread / expected - 1) < 4 / np.sqrt(2 * scene.counts) + 0.02).all()


def test_an_image_of_one_grey_level_is_one_bin() -> None:
    flat = np.full((1, 32, 32), 7, np.float32)
    profile = summarise(sort_pixels(flat, np.ones_like(flat, dtype=bool)), flat * 0)
    assert profile.bin_spread.tolist() == [0.0]


def test_normal_noise_has_its_sigma_in_every_bin_and_the_normal_distribution(scene: Scene) -> None:
    profile = summarise(scene, _normal(6.0) + 2)
    # The standard error of a standard deviation from n values is sigma / sqrt(2 n).
    np.testing.assert_allclose(profile.bin_spread, 6, atol=5 * 6 / np.sqrt(2 * PIXELS / 16))
    np.testing.assert_allclose(profile.bin_mean, 2, atol=5 * 6 / np.sqrt(PIXELS / 16))
    expected = stats.norm(2, 6).cdf(profile.edges)
    np.testing.assert_allclose(profile.cumulative, expected, atol=5 * 0.5 / np.sqrt(PIXELS))
    np.testing.assert_allclose(profile.neighbours, 0, atol=5 / np.sqrt(PIXELS / 16))


def test_poisson_noise_has_the_variance_of_its_brightness(scene: Scene) -> None:
    noise = np.random.default_rng(2).poisson(scene.clean) - scene.clean
    profile = summarise(scene, noise)
    np.testing.assert_allclose(profile.bin_spread**2, scene.brightness, rtol=0.07)
    assert profile.bin_spread[-1] > 1.2 * profile.bin_spread[0]


def test_lost_pixels_are_counted_and_do_not_spoil_the_spread(scene: Scene) -> None:
    noise = _normal(4.0)
    lost = np.random.default_rng(3).random(SHAPE) < 0.01
    profile = summarise(scene, np.where(lost, 255 - scene.clean, noise))
    assert profile.tails.mean() == pytest.approx(0.01, rel=0.1)
    # Lost pixels count as five sigma: the variance is 0.99 * sigma**2 + 0.01 * 25 * sigma**2.
    np.testing.assert_allclose(profile.bin_spread, 4 * np.sqrt(0.99 + 0.25), rtol=0.05)


def test_rows_hold_the_line_noise_and_the_mean_of_their_pixels(scene: Scene) -> None:
    lines = np.random.default_rng(4).normal(0, 3, (*SHAPE[:2], 1))
    drift = np.linspace(0, 30, SHAPE[1])[None, :, None]
    profile = summarise(scene, (lines + drift + _normal(8.0)).astype(np.float32))
    expected = np.sqrt(3**2 + 8**2 / SHAPE[2])
    assert profile.rows.mean() == pytest.approx(expected, rel=0.08)


def test_neighbours_along_x_and_y_are_told_apart(scene: Scene) -> None:
    white = _normal(5.0)
    paired = (white + np.roll(white, 1, axis=2)) / 2
    along_x, along_y = summarise(scene, paired).neighbours.mean(axis=1)
    assert along_x == pytest.approx(0.5, abs=0.02)
    assert along_y == pytest.approx(0, abs=0.02)


def test_sharpness_is_half_the_variance_of_a_small_blur(scene: Scene) -> None:
    blurred = ndimage.gaussian_filter(scene.clean, (0, 0.8, 0.8))
    profile = summarise(scene, blurred - scene.clean + _normal(2.0))
    assert profile.sharpness.mean() == pytest.approx(0.8**2 / 2, rel=0.1)


def test_shifts_of_rows_are_found(scene: Scene) -> None:
    shifts = np.random.default_rng(5).normal(0, 0.4, (*SHAPE[:2], 1))
    noise = shifts * np.gradient(scene.clean, axis=2)
    assert summarise(scene, noise.astype(np.float32)).shifts.mean() == pytest.approx(0.4, rel=0.1)


def test_equal_profiles_have_no_distance(scene: Scene) -> None:
    profile = summarise(scene, _normal(5.0))
    assert set(profile_terms(profile, profile).values()) == {0.0}


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_noise_stronger_by_a_share_is_that_far_away(scene: Scene, share: float) -> None:
    real = summarise(scene, _normal(10.0))
    terms = profile_terms(real, summarise(scene, _normal(10.0) * np.float32(1 + share), like=real))
    assert terms["spread"] == pytest.approx(share**2, rel=0.01)
    # To second order; the integral of (x * phi(x))**2 is 1 / (4 sqrt(pi)).
    assert terms["distribution"] == pytest.approx(share**2, rel=0.2)


def test_a_shift_of_the_mean_counts_in_standard_deviations(scene: Scene) -> None:
    real = summarise(scene, _normal(10.0))
    terms = profile_terms(real, summarise(scene, _normal(10.0) + np.float32(1), like=real))
    assert terms["mean"] == pytest.approx(0.1**2, rel=0.02)
    assert terms["spread"] < 1e-6


def test_spread_by_brightness_tells_poisson_from_gaussian_noise_where_histograms_do_not(scene: Scene) -> None:
    rng = np.random.default_rng(6)
    real = summarise(scene, (rng.poisson(scene.clean) - scene.clean).astype(np.float32))
    terms = profile_terms(real, summarise(scene, _normal(real.spread), like=real))
    assert terms["spread"] > 10 * terms["distribution"]


def test_terms_that_are_not_asked_for_cost_nothing(scene: Scene) -> None:
    profile = summarise(scene, _normal(3.0), terms=("spread",))
    assert not profile.rows.any()
    assert not profile.neighbours.any()


@pytest.mark.parametrize(("name", "factor"), [("rows", 1.0), ("shifts", 1.0), ("sharpness", 0.25), ("tails", 1.0)])
def test_terms_of_rows_are_relative(scene: Scene, name: str, factor: float) -> None:
    profile = summarise(scene, _normal(3.0))
    real: NoiseProfile = replace(profile, **{name: np.full(16, 2.0)})
    trial: NoiseProfile = replace(profile, **{name: np.full(16, 2.2)})
    assert profile_terms(real, trial)[name] == pytest.approx(factor * 0.1**2)
