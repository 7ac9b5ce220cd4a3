"""Noise models: names, order, the place of the offset, and the space that is searched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pssr2_monai.calibration.noise_model import (
    NoiseModel,
    SearchSpace,
    first_guess,
    search_space,
)
from pssr2_monai.calibration.noise_profiles import sort_pixels, summarise
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


@settings(max_examples=50, deadline=None)
@given(positive, positive, positive)
def test_a_point_of_the_space_stands_for_its_parameters(poisson: float, gaussian: float, line: float) -> None:
    space = SearchSpace(("poisson", "gaussian", "line"), 90.0, {"poisson": 9, "gaussian": 60.0, "line": 5.0})
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


@pytest.mark.parametrize(
    "truth",
    [
        {"poisson": 0.7},
        {"gaussian": 13.0},
        {"poisson": 0.7, "line": 4.0},
        {"poisson": 0.7, "salt_pepper": 1.0},
    ],
)
def test_the_first_guess_comes_near(truth: dict[str, float]) -> None:
    clean = np.tile(np.linspace(40, 180, 256, dtype=np.float32), (6, 256, 1))
    model = NoiseModel(tuple(truth))
    noise = model.crappified(truth, clean, np.zeros(6), seed=3) - clean
    scene = sort_pixels(clean, np.ones(clean.shape, dtype=bool))
    guess, black = first_guess(model, scene, summarise(scene, noise), 0.0)
    assert black == 0
    assert guess == pytest.approx(truth, rel=0.15)
    space = search_space(model, guess, float(scene.brightness.mean()))
    assert all(space.highest[name] > truth[name] for name in truth)


def test_below_the_black_level_there_is_no_poisson_noise() -> None:
    clean = np.stack([np.full((256, 256), level, np.float32) for level in (30, 90)])
    made = NoiseModel.parse("poisson").crappified({"poisson": 1.0}, clean, np.array([4.0, 4.0]), seed=1, black=30.0)
    np.testing.assert_allclose(made.mean(axis=(1, 2)), [34, 94], atol=0.2)
    np.testing.assert_allclose(made.var(axis=(1, 2)), [0, 60], atol=1.5)
