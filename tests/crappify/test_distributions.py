"""How parameters of noises are drawn: from ranges, from their logarithm, normally, or together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pssr2_monai.crappify import Blur, Detector, Drift, Gamma, GaussianNoise, PoissonNoise, SaltPepperNoise
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.crappify.distributions import Together
from pssr2_monai.crappify.noise import noise_curve
from pssr2_monai.errors import InputError


def test_a_logarithmic_range_draws_every_octave_as_often() -> None:
    noise = PoissonNoise(photons={"log": [1, 1024]}).set_random_state(0)
    noise.randomize(np.zeros((10_000, 1, 8, 8)))
    octaves = np.log2(noise.drawn["photons"])
    counts = np.histogram(octaves, bins=10, range=(0, 10))[0]
    assert counts.sum() == 10_000
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(900)
    assert [noise.parameters["photons"].at(share) for share in (0, 0.5, 1)] == pytest.approx([1, 32, 1024])


def test_what_goes_together_is_drawn_at_one_place_for_all_noises_of_a_crappifier() -> None:
    poisson, gaussian = PoissonNoise({"together": [1.0, 2.0, 8.0]}), GaussianNoise(sigma={"together": [9.0, 0.0, 4.0]})
    Crappify(1, [poisson, gaussian]).set_random_state(0)(torch.zeros(500, 1, 4, 4))
    intensity, sigma = poisson.drawn["intensity"], gaussian.drawn["sigma"]
    place = np.where(intensity < 2, np.log2(intensity), 1 + np.log2(intensity / 2) / 2)  # even in the logarithm
    np.testing.assert_allclose(sigma, np.interp(place, [0, 1, 2], [9, 0, 4]), atol=1e-9)
    np.testing.assert_allclose(np.quantile(place, [0.25, 0.5, 0.75]), [0.5, 1.0, 1.5], atol=0.1)
    middle = noise_curve([poisson, gaussian], share=0.5).variance_at(np.float64(100))
    assert float(middle) == pytest.approx(2**2 * 100)
    parameter = poisson.parameters["intensity"]
    assert [parameter.at(share) for share in (0, 0.25, 0.75, 1)] == pytest.approx([1, 2**0.5, 4, 8])
    assert Together((1.0, 4.0, 0.0)).at(0.25) == pytest.approx(2), "only the two entries about it tell how it goes"


def test_mean_and_spread_draw_from_a_normal_distribution(check_moments: Callable[..., None]) -> None:
    batch = np.zeros((4000, 1, 1, 1), np.float32)
    noise = GaussianNoise(sigma={"mean": 20, "spread": 3}, gain={"mean": -4, "spread": 2}).set_random_state(0)
    noise(batch)
    check_moments(noise.drawn["sigma"], 20, 9)
    check_moments(noise.drawn["gain"], -4, 4)
    assert [noise.parameters["sigma"].at(share) for share in (0, 0.5, 0.75, 1)] == pytest.approx([14, 20, 23, 26])


def test_mean_and_spread_keep_to_what_a_parameter_may_be() -> None:
    batch = np.zeros((4000, 1, 1, 1), np.float32)
    cases = [
        (SaltPepperNoise({"mean": 50, "spread": 60}), "percent", 0, 100),
        (PoissonNoise(photons={"mean": 1, "spread": 5}), "photons", 0.1, np.inf),
        (Gamma({"mean": 1, "spread": 2}), "gamma", 0.05, 20),
    ]
    for noise, name, least, greatest in cases:
        noise.set_random_state(0)(batch)
        drawn = noise.drawn[name]
        assert drawn.min() == least
        assert drawn.max() <= greatest
    # As PSSR2 has it, what would be negative is 0: half the images of a mean of 0.
    noise = PoissonNoise({"mean": 0, "spread": 1}).set_random_state(0)
    noise(batch)
    assert abs((noise.drawn["intensity"] == 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PoissonNoise({"log": [0, 5]}), r"intensity: log: 0 has no logarithm; the lower end must be above 0"),
        (lambda: PoissonNoise({"together": [3]}), r"intensity: together: \[3\] is no list of two numbers or more"),
        (lambda: PoissonNoise({"together": [3, -1]}), "intensity: together: -1 is too small|must not be negative"),
        (lambda: PoissonNoise({"log": [5, 1]}), r"intensity: log: the range \[5, 1\] is upside down"),
        (lambda: PoissonNoise((1.0, 0.5)), r"intensity: the range \[1, 0.5\] is upside down"),
        (lambda: PoissonNoise(-1), "intensity: -1 must not be negative"),
        (lambda: PoissonNoise(intensity=1, photons=50), "give one of them"),
        (lambda: PoissonNoise(photons=0), "photons: 0 is too small; it must be at least 0.1"),
        (lambda: PoissonNoise(photons=(-3, 5)), "photons: -3 is too small"),
        (lambda: PoissonNoise(strength=1), "no parameter 'strength'; it takes intensity and photons"),
        (lambda: GaussianNoise(sigma=(1, 2, 3)), "got 3 values"),
        (lambda: GaussianNoise(sigma=-2), "GaussianNoise: sigma: -2 must not be negative"),
        (lambda: GaussianNoise(sigma="13"), "'13' is not a number"),
        (lambda: GaussianNoise(sigma=float("nan")), "nan is not a number"),
        (lambda: GaussianNoise(sigma={"mean": 3, "spread": -1}), "spread: -1 must not be negative"),
        (lambda: GaussianNoise(sigma={"mean": -3, "spread": 1}), "mean: -3 must not be negative"),
        (lambda: GaussianNoise(sigma={"mean": 3, "std": 1}), "keys mean, std"),
        (lambda: SaltPepperNoise(101), "percent: 101 is too large; it must be at most 100"),
        (lambda: SaltPepperNoise([0, 200]), "percent: 200 is too large"),
        (lambda: Gamma(0), "gamma: 0 is too small"),
        (lambda: Drift(length=0), "length: 0 is too small"),
        (lambda: Detector(gain=-1), "gain: -1 must not be negative"),
        (lambda: Blur(radius=2), "Blur: there is no parameter 'radius'; it takes sigma"),
    ],
)
def test_bad_parameters_are_named(make, match: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=match) as error:
        make()
    assert "\n" not in str(error.value)
