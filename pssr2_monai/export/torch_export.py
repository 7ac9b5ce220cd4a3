"""``torch.export``: the graph of a network with sizes that are free."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from pssr2_monai.export.run import RECORD, Run, text

__all__ = ["program", "read", "write"]


def write(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    """Writes the exported program; `network` is changed."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv3d) and module.out_channels == 1:
            network.set_submodule(name, _OneChannel(module))
    torch.export.save(program(network, image, axes), path, extra_files={RECORD: record})


def read(path: Path) -> tuple[Run, str]:
    """The file as a function, and its record; empty where there is none."""
    extra = {RECORD: ""}
    loaded = torch.export.load(path, extra_files=extra)
    return loaded.module(), text(extra[RECORD])


def program(network: nn.Module, image: Tensor, axes: dict[int, str]) -> torch.export.ExportedProgram:
    """The exported program, whose named axes may have any length, one included."""
    from torch.fx.experimental import _config

    dynamic = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    # Weights with the channels last would make the program ask for the order of the image's memory, too.
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    # Else an axis that is longer than one here, however deep inside, must be so for ever.
    with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(network, (image,), dynamic_shapes=(dynamic,))


class _OneChannel(nn.Module):
    """A 3-D convolution to one channel as the first of two.

    Of one channel the order of memory cannot be told, and an exported program decides it by a batch of more than one.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.conv = deepcopy(conv)
        self.conv.out_channels = 2
        self.conv.weight = nn.Parameter(torch.cat([conv.weight, torch.zeros_like(conv.weight)]))
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(torch.cat([conv.bias, torch.zeros_like(conv.bias)]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.narrow(1, 0, 1)
