"""The configs of the bundle: presets merged over them, overrides checked, and what a run records of them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import ErrorDuringImport, locate
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
from pssr2_monai.registry import INNER, Kind, name_of
from pssr2_monai.training.tensorboard import Writers
from pssr2_monai.training.trust import check_data, is_shipped

LEAST = {
    "batch_size": 1,
    "tile": 1,
    "val_interval": 1,
    "val_tiles": 0,
    "log_every": 1,
    "num_workers": 0,
    "overlap": 0,
    "guard": 0,
}
"""Ids that are whole numbers, and the least that they may be."""


def config_files(config: str, presets: str | Sequence[str] | None = None, trust: bool = False) -> list[str]:
    """Return the config of the bundle and the presets that are merged over it, as ``monai.bundle`` takes them.

    Args:
        config: ``train``, ``evaluate`` or ``inference``.
        presets: names of presets or paths of JSON files, in the order in which they are merged; a string may name
            several, divided by commas.
        trust: let files of presets hold expressions and classes that are not registered; see ``training.trust``.

    Raises:
        InputError: a preset is neither a known name nor a file, is not JSON, sets an id that does not exist, or may not
            do what it does without being trusted.
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
    """Refuses overrides of ids that the merged config does not have, which MONAI would take in silence.

    Within a component (a section with ``_target_``) its constructor's arguments are known, too.

    Raises:
        UsageError: with the nearest right name; or for a value that cannot stand where a number, a switch or a
            section stands.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(list(files))
    for key, value in overrides.items():
        path = re.split(r"#|::", key)
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
    """Refuses a value that cannot be meant, judged by what it replaces."""
    if value is None or (isinstance(value, str) and value[:1] in tuple("$@%")):
        return
    if isinstance(default, dict) and isinstance(value, (bool, int, float, str)):
        inside = next((f"--{key}#{name}" for name in default if not name.startswith("_")), "its ids")
        raise UsageError(f"--{key} {value}: is a section of the config; set what is in it, such as {inside}")
    if isinstance(default, bool) and not isinstance(value, bool):
        raise UsageError(f"--{key} {value}: is not true or false")
    if isinstance(default, (int, float)) and not isinstance(default, bool) and isinstance(value, (bool, str, dict)):
        raise UsageError(f"--{key} {value}: is not a number")
    if (isinstance(value, float) and key in LEAST) or (isinstance(value, int) and value < LEAST.get(key, value)):
        raise UsageError(f"--{key} {value}: is not a whole number of at least {LEAST[key]}")


def _arguments(section: Any) -> list[str]:
    """What the constructor of a component takes, where it can be found."""
    from monai.bundle import ConfigComponent

    if not isinstance(section, dict) or "_target_" not in section:
        return []
    try:
        target = locate(str(ConfigComponent(section).resolve_module_name()))
        # A constructor that hands on what it does not know takes what its base classes take.
        makers = [vars(each).get("__init__") for each in target.__mro__[:-1]] if isinstance(target, type) else [target]
        named = [each for maker in makers if callable(maker) for each in inspect.signature(maker).parameters.values()]
    except (ValueError, TypeError, ErrorDuringImport):
        return []
    return [each.name for each in named if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]


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
    """Read a preset or a run's config and check it, before MONAI does anything with it.

    Raises:
        InputError: it is not a JSON object, or needs to be trusted and is not.
    """
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
) -> Record:
    """The record of the training that the bundle's config describes; to be called from within a config.

    A config expression sees objects, not the configuration they were made from; that is read from the parser that is
    resolving the expression. Classes are recorded by their registered names, others by their dotted names.

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
        network=_recorded("network", _resolved(parser, "network_def")),
        scale=list(scale) if isinstance(scale, Sequence) else scale,
        n_frames=lr_hr_frames(n_frames, scale),
        stack=stack,
        intensity=intensity,
        crappifier=_recorded("crappifier", _resolved(parser, "crappifier")) if crappified else {},
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


def _recorded(kind: Kind, config: Any) -> Any:
    """A section of the config as a record has it: registered names in the place of those that MONAI resolves."""
    if isinstance(config, Mapping):
        inner = INNER.get(kind, kind)
        return {
            key: name_of(kind, str(ConfigComponent(config).resolve_module_name()))
            if key == "_target_"
            else _recorded(inner, value)
            for key, value in config.items()
        }
    return [_recorded(kind, value) for value in config] if isinstance(config, list) else config


METRICS = ("ssim", "psnr", "loss")
"""Of the validation, beside the hyper-parameters."""
SECTIONS = ("network_def", "loss", "optimizer", "crappifier", "intensity")
"""Whose arguments are hyper-parameters, as are the numbers, words and switches at the top of the config."""
PATHS = ("_dir", "_root", "calibration")
"""What the names of ids end in whose values are paths."""
MACHINERY = {"checkpoint_every", "compile", "log_every", "num_workers", "profile", "skip_bad", "val_interval"}
"""Ids that do not change what is learnt."""


def show_config(writer: Writers) -> None:
    """Writes the config that is being resolved as text, and its hyper-parameters; to be called from within a config."""
    parser = resolving_parser()
    config = {name: each for name, each in parser.get().items() if name != "_meta_"}
    text = json.dumps(config, indent=4, default=str)
    # Indented, Markdown leaves it as it is.
    writer.train.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), 0)
    _show_hyper_parameters(writer.validation, hyper_parameters(config))
    writer.train.flush()
    writer.validation.flush()


def config_parameters() -> dict[str, float | str]:
    """The hyper-parameters of the config that is being resolved; with ``.`` for ``#``, which MLflow does not take."""
    return {name.replace("#", "."): value for name, value in hyper_parameters(resolving_parser().get()).items()}


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, float | str]:
    """What of a training config may differ between two trainings, by id; expressions are left out, paths are not told.

    Example:
        >>> hyper_parameters({"lr": 0.002, "dataset_dir": "$@bundle_root", "loss": {"_target_": "a.L1", "mix": 0.8}})
        {'lr': 0.002, 'loss': 'a.L1', 'loss#mix': 0.8}
    """
    found: dict[str, float | str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            if "_target_" in value:
                found[name] = str(value["_target_"]).removeprefix("pssr2_monai.")
            for key, each in value.items():
                if not key.startswith("_"):
                    add(f"{name}#{key}", each)
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value):
                add(f"{name}#{number}", each)
        elif isinstance(value, list):
            found[name] = json.dumps(value)
        elif isinstance(value, bool):  # which TensorBoard would show as 0.0000
            found[name] = str(value)
        elif isinstance(value, (int, float)) or (isinstance(value, str) and value[:1] not in tuple("$@%")):
            found[name] = value

    for name, value in config.items():
        if (name in SECTIONS or not isinstance(value, Mapping)) and not name.endswith(PATHS):
            add(name, value)
    return {name: value for name, value in found.items() if name not in NOT_SET | MACHINERY}


def _show_hyper_parameters(writer: Any, values: Mapping[str, float | str]) -> None:
    """For TensorBoard's table of trainings, with the metrics of the run that ``writer`` writes."""
    from torch.utils.tensorboard.summary import hparams  # takes a second, and the other ranks need none

    experiment, session, _ = hparams(dict(values), dict.fromkeys(METRICS, 0.0))
    file_writer = getattr(writer, "file_writer", None)
    if file_writer is not None:
        file_writer.add_summary(experiment)
        file_writer.add_summary(session)
