import numpy as np
import pytest

from pssr2_monai.evaluation.filters import denoise, stabilised, unstabilised


@pytest.mark.parametrize(("gain", "sigma"), [(0.1, 0.5), (1.0, 0.0), (4.0, 10.0)])
def test_stabilised_noise_has_unit_variance_and_its_mean_returns_without_bias(gain: float, sigma: float) -> None:
    random = np.random.default_rng(0)
    for mean in (20.0, 60.0, 200.0):
        noisy = gain * random.poisson(mean / gain, 200_000) + random.normal(0, sigma, 200_000)
        stable = stabilised(noisy.astype(np.float32), gain, sigma)
        assert stable.std() == pytest.approx(1, abs=0.05)
        assert unstabilised(stable.mean(dtype=float), gain, sigma) == pytest.approx(mean, rel=0.01)


def test_denoising_brings_an_image_nearer_to_the_truth() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:192, :192] / 192
    clean = 400 + 200 * np.sin(9 * rows) * np.cos(7 * columns)
    noisy = random.poisson(clean / 10)[None] * 10.0
    denoised = denoise(noisy.astype(np.float32))
    assert np.std(denoised - clean) < 0.3 * np.std(noisy - clean)
    assert abs(np.mean(denoised - clean)) < 2


def test_an_image_of_one_value_stays_as_it_is() -> None:
    image = np.full((2, 40, 30), 7, np.float32)
    np.testing.assert_array_equal(denoise(image), image)
