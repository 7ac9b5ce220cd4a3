"""Weights of the original ``pssr`` package (2.x), read into the networks here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import ceil, isqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from pssr2_monai.errors import InputError, one_line
from pssr2_monai.networks.rdresunet import RDResUNet, RDResUNetA
from pssr2_monai.networks.resunet import ResUNet, ResUNetA
from pssr2_monai.networks.scaled import ScaledNetwork
from pssr2_monai.networks.swinir import SwinIR

Shapes = Mapping[str, tuple[int, ...]]
Recognised = tuple[type[ScaledNetwork], dict[str, Any]]
Renamings = list[tuple[str, Callable[[re.Match[str]], str] | str]]
FREE = ("dilations", "pool_sizes", "qk_scale")  # arguments that no tensor determines, hence options
# The original's defaults, by how many parallel stacks or pools there are.
DILATIONS = {1: [1], 2: [1, 3], 3: [1, 3, 15], 4: [1, 3, 15, 31]}
POOL_SIZES = {1: [1], 2: [1, 2], 3: [1, 2, 4], 4: [1, 2, 4, 8]}
# Buffers that the original saves and that follow from the arguments.
DERIVED = re.compile(r"\.(attn_mask|attn\.relative_position_index)$")
UNET_NAMES: Renamings = [
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
SWINIR_NAMES: Renamings = [
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


def network_of_tensors(
    tensors: Mapping[str, Tensor], path: str | Path, options: Mapping[str, Any]
) -> tuple[ScaledNetwork, dict[str, Any]]:
    """Build what `load_pssr2` returns from the content of a file; its path is for messages."""
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            what = f"{name!r} is a {type(tensor).__name__}, not a tensor of pssr 2.x"
            raise InputError(f"{path}: holds no weights with a record, and {what}; give a model.pt of a training")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        kind, arguments = _recognise(shapes, options.get("scale"))
        _apply(options, arguments)
        network = kind(**arguments)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (RuntimeError, ValueError, OverflowError) as error:  # sizes that no network has
        raise InputError(f"{path}: no network has tensors of these sizes: {one_line(error)}") from error
    ours = network.state_dict()
    names = {_original_name(name, arguments): name for name in ours}
    _compare(path, {theirs: tuple(ours[name].shape) for theirs, name in names.items()}, shapes)
    network.load_state_dict({name: tensors[theirs] for theirs, name in names.items()})
    return network.eval(), {"_target_": kind.__name__, **arguments}


def _apply(options: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    """Set arguments that the tensors do not determine; refuse options that contradict the tensors."""
    for name, value in options.items():
        if name not in arguments:
            raise InputError(f"{name}: no argument of this network; give some of {', '.join(arguments)}")
        if name in FREE and (arguments[name] is not None or name == "qk_scale"):
            arguments[name] = value
        elif arguments[name] != (list(value) if isinstance(value, tuple) else value):
            raise InputError(f"{name}: the weights are for {arguments[name]}, not for {value}")
    for name in ("dilations", "pool_sizes"):
        if None in (arguments.get(name) or ()):
            raise InputError(f"{name}: the tensors do not show them and there is no default; give {name}=[...]")


def _original_name(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the original package's name of a tensor."""
    if arguments.get("upsampler") in SINGLE:
        name = name.replace("reconstruction.0.", SINGLE[arguments["upsampler"]])
    for pattern, theirs in SWINIR_NAMES if "upsampler" in arguments else UNET_NAMES:
        name = re.sub(pattern, theirs, name)
    return name


