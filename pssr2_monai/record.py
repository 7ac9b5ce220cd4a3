"""The record that travels with weights: all that restoring needs to know, so that one file is enough."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pydoc import locate
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser
from monai.transforms import Transform

import pssr2_monai
from pssr2_monai.axes import lr_hr_frames
from pssr2_monai.errors import InputError
from pssr2_monai.intensity import IntensitySettings
from pssr2_monai.networks import load_pssr2
from pssr2_monai.precision import channels_last
from pssr2_monai.presets import bundle_dir, nearest

__all__ = [
    "Record",
    "convert",
    "instantiate",
    "load_weights",
    "read_checkpoint",
    "record_of_config",
    "resolving_parser",
    "same_training",
    "save_atomically",
    "save_plain",
    "weights_file",
]

RECORD_VERSION = 1
RECORDED = {"model", "record"}
BROUGHT = {"em": "model.pt", "em_denoise": "denoise.pt"}
"""Weights that the bundle brings along, by the name of the preset that they were trained with."""


@dataclass
class Record:
    """What was trained, and on what.

    Attributes:
        network: dotted name under ``_target_``, and the arguments.
        scale: HR size over LR size: one number, or for volumes one for each of Z, Y and X.
        n_frames: (LR, HR) frames of a sample.
        stack: order of T and Z.
        intensity: how pixel values became [0, 1].
        crappifier: the crappifier's configuration; empty for training on real pairs.
        pixel_size: micrometres per axis of the HR images, as far as known.
        versions: of the packages that trained it.
    """

    network: dict[str, Any]
    scale: int | list[int]
    n_frames: tuple[int, int] = (1, 1)
    stack: str = "TZ"
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    crappifier: dict[str, Any] = field(default_factory=dict)
    pixel_size: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, which ``torch.load(weights_only=True)`` takes."""
        return {"version": RECORD_VERSION, "json": json.dumps(asdict(self))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """A resumed training keeps the record of its own configuration; there is nothing to take over."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any], name: str) -> Record:
        """The record that ``state_dict`` wrote.

        Raises:
            InputError: it was written by a later release.
        """
        if state["version"] > RECORD_VERSION:
            raise InputError(f"{name}: was written by a later release of pssr2-monai; update the package")
        fields = json.loads(state["json"])
        fields["n_frames"] = tuple(fields["n_frames"])
        fields["intensity"] = IntensitySettings(**fields["intensity"])
        return cls(**fields)


def record_of_config(
    scale: int | Sequence[int],
    n_frames: int | Sequence[int],
    stack: str,
    intensity: IntensitySettings,
    pixel_size: Mapping[str, float],
    crappified: bool = True,
) -> Record:
    """The record of the training that the bundle's config describes; to be called from within a config.

    A config expression sees objects, not the configuration they were made from; that is read from the parser that is
    resolving the expression, so that any network named by ``_target_`` is recorded, not this package's alone.

    Args:
        scale: HR size over LR size, one number or one for each of Z, Y and X.
        n_frames: HR frames of a sample, or ``[LR, HR]``.
        stack: order of T and Z.
        intensity: how pixel values became [0, 1].
        pixel_size: micrometres per axis of the HR images, as far as known.
        crappified: whether the config's crappifier made the inputs, rather than a microscope.

    Raises:
        RuntimeError: no config is being resolved.
    """
    parser = resolving_parser()
    return Record(
        network=_resolved(parser, "network_def"),
        scale=list(scale) if isinstance(scale, Sequence) else scale,
        n_frames=lr_hr_frames(n_frames, scale),
        stack=stack,
        intensity=intensity,
        crappifier=_resolved(parser, "crappifier") if crappified else {},
        pixel_size=dict(pixel_size),
        versions={"pssr2_monai": pssr2_monai.__version__, "monai": monai.__version__, "torch": torch.__version__},
    )


def resolving_parser() -> ConfigParser:
    """The parser whose expression has called this, however far up.

    Raises:
        RuntimeError: no config is being resolved.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ConfigParser):
            parser: ConfigParser = frame.f_locals["self"]
            return parser
        frame = frame.f_back
    raise RuntimeError("this is for bundle configs: no ConfigParser is resolving one")


def _resolved(parser: ConfigParser, config_id: str) -> Any:
    """A section of the config with its references resolved but its components left as configuration."""
    raw = parser.get(config_id)
    if isinstance(raw, str) and raw.startswith("@"):
        return _resolved(parser, raw[1:])
    if isinstance(raw, Mapping):
        return {key: _resolved(parser, f"{config_id}::{key}") for key in raw if key not in ("_requires_", "_desc_")}
    if isinstance(raw, list):
        return [_resolved(parser, f"{config_id}::{number}") for number in range(len(raw))]
    return parser.get_parsed_content(config_id) if isinstance(raw, str) and raw.startswith("$") else raw


