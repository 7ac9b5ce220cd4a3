"""Which formats there are, how each is written and read, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from pssr2_monai.errors import InputError
from pssr2_monai.export import onnx, torch_export, torchscript
from pssr2_monai.export.run import Run

__all__ = ["BIOIMAGEIO", "FORMATS", "Format", "format_of"]


@dataclass(frozen=True)
class Format:
    """A kind of file: how it is written from a network, an image, its free axes and a record, and read again."""

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, dict[int, str], Path, str], None]
    read: Callable[[Path], tuple[Run, str]]


ONNX = ("onnx", "onnxscript", "onnxruntime")

FORMATS = {
    "torchscript": Format(".ts", (), torchscript.write, torchscript.read),
    "torch_export": Format(".pt2", (), torch_export.write, torch_export.read),
    "onnx": Format(".onnx", ONNX, onnx.write, onnx.read),
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
