"""Running a network by OpenVINO: on Intel's and AMD's processors faster than torch, where it is installed."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

import torch

from pssr2_monai.errors import InputError

EXAMPLE_SIDE_PX = 64


def check_openvino(quantizing: bool = False) -> None:
    """Check that OpenVINO is installed, and for quantising NNCF; else say how to install it."""
    missing = [name for name in ("openvino", *(["nncf"] if quantizing else [])) if find_spec(name) is None]
    if missing:
        raise InputError(f"backend 'openvino': {missing[0]} is not installed; pip install 'pssr2-monai[openvino]'")


class OpenVINONetwork:
    """A network on the processor, run by OpenVINO; it is compiled for every size of its input.

    Args:
        network: in evaluation mode.
        dtype: of its computations, ``torch.float32`` or ``torch.bfloat16``; the latter for all of the network, where
            torch's autocast keeps sums in float32, so that it differs by up to a grey level of 255.
        samples: inputs ``(1, frames, Y, X)`` of one size, from whose range the network's convolutions are quantised to
            8-bit integers (NNCF's quantisation after training); None leaves them as they are.
    """

    def __init__(
        self, network: torch.nn.Module, dtype: torch.dtype, samples: Sequence[torch.Tensor] | None = None
    ) -> None:
        check_openvino(samples is not None)
        self.network = network
        self.samples = samples
        self.options = {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype is torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._models: dict[tuple[int, ...], Any] = {}
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The network's output for ``(batch, frames, Y, X)``, in float32."""
        shape = tuple(image.shape)
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(image)
        restored = self._compiled[shape](image.contiguous().numpy())[0]
        return torch.from_numpy(restored)

    def _compile(self, image: torch.Tensor) -> Any:
        # The package by which it and NNCF report their use to their makers is left out.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        leading = tuple(image.shape[:-2])
        if leading not in self._models:
            # A small example is traced in a fraction of the time; the result is not bound to its size.
            example = torch.zeros(*leading, EXAMPLE_SIDE_PX, EXAMPLE_SIDE_PX)
            with torch.inference_mode(False), torch.no_grad():
                model = openvino.convert_model(self.network, example_input=example)
            if self.samples is not None:
                model = quantize(model, [sample[:1].expand(*leading[:1], -1, -1, -1) for sample in self.samples])
            self._models[leading] = model
        model = self._models[leading].clone()
        model.reshape(list(image.shape))
        return openvino.Core().compile_model(model, "CPU", self.options)


def quantize(model: Any, samples: Sequence[torch.Tensor]) -> Any:
    """Quantise the convolutions of an OpenVINO model to 8-bit integers, with ranges from samples."""
    logger_class = logging.getLoggerClass()
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    logging.setLoggerClass(logger_class)  # which NNCF changes for all packages
    # Its set_log_level also changes handlers that others share with it, which would then leave out our warnings.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model.reshape(list(samples[0].shape))
    # What is brighter or darker than all samples must not be clipped: by default ranges are the mean of the samples'.
    inputs = nncf.Dataset([sample.contiguous().numpy() for sample in (*samples, *map(_stretch, samples))])
    ranges = AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)
    mixed = nncf.QuantizationPreset.MIXED  # not all activations are positive
    with redirect_stdout(io.StringIO()):
        return nncf.quantize(model, inputs, preset=mixed, subset_size=2 * len(samples), advanced_parameters=ranges)


def _stretch(sample: torch.Tensor) -> torch.Tensor:
    """Stretch the contrast from black to white; return noise where there is no contrast."""
    low, high = sample.min(), sample.max()
    if low == high:
        return torch.rand(sample.shape, generator=torch.Generator().manual_seed(0))
    return (sample - low) / (high - low)
