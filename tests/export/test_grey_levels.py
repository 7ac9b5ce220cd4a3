"""Grey levels of packages: their scale and data type, and the network that has them inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from pssr2_monai.export.grey_levels import GreyLevels, PackageSettings, grey_scale
from pssr2_monai.images.intensity import Intensity, IntensitySettings, dtype_limits
from pssr2_monai.networks.record import Record


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -100, 90), ("uint16", 300, 4000), ("int16", -500, 9000), ("float32", -1.5, 2.25)],
)
def test_the_scale_inside_is_that_of_restoring(dtype: str, low: float, high: float) -> None:
    intensity = Intensity(low, high)
    network = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.constant_(network.weight, 0.2)  # brighter than it was, and so beyond what the dtype holds
    span = np.random.default_rng(0).uniform(-0.2, 1.3, size=(2, 1, 12, 15))
    image = intensity.cast(span, dtype)
    with torch.inference_mode():
        expected = intensity.cast(network(torch.from_numpy(intensity.apply(image))), dtype)
        given = GreyLevels(network, intensity, dtype, channel=False)(torch.from_numpy(image.astype(np.float32))).numpy()
        deep = GreyLevels(network, intensity, dtype, channel=True)(torch.from_numpy(image.astype(np.float32))[:, None])
    np.testing.assert_allclose(given, expected, rtol=1e-6, atol=1e-6 * (high - low))
    np.testing.assert_array_equal(deep[:, 0], given)
    if dtype != "float32":
        np.testing.assert_array_equal(given.astype(dtype), expected)


@pytest.mark.parametrize(
    ("recorded", "settings", "dtype", "levels"),
    [
        (IntensitySettings("fixed", 10, 200), {}, "uint8", (10, 200)),
        (IntensitySettings("fixed", 10, 2000), {}, "uint16", (10, 2000)),
        (IntensitySettings("fixed", -10, 200), {}, "float32", (-10, 200)),
        (IntensitySettings("dtype"), {"dtype": "uint16"}, "uint16", (0, 65535)),
        (IntensitySettings(offset=90), {}, "uint8", (90, 255)),
        (IntensitySettings("percentile"), {"low": 3.0, "high": 400.0}, "uint16", (3, 400)),
    ],
)
def test_the_grey_levels_come_from_the_record(
    recorded: IntensitySettings, settings: dict[str, Any], dtype: str, levels: tuple[float, float]
) -> None:
    intensity, found = grey_scale(Record({}, 1, intensity=recorded), PackageSettings(**settings), "model.pt")
    assert found == dtype
    assert (intensity.low, intensity.high) == levels


def test_an_example_sets_data_type_and_scale_unless_the_scale_is_given(tmp_path: Path) -> None:
    pixels = np.linspace(100, 5000, 64 * 64).reshape(64, 64).astype(np.uint16)
    tifffile.imwrite(tmp_path / "scan.tif", pixels)
    settings = {"example": tmp_path / "scan.tif"}
    intensity, dtype = grey_scale(Record({}, 1), PackageSettings(**settings), "model.pt")
    assert dtype == "uint16"
    blocks = pixels.reshape(8, 8, 8, 8).mean(axis=(1, 3))
    np.testing.assert_allclose([intensity.low, intensity.high], np.percentile(blocks, [0.1, 99.9]), rtol=0.01)
    intensity, dtype = grey_scale(Record({}, 1), PackageSettings(**settings, low=7, high=900), "model.pt")
    assert (intensity, dtype) == (Intensity(7, 900), "uint16")


def test_limits_are_those_of_the_data_type() -> None:
    assert dtype_limits("int16") == (-32768, 32767)
    assert dtype_limits("float32") == (-np.inf, np.inf)


def test_settings_name_what_a_user_changed() -> None:
    assert PackageSettings().changed == []
    assert PackageSettings(low=0.0, high=4.0, license="CC-BY-4.0").changed == ["--license", "--low", "--high"]
