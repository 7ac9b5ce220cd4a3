"""Noises: mean, variance and correlation against formulas, to five standard errors; draws, replays and bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage

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
    noise_classes,
)
from pssr2_monai.crappify.crappify import Crappify
from pssr2_monai.errors import InputError

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


@pytest.fixture
def scene() -> np.ndarray:
    """An image of two frames with structure, ``(2, 60, 48)``."""
    rough = np.random.default_rng(0).normal(size=(2, 60, 48))
    return (0.5 + 0.8 * ndimage.gaussian_filter(rough, (0, 1.5, 1.5))).clip(0, 1).astype(np.float32)


def _flat(level: float, shape: tuple[int, ...] = (1, SIDE, SIDE)) -> np.ndarray:
    return np.full(shape, level / 255, np.float32)


def _noisy(noise: Noise, level: float, shape: tuple[int, ...] = (1, SIDE, SIDE)) -> np.ndarray:
    """Grey levels of a flat image with the noise, in double precision."""
    return np.asarray(noise.set_random_state(1)(_flat(level, shape)), np.float64) * 255


def _check_moments(noisy: np.ndarray, mean: float, variance: float, excess: float = 0.0) -> None:
    """Within five standard errors: of the mean, sqrt(v / n); of the variance, v sqrt((excess kurtosis + 2) / n)."""
    assert abs(noisy.mean() - mean) < 5 * np.sqrt(variance / noisy.size)
    about_mean = ((noisy - mean) ** 2).mean()
    assert abs(about_mean - variance) < 5 * variance * np.sqrt((excess + 2) / noisy.size) + 1e-4


@pytest.mark.parametrize("level", [1, 20, 100, 200])
@pytest.mark.parametrize("intensity", [0.5, 1.0])
def test_poisson_mean_and_variance(level: int, intensity: float) -> None:
    _check_moments(_noisy(PoissonNoise(intensity), level), level, level * intensity**2, excess=1 / level)


@pytest.mark.parametrize("level", [5, 100, 255])
@pytest.mark.parametrize("photons", [0.5, 12, 900])
def test_photons_count_at_white(level: int, photons: float) -> None:
    noisy = _noisy(PoissonNoise(photons=photons), level)
    _check_moments(noisy, level, 255 * level / photons, excess=255 / (level * photons))
    counts = noisy * photons / 255
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)


def test_photons_of_255_are_an_intensity_of_1() -> None:
    # The same counts, drawn from the same numbers.
    np.testing.assert_allclose(_noisy(PoissonNoise(photons=255), 90), _noisy(PoissonNoise(1.0), 90), atol=1e-3)


def test_poisson_at_levels_that_have_no_rate() -> None:
    """Below black there is nothing to count; NaN and infinity stay where they are and stop nothing."""
    levels = np.array([[[-40.0, 0.0, np.nan, np.inf, -np.inf, 100.0]]], np.float32) / 255
    for noise in (PoissonNoise(1.0), PoissonNoise(photons=50)):
        found = noise.set_random_state(0)(levels)[0, 0]
        np.testing.assert_array_equal(found[:5], levels[0, 0, :5])
        assert np.isfinite(found[5])


def test_gaussian_mean_and_variance() -> None:
    _check_moments(_noisy(GaussianNoise(sigma=13, gain=5), 127.5), 127.5 + 5, 169)


@pytest.mark.parametrize("level", [0, 60, 255])
@pytest.mark.parametrize("percent", [0.5, 30, 100])
def test_salt_and_pepper_mean_and_variance(level: int, percent: float) -> None:
    share = percent / 100
    values, weights = np.array([level, 0.0, 255.0]), np.array([1 - share, share / 2, share / 2])
    mean = (values * weights).sum()
    variance, fourth = (((values - mean) ** power * weights).sum() for power in (2, 4))
    noisy = _noisy(SaltPepperNoise(percent), level)
    _check_moments(noisy, mean, variance, excess=fourth / variance**2 - 3)
    assert set(np.unique(noisy.round())) <= {0.0, float(level), 255.0}


def test_line_noise_mean_and_variance_of_rows() -> None:
    noisy = _noisy(LineNoise(sigma=7), 120, (40, 500, 6))
    np.testing.assert_allclose(noisy, noisy[..., :1] + np.zeros(6), atol=1e-4)
    rows = noisy[..., 0]
    _check_moments(rows, 120, 49)
    neighbours = ((rows[:, 1:] - 120) * (rows[:, :-1] - 120)).mean()
    assert abs(neighbours) < 5 * 49 / np.sqrt(rows.size)


def test_line_jitter_displaces_rows() -> None:
    """On a ramp of two grey levels a pixel a displacement of d px shows as 2 d levels, along the whole row."""
    ramp = np.broadcast_to(np.arange(100, dtype=np.float32) * 2 / 255, (20, 500, 100))
    moved = np.asarray(LineJitter(sigma=1.5).set_random_state(1)(ramp.copy()), np.float64) * 255
    displaced = (moved - ramp * 255.0)[..., 20:80] / 2
    np.testing.assert_allclose(displaced, displaced[..., :1] + np.zeros(60), atol=1e-3)
    _check_moments(displaced[..., 0], 0, 1.5**2)


def test_line_jitter_interpolates_between_pixels() -> None:
    x = np.arange(64)
    wave = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * x / 16 + 1), (1, 50, 64)).astype(np.float32)
    moved = LineJitter(sigma=0.6).set_random_state(2)(wave)
    ramp = np.broadcast_to(x / 100, (1, 50, 64)).astype(np.float32)
    shift = (LineJitter(sigma=0.6).set_random_state(2)(ramp) * 100 - x)[..., 32:33]
    expected = 0.5 + 0.4 * np.cos(2 * np.pi * (x + shift) / 16 + 1)
    np.testing.assert_allclose(moved[..., 8:56], expected[..., 8:56], atol=0.004)  # linear would be 0.0077 off


def test_line_jitter_mirrors_beyond_the_ends() -> None:
    edge = np.random.default_rng(0).random((1, 1, 9), dtype=np.float32)
    padded = np.pad(edge, ((0, 0), (0, 0), (9, 9)), mode="reflect")
    for seed in range(20):
        found = LineJitter(sigma=3.0).set_random_state(seed)(edge)
        inside = LineJitter(sigma=3.0).set_random_state(seed)(padded)[..., 9:-9]
        np.testing.assert_allclose(found, inside, atol=1e-5)


def test_drift_mean_variance_and_correlation() -> None:
    """At a place, over many images, the drift is Gaussian but for the waves' number: excess kurtosis 3 / 2 / waves."""
    count, length = 20_000, 6.0
    field = _noisy(Drift(sigma=9, length=length), 100, (count, 1, 13, 49)) - 100
    corner = field[:, 0, 0, 0]
    for place in (corner, field[:, 0, 12, 48]):
        _check_moments(place, 0, 81, excess=3 / 2 / 8)
    for y, x in ((6, 0), (12, 0), (0, 48), (6, 48)):
        expected = np.exp(-((y / length) ** 2) / 2 - (x / (8 * length)) ** 2 / 2)
        found = (corner * field[:, 0, y, x]).mean() / 81
        assert abs(found - expected) < 5 * np.sqrt((1 + expected**2 + 0.4) / count)
    steps = np.abs(np.diff(field, axis=-2)).mean() / np.abs(np.diff(field, axis=-1)).mean()
    assert 6 < steps < 10


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.7])
def test_blur_equals_scipy(scene: np.ndarray, sigma: float) -> None:
    expected = ndimage.gaussian_filter(scene.astype(np.float64), (0, sigma, sigma), mode="mirror", truncate=4.0)
    np.testing.assert_allclose(Blur(sigma)(scene), expected, atol=2e-6)


