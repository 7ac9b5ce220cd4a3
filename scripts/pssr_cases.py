"""Write random weights, images and outputs of the original `pssr`; `compare_with_pssr.py` runs this with its Python.

For each case FOLDER gets ``NAME.pth`` (the state dict, as that package saves it) and ``NAME.npz`` (``image`` and
``output`` on 0..255), and ``cases.json`` lists them. This script does not need pssr2_monai.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pssr import models
from torch import nn

RDNET = {
    "rdnet_init": 16,
    "growth_rates": [4, 6],
    "ds_blocks": [False, True],
    "ese_blocks": [False, True],
    "n_blocks": [1, 2],
}
SWINIR = {"image_size": 16, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}

# name: (class, arguments, size of the image, options that the tensors do not reveal). TINY ones are kept as test data.
Case = tuple[str, dict[str, Any], tuple[int, int], dict[str, Any]]
TINY: dict[str, Case] = {
    "resunet": ("ResUNet", {"channels": [3, 1], "hidden": [4, 8], "depth": 1, "scale": 2}, (12, 20), {}),
    "resunet_a": (
        "ResUNetA",
        {"hidden": [8, 16], "depth": 0, "scale": 1, "dilations": [[1, 3], [2]], "pool_sizes": [1, 4]},
        (16, 24),
        {"dilations": [[1, 3], [2]], "pool_sizes": [1, 4]},
    ),
    "rdresunet": ("RDResUNet", {"hidden": [16, 8], "depth": 0, "scale": 3, "bottleneck": 2, **RDNET}, (12, 16), {}),
    "rdresunet_a": (
        "RDResUNetA",
        {
            "hidden": [8, 8],
            "depth": 0,
            "scale": 2,
            "dilations": [[1], [1, 3]],
            "pool_sizes": [1, 2],
            "encoder_pool": True,
            **RDNET,
        },
        (16, 20),
        {},
    ),
    "swinir_direct": ("SwinIR", {"scale": 3, "upsampler": "pixelshuffledirect", **SWINIR}, (14, 17), {}),
    "swinir_denoise": ("SwinIR", {"scale": 1, "upsampler": None, "resi_connection": "3conv", **SWINIR}, (16, 16), {}),
}
SMALL: dict[str, Case] = {
    "resunet_small": ("ResUNet", {"channels": [5, 1], "hidden": [16, 32, 64], "scale": 4, "depth": 2}, (40, 56), {}),
    "resunet_pool": ("ResUNet", {"hidden": [16, 32], "scale": 8, "pool_sizes": [1, 2], "depth": 1}, (20, 26), {}),
    "resunet_a_small": ("ResUNetA", {"hidden": [16, 32, 64, 128, 256], "encoder_pool": True}, (128, 144), {}),
    "rdresunet_small": ("RDResUNet", {"hidden": [64, 64, 32], "rdnet_init": 16, "growth_rates": [8, 12, 16, 24],
        "ds_blocks": [False, True, False, True], "ese_blocks": [False, True, True, True], "n_blocks": [3, 2, 1, 2],
        "patch_size": 4, "compression": 0.6, "channels": [3, 2], "scale": 2}, (48, 64), {}),
    "rdresunet_a_small": ("RDResUNetA", {"rdnet_init": 32, "hidden": [64, 64, 32, 32], "scale": 2}, (64, 80), {}),
    "swinir_small": ("SwinIR", {"scale": 4, "channels": [3, 1], **SWINIR}, (20, 28), {}),
    "swinir_nearest": ("SwinIR", {"scale": 4, "upsampler": "nearest+conv", **SWINIR}, (19, 21), {}),
    "swinir_one_window": ("SwinIR", {"scale": 2, **SWINIR, "image_size": 4}, (16, 24), {}),
    "swinir_plain": (
        "SwinIR",
        {"scale": 8, "qkv_bias": False, "qk_scale": 0.3, "patch_norm": False, **SWINIR},
        (16, 20),
        {"qk_scale": 0.3},
    ),
    "swinir_light": ("SwinIR", {"scale": 2, "upsampler": "pixelshuffledirect", "embed_dim": 60, "depths": [6] * 4,
        "num_heads": [6] * 4}, (64, 70), {}),
}  # fmt: skip
DEFAULT: dict[str, Case] = {
    f"{name.lower()}_default": (name, {}, (128, 128), {})
    for name in ("ResUNet", "ResUNetA", "RDResUNet", "RDResUNetA", "SwinIR")
}


def image(frames: int, height: int, width: int) -> torch.Tensor:
    """Whole grey levels 0..255: coarse structure and noise."""
    coarse = torch.rand(1, frames, height // 4 + 2, width // 4 + 2)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (smooth * 220 + torch.randn(smooth.shape) * 15).round().clamp(0, 255)


def randomise(model: nn.Module, example: torch.Tensor) -> None:
    """Leave nothing at a value that hides a fault: statistics, gains, shifts, scales and biases become random."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.3, 1.0)
        elif name.endswith("relative_position_bias_table"):
            parameter.normal_(0, 0.5)
        elif parameter.ndim == 1 and name.endswith("bias"):
            parameter.add_(torch.randn_like(parameter) * 0.1)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and norms:
            # With torch's default initialisation the image fades to a ripple on the biases, which BatchNorm then
            # amplifies with all its rounding.
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            module.weight.mul_(torch.exp(0.2 * torch.randn_like(module.weight)))
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    model(torch.cat([example, example.flip(-1), 255 - example]))
    for norm in norms:
        norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(torch.exp(0.3 * torch.randn_like(norm.running_var)))
        norm.running_var.add_(0.05 * norm.running_var.mean())  # one small batch leaves channels of no variance
    model.eval()


