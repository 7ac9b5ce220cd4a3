"""Dictionary forms do what the array forms do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from pssr2_monai.crappify import NOISES, GaussianNoise, PoissonNoise, transforms
from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.crappify.transforms import Crappifyd, Downsampled, GaussianNoised, PoissonNoised
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


def test_downsampled_equals_its_array_form() -> None:
    np.testing.assert_array_equal(Downsampled("label", 4)({"label": HR})["label"], Downsample(4)(HR))


def test_crappifyd_makes_the_image_and_leaves_the_label() -> None:
    transform = Crappifyd("label", Crappify(4, [PoissonNoise()]))
    crappified = transform.set_random_state(1)({"label": torch.from_numpy(HR)})
    assert crappified["image"].shape == (5, 8, 6)
    torch.testing.assert_close(crappified["label"], torch.from_numpy(HR))
    again = Crappifyd("label", Crappify(4, [PoissonNoise()])).set_random_state(1)({"label": torch.from_numpy(HR)})
    torch.testing.assert_close(crappified["image"], again["image"])


def test_any_callable_may_crappify() -> None:
    crappified = Crappifyd("label", lambda hr: hr[:, ::2, ::2])({"label": HR})
    np.testing.assert_array_equal(crappified["image"], HR[:, ::2, ::2])


def test_a_network_may_crappify() -> None:
    """It gets a batch of one, and leaves no gradient that a loader's worker could not hand on."""
    network = torch.nn.Sequential(torch.nn.Conv2d(5, 5, 3, padding=1), torch.nn.BatchNorm2d(5), torch.nn.AvgPool2d(4))
    label = torch.from_numpy(HR)
    expected = network.eval()(label[None])[0].detach()
    for crappifier in (network, Crappify(1, [network[2]])):
        crappified = Crappifyd("label", crappifier).set_random_state(0)({"label": label})
        assert crappified["image"].shape == (5, 8, 6)
        assert not crappified["image"].requires_grad
    torch.testing.assert_close(Crappifyd("label", network)({"label": label})["image"], expected)
    torch.testing.assert_close(Crappifyd("label", network)({"label": HR})["image"], expected)


def test_a_seeded_compose_seeds_the_crappifier() -> None:
    compose = Compose([Crappifyd("label", Crappify(2, [PoissonNoise()]))])
    images = [compose.set_random_state(seed)({"label": HR})["image"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