def same_training(saved: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two records' states describe trainings of which one can go on with the other's weights."""
    saved_fields, now_fields = json.loads(saved["json"]), json.loads(now["json"])
    alike = ("network", "scale", "n_frames", "stack", "intensity", "crappifier")
    return all(saved_fields[key] == now_fields[key] for key in alike)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a file of weights with its record; nothing in it is executed.

    Raises:
        InputError: the file is missing, is no checkpoint, or holds no record.
    """
    saved = _read_safely(path)
    if not saved.keys() >= RECORDED:
        raise InputError(f"{path}: holds no weights with a record; give a model.pt of a training")
    return saved


def weights_file(path: str | Path) -> Path:
    """The file of weights: one of the user's, or one that the bundle brings along by its name, ``em``.

    Raises:
        InputError: there is no such file, or the name is unknown.
    """
    brought = bundle_dir() / "models" / BROUGHT.get(str(path), "")
    found = next((each for each in (Path(path), brought) if each.is_file()), None)
    if found is None and str(path) in BROUGHT:
        raise InputError(f"{path}: {brought} is missing; install the package anew, or give a model.pt of a training")
    if found is None:
        near = nearest(str(path), BROUGHT) or f"; give a model.pt of a training, or {' or '.join(BROUGHT)}"
        raise InputError(f"{path}: there is no such file of weights{near}")
    return found


def _read_safely(path: str | Path) -> dict[str, Any]:
    path = weights_file(path)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: is no file of weights that can be read safely; give a model.pt of a training"
        ) from error
    if not isinstance(saved, dict):
        raise InputError(f"{path}: holds no weights with a record; give a model.pt of a training")
    record = _record_beside(path) if saved.keys().isdisjoint(RECORDED) else None
    return saved if record is None else {"model": saved, "record": record}


def _record_beside(path: Path) -> dict[str, Any] | None:
    """The record that ``save_plain`` wrote beside weights; another file of that name is none of ours."""
    try:
        found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() == {"version", "json"} else None


def instantiate(config: Any) -> Any:
    """What a recorded configuration describes: a network or a crappifier, with the transforms inside it.

    Unlike a bundle's config, which is a program, a record is data: it may name networks and transforms, and nothing
    else is called.

    Raises:
        InputError: a name that cannot be found, is neither network nor transform, or does not take the recorded
            arguments.
    """
    if isinstance(config, list):
        return [instantiate(each) for each in config]
    if not isinstance(config, Mapping) or "_target_" not in config:
        return config
    target = str(config["_target_"])
    root = target.partition(".")[0]
    # Looking a name up imports its module: only ours, torch's and MONAI's, or what the caller has imported itself.
    found = locate(target) if root in ("pssr2_monai", "torch", "monai") or root in sys.modules else None
    if not (isinstance(found, type) and issubclass(found, (torch.nn.Module, Transform))):
        raise InputError(
            f"record: {target!r} is not the dotted name of a network or transform; import its package first"
        )
    try:
        return found(**{key: instantiate(value) for key, value in config.items() if not key.startswith("_")})
    except TypeError as error:
        raise InputError(f"record: {target} does not take the recorded arguments: {error}") from error


def load_weights(
    path: str | Path, device: torch.device | str = "cpu", **options: Any
) -> tuple[torch.nn.Module, Record]:
    """The network in evaluation mode with its weights, and their record.

    Args:
        path: a file that a training wrote (``model.pt``), a ``.pth`` of the original ``pssr`` package, or ``em`` or
            ``em_denoise``, which the bundle brings along.
        device: where the network is to run.
        options: for an original's file, what its tensors do not tell; see ``networks.load_pssr2``.

    Returns:
        The network, which takes and gives float32 ``(batch, frames, Y, X)`` in [0, 1], and the record: its scale,
        frames, intensity scale, crappifier and pixel size (micrometres).

    Raises:
        InputError: the file cannot be read, or its weights do not fit the network that its record names.

    Example:
        >>> network, record = load_weights("run/model.pt")
        >>> network(torch.zeros(1, 1, 24, 31)).shape, record.scale, record.n_frames
        (torch.Size([1, 1, 96, 124]), 4, (1, 1))
    """
    saved = _read_safely(path)
    if saved.keys() >= RECORDED:
        record = Record.from_state(saved["record"], str(path))
        network: torch.nn.Module = instantiate(record.network)
        try:
            network.load_state_dict(saved["model"])
        except RuntimeError as error:
            name = str(record.network.get("_target_")).rsplit(".", 1)[-1]
            raise InputError(f"{path}: the weights do not fit the {name} that their record describes") from error
    elif not all(isinstance(each, torch.Tensor) for each in saved.values()):
        raise InputError(f"{path}: holds no weights with a record; give a model.pt of a training")
    else:
        network, arguments = load_pssr2(path, **options)
        scale, frames = max(network.scale), (network.in_channels, network.out_channels)
        record = Record(arguments, scale, frames, versions={"pssr": "2"})
    return channels_last(network, device).eval(), record


def convert(original: str | Path, target: str | Path, **options: Any) -> Path:
    """Writes the weights of an original ``.pth`` file with a record, as a training of this package would.

    Args:
        original: a ``.pth`` of the ``pssr`` package.
        target: the ``model.pt`` to write.
        options: see ``networks.load_pssr2``.

    Raises:
        InputError: the file is not one of the original's, or the target exists.
    """
    target = Path(target)
    if target.exists():
        raise InputError(f"{target}: exists already; give another name")
    network, record = load_weights(original, **options)
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, target)
    return target


def save_plain(weights: str | Path, target: str | Path) -> None:
    """Writes weights as a plain state dict, with their record beside it in a ``.json`` of the same name.

    So MONAI's model zoo takes them, whose tools load what they find without a key; `load_weights` reads both.

    Raises:
        InputError: see `read_checkpoint`.
    """
    saved, target = read_checkpoint(weights), Path(target)
    target.with_suffix(".json").write_text(json.dumps(saved["record"]), encoding="utf-8")
    save_atomically(saved["model"], target)


def save_atomically(content: Mapping[str, Any], path: Path) -> None:
    """``torch.save`` beside the file and a rename, so that the path always holds a whole file."""
    beside = path.with_name(path.name + ".part")
    torch.save(dict(content), beside)
    os.replace(beside, path)
