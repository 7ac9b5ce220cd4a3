"""Weights that need no training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pssr2_monai.networks import ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import save_atomically


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small 2x network."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    arguments = {"in_channels": 1, "out_channels": 1, "channels": [4, 8], "scale": 2, "depth": 0, "interpolate": False}
    torch.manual_seed(0)
    network = ResUNet(**arguments)  # type: ignore[arg-type]
    record = Record({"_target_": "ResUNet", **arguments}, 2)
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, path)
    return path
