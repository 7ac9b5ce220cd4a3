"""Alignment against known maps, and what it does to the pixels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from pssr2_monai.calibration.registration.alignment import MIN_SCORE, Alignment, align
from pssr2_monai.errors import InputError
from pssr2_monai.images.windows import Window

SCALE = 2
HR_SIDE = 192
MARGIN = 24


def _field(seed: int, side: int = HR_SIDE + 2 * MARGIN) -> np.ndarray:
    """Structure at several sizes, 0 to 255."""
    noise = np.random.default_rng(seed).normal(size=(side, side))
    image = sum(gaussian_filter(noise, sigma) * sigma for sigma in (2, 4, 8))
    return 127.5 * (1 + image / np.abs(image).max())


def _map(
    shift: tuple[float, float], degrees: float = 0.0, ratio: float = 1.0, size: int = HR_SIDE // SCALE
) -> np.ndarray:
    """The map of an alignment by its parameters: shift of the centre in LR pixels, turn anticlockwise, size."""
    turn, centre = math.radians(degrees), (size - 1) / 2
    # On screen y points down: anticlockwise takes the direction of x, (0, 1), to (-sin, cos).
    linear = ratio * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return np.column_stack([linear, centre + np.array(shift) - linear @ [centre, centre]])


def _lr(field: np.ndarray, matrix: np.ndarray, noise: float = 0.0, scale: int = SCALE) -> np.ndarray:
    """What a detector with square pixels sees of the field through the map, by 4 x 4 samples a pixel."""
    size = HR_SIDE // scale
    line = (np.arange(size * 4) + 0.5) / 4 - 0.5
    places = np.tensordot(matrix[:, :2], np.stack(np.meshgrid(line, line, indexing="ij")), 1) + matrix[:, 2, None, None]
    fine = map_coordinates(field, (places + 0.5) * scale - 0.5 + MARGIN, order=3)
    clean = fine.reshape(size, 4, size, 4).mean((1, 3))
    return clean + np.random.default_rng(1).normal(0, noise, clean.shape)


def _hr(field: np.ndarray) -> np.ndarray:
    return field[MARGIN:-MARGIN, MARGIN:-MARGIN]


def _error(found: np.ndarray, true: np.ndarray, size: int = HR_SIDE // SCALE) -> float:
    """Mean distance in LR pixels."""
    places = np.stack([*np.mgrid[:size, :size], np.ones((size, size))])
    return float(np.hypot(*np.tensordot(found - true, places, 1)).mean())


@pytest.mark.parametrize(
    ("model", "shift", "degrees", "ratio"),
    [
        ("shift", (0.3, -4.2), 0.0, 1.0),
        ("rigid", (-2.6, 1.1), 1.7, 1.0),
        ("similarity", (1.4, 5.7), -1.9, 1.018),
        ("similarity", (0.15, 0.0), 0.4, 0.982),
    ],
)
@pytest.mark.parametrize("inverted", [False, True])
def test_a_known_map_is_found(
    model: str, shift: tuple[float, float], degrees: float, ratio: float, inverted: bool
) -> None:
    field, true = _field(0), _map(shift, degrees, ratio)
    seen = _lr(field, true, noise=12)
    found = align(100 - 0.4 * seen if inverted else seen**1.5, _hr(field), SCALE, model)
    assert _error(found.matrix, true) < 0.05
    assert found.score > MIN_SCORE
    assert (found.correlation < 0) == inverted
    np.testing.assert_allclose(found.shift, shift, atol=0.05)
    assert found.rotation == pytest.approx(degrees, abs=0.05)
    assert found.ratio == pytest.approx(ratio, abs=0.001)


def test_shear_is_found_by_the_affine_model() -> None:
    field, true = _field(1), _map((1.0, -2.0), 0.5)
    true[:, :2] += [[0.008, 0.01], [0.0, -0.006]]
    assert _error(align(_lr(field, true, noise=5), _hr(field), SCALE, "affine").matrix, true) < 0.05
    assert _error(align(_lr(field, true, noise=5), _hr(field), SCALE, "rigid").matrix, true) > 0.1


def test_the_same_images_always_give_the_same_map() -> None:
    field = _field(2)
    seen = _lr(field, _map((1.0, 2.0), 1.0), noise=20)
    first, second = (align(seen, _hr(field), SCALE) for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.score == second.score


def test_fields_of_different_size_are_aligned() -> None:
    """The map is that of the whole image, moved by the HR pixels that were cut off."""
    field, whole = _field(3), _map((1.0, -1.5), 0.8)
    cut = np.column_stack([whole[:, :2], whole[:, 2] - np.array([30, 8]) / SCALE])
    found = align(_lr(field, whole, noise=8), _hr(field)[30:, 8:180], SCALE, "rigid")
    assert _error(found.matrix, cut) < 0.05
    assert found.score > MIN_SCORE


def test_other_fields_score_low() -> None:
    hr = _hr(_field(4))
    scores = [align(_lr(_field(seed), _map((0.0, 0.0)), noise=5), hr, SCALE).score for seed in (5, 6)]
    assert max(scores) < MIN_SCORE


def test_hr_is_put_onto_the_grid_of_lr() -> None:
    """Both show the same formula of the place, so that each HR pixel can be computed."""
    scale, true = 4, _map((1.3, -2.2), 1.5, 1.01, size=40)

    def formula(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return 100 + 40 * np.sin(y / 6) * np.cos(x / 5)

    y, x = (np.mgrid[:160, :160] + 0.5) / scale - 0.5
    hr = formula(y, x)
    found = Alignment(true, (40, 40), (160, 160), scale, score=9.0, correlation=1.0)
    window = found.window
    hr_part = found.resampled(hr, window)
    assert hr_part.shape == (window.height * scale, window.width * scale)
    y, x = np.mgrid[: hr_part.shape[0], : hr_part.shape[1]]
    places = np.stack([window.y + (y + 0.5) / scale - 0.5, window.x + (x + 0.5) / scale - 0.5, np.ones(y.shape)])
    expected = formula(*np.tensordot(true, places, 1))
    np.testing.assert_allclose(hr_part[2:-2, 2:-2], expected[2:-2, 2:-2], atol=0.02)
    np.testing.assert_allclose(hr_part, expected, atol=0.5)  # half a pixel may lie beyond the centres of the last ones
    # A band on its own, from the part of the HR image that it asks for, is that band of the whole.
    band = Window(window.y + 5, window.x, 10, window.width)
    source = found.source(band)
    rows, columns = (slice(max(0, part.start), part.stop) for part in source.slices())
    inside = Window(rows.start, columns.start, 0, 0)
    np.testing.assert_allclose(found.resampled(hr[rows, columns], band, inside), hr_part[20:60], atol=1e-3)


def test_what_is_shared_is_as_large_as_may_be() -> None:
    found = Alignment(np.eye(2, 3), (30, 40), (61, 80), SCALE, 9.0, 1.0)
    assert found.window == Window(0, 0, 30, 40)
    # The HR image's area ends 2.5 LR pixels earlier below, and begins 3.25 later at the left; the centres of HR pixels
    # lie a quarter of an LR pixel within its edges.
    moved = np.array([[1, 0, 2.5], [0, 1, -3.25]])
    assert replace(found, matrix=moved, hr_size=(60, 80)).window == Window(0, 3, 27, 37)
    moved = np.array([[1, 0, 2.2], [0, 1, -3.3]])
    assert replace(found, matrix=moved, hr_size=(60, 80)).window == Window(0, 4, 28, 36)
    assert replace(found, matrix=np.add(moved, [[0, 0, 99], [0, 0, 0]])).window.height == 0


def test_unknown_pixels_stay_unknown_and_spoil_no_others() -> None:
    field = _field(8)
    lr, hr = _lr(field, _map((0.5, 0.5))), _hr(field).copy()
    found = align(lr, hr, SCALE, "shift")
    clean = found.resampled(hr, found.window)
    hr[100:103, 50:60] = np.nan
    again = align(lr, hr, SCALE, "shift")
    np.testing.assert_allclose(again.matrix, found.matrix, atol=0.02)
    spoiled = found.resampled(hr, found.window)
    unknown = np.isnan(spoiled)
    assert 30 <= unknown.sum() <= 60
    far = gaussian_filter(unknown.astype(float), 4) < 1e-6
    np.testing.assert_allclose(spoiled[far], clean[far], atol=0.01)


def test_constant_images_score_nothing() -> None:
    hr = _hr(_field(9))
    for lr, other in ((np.full((96, 96), 7), hr), (hr[::2, ::2], np.zeros_like(hr)), (np.full((96, 96), np.nan), hr)):
        found = align(lr, other, SCALE)
        assert (found.score, found.correlation) == (0.0, 0.0)
        np.testing.assert_array_equal(found.matrix, np.eye(2, 3))


@pytest.mark.parametrize(
    ("lr_size", "hr_size", "scale", "model", "match"),
    [
        ((96, 96), (192, 192), 2, "rigit", "model: 'rigit' is unknown"),
        ((96, 96), (192, 192), 4, "shift", "96 x 96 and HR 192 x 192 pixels do not fit the scale 4"),
        ((20, 96), (40, 192), 2, "shift", "are too few; 24 LR pixels"),
        ((96, 96), (192, 192), 0, "shift", "scale: 0 is not a whole number"),
        ((96, 96), (192, 192), 2.5, "shift", "scale: 2.5 is not a whole number"),
        ((3, 96, 96), (192, 192), 2, "shift", "3 and 2 dimensions"),
    ],
)
def test_what_cannot_be_aligned_is_refused(
    lr_size: tuple[int, ...], hr_size: tuple[int, ...], scale: float, model: str, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        align(np.zeros(lr_size), np.zeros(hr_size), scale, model)  # type: ignore[arg-type]
