"""Crappifying: values against PIL, and the order and range of what follows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pssr2_monai.crappify import GaussianNoise, Noise, PoissonNoise
from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.errors import InputError


@pytest.fixture
def hr() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, size=(1, 120, 96)).astype(np.float32) / 255


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_downsample_equals_pil(hr: np.ndarray, scale: int) -> None:
    image = Image.fromarray((hr[0] * 255).round().astype(np.uint8))
    expected = np.asarray(image.resize((96 // scale, 120 // scale), Image.Resampling.BILINEAR)) / 255
    result = Downsample(scale)(hr)
    assert isinstance(result, np.ndarray)
    np.testing.assert_allclose(result[0], expected, atol=1 / 255)
    # Without PIL's rounding to whole grey levels the two agree to floating point.
    exact = np.asarray(Image.fromarray(hr[0]).resize((96 // scale, 120 // scale), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(result[0], exact, atol=1e-5)


def test_downsample_takes_tensors_and_batches(hr: np.ndarray) -> None:
    single = Downsample(4)(hr)
    batch = Downsample(4)(torch.from_numpy(np.stack([hr, hr[:, ::-1].copy()])))
    assert isinstance(batch, torch.Tensor)
    np.testing.assert_allclose(batch[0].numpy(), single, atol=1e-6)
    np.testing.assert_allclose(batch[1].numpy()[:, ::-1], single, atol=1e-6)


def test_downsample_refuses_what_does_not_divide(hr: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"120 x 96 .* scale 7"):
        Downsample(7)(hr)


def test_noise_comes_after_downsampling() -> None:
    flat = np.full((1, 512, 512), 100 / 255, np.float32)
    lr = Crappify(4, [PoissonNoise(1.0)]).set_random_state(0)(flat) * 255
    assert lr.shape == (1, 128, 128)
    assert lr.var() == pytest.approx(100, rel=0.06)  # noise before it would leave about a sixteenth


def test_crappify_clips_and_keeps_to_its_seed(hr: np.ndarray) -> None:
    crappify = Crappify(2, [GaussianNoise(200), PoissonNoise(1.0)])
    first = crappify.set_random_state(5)(hr)
    assert first.min() >= 0
    assert first.max() <= 1
    second = crappify(hr)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, crappify.set_random_state(5)(hr))


def test_clipping_leaves_what_the_clean_image_reaches() -> None:
    """Where 1 is a percentile, brighter pixels are signal."""
    bright = np.full((1, 64, 64), 1.5, np.float32)
    noisy = Crappify(1, [GaussianNoise(20)]).set_random_state(0)(bright)
    assert noisy.max() == 1.5
    assert noisy.min() < 1.4
    assert Crappify(1, [GaussianNoise(20)]).set_random_state(0)(bright / 2).max() <= 1
    assert Crappify(1, [GaussianNoise(20)], clip=False).set_random_state(0)(bright).max() > 1.6


@pytest.mark.parametrize("noise", [GaussianNoise(60), PoissonNoise(1.0)])
def test_an_image_does_not_depend_on_the_others_of_its_batch(noise: Noise) -> None:
    """Of images scaled by a percentile, one with a hot pixel far above 1 must not raise its neighbour's limit."""
    rng = np.random.default_rng(0)
    scene = rng.gamma(2.0, 20.0, size=(1, 128, 128)).astype(np.float32)
    image = scene / np.percentile(scene, 99.8)
    dim = (4 * image).clip(0, 0.95)
    hot = image.copy()
    hot[0, 40, 50] = 60.0
    crappify = Crappify(2, [noise])
    first = [
        crappify.set_random_state(4)(torch.from_numpy(np.stack([dim, neighbour])))[0] for neighbour in (image, hot)
    ]
    assert torch.equal(first[0], first[1])
    assert float(first[0].max()) == 1.0
    arrays = crappify.set_random_state(4)(np.stack([dim, hot]))
    np.testing.assert_array_equal(arrays[0], first[0].numpy())
    # Each image keeps what its clean form reaches.
    reached = float(np.asarray(crappify.downsample(hot)).max())
    assert reached > 5
    assert reached - 3 < float(np.asarray(arrays[1]).max()) <= reached


def test_a_detector_may_reach_beyond_black_and_white() -> None:
    grey = np.full((400, 1, 32, 32), 0.5, dtype=np.float32)
    crappify = Crappify(1, [GaussianNoise(500)], clip={"below": 0.25, "above": {"log": [0.5, 8]}}).set_random_state(0)
    noisy = crappify(grey, limits=(0.0, 1.0))
    assert noisy.min() == -0.25
    above = noisy.max(axis=(1, 2, 3)) - 1
    assert above.min() >= 0.5
    assert above.max() <= 8
    # As often from 0.5 to 2 as from 2 to 8, where the noise reaches as far.
    assert abs((above < 2).mean() - 0.5) < 5 * 0.5 / 400**0.5
    single = Crappify(1, [GaussianNoise(500)], clip={"above": 2}).set_random_state(0)(grey[0], limits=(0.0, 1.0))
    assert (single.min(), single.max()) == (0, 3)


@pytest.mark.parametrize(
    ("clip", "match"),
    [
        ({}, "clip: found nothing; give true, false, or below and above"),
        ({"over": 1}, "clip: found over; give"),
        ({"above": -1}, "clip: above: -1 must not be negative"),
    ],
)
def test_a_range_that_is_none_is_refused(clip: dict[str, float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        Crappify(1, clip=clip)


def test_clipping_takes_no_notice_of_pixels_without_value() -> None:
    bright = np.full((1, 64, 64), 0.9, np.float32)
    bright[0, 0, 0] = np.nan
    for image in (bright, torch.from_numpy(bright)):
        noisy = np.asarray(Crappify(1, [GaussianNoise(80)]).set_random_state(0)(image))
        assert np.isnan(noisy).sum() == 1
        assert np.nanmax(noisy) == 1.0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Downsample(0), "scale"),
        (lambda: Downsample(2.5), "scale"),
    ],
)
def test_bad_parameters_are_named(make, match: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=match):
        make()


def test_a_noise_is_something_to_call() -> None:
    with pytest.raises(InputError, match=r"noises: 'poisson' is not a noise"):
        Crappify(4, ["poisson"])  # type: ignore[list-item]
