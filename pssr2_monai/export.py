"""Networks as files that run without this package: TorchScript, torch.export and ONNX, each checked by running it."""

from __future__ import annotations

import json
import logging
import os
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

from pssr2_monai.axes import is_volume
from pssr2_monai.errors import InputError
from pssr2_monai.record import Record, load_weights

__all__ = ["FORMATS", "Exported", "export", "load_export"]

TOLERANCE = 0.01
"""The largest difference from the network, in grey levels of 255, that a file may have."""

RECORD = "record.json"
"""The name of the record inside a file: an extra file of torch's formats, a property of ONNX's metadata."""

OPSET = 18
"""Of ONNX: the one that torch's exporter is written for, which ONNX Runtime takes since 1.14."""

SHAPES = ((1, 1, 8, 8), (1, 3, 9, 31), (3, 6, 40, 17), (2, 4, 64, 96))
"""Batch, depth, height and width of what a file is tried with; the last is what it is made with."""

Run = Callable[[Tensor], Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it agrees with the network.

    Attributes:
        path: the file.
        format: a key of `FORMATS`.
        difference: the largest from the network's own output, in grey levels of 255.
        shapes: the inputs that both were given.
    """

    path: Path
    format: str
    difference: float
    shapes: list[tuple[int, ...]]


def export(weights: str | Path, target: str | Path, format: str | None = None) -> Exported:
    """Writes a network with its record as a file that runs elsewhere, for any batch, height and width.

    The input is float32, ``(batch, frames, Y, X)`` in [0, 1], named ``image``; the output ``pred`` likewise, `scale`
    times the size. A volume's depth, its frames, is free too. The file is loaded again and run beside the network at
    several sizes, the smallest among them, before it gets its name: a file that exists was checked.

    Args:
        weights: a ``model.pt`` of a training, or a ``.pth`` of the original ``pssr`` package.
        target: the file to write; its suffix names the format.
        format: ``torchscript`` (.ts), ``torch_export`` (.pt2) or ``onnx`` (.onnx); None for what the suffix says.

    Raises:
        InputError: an unknown format, a target that exists, packages that are missing, weights that cannot be read
            or exported, or a file that gives other values than the network.

    Example:
        >>> export("run/model.pt", "model.onnx").difference  # doctest: +SKIP
        4.6e-05
    """
    target = Path(target)
    kind = _format(target, format)
    if target.exists():
        raise InputError(f"{target}: exists already; give another name")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    network, record = load_weights(weights)
    logger.info("writing %s as %s; a large network takes minutes", target, kind)
    cases = _cases(network, record, weights)
    # torch wants its suffix, and whoever finds the file must see that it is not whole.
    beside = target.with_name(f"{target.name}.part{FORMATS[kind].suffix}")
    try:
        try:
            with _quiet(), torch.no_grad():
                FORMATS[kind].write(deepcopy(network), cases[-1][0], _axes(record), beside, _json(record))
                logger.info("running it beside the network")
                difference = _largest_difference(load_export(beside, kind)[0], cases)
        except Exception as error:  # what an exporter cannot follow fails in many ways
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{weights}: its network cannot be exported as {kind}, try another format: {reason}"
            ) from error
        if not difference <= TOLERANCE:  # so that NaN is refused, too
            raise InputError(
                f"{weights}: as {kind} it differs from the network by {difference:.3g} grey levels of 255, more than "
                f"{TOLERANCE}; nothing was written"
            )
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return Exported(target, kind, difference, [tuple(image.shape) for image, _ in cases])


def load_export(path: str | Path, format: str | None = None) -> tuple[Run, Record]:
    """What `export` wrote, as a function from images to restored images on the processor, and its record.

    Raises:
        InputError: no such file, an unknown format, missing packages, or a file without a record.
    """
    path = Path(path)
    kind = _format(path, format)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with _quiet():
            run, record = FORMATS[kind].read(path)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{path}: is no {kind} file that can be read; give one that `pssr2 export` wrote") from error
    if not record:
        raise InputError(f"{path}: holds no record; give a file that `pssr2 export` wrote")
    return run, Record.from_state(json.loads(record), str(path))


def _format(path: Path, format: str | None) -> str:
    """The key of `FORMATS` for a file.

    Raises:
        InputError: there is none, or its packages are not installed.
    """
    if format is None:
        format = next((name for name, each in FORMATS.items() if each.suffix == path.suffix), None)
        if format is None:
            suffixes = ", ".join(each.suffix for each in FORMATS.values())
            raise InputError(f"{path}: {path.suffix or 'no suffix'} names no format; use {suffixes}, or give --format")
    if format not in FORMATS:
        raise InputError(f"--format {format}: there is no such format; use {', '.join(FORMATS)}")
    missing = [package for package in FORMATS[format].needs if find_spec(package) is None]
    if missing:
        raise InputError(
            f"--format {format}: {', '.join(missing)} missing; install with pip install 'pssr2-monai[export]'"
        )
    return format


def _cases(network: nn.Module, record: Record, weights: str | Path) -> list[tuple[Tensor, Tensor]]:
    """Random images and what the network makes of them, at the sizes that it takes.

    The networks here take every size; one of another package may want multiples of some number.
    """
    random = torch.Generator().manual_seed(0)
    cases: list[tuple[Tensor, Tensor]] = []
    reason = "its output is not a tensor"
    for batch, depth, height, width in SHAPES:
        frames = depth if is_volume(record.scale) else record.n_frames[0]
        image = torch.rand(batch, frames, height, width, generator=random)
        try:
            with torch.inference_mode():
                pred = network(image)
        except Exception as error:  # of a network that may be anybody's
            reason = " ".join(str(error).split())[:200]
        else:
            cases += [(image, pred)] if isinstance(pred, Tensor) else []
    if not cases:
        raise InputError(f"{weights}: its network takes no images of 8x8 to 64x96 px: {reason}")
    return cases


def _largest_difference(run: Run, cases: list[tuple[Tensor, Tensor]]) -> float:
    """Of what `run` gives from what it should, in grey levels of 255; infinite for another size, NaN where one is."""
    found = []
    for image, pred in cases:
        given = run(image)
        found.append((given - pred).abs().max() * 255 if given.shape == pred.shape else torch.tensor(torch.inf))
    return float(torch.stack(found).max())


def _axes(record: Record) -> dict[int, str]:
    """The names of the axes that may have any length."""
    frames = {1: "depth"} if is_volume(record.scale) else {}
    return {0: "batch", **frames, 2: "height", 3: "width"}


def _json(record: Record) -> str:
    return json.dumps(record.state_dict())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what torch says of itself: that TorchScript is deprecated, that torchvision is absent."""
    notes = logging.getLogger("torch.onnx")
    level = notes.level
    notes.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        notes.setLevel(level)


def _write_torchscript(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    # Scripted, not traced: a trace holds the sizes that it was made with.
    torch.jit.save(torch.jit.script(network), str(path), _extra_files={RECORD: record})


def _read_torchscript(path: Path) -> tuple[Run, str]:
    extra = {RECORD: ""}
    script = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    return script, _text(extra[RECORD])


def _write_torch_export(network: nn.Module, image: Tensor, axes: dict[int, str], path: Path, record: str) -> None:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv3d) and module.out_channels == 1:
            network.set_submodule(name, _OneChannel(module))
    torch.export.save(_program(network, image, axes), path, extra_files={RECORD: record})


def _read_torch_export(path: Path) -> tuple[Run, str]:
    extra = {RECORD: ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), _text(extra[RECORD])


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
    assert exported is not None  # None is for the exporter of before dynamo
    exported.model.metadata_props[RECORD] = record
    exported.save(path, external_data=False)


def _read_onnx(path: Path) -> tuple[Run, str]:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is told by the exception
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])

    return run, session.get_modelmeta().custom_metadata_map.get(RECORD, "")


def _program(network: nn.Module, image: Tensor, axes: dict[int, str]) -> torch.export.ExportedProgram:
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


def _text(found: str | bytes) -> str:
    return found.decode() if isinstance(found, bytes) else found


@dataclass(frozen=True)
class Format:
    """A kind of file: how it is written from a network, an image, its free axes and a record, and read again."""

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, dict[int, str], Path, str], None]
    read: Callable[[Path], tuple[Run, str]]


FORMATS = {
    "torchscript": Format(".ts", (), _write_torchscript, _read_torchscript),
    "torch_export": Format(".pt2", (), _write_torch_export, _read_torch_export),
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
}
"""The formats by their names."""
