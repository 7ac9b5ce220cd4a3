"""Weights of the original ``pssr`` package (2.x), read into the networks here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pssr2_monai.errors import InputError
from pssr2_monai.networks.pssr2_arguments import Shapes, recognise
from pssr2_monai.networks.scaled import ScaledNetwork

__all__ = ["load_pssr2"]

FREE = ("dilations", "pool_sizes", "qk_scale")
"""What no tensor tells; `load_pssr2` takes these as options."""

# Buffers that the original saves and that follow from the arguments.
DERIVED = re.compile(r"\.(attn_mask|attn\.relative_position_index)$")

UNET_NAMES: list[tuple[str, Callable[[re.Match[str]], str] | str]] = [
    (r"\.conv\.(\d+)\.conv\.", lambda m: f".conv.{3 * int(m[1])}."),
    (r"\.conv\.(\d+)\.adn\.N\.", lambda m: f".conv.{3 * int(m[1]) + 1}."),
    (r"\.residual\.", ".respass."),
    (r"\.branches\.", ".dilations."),
    (r"_pool\.out\.0\.", "_pool.conv_out."),
    (r"_pool\.out\.1\.", "_pool.norm_out."),
    (r"^encoder\.stem\.", "encoder.stem.stem."),
    (r"^(encoder\.stages.*)\.layers\.", r"\1.layers.layers."),
    (r"^encoder\.stages\.(\d+)\.transition\.", r"encoder.dense_stages.\1."),
    (r"^encoder\.stages\.0\.blocks\.(\d+)\.", r"encoder.dense_stages.0.0.dense_block\1."),
    (r"^encoder\.stages\.(\d+)\.blocks\.(\d+)\.", r"encoder.dense_stages.\1.2.dense_block\2."),
]
SWINIR_NAMES: list[tuple[str, Callable[[re.Match[str]], str] | str]] = [
    (r"^first\.", "conv_first."),
    (r"^patch_norm\.", "patch_embed.norm."),
    (r"^after_body\.", "conv_after_body."),
    (r"^groups\.(\d+)\.blocks\.", r"layers.\1.residual_group.blocks."),
    (r"^groups\.(\d+)\.conv\.", r"layers.\1.conv."),
    (r"\.attention\.bias_table$", ".attn.relative_position_bias_table"),
    (r"\.attention\.", ".attn."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
    (r"^reconstruction\.0\.0\.", "conv_before_upsample.0."),
    (r"^reconstruction\.1\.steps\.(\d+)\.1\.", lambda m: f"conv_up{int(m[1]) + 1}."),
    (r"^reconstruction\.1\.conv\.", "conv_hr."),
    (r"^reconstruction\.1\.", "upsample."),
    (r"^reconstruction\.2\.", "conv_last."),
]
# Where the reconstruction is a single convolution.
SINGLE = {"pixelshuffledirect": "upsample.0.", "": "conv_last."}


def load_pssr2(path: str | Path, **options: Any) -> tuple[ScaledNetwork, dict[str, Any]]:
    """The network of a ``.pth`` file saved by ``pssr`` 2.x (ResUNet, ResUNetA, RDResUNet, RDResUNetA, SwinIR).

    Only tensors are read; pickled objects are refused and never run.

    Args:
        path: the file.
        options: what the tensors do not tell, where it is not the original's default: ``dilations`` (for each level),
            ``pool_sizes``, ``qk_scale``; ``scale`` of a SwinIR with "pixelshuffledirect". Any other argument of the
            network may be given too, and must then agree with the weights.

    Returns:
        The network in evaluation mode, and what builds it: ``{"_target_": ..., "scale": ..., "in_channels": ...}``,
        all arguments as plain numbers, strings and lists.

    Raises:
        InputError: no such file; not a state dict; of another package; tensors missing, left over or of other shapes;
            an option that the weights do not have.
    """
    tensors = _read(Path(path))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        kind, arguments = recognise(shapes, options)
        _apply(options, arguments)
        network = kind(**arguments)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    ours = network.state_dict()
    names = {_original_name(name, arguments): name for name in ours}
    _compare(path, {theirs: tuple(ours[name].shape) for theirs, name in names.items()}, shapes)
    network.load_state_dict({name: tensors[theirs] for theirs, name in names.items()})
    return network.eval(), {"_target_": f"pssr2_monai.networks.{kind.__name__}", **arguments}


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names, and nothing else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's notes on the pickle's version, ahead of the one line that matters
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a .pth file of the pssr package") from None
    except Exception:  # a damaged or hostile file fails in many ways
        raise InputError(
            f"{path}: not a file of tensors (pickled objects are refused unread); save the model's state_dict()"
        ) from None
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict; save the model's state_dict()")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(
                f"{path}: {name!r} is a {type(tensor).__name__}, not a tensor; give a bare state dict of pssr"
            )
    return dict(content)


def _apply(options: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    """Put `options` in the place of what the tensors do not tell, and refuse those that contradict the tensors."""
    for name, value in options.items():
        if name not in arguments:
            raise InputError(f"{name}: no argument of this network; give some of {', '.join(arguments)}")
        if name in FREE and (arguments[name] is not None or name == "qk_scale"):
            arguments[name] = value
        elif arguments[name] != (list(value) if isinstance(value, tuple) else value):
            raise InputError(f"{name}: the weights are for {arguments[name]}, not for {value}")
    for name in ("dilations", "pool_sizes"):
        if 0 in _flat(arguments.get(name)):
            raise InputError(f"{name}: the tensors do not tell them and there is no default; give {name}=[...]")


def _flat(value: Any) -> list[Any]:
    return [entry for part in value for entry in _flat(part)] if isinstance(value, (list, tuple)) else [value]


def _original_name(name: str, arguments: Mapping[str, Any]) -> str:
    """What the original package calls a tensor of ours."""
    if "window" not in arguments:
        for pattern, theirs in UNET_NAMES:
            name = re.sub(pattern, theirs, name)
        return name
    if arguments["upsampler"] in SINGLE:
        name = name.replace("reconstruction.0.", SINGLE[arguments["upsampler"]])
    for pattern, theirs in SWINIR_NAMES:
        name = re.sub(pattern, theirs, name)
    return name


def _compare(path: str | Path, expected: Shapes, found: Shapes) -> None:
    """Refuse tensors that are missing, left over or of another shape, naming the first."""
    left_over = [name for name in found if name not in expected and not DERIVED.search(name)]
    for names, what in (([name for name in expected if name not in found], "missing"), (left_over, "left over")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(f"{path}: tensor {names[0]!r}{more} {what}; the weights are not whole or not of pssr 2.x")
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(f"{path}: tensor {name!r} has shape {list(found[name])}, not {list(shape)}")
