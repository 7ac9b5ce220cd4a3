"""The sliders of the crappifier: what the presets say, and what is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
