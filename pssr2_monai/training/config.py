"""Configs of the bundle: merging presets, checking overrides, and what a run records of them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from textwrap import indent
from typing import Any

import monai
import torch
from monai.bundle import ConfigComponent, ConfigParser

import pssr2_monai
from pssr2_monai.bundle import NOT_SET, bundle_dir, configs_dir
from pssr2_monai.errors import InputError, UsageError, nearest
from pssr2_monai.images.axes import lr_hr_frames
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.networks.record import Record
from pssr2_monai.registered_names import Kind, name_of, short_names
from pssr2_monai.training.preset_check import check_data, is_shipped
from pssr2_monai.training.tensorboard import Writers

# Smallest values of ids that are whole numbers.
MINIMA = dict.fromkeys(("batch_size", "threads", "tile", "val_interval", "log_every", "patience", "bad_steps"), 1)
MINIMA |= dict.fromkeys(("val_tiles", "num_workers", "overlap", "guard"), 0)
_TRANSFORMS = "(?:train|validate)#preprocessing#transforms#"
_METRIC = (
    "(validate#additional_metrics#val_"
    "(?:ms_ssim|psnr_fitted|ssim_fitted|psnr_range_invariant|nrmse|pixel_error|frc_resolution))"
)
# Patterns of ids of the configs of 0.1.0, and what took their place.
MOVED_IDS = {
    rf"{_TRANSFORMS}0#(?!_disabled_|random_)(\w+)": r"preprocessing#load#\1",
    rf"{_TRANSFORMS}1#(?!_disabled_)(\w+)": r"preprocessing#crappify#\1",
    rf"{_TRANSFORMS}2#(?!_disabled_)(\w+)": r"preprocessing#central_frames#\1",
    rf"{_TRANSFORMS}3#(\w+)": r"preprocessing#to_tensors#\1",
    "train#prepare_loaded": "train#prepare_batch",
    "early_stop#(?:_disabled_|trainer)": "patience",
    "early_stop#score_function": "early_stop#key_metric",
    "training#([0-5])": r"train#handlers#4#handlers#\1",
    "training#[6-9]": "training",
    rf"{_METRIC}#metric_fn(?:#metric|#_target_)?": r"\1",
    rf"{_METRIC}#metric_fn#(\w+)": r"measure#\2",
    rf"{_METRIC}#(_target_|output_transform)": r"metric_handler#\2",
    "evaluator#(axes|overwrite|skip_bad)": r"options#\1",
}


def config_files(config: str, presets: str | Sequence[str] | None = None, trust: bool = False) -> list[str]:
    """Return a config of the bundle (``train``, ``evaluate``, ``inference``) and the presets to merge over it, checked.

    A string may name several presets, divided by commas.
    """
    files = [bundle_dir() / "configs" / f"{config}.json"]
    whole = isinstance(presets, str) and Path(presets).is_file()
    names = presets.split(",") if isinstance(presets, str) and not whole else presets or ()
    for name in [names] if isinstance(names, str) else names:
        file = _preset_file(str(name).strip())
        content = read_config(file, trust or is_shipped(file))
        try:
            check_overrides([str(path) for path in files], dict.fromkeys(key.lstrip("+") for key in content))
        except InputError as error:
            raise InputError(f"{file}: {str(error).removeprefix('--')}") from None
        files.append(file)
    return [str(file) for file in files]


def check_overrides(files: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Check that the merged config has the ids of overrides, which MONAI would accept silently.

    Within a component (a section with ``_target_``) the arguments of its constructor are valid, too.
    """
    parser = ConfigParser()
    parser.read_config(list(files))
    for key, value in overrides.items():
        path = re.split(r"#|::", key)
        for old, new in MOVED_IDS.items():
            if moved := re.fullmatch(old, "#".join(path)):
                raise UsageError(f"--{key}: is now {moved.expand(new)}; set that")
        section: Any = parser.get()
        for depth, name in enumerate(path):
            if isinstance(section, list) and name.isdigit() and int(name) < len(section):
                section = section[int(name)]
            elif isinstance(section, dict) and name in section:
                section = section[name]
            elif name in (arguments := _arguments(section)):
                break
            else:
                known = [*section, *arguments] if isinstance(section, dict) else []
                where = f" in {'#'.join(path[:depth])}" if depth else ""
                raise UsageError(f"--{key}: there is no {name!r}{where}{nearest(name, known)}")
        else:
            _check_type(key, value, section)


