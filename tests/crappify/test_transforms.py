"""Dictionary forms of the noises do what the array forms do."""

from __future__ import annotations

import numpy as np
import pytest

from pssr2_monai.crappify import NOISES, GaussianNoise, PoissonNoise, transforms
from pssr2_monai.crappify.transforms import GaussianNoised, PoissonNoised
from pssr2_monai.errors import InputError

HR = np.random.default_rng(0).random((5, 32, 24), dtype=np.float32)


def test_each_dictionary_form_equals_its_array_form() -> None:
    pairs = [
        (PoissonNoised("label", intensity=(0.5, 1.0)), PoissonNoise((0.5, 1.0))),
        (GaussianNoised("label", 10, gain=(-3, 3)), GaussianNoise(10, (-3, 3))),
    ]
    for noise in NOISES.values():
        pairs.append((getattr(transforms, f"{noise.__name__}d")("label"), noise()))
    for dictionary, array in pairs:
        found = dictionary.set_random_state(4)({"label": HR, "other": 1})
        np.testing.assert_array_equal(found["label"], array.set_random_state(4)(HR))
        assert found["other"] == 1


def test_a_dictionary_form_refuses_what_its_noise_does() -> None:
    with pytest.raises(InputError, match="GaussianNoise: there is no parameter 'sgima'; it takes sigma and gain"):
        GaussianNoised("label", sgima=3)
    assert GaussianNoised(["label", "image"], allow_missing_keys=True)({"label": HR}).keys() == {"label"}


def test_all_keys_of_a_noise_get_one_draw() -> None:
    found = GaussianNoised(["a", "b"], sigma=(5, 30)).set_random_state(0)({"a": HR, "b": HR})
    np.testing.assert_array_equal(found["a"], found["b"])
    assert not np.array_equal(found["a"], HR)
