"""What a preset or a run's config may do without being trusted: set values and choose registered classes.

To MONAI a config is a program: it evaluates strings that start with ``$``, imports and calls any ``_target_``, and
reads other files for ``%file.json::id``. A file that the user gives, from wherever, is therefore checked before
MONAI sees it: it may hold such strings only where the configs of this package hold the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser

from pssr2_monai.bundle import bundle_dir, configs_dir
from pssr2_monai.errors import InputError
from pssr2_monai.registered_names import OLD_MODULES, from_imported_package, names, short_name

OVERLAYS = ("train.json", "multi_gpu_train.json")  # configs of the bundle that make a training
# Losses and optimisers that a preset may choose besides registered classes: they take numbers alone.
PLAIN_TARGETS = {
    "pssr2_monai.MSSSIML1Loss",
    "pssr2_monai.MaskedLoss",
    "monai.losses.SSIMLoss",
    *(f"torch.nn.{loss}Loss" for loss in ("Huber", "L1", "MSE", "SmoothL1")),
    *(f"torch.optim.{optimizer}" for optimizer in ("Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD")),
}
ACTIVE = ("$", "%")  # starts of strings that MONAI evaluates, or replaces by the content of another id or file
# The one expression that is data: how ``device`` is set, by the user's options or the plugin, and saved by a run.
DEVICE = re.compile(r"\$torch\.device\('\w+(:\d+)?'\)")
# Ids that a shipped ``_target_`` refers to: MONAI would import and call whatever a string there names.
CLASS_IDS = {f"preprocessing::{name}" for name in ("load", "crappify", "blind_spot", "apply_mask", "central_frames")}
# Arguments of shipped components that choose a compiler, or files to load or write.
RESERVED = {"compile_kwargs", "log_dir", "save_dir", "folder", "resume"}
COMMENTS = {"_desc_", "_disabled_"}  # keys of a component that neither name nor call anything


def is_shipped(path: Path) -> bool:
    """Whether a file lies among the configs of this package, which are trusted."""
    return path.resolve().parent in (configs_dir().resolve(), (bundle_dir() / "configs").resolve())


def check_data(path: Path, content: Mapping[str, Any]) -> None:
    """Check that a config of the user's is data: no string that MONAI would run, no class that is not registered."""
    for config_id, value in _strings(content):
        key = config_id.rpartition("::")[2]
        shipped = isinstance(value, str) and (config_id, value) in _shipped_strings()
        if shipped or (key in COMMENTS and not _is_active(value)):
            continue
        if key == "_target_" or config_id in CLASS_IDS:
            _check_target(path, config_id, value)
        elif key[:1] == key[-1:] == "_" and len(key) > 2:
            raise _refusal(path, config_id, value, "changes how MONAI builds a component")
        elif not RESERVED.isdisjoint(config_id.split("::")[1:]):
            raise _refusal(path, config_id, value, "chooses a compiler or files to write or load")
        elif _is_active(value):
            raise _refusal(path, config_id, value, "would be run or read from elsewhere")


def _check_target(path: Path, config_id: str, target: Any) -> None:
    if not isinstance(target, str):
        raise _refusal(path, config_id, target, "is not the name of a class")
    if target in PLAIN_TARGETS or from_imported_package(target):
        return
    for kind in OLD_MODULES:
        registered = target in names(kind)
        if short_name(kind, target) != target or (registered and "." in target):
            return
        # MONAI looks for short names among its own classes, and then in the current folder.
        if registered and "." not in str(ConfigComponent({"_target_": target}).resolve_module_name()):
            written = config_id.replace("::", "#")
            raise InputError(f"{path}: {written}: write pssr2_monai.{target} instead of {target!r}")
        if registered:
            return
    raise _refusal(path, config_id, target, "is neither a registered class nor of a package named with --import")


def _refusal(path: Path, config_id: str, value: Any, reason: str) -> InputError:
    return InputError(
        f"{path}: {config_id.replace('::', '#')}: {repr(value)[:100]} {reason}; add --trust (in Python trust=True) if "
        "you know where the file comes from"
    )


def _is_active(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(ACTIVE) and not DEVICE.fullmatch(value)


def _strings(content: Any, config_id: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each string with its id, and whatever stands under a key such as ``_target_``."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            name = str(key).lstrip("+").replace("#", "::")
            inner = f"{config_id}::{name}" if config_id else name
            if name.startswith("_") and name.endswith("_") and name != "_meta_" and not isinstance(value, str):
                yield inner, value
            yield from _strings(value, inner)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _strings(value, f"{config_id}::{number}")
    elif isinstance(content, str):
        yield config_id, content


@cache
def _shipped_strings() -> set[tuple[str, str]]:
    """Every string of the shipped training configs with its id, as written and as MONAI writes it into a run's config.

    MONAI replaces ``#`` by ``::`` and ``%training`` by a copy of the list.
    """
    overlays = [str(bundle_dir() / "configs" / name) for name in OVERLAYS]
    parsers = [ConfigParser() for _ in overlays]
    for count, parser in enumerate(parsers, 1):
        parser.read_config(overlays[:count])
        parser.parse()
    files = [*map(Path, overlays), *configs_dir().glob("*.json")]
    contents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return {
        (config_id, written)
        for content in [*contents, *(parser.get() for parser in parsers)]
        for config_id, value in _strings(content)
        if isinstance(value, str)
        for written in (value, value.replace("#", "::"))
    }
