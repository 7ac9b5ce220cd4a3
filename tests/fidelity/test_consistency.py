"""Z-scores of pixels and scores of structures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pssr2_monai.crappify import GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.crappify.noise import noise_curve, noise_range
from pssr2_monai.fidelity.consistency import (
    HALO,
    SIGMAS,
    Expectation,
    expectation,
    own_curve,
    score_limit,
    smoothed_spreads,
    structure_scores,
    white_spreads,
)


def _clean(seed: int = 0, side: int = 160) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 6)
    return np.clip(120 + 40 * noise / noise.std(), 30, 220)


@pytest.mark.parametrize("intensity", [0.6, 1.0, 1.4])
def test_z_scores_of_the_true_image_are_normal_whatever_strength_was_drawn(intensity: float) -> None:
    clean = _clean()
    rng = np.random.default_rng(1)
    lr = clean + intensity * (rng.poisson(clean) - clean)
    noises = [PoissonNoise(intensity=(0.5, 1.5))]
    expected = expectation(noise_curve(noises), noise_range(noises), [lr], [clean])
    z = expected.z_scores(lr, clean)
    assert expected.strength == pytest.approx(intensity, rel=0.06)
    assert float(z.std()) == pytest.approx(1, abs=0.06)
    assert float((np.abs(z) > 3).mean()) < 0.006
    assert float(z[clean < 90].std()) == pytest.approx(float(z[clean > 150].std()), rel=0.1)


def test_gain_and_offset_are_found_and_taken_off() -> None:
    clean = _clean()
    lr = 0.8 * clean + 15 + np.random.default_rng(1).normal(0, 5, clean.shape)
    expected = expectation(noise_curve([GaussianNoise(sigma=5)]), (1.0, 1.0), [lr], [clean])
    assert (expected.gain, expected.offset) == (pytest.approx(0.8, abs=0.01), pytest.approx(15, abs=1.2))
    assert expected.brighter == pytest.approx(float(lr.mean() - clean.mean()))


def test_the_strength_stays_within_what_training_drew_and_the_measured_one_is_told() -> None:
    clean = _clean()
    lr = clean + np.random.default_rng(0).normal(0, 20, clean.shape)
    expected = expectation(noise_curve([GaussianNoise(sigma=5)]), (0.8, 1.2), [lr], [clean])
    assert expected.strength == 1.2
    assert expected.measured == pytest.approx(4, rel=0.1)


def test_without_a_crappifier_the_noise_is_measured_in_the_image() -> None:
    clean = _clean(side=300)
    rng = np.random.default_rng(0)
    lr = rng.poisson(clean) + rng.normal(0, 4, clean.shape)
    curve = own_curve([lr], [clean])
    for grey in (80.0, 160.0):
        assert float(curve.variance_at(np.float64(grey))) == pytest.approx(grey + 16, rel=0.12)


def test_lost_pixels_have_no_z_score() -> None:
    clean = _clean()
    lr = clean.copy()
    lr[::7, ::5], lr[3::7, ::5] = 0, 255
    curve = noise_curve([GaussianNoise(sigma=5), SaltPepperNoise(percent=5)])
    assert not Expectation(curve).z_scores(lr, clean).any()


def test_smoothed_white_noise_spreads_as_the_formula_says() -> None:
    z = np.random.default_rng(0).normal(size=(500, 500))
    np.testing.assert_allclose(smoothed_spreads([z]), white_spreads(), rtol=0.04)


def test_scores_of_noise_keep_below_the_limit_and_a_weak_structure_does_not() -> None:
    side, above = 128, 0
    y, x = np.mgrid[:side, :side]
    disk = np.hypot(y - 70, x - 40) <= 2.5
    for seed in range(20):
        z = np.random.default_rng(seed).normal(size=(side, side))
        scores, _ = structure_scores(z, smoothed_spreads([z]))
        above += bool(np.abs(scores).max() > score_limit(z.size))
        painted = z - 2.0 * disk  # no single pixel of it stands out
        scores, sizes = structure_scores(painted, smoothed_spreads([painted]))
        assert scores[68:73, 38:43].min() < -score_limit(z.size)
        assert SIGMAS[int(sizes[70, 40])] in (1.2, 1.8)
    assert above <= 1


def test_scores_depend_on_nothing_beyond_the_halo() -> None:
    z = np.random.default_rng(0).normal(size=(120, 200)).astype(np.float32)
    spreads = smoothed_spreads([z])
    whole, _ = structure_scores(z, spreads)
    part, _ = structure_scores(z[:, 40 : 120 + HALO], spreads)
    np.testing.assert_allclose(part[:, HALO:80], whole[:, 40 + HALO : 120], rtol=1e-5, atol=1e-6)


def test_larger_images_have_a_higher_limit() -> None:
    assert 4 < score_limit(64**2) < score_limit(2048**2) < 8
