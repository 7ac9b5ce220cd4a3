"""Fits to scans without partners: known noise is found with good images of other fields, texture or not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from pssr2_monai.calibration.grey_windows import Levels, Windows
from pssr2_monai.calibration.noise_model import CANDIDATES, NoiseModel
from pssr2_monai.calibration.scan_fit import ScanFit, fit_scans
from pssr2_monai.errors import InputError

SIDE, COUNT = 192, 8
MODELS = [NoiseModel.parse(text) for text in CANDIDATES]


def _scene(seed: int) -> np.ndarray:
    """Structure of several sizes with fine texture, grey levels 30 to 210."""
    rough = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    smooth = sum(gaussian_filter(rough, sigma) * sigma for sigma in (1.5, 3, 8, 20))
    return np.asarray(120 + 90 * smooth / np.abs(smooth).max())


def _windows(images: np.ndarray) -> Windows:
    levels = Levels(*(np.full(len(images), value) for value in (0.0, 1.0, 0.0, 255.0)))
    pixels = images.round().clip(0, 255).astype(np.float32)
    return Windows(
        pixels, np.ones(images.shape, bool), levels, np.arange(len(images)), [f"{k}" for k in range(len(images))]
    )


def _correlated(shape: tuple[int, ...], along: float, across: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    for axis, width in ((1, across), (2, along)):
        noise = gaussian_filter1d(noise, width, axis, mode="wrap") if width else noise
    return np.asarray(noise / noise.std())


def _fit(noisy: np.ndarray, with_good: bool = True, models: list[NoiseModel] = MODELS, calls: int = 24) -> ScanFit:
    good = np.stack([_scene(100 + seed) for seed in range(COUNT)]).astype(np.float32) if with_good else None
    return fit_scans(_windows(noisy), good, models, calls)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.stack([_scene(seed) for seed in range(COUNT)])


def test_widths_and_strength_of_correlated_noise_are_found(clean: np.ndarray) -> None:
    fit = _fit(clean + np.sqrt(49 + 0.36 * clean) * _correlated(clean.shape, 1.0, 0.6, seed=1))
    assert fit.model.names == ("correlated",)
    strength = np.sqrt(fit.values["correlated"] ** 2 + fit.values["correlated intensity"] ** 2 * 120)
    assert strength == pytest.approx(np.sqrt(49 + 0.36 * 120), rel=0.1)
    assert fit.values["correlated along"] == pytest.approx(1.0, rel=0.1)
    assert fit.values["correlated across"] == pytest.approx(0.6, rel=0.1)
    assert not fit.deviation.poor
    assert fit.after < fit.before / 5
    assert fit.contrasts is not None
    np.testing.assert_allclose(np.median(fit.contrasts.gains), 1, atol=0.1)


def test_white_noise_takes_the_simpler_model_and_texture_cancels(clean: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    noisy = clean + 0.7 * (rng.poisson(clean) - clean) + rng.normal(0, 4, clean.shape)
    fit = _fit(noisy)
    assert fit.model.names == ("poisson", "gaussian")
    strength = np.hypot(fit.values["poisson"] * np.sqrt(120), fit.values["gaussian"])
    assert strength == pytest.approx(np.hypot(0.7 * np.sqrt(120), 4), rel=0.05)


def test_contrast_and_strength_of_each_scan_are_found(clean: np.ndarray) -> None:
    factors, gains = np.array([0.5, 1, 1, 1, 1, 1, 2, 2.5]), np.array([1.0, 1, 0.5, 0.5, 0.8, 0.8, 1, 1])
    noise = 6 * factors[:, None, None] * np.random.default_rng(3).normal(size=clean.shape)
    fit = _fit(20 + gains[:, None, None] * clean + noise, models=MODELS[:1])
    np.testing.assert_allclose(fit.factors, factors, rtol=0.15)
    assert fit.contrasts is not None
    content = clean.std(axis=(1, 2)) / np.sqrt(np.mean([_scene(100 + seed).var() for seed in range(COUNT)]))
    np.testing.assert_allclose(fit.contrasts.gains, gains * content, rtol=0.1)
    assert np.hypot(fit.values["poisson"] * np.sqrt(110), fit.values["gaussian"]) == pytest.approx(6, rel=0.1)


def test_noise_that_no_model_has_makes_a_poor_fit(clean: np.ndarray) -> None:
    checks = np.indices(clean.shape).sum(axis=0) % 2 * 2.0 - 1  # what cameras with two read-outs leave
    noisy = clean + 10 * checks + np.random.default_rng(4).normal(0, 3, clean.shape)
    assert _fit(noisy).deviation.poor


def test_without_good_images_smooth_scans_are_enough() -> None:
    clean = np.stack([gaussian_filter(_scene(seed), 8) for seed in range(COUNT)])
    fit = _fit(clean + 9 * _correlated(clean.shape, 0.8, 0.8, seed=5), with_good=False)
    assert fit.contrasts is None
    for key, value in {"correlated along": 0.8, "correlated across": 0.8}.items():
        assert fit.values[key] == pytest.approx(value, rel=0.1)


@pytest.mark.parametrize(
    ("scans", "good", "match"),
    [
        (np.full((4, 128, 128), 9.0), None, "constant"),
        (
            np.random.default_rng(0).normal(120, 9, (4, 128, 128)),
            np.full((4, 128, 128), 9.0, np.float32),
            "good images",
        ),
    ],
)
def test_images_without_anything_to_fit_are_refused(scans: np.ndarray, good: np.ndarray | None, match: str) -> None:
    with pytest.raises(InputError, match=match):
        fit_scans(_windows(scans), good, MODELS, 12)
