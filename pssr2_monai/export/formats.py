"""The single-file formats: writing a network, reading it back, and comparing both."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.images.axes import is_volume
from pssr2_monai.networks.record import Record

RECORD = "record.json"
"""The name of the record inside a file: an extra file of torch's formats, a property of ONNX's metadata."""
OPSET = 18  # the ONNX operator set that torch's exporter is written for; ONNX Runtime has it since 1.14
TOLERANCE = 0.01  # largest accepted difference of a file's output from the network's, in grey levels of 255
CASE_SHAPES = ((1, 1, 8, 8), (1, 3, 9, 31), (3, 6, 40, 17), (2, 4, 64, 96))
"""Batch, depth, height and width of the images that files are tested with; the last one is the exporters' example."""
Run = Callable[[Tensor], Tensor]
Case = tuple[Tensor, Tensor]  # an image and the network's output


@dataclass(frozen=True)
class Format:
    """A kind of file: how it is written from a network, an image, its free axes and a record, and how it is read."""

    suffix: str
    packages: tuple[str, ...]  # needed in addition to torch
    extra: str  # of this package, which installs them
    write: Callable[[nn.Module, Tensor, dict[int, str], Path, str], None]
    read: Callable[[Path], tuple[Run, str]]  # the record is empty where the file has none


def _write_torch_export(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv3d) and module.out_channels == 1:
            network.set_submodule(name, _OneChannel(module))
    torch.export.save(_program(network, image, axes), path, extra_files={RECORD: record})


def _read_torch_export(path: Path) -> tuple[Run, str]:
    extra = {RECORD: ""}
    return torch.export.load(path, extra_files=extra).module(), extra[RECORD]


def _program(network: nn.Module, image: Tensor, axes: dict[int, str]) -> torch.export.ExportedProgram:
    """Export a network as a program whose named axes may have any length, including one."""
    from torch.fx.experimental import _config

    dynamic = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    # With channels-last weights the program would require that memory order of the image, too.
    network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    # Otherwise an axis that is longer than one here, however deep inside, must always be.
    with _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(network, (image,), dynamic_shapes=(dynamic,))


class _OneChannel(nn.Module):
    """A 3-D convolution to one channel as the first channel of two.

    The memory order of a single channel is ambiguous, and an exported program decides it by a batch of more than one.
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


def _write_onnx(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    exported = torch.onnx.export(
        _program(network, image, axes),
        (image,),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=["pred"],
        dynamic_shapes=(axes,),
        opset_version=OPSET,
    )
    assert exported is not None  # only the exporter without dynamo returns None
    exported.model.metadata_props[RECORD] = record
    exported.save(path, external_data=False)


def _read_onnx(path: Path) -> tuple[Run, str]:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; they need not be logged as well
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map.get(RECORD, "")


def _write_torchscript(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    """Write the scripted network; a traced one would keep the sizes of the example."""
    torch.jit.save(torch.jit.script(network), str(path), _extra_files={RECORD: record})


def _read_torchscript(path: Path) -> tuple[Run, str]:
    extra = {RECORD: b""}
    script = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    return script, extra[RECORD].decode()


ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FORMATS = {
    "torchscript": Format(".ts", (), "", _write_torchscript, _read_torchscript),
    "torch_export": Format(".pt2", (), "", _write_torch_export, _read_torch_export),
    "onnx": Format(".onnx", ONNX_PACKAGES, "export", _write_onnx, _read_onnx),
}
"""The single-file formats by name; their files take and return values in [0, 1]."""
BIOIMAGEIO = "bioimageio"
"""The name of the package of such files with a description, which takes and returns grey levels."""
SUFFIXES = {name: kind.suffix for name, kind in FORMATS.items()} | {BIOIMAGEIO: ".zip"}


def format_of(path: Path, format: str | None) -> str:
    """Return the name of a file's format: the given one, or the one of its suffix; its packages must be installed."""
    if format is None:
        format = next((name for name, suffix in SUFFIXES.items() if suffix == path.suffix), None)
        if format is None:
            suffixes = ", ".join(SUFFIXES.values())
            raise InputError(f"{path}: {path.suffix or 'no suffix'} names no format; use {suffixes}, or give --format")
    if format not in SUFFIXES:
        raise InputError(f"--format {format}: there is no such format; use {', '.join(SUFFIXES)}")
    packages: tuple[str, ...] = ("bioimageio.core", *ONNX_PACKAGES)
    extra = BIOIMAGEIO
    if format in FORMATS:
        packages, extra = FORMATS[format].packages, FORMATS[format].extra
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        install = f"pip install 'pssr2-monai[{extra}]'"
        raise InputError(f"--format {format}: {', '.join(missing)} missing; install with {install}")
    return format


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def make_cases(network: nn.Module, record: Record, name: str) -> list[Case]:
    """Run a network on random images of all ``CASE_SHAPES`` that it accepts.

    The networks of this package accept every size; those of other packages may need multiples of some number.
    """
    random = torch.Generator().manual_seed(0)
    cases: list[Case] = []
    reason = "its output is not a tensor"
    for batch, depth, height, width in CASE_SHAPES:
        frames = depth if is_volume(record.scale) else record.n_frames[0]
        image = torch.rand(batch, frames, height, width, generator=random)
        try:
            with torch.inference_mode():
                pred = network(image)
        except Exception as error:  # the network may be anybody's
            reason = one_line(error)
        else:
            cases += [(image, pred)] if isinstance(pred, Tensor) else []
    if not cases:
        raise InputError(f"{name}: its network takes no images of 8x8 to 64x96 px: {reason}")
    return cases


def largest_difference(run: Run, cases: list[Case]) -> float:
    """Return the largest difference between outputs; infinite where a shape differs, NaN where a value is NaN."""
    outputs = [(run(image), pred) for image, pred in cases]
    if any(output.shape != pred.shape for output, pred in outputs):
        return float("inf")
    return float(torch.stack([(output - pred).abs().max() for output, pred in outputs]).max())


@contextmanager
def without_torch_messages() -> Iterator[None]:
    """Suppress torch's messages about itself, such as that TorchScript is deprecated or torchvision absent."""
    onnx_logger = logging.getLogger("torch.onnx")
    level = onnx_logger.level
    onnx_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        onnx_logger.setLevel(level)
