"""Noises: draws, replays, bad input, and the curve of mean and variance against what they do to flat images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import RandGaussianNoise

import pssr2_monai
from pssr2_monai.crappify import (
    NOISES,
    Blur,
    Detector,
    Drift,
    Gamma,
    GaussianNoise,
    LineJitter,
    LineNoise,
    Noise,
    PoissonNoise,
    SaltPepperNoise,
)
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.crappify.noise import noise_classes, noise_curve, noise_range

SIDE = 400
PIXELS = SIDE * SIDE

RANDOM = [
    PoissonNoise((0.2, 2.0)),
    PoissonNoise(photons=(20, 60)),
    GaussianNoise((1, 40), gain=(-5, 5)),
    SaltPepperNoise((1, 20)),
    LineNoise((1, 20)),
    LineJitter((0.1, 1.0)),
    Drift((1, 20), length=(5, 50)),
]
"""Noises that differ between images of the same parameters."""

FIXED = [Blur((0.3, 3.0)), Detector((-20, 20), gain=(0.5, 1.5)), Gamma((0.5, 2.0))]
"""Noises that follow from their parameters."""


@pytest.mark.parametrize(
    "noise",
    [
        PoissonNoise(0),
        GaussianNoise(0),
        SaltPepperNoise(0),
        Blur(0),
        LineNoise(0),
        LineJitter(0),
        Drift(0),
        Detector(),
        Gamma(1),
    ],
)
def test_nothing_is_done_at_zero(noise: Noise, scene: np.ndarray) -> None:
    np.testing.assert_allclose(noise.set_random_state(0)(scene), scene, atol=1e-6)


@pytest.mark.parametrize("noise", RANDOM + FIXED)
def test_same_seed_same_noise_on_arrays_and_tensors(noise: Noise, scene: np.ndarray) -> None:
    kept = scene.copy()
    first = noise.set_random_state(3)(scene)
    assert isinstance(first, np.ndarray)
    assert first.dtype == np.float32
    assert np.array_equal(first, noise(scene, randomize=False)), "the last draw could not be replayed"
    assert not np.array_equal(first, noise(scene)), "two images got the same noise"
    again = noise.set_random_state(3)(torch.from_numpy(scene))
    assert isinstance(again, torch.Tensor)
    np.testing.assert_array_equal(first, again.numpy())
    np.testing.assert_array_equal(scene, kept)


@pytest.mark.parametrize("noise", RANDOM)
def test_frames_of_an_image_share_parameters_but_not_noise(noise: Noise, scene: np.ndarray) -> None:
    twice = np.stack([scene[0], scene[0]])
    noisy = noise.set_random_state(0)(twice)
    assert not np.array_equal(noisy[0], noisy[1])
    assert all(values.shape == (1,) for values in noise.drawn.values())


@pytest.mark.parametrize("noise", RANDOM + FIXED)
@pytest.mark.parametrize("shape", [(3, 1, 20, 24), (3, 2, 4, 20, 24)])
def test_images_of_a_batch_draw_for_themselves(noise: Noise, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(shape[1:], dtype=np.float32)
    batch = np.broadcast_to(image, shape).copy()
    noisy = noise.set_random_state(5)(batch)
    assert noisy.shape == shape
    assert len({each.tobytes() for each in noisy}) == 3
    for name, values in noise.drawn.items():
        assert len(set(values)) == 3, name
    # The first image is what it would be with the parameters that were drawn for it, and no other image's.
    if noise in FIXED:
        alone = type(noise)(**{name: float(values[0]) for name, values in noise.drawn.items()})
        np.testing.assert_allclose(noisy[0], alone(image), atol=2e-6)


def test_parameters_of_a_batch_follow_their_range() -> None:
    batch = torch.full((64, 1, 64, 64), 0.5)
    spread = GaussianNoise(sigma=(0, 20)).set_random_state(0)(batch).flatten(1).std(dim=1) * 255
    assert spread.min() < 5
    assert spread.max() > 15
    assert len(spread.round(decimals=3).unique()) == 64


@pytest.mark.parametrize("noise", RANDOM + FIXED)
def test_flat_images_and_odd_shapes_pass(noise: Noise) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((7, 5), (1, 1, 1), (1, 5, 1), (2, 1, 9)):
            assert np.asarray(noise(np.full(shape, 0.5, np.float32))).shape == shape


def test_noises_chain(flat: Callable[..., np.ndarray]) -> None:
    """The variances of independent noises add up, and a blur before them leaves them alone."""
    noises = [Blur(1.0), PoissonNoise(0.7), GaussianNoise(6), LineNoise(4)]
    lr = Crappify(4, noises).set_random_state(0)(flat(120, (1, 1600, 1600)))
    variance = 120 * 0.49 + 36
    assert abs((lr - lr.mean(axis=-1, keepdims=True)).var() * 255**2 / variance - 1) < 5 * np.sqrt(2 / PIXELS) + 1 / 400


def test_every_noise_has_a_short_name() -> None:
    names = "poisson gaussian salt_pepper blur correlated line jitter drift detector gamma"
    assert set(NOISES) == set(names.split())
    for name, noise in NOISES.items():
        instance = noise()
        assert noise.short_name == name
        assert set(instance.parameters) <= set(noise.limits)
        assert noise.strength in ({*noise.limits} if noise.slider or noise.fitting else {""})
        assert noise.target() == f"pssr2_monai.{noise.__name__}"
        assert getattr(pssr2_monai, noise.__name__) is noise
    assert noise_classes()["PoissonNoise"] is PoissonNoise


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("noise", RANDOM + FIXED)
def test_noises_run_where_the_image_is(noise: Noise) -> None:
    image = torch.rand(4, 1, 300, 300, device="cuda")
    noisy = noise.set_random_state(0)(image)
    assert noisy.device == image.device
    torch.testing.assert_close(noisy, noise(image, randomize=False))
    on_cpu = noise.set_random_state(0)(image.cpu())
    # Drawn by another generator, from the same parameters.
    for found, expected in ((noisy.mean(), on_cpu.mean()), (noisy.std(), on_cpu.std())):
        assert float(found) == pytest.approx(float(expected), abs=0.02)
    if noise in FIXED:
        torch.testing.assert_close(noisy.cpu(), on_cpu, atol=2e-5, rtol=1e-4)


CHAINS = [
    [PoissonNoise(intensity=0.7)],
    [PoissonNoise(photons=40)],
    [Detector(offset=10, gain=0.8), PoissonNoise(intensity=1.2), GaussianNoise(sigma=6, gain=4)],
    [PoissonNoise(intensity=1.0), Gamma(gamma=0.8)],
    [PoissonNoise(intensity=1.0), Blur(sigma=0.6)],
    [GaussianNoise(sigma=3), LineNoise(sigma=4)],
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "+".join(type(noise).__name__ for noise in chain))
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
