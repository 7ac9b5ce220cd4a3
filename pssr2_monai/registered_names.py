"""Registered names: the only classes that a saved file can ask for.

Records of weights are data, wherever they came from. They name a class by a short word, which is looked for here before
anything is imported, and give it plain values: numbers, words, lists, mappings. Rooms register their classes when they
are imported; packages of the user's are added by ``import_packages`` or ``register_network``, never by a file.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pydoc import locate
from typing import Any, Literal, TypeVar, cast

from pssr2_monai.errors import InputError, nearest

Kind = Literal["network", "crappifier", "noise"]
Registered = TypeVar("Registered", bound=Callable[..., Any])

# The room that registers the classes of a kind when it is imported; noises register themselves there.
ROOMS: dict[Kind, str] = {
    "network": "pssr2_monai.networks",
    "crappifier": "pssr2_monai.crappify",
    "noise": "pssr2_monai.crappify",
}
INNER: dict[Kind, Kind] = {"network": "network", "crappifier": "noise"}  # what arguments may hold besides plain values
MONAI_NETWORKS = (
    "AttentionUnet",
    "AutoEncoder",
    "BasicUNet",
    "DynUNet",
    "HighResNet",
    "MedNeXt",
    "Restormer",
    "SegResNet",
    "SwinUNETR",
    "UNETR",
    "UNet",
    "VNet",
)
"""Image-to-image networks of MONAI whose constructors take no file, address or callable."""
OLD_MODULES: dict[Kind, tuple[str, ...]] = {
    "network": ("pssr2_monai", "pssr2_monai.networks", "monai.networks.nets", "monai.networks.nets.restormer"),
    "crappifier": ("pssr2_monai", "pssr2_monai.crappify", "pssr2_monai.crappify.crappify"),
    "noise": ("pssr2_monai", "pssr2_monai.crappify", "pssr2_monai.noises"),
}
"""Modules that release 0.1.0 and presets name before a registered name."""
FILE_ARGUMENT = re.compile(r"pretrain|url|progress|hub|cache|file|hyena|(?<!drop_)(?<!dropout_)path")
"""Names of arguments through which a constructor may load files or code; they must be left out or switched off."""
LARGEST_INTEGER = 2**16  # no size, depth or number of features in arguments needs a larger one
LONGEST_LIST = 100  # no list of sizes or noises in arguments needs to be longer

_registered: dict[Kind, dict[str, Callable[..., Any]]] = {kind: {} for kind in ROOMS}
_packages: set[str] = set()


def register(kind: Kind, *classes: type) -> None:
    """Register classes under their names, which must be free."""
    for cls in classes:
        registered = _registered[kind].get(cls.__name__, cls)
        same = (registered.__module__, registered.__qualname__) == (cls.__module__, cls.__qualname__)
        if cls.__name__ in MONAI_NETWORKS or not same:
            raise InputError(f"{cls.__module__}: the name {cls.__name__} belongs to another {kind}; choose another")
        _registered[kind][cls.__name__] = cls


def register_network(network: Registered, name: str | None = None) -> Registered:
    """Let records of weights name a network of your own; works as a decorator, too.

    Args:
        network: the class, or a function that returns the network.
        name: as the record has it; by default its dotted name, which is what a training records.

    Example:
        >>> import torch
        >>> register_network(torch.nn.Identity).__name__
        'Identity'
    """
    _registered["network"][name or f"{network.__module__}.{network.__qualname__}"] = network
    return network


def import_packages(packages: str | Sequence[str]) -> None:
    """Import packages of your own and register their networks and transforms, under dotted names.

    Only what the packages have imported themselves is registered, and no class that they took from elsewhere.

    Args:
        packages: names, or one string of them joined by commas.

    Raises:
        InputError: a package that is missing or fails to be imported.
    """
    for package in packages.split(",") if isinstance(packages, str) else packages:
        if not re.fullmatch(r"\w+(\.\w+)*", package):
            raise InputError(f"import: {package!r} is not the name of a package, such as my_networks")
        try:
            import_module(package)
        except Exception as error:  # code of the user's, which may fail in any way
            raise InputError(
                f"import: {package} cannot be imported ({type(error).__name__}: {error}); install it, or add its "
                "folder to PYTHONPATH"
            ) from error
        _packages.add(package)
        _register_package(package)


def _register_package(package: str) -> None:
    from monai.transforms import Transform
    from torch.nn import Module

    root = package.partition(".")[0]
    bases: dict[Kind, type] = {"network": Module, "crappifier": Transform, "noise": Transform}
    for module_name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        for name, value in list(vars(sys.modules[module_name]).items()):
            if isinstance(value, type) and value.__module__.partition(".")[0] == root:
                dotted = (f"{module_name}.{name}", f"{value.__module__}.{value.__qualname__}")
                for kind in [kind for kind, base in bases.items() if issubclass(value, base)]:
                    _registered[kind] |= dict.fromkeys(dotted, value)


def imported_packages() -> tuple[str, ...]:
    """Return the packages that the user named, for other processes to import."""
    return tuple(sorted(_packages))


def from_imported_package(target: str) -> bool:
    """Whether a dotted name lies in a package that the user named."""
    return any(target.startswith(f"{package}.") for package in _packages)


def names(kind: Kind) -> list[str]:
    return sorted([*_classes(kind), *(MONAI_NETWORKS if kind == "network" else ())])


def find(kind: Kind, name: str) -> Callable[..., Any] | None:
    """Return what a registered name stands for; None, and nothing imported, for any other."""
    if kind == "network" and name in MONAI_NETWORKS:
        nets = "monai.networks.nets.restormer" if name == "Restormer" else "monai.networks.nets"
        return cast("Callable[..., Any]", getattr(import_module(nets), name))
    return _classes(kind).get(name)


def _classes(kind: Kind) -> dict[str, Callable[..., Any]]:
    room = import_module(ROOMS[kind])  # registers its classes, whoever asks first
    return _registered[kind] | (room.noise_classes() if kind == "noise" else {})


def short_name(kind: Kind, target: str) -> str:
    """Return the registered name for a dotted one of release 0.1.0; any other target as it is."""
    module, _, name = target.rpartition(".")
    return name if module in OLD_MODULES[kind] and find(kind, name) is not None else target


def short_names(kind: Kind, config: Any, naming: Callable[[Kind, str], str] = short_name) -> Any:
    """Return a configuration with registered names in the place of dotted ones, at every depth."""
    if isinstance(config, Mapping):
        return {
            key: naming(kind, value)
            if key == "_target_" and isinstance(value, str)
            else short_names(INNER.get(kind, kind), value, naming)
            for key, value in config.items()
        }
    return [short_names(kind, value, naming) for value in config] if isinstance(config, list) else config


def name_of(kind: Kind, target: str) -> str:
    """Return the registered name of a class that a config has named and imported; else its dotted name."""
    short = short_name(kind, target)
    found = locate(target) if short == target else None
    name = getattr(found, "__name__", "")
    return name if name and find(kind, name) is found else short


def build(kind: Kind, config: Any, origin: str) -> Any:
    """Build what a saved file, `origin`, describes; nothing but a registered class is called, with plain values.

    The name is under ``_target_``; other keys that start with ``_`` are comments.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("_target_"), str):
        raise InputError(f"{origin}: names no {kind} under '_target_'; give a file that this package wrote")
    name = short_name(kind, config["_target_"])
    maker = find(kind, name)
    if maker is None:
        raise InputError(
            f"{origin}: its {kind} {name[:100]!r} is not registered{nearest(name, names(kind))}; if it is your own, "
            "name its package with --import PACKAGE (in Python: pssr2_monai.registered_names.import_packages)"
        )
    try:
        arguments = {key: _value(kind, str(key), value, origin) for key, value in config.items() if str(key)[:1] != "_"}
        return maker(**arguments)
    except InputError as error:
        raise error if str(error).startswith(origin) else InputError(f"{origin}: {name}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{origin}: the arguments of {name} are nested too deeply") from error
    except Exception as error:  # what a network makes of arguments that are not its own has no limits
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{origin}: {name} does not take the recorded arguments: {reason}") from error


def _value(kind: Kind, name: str, value: Any, origin: str) -> Any:
    """Return an argument, with what is registered built, checked to be plain otherwise."""
    if FILE_ARGUMENT.search(name) and value not in (None, False):
        raise InputError(f"{origin}: the argument {name!r} may load files or code; it must be left out")
    if isinstance(value, Mapping) and "_target_" in value:
        if kind not in INNER:
            raise InputError(f"{origin}: {name}: a {kind} takes plain values alone")
        return build(INNER[kind], value, origin)
    if isinstance(value, Mapping):
        return {key: _value(kind, str(key), inner, origin) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > LONGEST_LIST:
            raise InputError(f"{origin}: {name}: a list of {len(value)} values is out of range")
        return [_value(kind, "", inner, origin) for inner in value]
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise InputError(f"{origin}: {name}: a whole number beyond {LARGEST_INTEGER} is out of range")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{origin}: {name}: {value} is not a number")
    if value is not None and not isinstance(value, (str, int, float)):
        raise InputError(f"{origin}: {name}: a {type(value).__name__} is not a plain value")
    return value
