"""One class is all there is to a noise: what it declares appears in every other part of the package."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

import numpy as np
import pytest
import torch

from pssr2_monai.calibration.fitted_preset import noises_of_preset
from pssr2_monai.calibration.guesses import first_guess
from pssr2_monai.calibration.noise_model import NoiseModel, search_space
from pssr2_monai.calibration.noise_profiles import sort_pixels, summarise
from pssr2_monai.crappify import NOISES, Crappify, GaussianNoise, Noise
from pssr2_monai.crappify.distributions import Parameter
from pssr2_monai.crappify.noise import Fitting, NoiseCurve, Slider, noise_classes, noise_curve
from pssr2_monai.crappify.transforms import Blurd, dictionary_form
from pssr2_monai.errors import InputError


class _Striped(Noise):
    """Rows and columns that are brighter or darker than they should be."""

    limits = {"sigma": (0.0, inf)}
    strength = "sigma"
    slider = Slider("Stripes", 12.0, 0.25, "standard deviation, grey levels of 255")
    fitting = Fitting(search_to=3.0, terms=frozenset({"rows"}))

    def __init__(self, sigma: Parameter = 2.0, **unknown: Parameter) -> None:
        super().__init__(sigma=sigma, **unknown)

    def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
        rows = torch.randn((*levels.shape[:-1], 1), generator=generator)
        columns = torch.randn((*levels.shape[:-2], 1, levels.shape[-1]), generator=generator)
        return levels + drawn["sigma"] * (rows + columns)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The noises as they were, after the test."""
    before = dict(NOISES)
    yield
    NOISES.clear()
    NOISES.update(before)


@pytest.fixture
def stripes() -> type[Noise]:
    """A noise defined by a user."""

    class Stripes(_Striped):
        """Rows and columns that are brighter or darker than they should be."""

    return Stripes


def test_a_noise_registers_itself_under_both_names(stripes: type[Noise]) -> None:
    assert NOISES["stripes"] is stripes
    assert noise_classes()["Stripes"] is stripes
    assert "_striped" not in NOISES
    assert stripes.target() == f"{__name__}.{stripes.__qualname__}"


def test_short_names_follow_from_class_names_or_are_declared() -> None:
    class HotPixelNoise(Noise):
        pass

    class Ghost(Noise):
        short_name = "second_image"

    assert (HotPixelNoise.short_name, Ghost.short_name) == ("hot_pixel", "second_image")


def test_a_noise_may_be_defined_again_but_no_other_of_its_name() -> None:
    def define() -> type[Noise]:
        class Hum(Noise):
            pass

        return Hum

    first, second = define(), define()
    assert NOISES["hum"] is second is not first
    for name, body in (("PoissonNoise", {"short_name": "counts"}), ("Shot", {"short_name": "poisson"})):
        with pytest.raises(InputError, match=r"pssr2_monai.PoissonNoise has the class name or the short name"):
            type(name, (Noise,), body)
    assert set(NOISES) & {"counts", "shot"} == set()


def test_a_strength_must_be_a_parameter() -> None:
    with pytest.raises(TypeError, match=r"Hum: strength 'power' is not among its limits: sigma"):
        type("Hum", (Noise,), {"limits": {"sigma": (0.0, 1.0)}, "strength": "power", "slider": _Striped.slider})


def test_its_dictionary_form_has_its_parameters_and_words(stripes: type[Noise]) -> None:
    form = dictionary_form(stripes)
    image = np.random.default_rng(0).random((1, 40, 30), dtype=np.float32)
    found = form("label", sigma=(1, 4)).set_random_state(3)({"label": image})
    np.testing.assert_array_equal(found["label"], stripes(sigma=(1, 4)).set_random_state(3)(image))
    assert form.__name__ == "Stripesd"
    assert list(inspect.signature(form).parameters) == ["keys", "sigma", "allow_missing_keys"]
    assert "Rows and columns that are brighter" in (form.__doc__ or "")


@pytest.mark.parametrize("form", [Blurd, dictionary_form(_Striped)])
def test_dictionary_forms_pass_to_other_processes(form: Any) -> None:
    transform = form(["a", "b"], sigma=(1, 2)).set_random_state(5)
    image = np.random.default_rng(0).random((1, 40, 30), dtype=np.float32)
    again = pickle.loads(pickle.dumps(transform))
    assert type(again) is form
    expected = copy.deepcopy(transform)({"a": image, "b": image})
    np.testing.assert_array_equal(again({"a": image, "b": image})["b"], expected["b"])


def test_its_mean_and_variance_are_measured(stripes: type[Noise]) -> None:
    noise = stripes(sigma=(2, 10))
    curve = noise_curve([GaussianNoise(sigma=3), noise])
    assert float(np.median(curve.variance)) == pytest.approx(9 + 2 * 36, rel=0.1)
    np.testing.assert_allclose(curve.mean, curve.clean, atol=2.5)
    assert noise.drawn == {}, "measuring drew from the user's own noise"


def test_a_formula_takes_the_place_of_measuring_until_apply_changes() -> None:
    class Hum(_Striped):
        def propagate(self, curve: NoiseCurve, values: Mapping[str, float]) -> NoiseCurve:
            return curve.plus(1234.0)

    class Quiet(Hum):
        def apply(self, levels: torch.Tensor, generator: torch.Generator, **drawn: torch.Tensor) -> torch.Tensor:
            return levels

    assert noise_curve([Hum()]).variance.tolist() == [1234.0] * 256
    assert float(noise_curve([Quiet()]).variance.max()) == pytest.approx(0, abs=1e-6)


def test_a_calibration_searches_for_it(stripes: type[Noise]) -> None:
    model = NoiseModel.parse("gaussian+stripes")
    assert model.terms == {"spread", "distribution", "mean", "rows"}
    assert not model.by_pixel
    clean = np.tile(np.linspace(40, 180, 256, dtype=np.float32), (4, 256, 1))
    noisy = model.crappified({"gaussian": 4.0, "stripes": 3.0}, clean, np.zeros(4), seed=1)
    assert float((noisy - clean).var()) == pytest.approx(16 + 2 * 9, rel=0.1)
    scene = sort_pixels(clean, np.ones(clean.shape, dtype=bool))
    guess, _ = first_guess(model, scene, summarise(scene, noisy - clean), 0.0)
    assert guess["stripes"] == 1.5  # half of what the search covers, where nothing is known
    space = search_space(model, guess, 110.0)
    assert space.highest["stripes"] == 3.0
    assert space.values([0.0, 0.25])["stripes"] == pytest.approx(1.5)  # variances are searched
    _, entry = noises_of_preset(model, guess, dict.fromkeys(guess, 0.1), 0.0, {}, 0.2)
    assert entry["_target_"] == stripes.target()
    assert entry["sigma"][0] < 1.5 < entry["sigma"][1]


def test_the_window_shows_its_slider(stripes: type[Noise]) -> None:
    form = pytest.importorskip("pssr2_monai.napari.crappifier")
    assert next(iter(form.sliders())) == "blur"
    assert form.sliders()["stripes"].label == "Stripes"
    assert "detector" not in form.sliders()


def test_a_crappifier_takes_it(stripes: type[Noise]) -> None:
    lr = Crappify(2, [stripes(sigma=20)]).set_random_state(0)(np.full((1, 64, 64), 0.5, dtype=np.float32))
    assert lr.shape == (1, 32, 32)
    assert float(lr.std()) * 255 == pytest.approx(20 * np.sqrt(2), rel=0.4)