def _check_type(key: str, value: Any, default: Any) -> None:
    if value is None or (isinstance(value, str) and value[:1] in tuple("$@%")):
        return
    if isinstance(default, dict) and isinstance(value, (bool, int, float, str)):
        inside = next((f"--{key}#{name}" for name in default if not name.startswith("_")), "its ids")
        raise UsageError(f"--{key} {value}: is a section of the config; set what is in it, such as {inside}")
    if isinstance(default, bool) and not isinstance(value, (bool, dict)):  # a switch may have details: clip
        raise UsageError(f"--{key} {value}: is not true or false")
    if isinstance(default, (int, float)) and not isinstance(default, bool) and isinstance(value, (bool, str, dict)):
        raise UsageError(f"--{key} {value}: is not a number")
    whole = isinstance(value, int) and value >= MINIMA.get(key, value)
    if key in MINIMA and isinstance(value, (int, float, str)) and not whole:
        raise UsageError(f"--{key} {value}: is not a whole number of at least {MINIMA[key]}")


def _arguments(section: Any) -> list[str]:
    """Return the arguments of a component's constructor; none if it cannot be located."""
    if not isinstance(section, dict) or "_target_" not in section:
        return []
    try:
        target = locate(str(ConfigComponent(section).resolve_module_name()))
        # A constructor with **options takes those of its base classes, too.
        makers = [vars(base).get("__init__") for base in target.__mro__[:-1]] if isinstance(target, type) else [target]
        signatures = [inspect.signature(maker) for maker in makers if callable(maker)]
    except (ValueError, TypeError, ErrorDuringImport):
        return []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = [argument for signature in signatures for argument in signature.parameters.values()]
    return [argument.name for argument in arguments if argument.kind in kinds]


def _preset_file(name: str) -> Path:
    known = {path.stem: path for path in configs_dir().glob("*.json")}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise UsageError(
            f"--preset {name}: there is no such preset or file{nearest(name, known)}; "
            f"there are {', '.join(sorted(known))}"
        )
    return path


def read_config(path: Path, trust: bool = False) -> dict[str, Any]:
    """Read a preset or a run's config and check it, before MONAI does anything with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise InputError(f"{path}: is not a preset; write a JSON object with ids of the training config")
        if not trust:
            check_data(path, content)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    return content


def record_of_config(
    scale: int | Sequence[int],
    n_frames: int | Sequence[int],
    stack: str,
    intensity: IntensitySettings,
    pixel_size: Mapping[str, float],
    crappified: bool = True,
    contrast: Mapping[str, float] | None = None,
    started_from: Mapping[str, str] | None = None,
) -> Record:
    """Return the record of the training that the config describes; to be called from an expression of a config.

    A config expression sees objects, not the configuration they were made from; that is read from the parser that is
    resolving the expression. ``pixel_size``: micrometres of the HR images; ``crappified``: not of real pairs;
    ``contrast``: median gain and offset from HR to LR of real pairs; ``started_from``: name and hash of weights.
    """
    parser = resolving_parser()
    return Record(
        network=short_names("network", resolved(parser, "network_def"), recorded),
        scale=list(scale) if isinstance(scale, Sequence) else scale,
        n_frames=lr_hr_frames(n_frames, scale),
        stack=stack,
        intensity=intensity,
        crappifier=short_names("crappifier", resolved(parser, "crappifier"), recorded) if crappified else {},
        pixel_size=dict(pixel_size),
        contrast=dict(contrast or {}),
        started_from=dict(started_from or {}),
        versions={"pssr2_monai": pssr2_monai.__version__, "monai": monai.__version__, "torch": torch.__version__},
    )


def recorded(kind: Kind, target: str) -> str:
    """Return the name by which a record names what a config has under ``_target_``."""
    return name_of(kind, str(ConfigComponent({"_target_": target}).resolve_module_name()))


def resolving_parser() -> ConfigParser:
    """Return the parser whose expression is calling, from the call stack: MONAI gives expressions no access to it."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ConfigParser):
            parser: ConfigParser = frame.f_locals["self"]
            return parser
        frame = frame.f_back
    raise RuntimeError("this is for bundle configs: no ConfigParser is resolving one")


