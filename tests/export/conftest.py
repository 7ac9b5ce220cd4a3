"""Networks of every kind, small and with all their layers at work, as files of weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pssr2_monai.networks.record import Record
from pssr2_monai.registered_names import build

RDNET: dict[str, Any] = {
    "stem_channels": 8,
    "growth_rates": [4, 6],
    "downsample": [False, True],
    "squeeze_excite": [False, True],
    "n_blocks": 1,
}
POOLED: dict[str, Any] = {"pool_sizes": [1, 2], "encoder_pool": True, "depth": 0}
VOLUME: dict[str, Any] = {"spatial_dims": 3, "channels": [8, 16], "depth": 0, "pool": [1, 2, 2]}
SMALL: dict[str, dict[str, Any]] = {
    "resunet": {"_target_": "ResUNet", "channels": [8, 16, 32], "depth": 0},
    "resunet_a": {"_target_": "ResUNetA", "channels": [8, 16], "dilations": [[1, 3], [1]]} | POOLED,
    "rdresunet": {"_target_": "RDResUNet", "channels": [16, 8], "depth": 0} | RDNET,
    "rdresunet_a": {"_target_": "RDResUNetA", "channels": [16, 8], "dilations": [[1], [1, 2]]} | POOLED | RDNET,
    "swinir": {"_target_": "SwinIR", "embed_dim": 8, "depths": [2], "heads": [2], "window": 8, "features": 8},
    "rcan": {"_target_": "RCAN", "groups": 1, "blocks": 1, "features": 8, "reduction": 2},
    "nafnet": {"_target_": "NAFNet", "width": 8, "encoder": [1, 1], "middle": 1, "decoder": [1, 1]},
    "restormer": {"_target_": "ScaledRestormer", "width": 8, "blocks": [1, 1], "heads": [1, 2], "refinement": 1},
    "resunet_volume": {"_target_": "ResUNet", "scale": [4, 1, 1]} | VOLUME,
    "rcan_volume": {"_target_": "RCAN", "scale": [1, 2, 2], "spatial_dims": 3, "groups": 1, "blocks": 1, "features": 8},
}
"""Networks by the name of their preset; the batch and the depth of the last two are those of a volume."""


@pytest.fixture(params=SMALL)
def network_name(request: pytest.FixtureRequest) -> str:
    """Each name in `SMALL`."""
    return str(request.param)


@pytest.fixture(scope="session")
def save_in() -> Callable[..., tuple[nn.Module, Path]]:
    """A function from a folder and a name in `SMALL` to the network, all its layers at work, and its weights there."""

    def make(folder: Path, name: str, frames: int = 1, **recorded: Any) -> tuple[nn.Module, Path]:
        torch.manual_seed(0)
        config = dict(SMALL[name])
        scale = config.setdefault("scale", 2)
        if name.endswith("volume"):
            config |= {"reduction": 2} if "features" in config else {}
            config = {"_target_": "AsVolume", "network": config}
        else:
            config["in_channels"] = frames
        network = build("network", config, "test").eval()
        for parameter in network.parameters():
            if not parameter.any():  # the last layers start at zero
                nn.init.normal_(parameter, std=0.05)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
                nn.init.uniform_(layer.running_mean, -0.5, 0.5)
                nn.init.uniform_(layer.running_var, 0.5, 2)
        recorded = {"pixel_size": {"Y": 0.004}, "crappifier": {"scale": 4}} | recorded
        record = Record(config, scale, (frames, 1), **recorded)
        torch.save({"model": network.state_dict(), "record": record.state_dict()}, folder / "model.pt")
        return network, folder / "model.pt"

    return make


@pytest.fixture
def saved(save_in: Callable[..., tuple[nn.Module, Path]], tmp_path: Path) -> Callable[..., tuple[nn.Module, Path]]:
    """`save_in` the folder of the test."""
    return partial(save_in, tmp_path)
