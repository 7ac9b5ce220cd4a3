"""TorchScript: what torch and libtorch load without Python code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pssr2_monai.export.run import RECORD, Run, text

__all__ = ["read", "write"]


def write(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    """Scripted, not traced: a trace holds the sizes that it was made with."""
    torch.jit.save(torch.jit.script(network), str(path), _extra_files={RECORD: record})


def read(path: Path) -> tuple[Run, str]:
    """The file as a function, and its record; empty where there is none."""
    extra = {RECORD: ""}
    script = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    return script, text(extra[RECORD])