def test_blur_reaches_beyond_a_small_image() -> None:
    small = np.random.default_rng(0).random((1, 5, 3), dtype=np.float32)
    expected = ndimage.gaussian_filter(small.astype(np.float64), (0, 4, 4), mode="mirror")
    np.testing.assert_allclose(Blur(4)(small), expected, atol=2e-6)


def test_blur_of_white_noise() -> None:
    """The mean stays; the variance falls by the sum of the squared weights."""
    weights = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    left = ((weights / weights.sum()) ** 2).sum() ** 2
    white = GaussianNoise(20).set_random_state(0)(_flat(128))
    blurred = np.asarray(Blur(2)(white), np.float64)[0, 20:-20, 20:-20] * 255
    assert abs(blurred.mean() - 128) < 5 * 20 / np.sqrt(blurred.size)
    # Neighbours are alike, so that about one in (4 pi sigma^2) / 2 pixels counts for the variance.
    assert abs(blurred.var() / (400 * left) - 1) < 5 * np.sqrt(2 * 2 * np.pi * 4 / blurred.size)


def test_detector_and_gamma_follow_their_formulas(scene: np.ndarray) -> None:
    np.testing.assert_allclose(Detector(offset=12, gain=0.8)(scene), scene * 0.8 + 12 / 255, atol=1e-6)
    np.testing.assert_allclose(Gamma(1.7)(scene), scene.astype(np.float64) ** 1.7, atol=1e-6)
    beyond = np.array([[[-0.5, 0.0, 1.5]]], np.float32)
    np.testing.assert_allclose(Gamma(2)(beyond), [[[-0.5, 0.0, 2.25]]], atol=1e-6)


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


def test_mean_and_spread_draw_from_a_normal_distribution() -> None:
    batch = np.zeros((4000, 1, 1, 1), np.float32)
    noise = GaussianNoise(sigma={"mean": 20, "spread": 3}, gain={"mean": -4, "spread": 2}).set_random_state(0)
    noise(batch)
    _check_moments(noise.drawn["sigma"], 20, 9)
    _check_moments(noise.drawn["gain"], -4, 4)


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


@pytest.mark.parametrize("noise", RANDOM + FIXED)
def test_flat_images_and_odd_shapes_pass(noise: Noise) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shape in ((7, 5), (1, 1, 1), (1, 5, 1), (2, 1, 9)):
            assert np.asarray(noise(np.full(shape, 0.5, np.float32))).shape == shape


def test_noises_chain() -> None:
    """The variances of independent noises add up, and a blur before them leaves them alone."""
    noises = [Blur(1.0), PoissonNoise(0.7), GaussianNoise(6), LineNoise(4)]
    lr = Crappify(4, noises).set_random_state(0)(_flat(120, (1, 1600, 1600)))
    variance = 120 * 0.49 + 36
    assert abs((lr - lr.mean(axis=-1, keepdims=True)).var() * 255**2 / variance - 1) < 5 * np.sqrt(2 / PIXELS) + 1 / 400


def test_every_noise_has_a_short_name() -> None:
    assert set(NOISES) == {"poisson", "gaussian", "salt_pepper", "blur", "line", "jitter", "drift", "detector", "gamma"}
    for name, noise in NOISES.items():
        instance = noise()
        assert noise.short_name == name
        assert set(instance.parameters) <= set(noise.limits)
        assert noise.strength in ({*noise.limits} if noise.slider or noise.fitting else {""})
        assert noise.target() == f"pssr2_monai.{noise.__name__}"
        assert getattr(pssr2_monai, noise.__name__) is noise
    assert noise_classes()["PoissonNoise"] is PoissonNoise


@pytest.mark.parametrize(
    ("make", "match"),
    [
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
