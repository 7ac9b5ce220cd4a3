"""The bundle's configs and the presets laid over them: finding, merging and checking, and the nearest right name.

MONAI is imported where it is needed, since the command asks for names before it knows whether there is work to do.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from pssr2_monai.errors import InputError, UsageError

__all__ = [
    "TEXT",
    "bundle_dir",
    "check_overrides",
    "config_files",
    "nearest",
    "preset_names",
    "text_ids",
    "training_ids",
]

TEXT = {"axes", "calibration", "dataset_dir", "extra_dir", "hr_dir", "lr_dir", "pair_pattern", "split", "stack"}
"""Ids whose values are words, though they may look like numbers."""

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

NOT_SET = {"imports", "bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "resume", "initialize", "training", "run"}
"""Ids of the training config that the command sets itself."""

_PACKAGE = Path(__file__).resolve().parent


def bundle_dir() -> Path:
    """The bundle's folder: inside the package when installed from a wheel, beside it in the repository."""
    return _beside_or_inside("bundle")


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(path.stem for path in _beside_or_inside("configs").glob("*.json"))


def training_ids() -> dict[str, Any]:
    """The ids of the training config that are options of a training, with their defaults."""
    text = (bundle_dir() / "configs" / "train.json").read_text(encoding="utf-8")
    return {name: default for name, default in json.loads(text).items() if name not in NOT_SET}


def text_ids() -> set[str]:
    """Those whose values are words."""
    words = {name for name, default in training_ids().items() if isinstance(default, str) and default[:1] not in "$@%"}
    return words | TEXT


def config_files(config: str, presets: str | Sequence[str] | None = None) -> list[str]:
    """The config of the bundle and the presets over it, as ``monai.bundle`` takes them.

    Args:
        config: ``train``, ``evaluate`` or ``inference``.
        presets: names of presets or paths of JSON files, in the order they are laid over the config; a string may
            name several, divided by commas.

    Raises:
        InputError: a preset is neither a known name nor a file, is not JSON, or sets an id that there is not.
    """
    files = [bundle_dir() / "configs" / f"{config}.json"]
    whole = isinstance(presets, str) and Path(presets).is_file()
    names = presets.split(",") if isinstance(presets, str) and not whole else presets or ()
    for name in [names] if isinstance(names, str) else names:
        file = _preset_file(str(name).strip())
        keys = [key.lstrip("+") for key in json.loads(file.read_text(encoding="utf-8"))]
        try:
            check_overrides([str(each) for each in files], dict.fromkeys(keys))
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
        raise UsageError(f"--{key} {value}: is no number")
    if (isinstance(value, float) and key in LEAST) or (isinstance(value, int) and value < LEAST.get(key, value)):
        raise UsageError(f"--{key} {value}: is no whole number of at least {LEAST[key]}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The words ``; did you mean ...?`` for the known name that is most like this one, or nothing."""
    found = difflib.get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


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
    known = {path.stem: path for path in _beside_or_inside("configs").glob("*.json")}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise UsageError(
            f"--preset {name}: there is no such preset or file{nearest(name, known)}; "
            f"there are {', '.join(sorted(known))}"
        )
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from None
    return path


def _beside_or_inside(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
