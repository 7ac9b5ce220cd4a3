"""ONNX: what ONNX Runtime and others load, by way of ``torch.export``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from pssr2_monai.export.run import RECORD, Run
from pssr2_monai.export.torch_export import program

__all__ = ["OPSET", "read", "write"]

OPSET = 18
"""The one that torch's exporter is written for, which ONNX Runtime takes since 1.14."""


def write(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    """Writes one file with the weights inside."""
    exported = torch.onnx.export(
        program(network, image, axes),
        (image,),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["pred"],
        dynamic_shapes=(axes,),
        opset_version=OPSET,
    )
    assert exported is not None  # None is for the exporter of before dynamo
    exported.model.metadata_props[RECORD] = record
    exported.save(path, external_data=False)


def read(path: Path) -> tuple[Run, str]:
    """The file as a function, and its record; empty where there is none."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is told by the exception
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map.get(RECORD, "")