def resolved(parser: ConfigParser, config_id: str) -> Any:
    """Return what stands in a config, with references followed and expressions evaluated, and nothing built."""
    raw = parser.get(config_id)
    if isinstance(raw, str) and raw.startswith("@"):
        return resolved(parser, raw[1:])
    if isinstance(raw, Mapping):
        return {key: resolved(parser, f"{config_id}::{key}") for key in raw if key not in ("_requires_", "_desc_")}
    if isinstance(raw, list):
        return [resolved(parser, f"{config_id}::{number}") for number in range(len(raw))]
    return parser.get_parsed_content(config_id) if isinstance(raw, str) and raw.startswith("$") else raw


METRICS = ("ssim", "psnr", "loss")  # of the validation, shown with the hyper-parameters
# Sections whose arguments are hyper-parameters, as are the numbers, words and switches at the top of the config.
SECTIONS = ("network_def", "loss", "optimizer", "crappifier", "intensity")
PATHS = ("_dir", "_root", "calibration", "scans")  # endings of ids whose values are paths
# Ids that do not change what is learnt.
MACHINERY = {
    "bad_steps",
    "checkpoint_every",
    "compile",
    "log_every",
    "num_workers",
    "profile",
    "skip_bad",
    "start_settings",
    "threads",
    "val_interval",
}


def show_config(writer: Writers) -> None:
    """Write the config that is being resolved as text, and its hyper-parameters for the table of trainings."""
    parser = resolving_parser()
    config = {name: value for name, value in parser.get().items() if name != "_meta_"}
    # Indented, Markdown leaves it as it is.
    writer.train.add_text("config", indent(json.dumps(config, indent=4, default=str), "    "), 0)
    if writer.validation.file_writer is not None:
        from torch.utils.tensorboard.summary import hparams  # takes a second, and the other ranks need none

        for summary in hparams(hyper_parameters(config), dict.fromkeys(METRICS, 0.0))[:2]:
            writer.validation.file_writer.add_summary(summary)
    writer.flush()


def config_parameters() -> dict[str, float | str]:
    """The hyper-parameters of the config that is being resolved; with ``.`` for ``#``, which MLflow does not take."""
    return {name.replace("#", "."): value for name, value in hyper_parameters(resolving_parser().get()).items()}


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the values of a training config that may differ between trainings, by id, without expressions and paths.

    Example:
        >>> hyper_parameters({"lr": 0.002, "dataset_dir": "$@bundle_root", "loss": {"_target_": "a.L1", "mix": 0.8}})
        {'lr': 0.002, 'loss': 'a.L1', 'loss#mix': 0.8}
    """
    values: dict[str, float | str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            if "_target_" in value:
                values[name] = str(value["_target_"]).removeprefix("pssr2_monai.")
            for key, inner in value.items():
                if not key.startswith("_"):
                    add(f"{name}#{key}", inner)
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                add(f"{name}#{number}", item)
        elif isinstance(value, list):
            values[name] = json.dumps(value)
        elif isinstance(value, bool):  # which TensorBoard would show as 0.0000
            values[name] = str(value)
        elif isinstance(value, (int, float)) or (isinstance(value, str) and value[:1] not in tuple("$@%")):
            values[name] = value

    for name, value in config.items():
        if (name in SECTIONS or not isinstance(value, Mapping)) and not name.endswith(PATHS):
            add(name, value)
    return {name: value for name, value in values.items() if name not in NOT_SET | MACHINERY}