def _compare(path: str | Path, expected: Shapes, saved: Shapes) -> None:
    """Refuse tensors that are missing, left over or of another shape, naming the first."""
    left_over = [name for name in saved if name not in expected and not DERIVED.search(name)]
    for names, what in (([name for name in expected if name not in saved], "missing"), (left_over, "left over")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(f"{path}: tensor {names[0]!r}{more} {what}; the weights are not whole or not of pssr 2.x")
    for name, shape in expected.items():
        if saved[name] != shape:
            raise InputError(f"{path}: tensor {name!r} has shape {list(saved[name])}, not {list(shape)}")


def _recognise(shapes: Shapes, scale: object) -> Recognised:
    """Return the network whose tensors have these shapes; `scale` is the caller's, for where they leave a choice."""

    def has(*prefixes: str) -> bool:
        return all(any(name.startswith(prefix) for name in shapes) for prefix in prefixes)

    if has("encoder.stem.", "reconstruction."):
        return _rdresunet(shapes)
    if has("encoder.0.", "reconstruction."):
        return _resunet(shapes)
    if has("conv_first.", "layers.0.residual_group."):
        return _swinir(shapes, scale)
    raise InputError(
        f"not weights of pssr 2.x (ResUNet, ResUNetA, RDResUNet, RDResUNetA, SwinIR); the first tensor is "
        f"{next(iter(shapes))!r}"
    )


def _shape(shapes: Shapes, name: str, dims: int = 4) -> tuple[int, ...]:
    if name not in shapes:
        raise InputError(f"tensor {name!r} is missing")
    if len(shapes[name]) != dims or 0 in shapes[name]:
        raise InputError(f"tensor {name!r} has shape {list(shapes[name])}, which is not of {dims} axes")
    return shapes[name]


def _count(shapes: Shapes, prefix: str) -> int:
    """Return one more than the largest number that follows `prefix` in a name."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return max((int(match[1]) + 1 for name in shapes if (match := pattern.match(name))), default=0)


def _unet_arguments(shapes: Shapes, blocks: Sequence[str], features: int) -> dict[str, Any]:
    """Return the arguments common to ResUNet and RDResUNet; `blocks` are prefixes in the order of ``dilations``."""
    stacks = [_count(shapes, f"{block}.dilations.") for block in blocks]
    atrous = any(stacks)
    pools = _count(shapes, "reconstruction_pool.convs.")
    group, rest = divmod(_shape(shapes, "reconstruction.pre.weight")[0], features)
    if rest or isqrt(group) ** 2 != group:
        raise InputError(f"tensor 'reconstruction.pre.weight' gives no whole scale ({group} groups of {features})")
    layers = _count(shapes, f"{blocks[0]}.{'dilations.0' if atrous else 'conv'}.")
    return {
        "out_channels": _shape(shapes, "reconstruction.conv.weight")[0],
        "scale": isqrt(group),
        "depth": (layers - 1) // 3,
        "dilations": [DILATIONS.get(count) for count in stacks] if atrous else None,
        "pool_sizes": POOL_SIZES.get(pools, [None]) if pools else None,
        "encoder_pool": any(name.startswith("encoder_pool.") for name in shapes),
        "interpolate": False,
        "norm": "batch",
        "value_range": [-1.0, 255 / 128 - 1],
    }


def _resunet(shapes: Shapes) -> Recognised:
    blocks = [f"encoder.{i}" for i in range(_count(shapes, "encoder."))]
    widths = [_shape(shapes, f"{block}.respass.weight") for block in blocks]
    arguments = {
        "in_channels": widths[0][1],
        "channels": [width[0] for width in widths],
        "spatial_dims": 2,
        **_unet_arguments(shapes, blocks, widths[0][0]),
    }
    return (ResUNet if arguments["dilations"] is None else ResUNetA), arguments


def _rdresunet(shapes: Shapes) -> Recognised:
    blocks = [f"decoder.{i}" for i in range(_count(shapes, "decoder."))]
    channels = [_shape(shapes, f"{block}.respass.weight")[0] for block in blocks]
    stem = _shape(shapes, "encoder.stem.stem.0.weight")
    stages = range(_count(shapes, "encoder.dense_stages."))
    dense = [f"encoder.dense_stages.{stage}.{2 if stage else 0}.dense_block" for stage in stages]
    counts = [_count(shapes, prefix) for prefix in dense]
    inner = [
        _shape(shapes, f"{prefix}{i}.layers.layers.2.weight")
        for prefix, count in zip(dense, counts, strict=True)
        for i in range(count)
    ]
    transitions = [_shape(shapes, f"encoder.dense_stages.{stage}.1.weight") for stage in stages[1:]]
    if not blocks:
        raise InputError("tensor 'decoder.0.respass.weight' is missing")
    arguments = {
        "in_channels": stem[1],
        "channels": channels,
        **_unet_arguments(shapes, blocks, max(channels[-1] // stem[-1] ** 2, 1)),
        "stem_channels": stem[0],
        "growth_rates": [_shape(shapes, f"{prefix}0.gamma", 1)[0] for prefix in dense],
        "downsample": [False, *(shape[-1] == 2 for shape in transitions)],
        "squeeze_excite": [f"{prefix}0.layers.layers.5.fc.weight" in shapes for prefix in dense],
        "n_blocks": counts,
        "patch_size": stem[-1],
        "bottleneck": _ratio(inner),
        "compression": _ratio(transitions),
    }
    return (RDResUNet if arguments["dilations"] is None else RDResUNetA), arguments


def _ratio(weights: Sequence[tuple[int, ...]]) -> float:
    """Return the simplest ratio that, rounded down to multiples of 8, gives the output widths of all convolutions."""
    if not weights:
        return 1.0
    low = max(Fraction(after, before) for after, before, *_ in weights)
    high = min(Fraction(after + 8, before) for after, before, *_ in weights)
    for parts in range(1, 1000):
        ratio = Fraction(ceil(low * parts), parts)
        if ratio < high:
            return float(ratio)
    raise InputError("widths of the dense blocks follow no one ratio")


def _swinir(shapes: Shapes, wanted_scale: object) -> Recognised:
    if "absolute_pos_embed" in shapes:
        raise InputError("absolute position embedding (ape) ties SwinIR to one image size and is not supported")
    groups = [f"layers.{i}.residual_group.blocks." for i in range(_count(shapes, "layers."))]
    tables = [_shape(shapes, f"{group}0.attn.relative_position_bias_table", 2) for group in groups]
    embed, frames = _shape(shapes, "conv_first.weight")[:2]
    last = "conv_last.weight" if "conv_last.weight" in shapes else "upsample.0.weight"
    out_channels = _shape(shapes, last)[0]
    features = 64
    if "conv_before_upsample.0.weight" in shapes:
        features = _shape(shapes, "conv_before_upsample.0.weight")[0]
        if "conv_hr.weight" in shapes:
            upsampler, scale = "nearest+conv", 4 if "conv_up2.weight" in shapes else 2
        else:
            upsampler, scale = "pixelshuffle", 1
            for i in range(0, _count(shapes, "upsample."), 2):
                scale *= isqrt(_shape(shapes, f"upsample.{i}.weight")[0] // features)
    elif last == "conv_last.weight":
        upsampler, scale = "", 1
    else:
        upsampler = "pixelshuffledirect"
        out_channels, scale = _direct(out_channels, frames, wanted_scale)
    depths = [_count(shapes, group) for group in groups]
    return SwinIR, {
        "in_channels": frames,
        "out_channels": out_channels,
        "scale": scale,
        "embed_dim": embed,
        "depths": depths,
        "heads": [table[1] for table in tables],
        "window": (isqrt(tables[0][0]) + 1) // 2,
        "mlp_ratio": _shape(shapes, f"{groups[0]}0.mlp.fc1.weight", 2)[0] / embed,
        "upsampler": upsampler,
        "features": features,
        "conv": "1conv" if "conv_after_body.weight" in shapes else "3conv",
        "qkv_bias": f"{groups[0]}0.attn.qkv.bias" in shapes,
        "qk_scale": None,
        "patch_norm": "patch_embed.norm.weight" in shapes,
        # The original saves a mask with each shifted block, and shifts none where one window covers its image.
        "shifted": max(depths) < 2 or any(name.endswith(".attn_mask") for name in shapes),
        "interpolate": upsampler == "",
        "value_range": [0.0, 255.0],
    }


def _direct(maps: int, frames: int, scale: object) -> tuple[int, int]:
    """Return frames and scale of a convolution with ``frames * scale**2`` maps: `scale`, or what fits best."""
    if isinstance(scale, int) and scale > 0 and maps % scale**2 == 0:
        return maps // scale**2, scale
    for out_channels in (frames, 1):
        group = isqrt(maps // out_channels)
        if group > 0 and group**2 * out_channels == maps:
            return out_channels, group
    raise InputError(f"scale: {maps} maps of 'upsample.0.weight' do not show it; give scale=...")
