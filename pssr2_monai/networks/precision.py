"""The fastest way to compute networks: in bfloat16 where the machine has it, with channels last in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch.nn.utils import convert_conv2d_weight_memory_format, convert_conv3d_weight_memory_format

from pssr2_monai.errors import InputError

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def channels_last(network: torch.nn.Module, device: torch.device | str) -> torch.nn.Module:
    """Move a network to a device, with the memory layout that makes its convolutions fastest.

    ``Module.to(memory_format=...)`` does this for purely 2-D networks only.
    """
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
    return network.to(device)


def choose_precision(precision: str, device: torch.device | str) -> torch.dtype:
    """Return the dtype for convolutions and products: ``auto`` is bfloat16 where the device computes in it.

    Those are GPUs since Ampere and processors with AVX512-BF16 or AMX.
    """
    if precision == "auto":
        return torch.bfloat16 if _computes_bfloat16(torch.device(device)) else torch.float32
    if precision not in PRECISIONS:
        raise InputError(f"precision: {precision!r} is unknown; use auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    # Both are private in torch; a release without them falls back to float32.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, check, bool)() for check in checks)


def in_precision(network: Callable[..., Any], dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    """Wrap the network to compute in ``dtype`` and return float32, which sums and blending need."""

    def predict(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.autocast(inputs.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            output: torch.Tensor = network(inputs, *args, **kwargs)
        return output.float()

    return predict


class AutocastInferer(SimpleInferer):
    """MONAI's simple inferer with the network in bfloat16, also on a CPU, where ``amp`` of the engines has no effect.

    Args:
        precision: see ``choose_precision``.
    """

    def __init__(self, precision: str = "auto") -> None:
        super().__init__()
        self.precision = precision

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        dtype = choose_precision(self.precision, inputs.device)
        return in_precision(network, dtype)(inputs, *args, **kwargs)
