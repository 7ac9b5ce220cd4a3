"""Noise by brightness: the formulas against what the noises do to flat images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import RandGaussianNoise

from pssr2_monai.crappify import (
    Blur,
    Detector,
    Gamma,
    GaussianNoise,
    LineNoise,
    PoissonNoise,
    SaltPepperNoise,
    noise_curve,
    noise_range,
)
from pssr2_monai.crappify.noise import Noise

CHAINS = [
    [PoissonNoise(intensity=0.7)],
    [PoissonNoise(photons=40)],
    [Detector(offset=10, gain=0.8), PoissonNoise(intensity=1.2), GaussianNoise(sigma=6, gain=4)],
    [PoissonNoise(intensity=1.0), Gamma(gamma=0.8)],
    [PoissonNoise(intensity=1.0), Blur(sigma=0.6)],
    [GaussianNoise(sigma=3), LineNoise(sigma=4)],
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "+".join(type(each).__name__ for each in chain))
def test_the_curve_is_what_the_noises_do_to_flat_images(chain: list[Noise]) -> None:
    curve = noise_curve(chain)
    for grey in (40.0, 120.0, 200.0):
        image: Any = torch.full((1, 700, 300), grey / 255)
        for number, noise in enumerate(chain):
            image = noise.set_random_state(number)(image)
        levels = image.double() * 255
        assert float(levels.mean()) == pytest.approx(float(curve.response(np.float64(grey))), abs=0.6)
        expected = float(np.interp(grey, curve.clean, curve.variance))
        assert float(levels.var()) == pytest.approx(expected, rel=0.12)


def test_a_noise_of_another_package_is_measured() -> None:
    noise = RandGaussianNoise(prob=1.0, std=0.04, sample_std=False)
    curve = noise_curve([PoissonNoise(intensity=1.0), noise])
    expected = 100 + (0.04 * 255) ** 2
    assert float(curve.variance_at(np.float64(100))) == pytest.approx(expected, rel=0.06)


def test_ranges_give_their_middle_and_their_ends() -> None:
    noises = [PoissonNoise(intensity=(0.8, 1.2))]
    assert float(noise_curve(noises).variance_at(np.float64(50))) == pytest.approx(50)
    assert float(noise_curve(noises, share=1).variance_at(np.float64(50))) == pytest.approx(50 * 1.44)
    assert noise_range(noises) == pytest.approx((0.8, 1.2))
    # More photons are less noise.
    assert noise_range([PoissonNoise(photons=(50, 200))]) == pytest.approx((np.sqrt(125 / 200), np.sqrt(125 / 50)))


def test_a_normally_drawn_parameter_reaches_two_spreads_and_stays_within_its_limits() -> None:
    noises = [GaussianNoise(sigma={"mean": 4.0, "spread": 3.0})]
    assert float(noise_curve(noises, share=1).variance[0]) == pytest.approx(100.0)
    assert float(noise_curve(noises, share=0).variance[0]) == 0.0


def test_lost_pixels_are_told_apart() -> None:
    curve = noise_curve([SaltPepperNoise(percent=5), GaussianNoise(sigma=2)])
    assert curve.lost == pytest.approx(0.05)
    assert float(curve.variance[100]) == pytest.approx(4.0)
