"""Fourier ring correlation against the plain sums of numpy, and against images whose signal and noise are known."""

from __future__ import annotations

import numpy as np
import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.evaluation.fourier_ring_correlation import (
    RingCorrelation,
    faded,
    ring_correlation,
    single_image_correlation,
)


def _blurred(width: float, side: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """White noise times 30 exp(-(q / width)^2) in Fourier space, and the radii q."""
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    white = np.random.default_rng(0).normal(size=(side, side))
    return np.fft.ifft2(np.fft.fft2(white) * 30 * np.exp(-((radius / width) ** 2))).real, radius


@pytest.mark.parametrize("shape", [(48, 40), (33, 50)])
def test_rings_equal_sums_over_the_whole_spectrum(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 3, *shape))
    second += first
    found = ring_correlation(first, second)
    window = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
    spectra = [[np.fft.fft2((plane - plane.mean()) * window) for plane in each] for each in (first, second)]
    side = min(shape)
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]) * side
    for number in (1, 5, side // 2):
        ring = (radius >= number - 0.5) & (radius < number + 0.5)
        cross = sum((a[ring] * b[ring].conj()).sum().real for a, b in zip(*spectra, strict=True))
        powers = [sum((np.abs(each[ring]) ** 2).sum() for each in own) for own in spectra]
        assert found.correlation[number - 1] == pytest.approx(cross / np.sqrt(powers[0] * powers[1]), abs=1e-5)
        assert found.frequency[number - 1] == pytest.approx(number / side)


@pytest.mark.parametrize("width", [0.08, 0.12, 0.2])
def test_two_noisy_images_resolve_what_their_signal_and_noise_say(width: float) -> None:
    signal, _ = _blurred(width)
    rng = np.random.default_rng(2)
    curve = ring_correlation(*(signal + rng.normal(size=signal.shape) for _ in range(2)))
    power = 900 * np.exp(-2 * (curve.frequency / width) ** 2)
    assert np.abs(curve.correlation - power / (power + 1))[20:].mean() < 0.03
    # The ratio of signal to noise is 1/6 where the correlation is 1/7.
    assert curve.resolution() == pytest.approx(1 / (width * np.sqrt(np.log(6 * 900) / 2)), rel=0.03)


@pytest.mark.parametrize("width", [0.05, 0.08, 0.12])
def test_a_single_image_tells_nearly_the_same(width: float) -> None:
    signal, _ = _blurred(width)
    noisy = signal + np.random.default_rng(3).normal(size=signal.shape)
    expected = 1 / (width * np.sqrt(np.log(6 * 900) / 2))
    assert single_image_correlation(noisy).resolution() == pytest.approx(expected, rel=0.1)


def test_equal_images_agree_to_the_last_ring_and_unrelated_ones_nowhere() -> None:
    first, second = np.random.default_rng(4).normal(size=(2, 4, 64, 64))
    assert ring_correlation(first, first).resolution() == 2.0
    assert ring_correlation(first, second).resolution() > 20
    assert RingCorrelation(np.array([0.02, 0.04]), np.array([0.1, 0.9])).resolution() == 50.0
    assert np.abs(ring_correlation(first, -first).correlation + 1).max() < 1e-5


def test_gain_and_offset_change_nothing() -> None:
    first, second = np.random.default_rng(5).normal(size=(2, 64, 64))
    second += first
    changed = ring_correlation(0.3 * first + 7, second)
    np.testing.assert_allclose(changed.correlation, ring_correlation(first, second).correlation, atol=1e-5)


def test_the_crossing_lies_between_rings() -> None:
    curve = RingCorrelation(np.array([0.1, 0.2, 0.3]), np.array([0.9, 3 / 7, -1 / 7]))
    assert curve.resolution() == pytest.approx(1 / 0.25)
    assert curve.at(np.array([0.15]))[0] == pytest.approx((0.9 + 3 / 7) / 2)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="give equal shapes"):
        ring_correlation(np.zeros((20, 20)), np.zeros((20, 21)))
    with pytest.raises(InputError, match="12 x 20 pixels are too few"):
        ring_correlation(np.zeros((12, 20)), np.zeros((12, 20)))


@pytest.mark.shared_data
def test_two_frames_of_a_real_stack_and_one_by_itself(shared_data) -> None:
    """Sections of the same tissue: each by itself resolves finer than what neighbours have in common."""
    from skimage.io import imread

    first, second = (imread(shared_data / "em_hr" / "isbi2012_train" / f"0{n}.png").astype(np.float32) for n in (0, 1))
    between = ring_correlation(first, second).resolution()
    assert single_image_correlation(first).resolution() < between


def test_planes_fade_towards_what_is_not_counted() -> None:
    rng = np.random.default_rng(0)
    planes = rng.random((2, 60, 60), dtype=np.float32)
    counted = np.zeros(planes.shape, bool)
    counted[:, 10:50, 10:50] = True
    result = faded(planes, counted)
    mean = planes[counted].mean()
    assert result[~counted] == pytest.approx(mean)
    assert np.array_equal(result[:, 20:40, 20:40], planes[:, 20:40, 20:40])
    other = np.where(counted, planes, 7)
    assert np.array_equal(faded(other.astype(np.float32), counted), result)
