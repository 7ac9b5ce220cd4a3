"""A network that OpenVINO runs: on Intel's and AMD's processors quicker than torch, where it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from pssr2_monai.errors import InputError

__all__ = ["OpenVINONetwork", "check_openvino"]

EXAMPLE_SIDE = 64


def check_openvino() -> None:
    """Refuses to go on without it.

    Raises:
        InputError: says how to install it.
    """
    if find_spec("openvino") is None:
        raise InputError("backend 'openvino': it is not installed; pip install 'pssr2-monai[openvino]'")


class OpenVINONetwork:
    """Runs a network on the processor by OpenVINO, compiled anew for every size of its input.

    Args:
        network: in evaluation mode.
        dtype: what it computes in, ``torch.float32`` or ``torch.bfloat16``; the latter for all of the network, where
            torch's autocast keeps sums in float32, so that it is off by up to a grey level of 255.

    Example:
        >>> OpenVINONetwork(network, torch.float32)(torch.rand(1, 1, 64, 64)).shape  # doctest: +SKIP
        torch.Size([1, 1, 256, 256])
    """

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype) -> None:
        check_openvino()
        self.network = network
        self.options = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype is torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The network's output for ``(batch, frames, Y, X)``, in float32."""
        shape = tuple(image.shape)
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(image)
        restored = self._compiled[shape](image.contiguous().numpy())[0]
        return torch.from_numpy(restored)

    def _compile(self, image: torch.Tensor) -> Any:
        import openvino

        # A small example is traced in a fraction of the time; what it becomes is not bound to its size.
        example = torch.zeros(*image.shape[:-2], EXAMPLE_SIDE, EXAMPLE_SIDE)
        with torch.inference_mode(False), torch.no_grad():
            model = openvino.convert_model(self.network, example_input=example)
        model.reshape(list(image.shape))
        return openvino.Core().compile_model(model, "CPU", self.options)
