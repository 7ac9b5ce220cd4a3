"""Each architecture, at a small size, learns one real tile by heart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pssr2_monai.networks import (
    RCAN,
    NAFNet,
    RDResUNet,
    RDResUNetA,
    ResUNet,
    ResUNetA,
    ScaledNetwork,
    ScaledRestormer,
    SwinIR,
)
from pssr2_monai.training.losses import MSSSIML1Loss

RDNET = {
    "stem_channels": 16,
    "growth_rates": (16, 16),
    "downsample": (False, True),
    "squeeze_excite": (False, True),
    "n_blocks": 2,
    "channels": (64, 64),
}
NETWORKS: dict[str, Callable[[], ScaledNetwork]] = {
    "resunet": partial(ResUNet, channels=(16, 32, 64), depth=1),
    "resunet_a": partial(ResUNetA, channels=(16, 32), depth=0, dilations=((1, 3), (1,)), pool_sizes=(1, 2)),
    "rdresunet": partial(RDResUNet, depth=1, **RDNET),
    "rdresunet_a": partial(RDResUNetA, depth=0, dilations=((1,), (1, 3)), pool_sizes=(1, 2), **RDNET),
    "swinir": partial(SwinIR, embed_dim=24, depths=(2, 2), heads=(2, 2), features=32, drop_path=0.0),
    "rcan": partial(RCAN, groups=2, blocks=2, features=32, reduction=4),
    "nafnet": partial(NAFNet, width=32, encoder=(1, 1), middle=1, decoder=(1, 1)),
    "restormer": partial(ScaledRestormer, width=24, blocks=(1, 1), heads=(1, 2), refinement=1, neighbourhood=16),
}


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS.keys())
def test_loss_on_one_tile_falls_fivefold_in_200_steps(build: Callable[[], ScaledNetwork], shared_data: Path) -> None:
    image = np.asarray(Image.open(shared_data / "em_hr" / "cem_crops" / "er.png").convert("L"), dtype=np.float32)
    label = torch.from_numpy(image[20:68, 20:68] / 255)[None, None]
    low = F.avg_pool2d(label, 4)
    torch.manual_seed(0)
    network = build()
    loss_function = MSSSIML1Loss()
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=200)
    losses, errors = [], []
    for _ in range(200):
        optimizer.zero_grad()
        output = network(low)
        loss = loss_function(output, label)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        errors.append(F.mse_loss(output, label).item())
    assert losses[0] / losses[-1] > 5
    assert errors[0] / errors[-1] > 4  # the first output is the interpolated input, already close