def spread_output(model: nn.Module, example: torch.Tensor) -> None:
    """Scale the last convolution so that the output fills grey levels as a trained network's does."""
    if isinstance(model, models.SwinIR):
        last = model.conv_last if hasattr(model, "conv_last") else model.upsample[0]
        unit, middle = 1.0, 128.0 if model.upsampler else 0.0
    else:
        last, unit, middle = model.reconstruction.conv, 128.0, 0.0
    last.bias.zero_()
    output = model(example)
    if middle == 0.0 and unit == 1.0:
        output = output - example
    elif unit == 128.0:
        output = output - 128
    gain = 40 / output.std()
    last.weight.mul_(gain)
    last.bias.copy_((middle - output.mean() * gain) / unit + torch.randn_like(last.bias) * 0.05 * 128 / unit)


@torch.no_grad()
def make(name: str, case: Case, folder: Path) -> dict[str, Any]:
    """Write one case; gives its entry of the list."""
    kind, arguments, size, options = case
    torch.manual_seed(zlib.crc32(name.encode()))
    model = getattr(models, kind)(**arguments)
    frames = arguments.get("channels", [1])[0]
    example = image(frames, *size)
    side = max(64, *size)
    randomise(model, image(frames, side, side) if kind != "SwinIR" else example)
    spread_output(model, example)
    torch.save(model.state_dict(), folder / f"{name}.pth")
    np.savez_compressed(folder / f"{name}.npz", image=example.numpy().astype(np.uint8), output=model(example).numpy())
    return {
        "name": name,
        "class": kind,
        "options": options,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", nargs="+", choices=["tiny", "small", "default"], required=True)
    options = parser.parse_args()
    chosen = {"tiny": TINY, "small": SMALL, "default": DEFAULT}
    options.folder.mkdir(parents=True, exist_ok=True)
    cases = [
        {"settings": settings, **make(name, case, options.folder)}
        for settings in options.settings
        for name, case in chosen[settings].items()
    ]
    (options.folder / "cases.json").write_text(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()
