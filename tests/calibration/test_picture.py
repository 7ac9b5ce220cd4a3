"""The pictures of a calibration: what their charts draw, and that the images in them are those of the pairs."""

from __future__ import annotations

import numpy as np
import pytest

from pssr2_monai.calibration.fit import Fit, fit_noise
from pssr2_monai.calibration.grey_windows import Levels, Windows
from pssr2_monai.calibration.noise_model import NoiseModel
from pssr2_monai.calibration.picture import (
    WIDTH_PX,
    draw_histogram,
    draw_search,
    draw_spread,
    draw_spread_of_scans,
    noise_density,
    picture_of_noise,
    picture_of_pairs,
    picture_of_scans,
)
from pssr2_monai.calibration.real_pairs import Pairs
from pssr2_monai.calibration.scan_fit import fit_scans
from pssr2_monai.images.pictures import new_figure

SHAPE = (4, 96, 96)
SIGMA = 8.0


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    y, x = np.mgrid[:96, :96]
    clean = np.stack([110 + 50 * np.sin(y / (7 + k)) * np.cos(x / 9) for k in range(4)]).astype(np.float32)
    lr = clean + np.random.default_rng(0).normal(0, SIGMA, SHAPE).astype(np.float32)
    levels = Levels(*(np.full(4, value) for value in (0.0, 1.0, 0.0, 255.0)))
    return Pairs(clean, lr, np.ones(SHAPE, bool), np.zeros(4), levels, np.arange(4), list("abcd"), [], (0.0, 0.0))


@pytest.fixture(scope="module")
def fit(pairs: Pairs) -> Fit:
    return fit_noise(pairs, [NoiseModel.parse("gaussian")], calls=12)


def test_the_histogram_is_that_of_the_noise(pairs: Pairs, fit: Fit) -> None:
    centre, density = noise_density(fit.trials.real)
    expected = np.exp(-(centre**2) / (2 * SIGMA**2)) / np.sqrt(2 * np.pi) / SIGMA
    np.testing.assert_allclose(density, expected, atol=0.1 * expected.max())
    _, (axes,) = new_figure(400, 300)
    draw_histogram(axes, fit)
    assert axes.get_xlim() == pytest.approx((-4.5 * fit.trials.real.spread, 4.5 * fit.trials.real.spread))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["real", "default", "calibrated"]
    calibrated = axes.get_lines()[1].get_xydata()
    np.testing.assert_allclose(calibrated[:, 1], noise_density(fit.fitted)[1])


def test_the_spread_of_the_fit_lies_on_that_of_the_real_noise(fit: Fit) -> None:
    _, (axes,) = new_figure(400, 300)
    draw_spread(axes, fit)
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    np.testing.assert_allclose(lines["real"], SIGMA, rtol=0.1)
    np.testing.assert_allclose(lines["calibrated"], lines["real"], rtol=0.12)
    # The default crappifier's Poisson noise grows with the root of the brightness.
    np.testing.assert_allclose(lines["default"], np.sqrt(fit.trials.scene.brightness), rtol=0.1)


def test_the_search_shows_every_trial_once(fit: Fit) -> None:
    _, (axes,) = new_figure(400, 300)
    draw_search(axes, fit)
    least, *dots = (line.get_xydata() for line in axes.get_lines())
    np.testing.assert_allclose(least[:, 1], np.minimum.accumulate(fit.search.distances))
    shown = np.concatenate(dots)
    np.testing.assert_allclose(shown[:, 0], np.arange(1, len(fit.search.distances) + 1))
    np.testing.assert_allclose(shown[:, 1], fit.search.distances)


def _grey_of(picture: np.ndarray, left: int, right: int) -> tuple[float, float]:
    """Mean and standard deviation over a part of the row of images, away from their borders."""
    part = picture[120:280, left + 30 : right - 30].astype(float)
    return float(part.mean()), float(part.std())


def test_real_and_crappified_noise_look_alike_in_the_picture_of_pairs(pairs: Pairs, fit: Fit) -> None:
    picture = np.asarray(picture_of_pairs(pairs, fit, "first line\nsecond line"))
    assert picture.shape[1:] == (WIDTH_PX, 3)
    clean, real, crappified, real_noise, crappified_noise = (
        _grey_of(picture, 300 * k, 300 * k + 300) for k in range(5)
    )
    assert real == pytest.approx(crappified, rel=0.05)
    assert real_noise == pytest.approx(crappified_noise, rel=0.05)
    # The range of the noise is four standard deviations to either side of mid-grey.
    assert real_noise == pytest.approx((127.5, 127.5 / 4), rel=0.1)
    assert clean[1] < real[1]


def test_spreads_of_scans_and_of_the_fit_are_drawn(pairs: Pairs) -> None:
    scans = Windows(pairs.lr, pairs.good, pairs.levels, pairs.image, pairs.names)
    fit = fit_scans(scans, pairs.clean, [NoiseModel.parse("gaussian")], calls=12)
    picture = np.asarray(picture_of_scans(pairs.lr[0], fit, "heading"))
    assert picture.shape[1:] == (WIDTH_PX, 3)
    _, (axes,) = new_figure(400, 300)
    draw_spread_of_scans(axes, fit)
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    np.testing.assert_allclose(np.nanmedian(lines["scans, from pixel to pixel"]), SIGMA, rtol=0.1)
    np.testing.assert_allclose(np.nanmedian(lines["calibrated, from pixel to pixel"]), SIGMA, rtol=0.1)


def test_the_noise_of_tiles_fills_its_chart(pairs: Pairs) -> None:
    picture = np.asarray(picture_of_noise(pairs.clean, pairs.lr, "crappified"))
    assert picture.shape[1:] == (WIDTH_PX, 3)
    chart = picture[-340:, :740]
    rows = np.flatnonzero((chart == 150).all(axis=2).sum(axis=1) > 3)  # grey of the filled histogram
    assert np.ptp(rows) > 180
