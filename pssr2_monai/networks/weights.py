"""Files of weights with their record: find, read and write them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from pssr2_monai.bundle import bundle_dir
from pssr2_monai.errors import InputError, check_folder, nearest
from pssr2_monai.images.writer import written_atomically
from pssr2_monai.networks.original_weights import network_of_tensors
from pssr2_monai.networks.precision import channels_last
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.scaled import ScaledNetwork

RECORDED = {"model", "record"}
BUNDLED = {
    "em": "model.pt",  # the name that MONAI's model zoo asks for
    "em_2x": "em_2x.pt",
    "em_denoise": "em_denoise.pt",
    "fluo_denoise": "fluo_denoise.pt",
    "fluo_2x": "fluo_2x.pt",
}
BUNDLED_FOR = {
    "em": "electron micrographs, 4x",
    "em_2x": "electron micrographs, 2x",
    "em_denoise": "electron micrographs, noise alone",
    "fluo_denoise": "fluorescence, noise alone",
    "fluo_2x": "fluorescence, 2x",
}
"""What each of them is for."""
NOT_RECORDED = "holds no weights with a record; give a model.pt of a training"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a file of weights with its record; nothing in it is executed."""
    saved = _read_safely(path)
    if not saved.keys() >= RECORDED:
        raise InputError(f"{path}: {NOT_RECORDED}")
    return saved


def weights_file(path: str | Path) -> Path:
    """Return the path of weights: a file of the user's, or bundled weights by their name, such as ``em``."""
    bundled = bundle_dir() / "models" / BUNDLED.get(str(path), "")
    for file in (Path(path), bundled):
        if file.is_file():
            return file
    if str(path) in BUNDLED:
        raise InputError(f"{path}: {bundled} is missing; install the package anew, or give a model.pt of a training")
    suggestion = nearest(str(path), BUNDLED) or f"; give a model.pt of a training, or one of {', '.join(BUNDLED)}"
    raise InputError(f"{path}: there is no such file of weights{suggestion}")


def _read_safely(path: str | Path) -> dict[str, Any]:
    path = weights_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's notes on the pickle's version, ahead of the one line that matters
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file fails in many ways
        raise InputError(
            f"{path}: is not a file of weights that can be read safely; give a model.pt of a training, or a bare state "
            "dict of pssr 2.x"
        ) from error
    if not isinstance(saved, dict) or not saved:
        raise InputError(f"{path}: {NOT_RECORDED}")
    record = _record_next_to(path) if saved.keys().isdisjoint(RECORDED) else None
    return saved if record is None else {"model": saved, "record": record}


def _record_next_to(path: Path) -> dict[str, Any] | None:
    """Return the record that ``save_plain`` wrote next to weights; None if that file holds something else."""
    file = path.with_suffix(".json")
    if not file.is_file():  # a pipe or device would be read forever
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.keys() == {"version", "json"} else None


