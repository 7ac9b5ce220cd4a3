"""Dictionary transforms do what their array forms do."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import Compose

from pssr2_monai.crappify import PoissonNoise
from pssr2_monai.crappify.crappify import Crappify, Downsample
from pssr2_monai.crappify.transforms import Crappifyd, Downsampled
from pssr2_monai.data.loading import CentralFramesd

HR = np.random.default_rng(0).random((5, 32, 24), dtype=np.float32)


def test_downsampled_equals_its_array_form() -> None:
    np.testing.assert_array_equal(Downsampled("label", 4)({"label": HR})["label"], Downsample(4)(HR))


def test_crappifyd_makes_the_image_and_leaves_the_label() -> None:
    transform = Crappifyd("label", Crappify(4, [PoissonNoise()]))
    found = transform.set_random_state(1)({"label": torch.from_numpy(HR)})
    assert found["image"].shape == (5, 8, 6)
    torch.testing.assert_close(found["label"], torch.from_numpy(HR))
    again = Crappifyd("label", Crappify(4, [PoissonNoise()])).set_random_state(1)({"label": torch.from_numpy(HR)})
    torch.testing.assert_close(found["image"], again["image"])


def test_any_callable_may_crappify() -> None:
    found = Crappifyd("label", lambda hr: hr[:, ::2, ::2])({"label": HR})
    np.testing.assert_array_equal(found["image"], HR[:, ::2, ::2])


def test_a_network_may_crappify() -> None:
    """It gets a batch of one, and leaves no gradient that a loader's worker could not hand on."""
    network = torch.nn.Sequential(torch.nn.Conv2d(5, 5, 3, padding=1), torch.nn.BatchNorm2d(5), torch.nn.AvgPool2d(4))
    label = torch.from_numpy(HR)
    expected = network.eval()(label[None])[0].detach()
    for crappifier in (network, Crappify(1, [network[2]])):
        found = Crappifyd("label", crappifier).set_random_state(0)({"label": label})
        assert found["image"].shape == (5, 8, 6)
        assert not found["image"].requires_grad
    torch.testing.assert_close(Crappifyd("label", network)({"label": label})["image"], expected)
    torch.testing.assert_close(Crappifyd("label", network)({"label": HR})["image"], expected)


def test_a_seeded_compose_seeds_the_crappifier() -> None:
    compose = Compose([Crappifyd("label", Crappify(2, [PoissonNoise()]))])
    images = [compose.set_random_state(seed)({"label": HR})["image"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_central_frames_are_kept() -> None:
    np.testing.assert_array_equal(CentralFramesd("label", 1)({"label": HR})["label"], HR[2:3])
    np.testing.assert_array_equal(CentralFramesd("label", 3)({"label": HR})["label"], HR[1:4])
