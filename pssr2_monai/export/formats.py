"""Which formats there are, how each is written and read, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from pssr2_monai.errors import InputError

RECORD = "record.json"
"""The name of the record inside a file: an extra file of torch's formats, a property of ONNX's metadata."""
Run = Callable[[Tensor], Tensor]


def text(found: str | bytes) -> str:
    """What torch gives for an extra file, which it was given as a string."""
    return found.decode() if isinstance(found, bytes) else found


def write_torch_export(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    """Writes the exported program; `network` is changed."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv3d) and module.out_channels == 1:
            network.set_submodule(name, _OneChannel(module))
    torch.export.save(program(network, image, axes), path, extra_files={RECORD: record})


def read_torch_export(path: Path) -> tuple[Run, str]:
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


OPSET = 18
"""The one that torch's exporter is written for, which ONNX Runtime takes since 1.14."""


def write_onnx(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
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


def read_onnx(path: Path) -> tuple[Run, str]:
    """The file as a function, and its record; empty where there is none."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is told by the exception
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map.get(RECORD, "")


def write_torchscript(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    """Scripted, not traced: a trace holds the sizes that it was made with."""
    torch.jit.save(torch.jit.script(network), str(path), _extra_files={RECORD: record})


def read_torchscript(path: Path) -> tuple[Run, str]:
    """The file as a function, and its record; empty where there is none."""
    extra = {RECORD: ""}
    script = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    return script, text(extra[RECORD])


@dataclass(frozen=True)
class Format:
    """A kind of file: how it is written from a network, an image, its free axes and a record, and read again."""

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, dict[int, str], Path, str], None]
    read: Callable[[Path], tuple[Run, str]]


ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMATS = {
    "torchscript": Format(".ts", (), write_torchscript, read_torchscript),
    "torch_export": Format(".pt2", (), write_torch_export, read_torch_export),
    "onnx": Format(".onnx", ONNX, write_onnx, read_onnx),
}
"""The single files by the names of their formats; they take and give values in [0, 1]."""
BIOIMAGEIO = "bioimageio"
"""The package of such files and their description, which takes and gives grey levels."""
_SUFFIXES = {name: each.suffix for name, each in FORMATS.items()} | {BIOIMAGEIO: ".zip"}
_NEEDS = {name: each.needs for name, each in FORMATS.items()} | {BIOIMAGEIO: ("bioimageio.core", *ONNX)}
_EXTRAS = {"onnx": "export", BIOIMAGEIO: "bioimageio"}


def format_of(path: Path, format: str | None) -> str:
    """The name of a file's format: as given, or as its suffix says.

    Raises:
        InputError: there is none, or its packages are not installed.
    """
    if format is None:
        format = next((name for name, suffix in _SUFFIXES.items() if suffix == path.suffix), None)
        if format is None:
            suffixes = ", ".join(_SUFFIXES.values())
            raise InputError(f"{path}: {path.suffix or 'no suffix'} names no format; use {suffixes}, or give --format")
    if format not in _SUFFIXES:
        raise InputError(f"--format {format}: there is no such format; use {', '.join(_SUFFIXES)}")
    missing = [package for package in _NEEDS[format] if not _is_installed(package)]
    if missing:
        install = f"pip install 'pssr2-monai[{_EXTRAS[format]}]'"
        raise InputError(f"--format {format}: {', '.join(missing)} missing; install with {install}")
    return format


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of what it is part of
        return False
