"""The filter that learns nothing: known noise is estimated and removed, and what is no data stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pssr2_monai.evaluation.filters import REACH_PX, denoise, noise_line, stabilised, unstabilised


def _scene(side: int = 192) -> np.ndarray:
    """Waves between 200 and 600, slower at the top."""
    rows, columns = np.mgrid[:side, :side] / 192
    return 400 + 200 * np.sin(9 * rows) * np.cos(7 * columns)


def _noisy(seed: int = 0, gain: float = 10.0, side: int = 192) -> np.ndarray:
    return (np.random.default_rng(seed).poisson(_scene(side) / gain) * gain).astype(np.float32)


@pytest.mark.parametrize(("gain", "sigma"), [(0.1, 0.5), (1.0, 0.0), (4.0, 10.0)])
def test_stabilised_noise_has_unit_variance_and_its_mean_returns_without_bias(gain: float, sigma: float) -> None:
    random = np.random.default_rng(0)
    for mean in (20.0, 60.0, 200.0):
        noisy = gain * random.poisson(mean / gain, 200_000) + random.normal(0, sigma, 200_000)
        stable = stabilised(noisy.astype(np.float32), gain, sigma)
        assert stable.std() == pytest.approx(1, abs=0.05)
        assert unstabilised(stable.mean(dtype=float), gain, sigma) == pytest.approx(mean, rel=0.01)


@pytest.mark.parametrize(
    ("gain", "sigma", "black"), [(2.0, 0.0, 0.0), (0.0, 9.0, 0.0), (1.0, 8.0, 0.0), (2.0, 0.0, 30)]
)
def test_the_noise_of_a_plane_is_measured(gain: float, sigma: float, black: float) -> None:
    random = np.random.default_rng(0)
    clean = 60 + np.broadcast_to(np.linspace(0, 180, 400), (300, 400)) - black
    noisy = (gain * random.poisson(clean / gain) if gain else clean) + random.normal(0, sigma, clean.shape) + black
    good = np.ones(noisy.shape, bool)
    noisy[:40], good[:40] = 0, False  # not to be counted
    measured_gain, measured_sigma, measured_black = noise_line(noisy.astype(np.float32), good)
    for brightness in (70, 150, 230):
        variance = gain * (brightness - black) + sigma**2
        measured = measured_gain * (brightness - measured_black) + measured_sigma**2
        assert measured == pytest.approx(variance, rel=0.12)


def test_a_plane_too_small_for_a_line_has_one_noise() -> None:
    noisy = np.random.default_rng(0).normal(100, 10, (24, 24)).astype(np.float32)
    gain, sigma, black = noise_line(noisy, np.ones(noisy.shape, bool))
    assert (gain, black) == (0, 0)
    assert sigma == pytest.approx(10, rel=0.15)


def test_denoising_brings_an_image_nearer_to_the_truth() -> None:
    noisy, clean = _noisy(), _scene()
    denoised = denoise(noisy[None])[0]
    assert np.std(denoised - clean) < 0.25 * np.std(noisy - clean)
    assert abs(np.mean(denoised - clean)) < 2


@pytest.mark.parametrize("counts", [0.05, 1.0, 20.0])
def test_few_counts_keep_their_mean(counts: float) -> None:
    clean = counts * (1 + 0.9 * np.sin(np.mgrid[:256, :256][0] / 20))
    noisy = np.random.default_rng(0).poisson(clean)
    denoised = denoise(noisy[None].astype(np.float32))[0]
    assert np.std(denoised - clean) < 0.25 * np.std(noisy - clean)
    assert denoised.mean() == pytest.approx(noisy.mean(), rel=0.03)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image * 100,  # 16-bit grey levels
        lambda image: image * 1e-9,
        lambda image: image * 1e20,
        lambda image: image / 1000 - 0.4,
        lambda image: image + 20_000,
    ],
)
def test_the_range_of_the_file_does_not_matter(change: Callable[[np.ndarray], np.ndarray]) -> None:
    noisy = _noisy()
    expected, changed = change(denoise(noisy[None])), denoise(change(noisy)[None])
    error = np.abs(changed - expected).max() / np.ptp(change(_scene()))
    assert error < 5e-3


def test_hot_pixels_are_mended() -> None:
    noisy, clean = _noisy(), _scene()
    places = np.random.default_rng(1).integers(5, 187, (2, 20))
    noisy[tuple(places)] = 60_000
    assert np.std(denoise(noisy[None])[0] - clean) < 0.3 * np.std(_noisy() - clean)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_what_is_no_data_stays_and_the_rest_is_denoised(value: float) -> None:
    noisy, clean = _noisy(), _scene()
    missing = np.zeros(noisy.shape, bool)
    missing[:60] = missing[100:120, 30:90] = True
    noisy[missing] = value
    denoised = denoise(noisy[None])[0]
    np.testing.assert_array_equal(denoised[missing], value)
    assert np.std((denoised - clean)[~missing]) < 0.3 * np.std((noisy - clean)[~missing])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2), (2, 30)])
def test_planes_without_room_for_an_estimate_stay_as_they_are(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).normal(100, 10, (1, *shape)).astype(np.float32)
    np.testing.assert_array_equal(denoise(plane), plane)


@pytest.mark.parametrize("shape", [(3, 3), (5, 9), (16, 16), (30, 40), (64, 64)])
def test_small_planes_are_denoised(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(0).normal(100, 10, (1, *shape)).astype(np.float32)
    denoised = denoise(plane)
    assert denoised.shape == plane.shape
    assert denoised.std() < 0.3 * plane.std()
    assert denoised.mean() == pytest.approx(plane.mean(), abs=2)


@pytest.mark.parametrize("value", [7.0, 0.0, np.nan, np.inf])
def test_a_plane_of_one_value_stays_as_it_is(value: float) -> None:
    image = np.full((2, 40, 30), value, np.float32)
    np.testing.assert_array_equal(denoise(image), image)
    image[1, :10] = np.nan
    np.testing.assert_array_equal(denoise(image), image)


def test_an_image_without_noise_stays_nearly_as_it_is() -> None:
    rows, columns = np.mgrid[:128, :128]
    image = (100 + rows + 2 * columns).astype(np.float32)  # a slope has no curvature
    np.testing.assert_allclose(denoise(image[None])[0], image, atol=0.01)


def test_planes_are_denoised_each_by_itself() -> None:
    planes = np.stack([_noisy(), 1000 + 5 * _noisy(1), np.full((192, 192), 3, np.float32)])
    np.testing.assert_array_equal(denoise(planes), np.concatenate([denoise(plane[None]) for plane in planes]))


def test_a_pixel_reaches_no_further_than_stated() -> None:
    noisy = _noisy()
    changed = noisy.copy()
    changed[100, 100] += 30  # far below what would change the estimated noise or range
    differing = np.argwhere(np.abs(denoise(changed[None]) - denoise(noisy[None]))[0] > 0.05)
    assert len(differing)
    assert np.abs(differing - 100).max() <= REACH_PX


def test_another_denoiser_gets_noise_of_unit_variance() -> None:
    seen = []

    def smooth(stable: np.ndarray) -> np.ndarray:
        seen.append(stable)
        return stable

    noisy = _noisy(gain=4.0)
    np.testing.assert_allclose(denoise(noisy[None], smooth)[0], noisy, atol=3)  # the inverse is of means
    expected = stabilised(_scene().astype(np.float32), 4.0, 0.0)
    # Grey levels are counted from the darkest on, which changes the mean of the stabilised values and not their spread.
    residual = (seen[0] - seen[0].mean()) - (expected - expected.mean())
    assert np.std(residual - residual.mean()) == pytest.approx(1, abs=0.1)
