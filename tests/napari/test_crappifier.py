"""The sliders of the crappifier: what the presets say, and what is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def test_presets_set_the_sliders(panel_of: Callable[[str], Any]) -> None:
    panel = panel_of("Train")
    assert panel.crappifier.overrides == {}
    panel.task.value = "denoise"
    assert panel.crappifier.scale.value == 1
    assert tuple(panel.crappifier.sliders["gaussian"].value) == (1, 30)
    assert panel.crappifier.overrides == {}
    panel.crappifier.sliders["poisson"].value = (0, 0)
    gaussian = {"_target_": "pssr2_monai.GaussianNoise", "sigma": {"log": [1, 30]}}
    correlated = {"_target_": "pssr2_monai.CorrelatedNoise", "sigma": {"log": [2, 40]}}
    correlated |= {"along": [0, 1.2], "across": [0, 1.2]}
    assert panel.crappifier.overrides == {"crappifier#noises": [gaussian, correlated]}
    panel.crappifier.sliders["gaussian"].value = (2, 20)
    assert panel.crappifier.overrides == {"crappifier#noises": [gaussian | {"sigma": {"log": [2, 20]}}, correlated]}
    panel.crappifier.sliders["gaussian"].value = (0, 20)
    assert panel.crappifier.overrides == {"crappifier#noises": [gaussian | {"sigma": [0, 20]}, correlated]}
    panel.task.value = "isotropic"
    assert not panel.crappifier.scale.enabled
    for task in ("noise2noise", "blind_spot", "paired"):
        panel.task.value = task
        assert not panel.crappifier.sliders["gaussian"].enabled
    assert not panel.crappifier.sliders["gaussian"].enabled
    panel.own.value = "absent.json"
    assert "Own preset: there is no file" in panel.message.text()
    panel.own.value = None
    assert not panel.message.text()


def test_photons_of_a_preset_are_shown_as_strength_and_written_as_photons(panel_of: Callable[[str], Any]) -> None:
    panel = panel_of("Train")
    assert "photons at white" not in panel.crappifier.sliders["poisson"].tooltip.rpartition("leaves it out.")[2]
    panel.task.value = "denoise"
    slider = panel.crappifier.sliders["poisson"]
    # The variance is 255 * x / photons, and intensity**2 * x.
    assert slider.max == (255 / 4) ** 0.5
    np.testing.assert_allclose(slider.value, [(255 / 1000) ** 0.5, (255 / 4) ** 0.5], atol=slider.step / 2)
    assert slider.enabled
    assert slider.tooltip.endswith("Here 4 to 1000 photons at white.")
    assert panel.crappifier.overrides == {}
    slider.value = (1, 5)
    poisson, *others = panel.crappifier.overrides["crappifier#noises"]
    assert poisson == {"_target_": "pssr2_monai.PoissonNoise", "photons": {"log": [255 / 25, 255]}}
    assert len(others) == 2
    slider.value = (0, 5)
    poisson = panel.crappifier.overrides["crappifier#noises"][0]
    assert poisson == {"_target_": "pssr2_monai.PoissonNoise", "intensity": [0, 5]}
    panel.task.value = "default"
    panel.crappifier.sliders["gaussian"].value = (3, 3)
    gaussian = panel.crappifier.overrides["crappifier#noises"][-1]
    assert gaussian == {"_target_": "pssr2_monai.GaussianNoise", "sigma": 3}
