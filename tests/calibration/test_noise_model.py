"""Noise models: names, order, the place of the offset, and the space that is searched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pssr2_monai.calibration.noise_model import (
    NoiseModel,
    SearchSpace,
    search_space,
)
from pssr2_monai.errors import InputError

FLAT = np.full((2, 256, 256), 100, np.float32)
OFFSETS = np.array([5.0, -3.0])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("poison", "did you mean 'poisson'"),
        ("poisson+", "there is no noise ''"),
        ("poisson+poisson", "poisson is named twice"),
        ("poisson+detector", "gain and offset are always fitted"),
        ("drift+poisson", "drift cannot be separated from the contrast"),
    ],
)
def test_models_that_cannot_be_are_refused(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        NoiseModel.parse(text)


def test_names_are_read_as_users_write_them() -> None:
    assert NoiseModel.parse(" Poisson + salt-pepper ").names == ("poisson", "salt_pepper")


@pytest.mark.parametrize(
    ("text", "steps", "offset_step"),
    [
        ("poisson", ["poisson", "detector"], 1),
        ("gaussian", ["gaussian"], 0),
        ("poisson+gaussian", ["poisson", "gaussian"], 1),
        ("poisson+line", ["poisson", "detector", "line"], 1),
        ("line+gaussian", ["detector", "line", "gaussian"], 0),
        ("blur+poisson+gaussian", ["blur", "poisson", "gaussian"], 2),
        ("correlated", ["correlated", "detector"], 1),
        ("correlated+gaussian", ["correlated", "gaussian"], 1),
        ("poisson+correlated", ["poisson", "detector", "correlated"], 1),
    ],
)
def test_the_offset_follows_the_poisson_noise(text: str, steps: list[str], offset_step: int) -> None:
    model = NoiseModel.parse(text)
    assert model.steps == steps
    assert model.offset_step == offset_step


def test_crappified_images_have_mean_and_variance_of_their_parameters() -> None:
    made = NoiseModel.parse("poisson+gaussian").crappified({"poisson": 0.7, "gaussian": 6.0}, FLAT, OFFSETS, seed=1)
    np.testing.assert_allclose(made.mean(axis=(1, 2)), 100 + OFFSETS, atol=0.2)
    # The offset is no signal: it has no part in the Poisson noise.
    np.testing.assert_allclose(made.var(axis=(1, 2)), 0.7**2 * 100 + 6**2, rtol=0.03)


def test_random_numbers_are_common_to_all_parameters() -> None:
    model = NoiseModel.parse("poisson+gaussian")
    weak, strong = (
        model.crappified({"poisson": size, "gaussian": 0.0}, FLAT, OFFSETS, seed=1) - 100 - OFFSETS[:, None, None]
        for size in (0.2, 0.4)
    )
    np.testing.assert_allclose(strong, 2 * weak, atol=1e-3)
    other = model.crappified({"poisson": 0.2, "gaussian": 0.0}, FLAT, OFFSETS, seed=2)
    assert not np.allclose(other, weak + 100 + OFFSETS[:, None, None])


positive = st.floats(0.1, 3.0)


@given(positive, positive, positive)
def test_a_point_of_the_space_stands_for_its_parameters(poisson: float, gaussian: float, line: float) -> None:
    space = SearchSpace(
        NoiseModel(("poisson", "gaussian", "line")), 90.0, {"poisson": 9, "gaussian": 60.0, "line": 5.0}
    )
    values = {"poisson": poisson, "gaussian": gaussian, "line": line}
    assert space.values(space.point(values)) == pytest.approx(values, rel=1e-6)


def test_behind_a_blur_the_space_holds_what_the_blur_leaves() -> None:
    model = NoiseModel.parse("poisson+gaussian+blur")
    guess = {"poisson": 0.7, "gaussian": 6.0, "blur": 0.6}
    space = search_space(model, guess, 100.0)
    point = space.point(guess)
    assert space.values(point) == pytest.approx(guess, rel=1e-6)
    wider = space.values([*point[:2], min(1.0, point[2] * 1.5)])
    assert wider["blur"] > guess["blur"]
    seen = [model.crappified(values, FLAT, OFFSETS, seed=1)[0].std() for values in (guess, wider)]
    assert seen[1] == pytest.approx(seen[0], rel=0.05)


def test_what_grows_with_brightness_is_fitted_once() -> None:
    alone, both = (NoiseModel.parse(text) for text in ("correlated", "poisson+correlated"))
    widths = ["correlated along", "correlated across"]
    assert [unknown.key for unknown in alone.unknowns] == ["correlated", "correlated intensity", *widths]
    assert [unknown.key for unknown in both.unknowns] == ["poisson", "correlated", *widths]
    values = {"correlated": 3.0, "correlated intensity": 0.5, "correlated along": 1.0, "correlated across": 2.0}
    space = search_space(alone, values, 100.0)
    assert space.values(space.point(values)) == pytest.approx(values)
    np.testing.assert_allclose(alone.variance(values, np.array([-5.0, 100.0])), [9.0, 34.0])


def test_each_image_may_have_noise_of_its_own_strength() -> None:
    values = {"correlated": 6.0, "correlated intensity": 0.0, "correlated along": 1.0, "correlated across": 0.0}
    model, factors = NoiseModel.parse("correlated"), np.array([1.0, 2.5])
    made = model.crappified(values, FLAT, OFFSETS, seed=1, factors=factors)
    np.testing.assert_allclose(made.std(axis=(1, 2)), [6, 15], rtol=0.03)
    noise = made - made.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(
        (noise[:, :, 1:] * noise[:, :, :-1]).mean(axis=(1, 2)) / noise.var(axis=(1, 2)), 0.78, atol=0.02
    )


def test_below_the_black_level_there_is_no_poisson_noise() -> None:
    clean = np.stack([np.full((256, 256), level, np.float32) for level in (30, 90)])
    made = NoiseModel.parse("poisson").crappified({"poisson": 1.0}, clean, np.array([4.0, 4.0]), seed=1, black=30.0)
    np.testing.assert_allclose(made.mean(axis=(1, 2)), [34, 94], atol=0.2)
    np.testing.assert_allclose(made.var(axis=(1, 2)), [0, 60], atol=1.5)