@contextmanager
def _limited_parameters(path: str | Path) -> Iterator[None]:
    """Refuse to build a network of more parameters than a file of weights holds, before they are filled."""
    largest = weights_file(path).stat().st_size
    count = 0  # with the bytes that each tensor takes besides its values, so that many small ones count, too

    def check(_: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel() + 50
        if count > largest + 200_000:
            raise InputError("describes a larger network than the file has weights for")

    hook = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


def load_weights(
    path: str | Path, device: torch.device | str = "cpu", **options: Any
) -> tuple[torch.nn.Module, Record]:
    """Load the network in evaluation mode with its weights, and their record.

    Args:
        path: a file that a training wrote (``model.pt``), a ``.pth`` of the original ``pssr`` package, or the bundled
            weights by their name, such as ``em``.
        device: where the network is to run.
        options: for a file of the original, arguments that its tensors do not determine; see ``networks.load_pssr2``.

    Returns:
        The network, from and to float32 ``(batch, frames, Y, X)`` in [0, 1], and the record: its scale, frames,
        intensity scale, crappifier and pixel size (micrometres).

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
        with _limited_parameters(path):
            network = record.build_network()
        try:
            network.load_state_dict(saved["model"])
        except Exception as error:  # torch raises errors of many types for what is not a state
            name = str(record.network["_target_"]).rpartition(".")[-1]
            raise InputError(f"{path}: the weights do not fit the {name} that their record describes") from error
        check_finite(network, path)
    else:
        network, arguments = _network_of_original(saved, path, options)
        scale, frames = max(network.scale), (network.in_channels, network.out_channels)
        record = Record(arguments, scale, frames, versions={"pssr": "2"})
        record.origin = str(path)
    return channels_last(network, device).eval(), record


def load_pssr2(path: str | Path, **options: Any) -> tuple[ScaledNetwork, dict[str, Any]]:
    """Load the network of a ``.pth`` file saved by ``pssr`` 2.x (ResUNet, ResUNetA, RDResUNet, RDResUNetA, SwinIR).

    Only tensors are read; pickled objects are refused and never run.

    Args:
        path: the file.
        options: what the tensors do not determine, unless it is the original's default: ``dilations`` (for each level),
            ``pool_sizes``, ``qk_scale``; ``scale`` of a SwinIR with "pixelshuffledirect". Any other argument of the
            network may be given too, and must then agree with the weights.

    Returns:
        The network in evaluation mode, and what a record has of it: ``{"_target_": ..., "scale": ..., "in_channels":
        ...}``, all arguments as plain numbers, strings and lists.

    Raises:
        InputError: no such file; not a state dict; of another package; tensors missing, left over or of other shapes;
            an option that the weights do not have.
    """
    return _network_of_original(_read_safely(path), path, options)


def _network_of_original(
    saved: Mapping[str, Any], path: str | Path, options: Mapping[str, Any]
) -> tuple[ScaledNetwork, dict[str, Any]]:
    with _limited_parameters(path):
        network, arguments = network_of_tensors(saved, path, options)
    check_finite(network, path)
    return network, arguments


def check_finite(network: torch.nn.Module, path: str | Path) -> None:
    """Refuse weights with NaN or infinities: a network with them restores black images, or others without meaning."""
    for name, tensor in network.state_dict().items():
        if count := int(tensor.numel() - torch.isfinite(tensor).sum()):
            raise InputError(
                f"{path}: {count} of the {tensor.numel()} values of {name} are not finite; give weights from before "
                "the training failed"
            )


def convert(original: str | Path, target: str | Path, **options: Any) -> Path:
    """Turn weights of the original ``pssr`` package into a ``model.pt``.

    Args:
        original: a ``.pth`` that pssr 2.x saved: ResUNet, ResUNetA, RDResUNet, RDResUNetA or SwinIR.
        target: the ``model.pt`` to write; ``restore`` also takes the original as it is.
        options: see ``networks.load_pssr2``.

    Raises:
        InputError: the file is not of the original, or the target exists.
    """
    target = Path(target)
    if target.exists():
        raise InputError(f"{target}: exists already; give another name")
    check_folder(target.parent)
    network, record = load_weights(original, **options)
    save_atomically({"model": network.state_dict(), "record": record.state_dict()}, target)
    return target


def save_plain(weights: str | Path, target: str | Path) -> None:
    """Write weights as a plain state dict, with their record next to it in a ``.json`` of the same name.

    The tools of MONAI's model zoo need this form, as they load the whole file; `load_weights` reads both.
    """
    saved, target = read_checkpoint(weights), Path(target)
    with written_atomically(target.with_suffix(".json")) as part:
        part.write_text(json.dumps(saved["record"]), encoding="utf-8")
    save_atomically(saved["model"], target)


def save_atomically(content: Mapping[str, Any], path: Path) -> None:
    """Save with torch so that the path holds a complete file at any time."""
    with written_atomically(path) as part:
        torch.save(dict(content), part)
