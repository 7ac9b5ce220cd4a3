"""A training that starts from weights: what it takes from their record, what must fit, and the weights themselves.

The command, Python and the plugin merge the settings of the record between the bundle's config and the presets. In
``python -m monai.bundle run``, where nobody knows which values were given, they replace those that are still defaults.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from monai.bundle import ConfigParser

from pssr2_monai.bundle import bundle_dir, configs_dir, training_ids
from pssr2_monai.errors import InputError, one_line
from pssr2_monai.images.axes import factors, lr_hr_frames
from pssr2_monai.networks.record import Record
from pssr2_monai.networks.weights import BUNDLED, load_weights, weights_file
from pssr2_monai.registered_names import Kind, find, short_names
from pssr2_monai.training.config import recorded, resolved, resolving_parser
from pssr2_monai.training.preset_check import check_data

RATE = 0.5  # of the learning rate of a training from nothing
FROM_SAMPLE = {"in_channels", "out_channels", "scale"}  # arguments of a network that follow from n_frames and scale
logger = logging.getLogger(__name__)


def _weights(start: str | Path) -> tuple[torch.nn.Module, Record]:
    """Load weights, once for all that a training does with them; not to be changed."""
    stamp = weights_file(start).stat()
    return _loaded(str(start), stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=1)
def _loaded(start: str, *_: int) -> tuple[torch.nn.Module, Record]:
    return load_weights(start)


def settings_of(start: str | Path) -> dict[str, Any]:
    """Return the ids of the training config that weights set: those of their record, and a lower learning rate."""
    record = _weights(start)[1]
    network = _targets("network", record.network)
    lr, hr = record.n_frames
    settings: dict[str, Any] = {
        "scale": record.scale,
        "n_frames": lr if lr == hr else [lr, hr],
        "network_def": network,
        "lr": RATE * _usual_rate(network["_target_"]),
        "start_settings": False,  # they are set
    }
    if record.stack != "TZ":
        settings |= {"channels": "joint"} if record.stack == "C" else {"stack": record.stack}
    if record.intensity.mode != "fixed":  # fixed levels belong to the images
        settings["intensity#mode"] = record.intensity.mode
    if record.crappifier:
        record.build_crappifier()  # names what it has that is not registered
        settings["crappifier"] = _targets("crappifier", record.crappifier)
    check_data(Path(start), settings)
    return settings


def _targets(kind: Kind, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's configuration with the names that a config needs, ``pssr2_monai.ResUNet`` for ``ResUNet``."""

    def target(kind: Kind, name: str) -> str:
        package = getattr(find(kind, name), "__module__", "").partition(".")[0]
        return f"{package}.{name}" if package == "pssr2_monai" and "." not in name else name

    named: dict[str, Any] = short_names(kind, config, target)
    return named


def _usual_rate(network: str) -> float:
    """Return the lowest learning rate of the presets for this class of networks, or the default."""
    presets = [json.loads(path.read_text(encoding="utf-8")) for path in configs_dir().glob("*.json")]
    rates = [
        preset["lr"]
        for preset in presets
        if preset.get("network_def", {}).get("_target_") == network and "lr" in preset
    ]
    return float(min(rates, default=training_ids()["lr"]))


@contextmanager
def with_settings(files: Sequence[str], overrides: Mapping[str, Any]) -> Iterator[list[str]]:
    """Insert a file with what the weights to start from set between the bundle's config and the presets."""
    config = ConfigParser()
    config.read_config(list(files))
    config.update({name: value for name, value in overrides.items() if name in ("start", "start_settings", "resume")})
    start = _start(config)
    if start is None or not config["start_settings"]:
        yield list(files)
        return
    with TemporaryDirectory(prefix="pssr2-start") as folder:
        overlay = Path(folder) / "start.json"
        overlay.write_text(json.dumps(settings_of(start)), encoding="utf-8")
        yield [files[0], str(overlay), *files[1:]]


def begin_from_weights() -> None:
    """Set in the config that is being resolved what its weights to start from set; refuse what does not fit them."""
    parser = resolving_parser()
    start = _start(parser)
    if start is not None and resolved(parser, "start_settings"):
        defaults = ConfigParser()
        defaults.read_config(str(bundle_dir() / "configs" / "train.json"))
        merged = ConfigParser(json.loads(json.dumps(defaults.get())))
        settings = settings_of(start)
        merged.update(settings)
        for name in dict.fromkeys(key.partition("#")[0] for key in settings):
            parser[name] = _merged(defaults[name], parser[name], merged[name])
        parser.parse(reset=True)
    check_fit(parser)


def _start(parser: ConfigParser) -> str | None:
    return None if resolved(parser, "resume") is not None else resolved(parser, "start")


def _merged(default: Any, current: Any, other: Any) -> Any:
    """Return the current value of a config with the other one wherever it is still the default."""
    if json.dumps(current).replace("#", "::") == json.dumps(default).replace("#", "::"):
        return other
    if all(isinstance(value, Mapping) for value in (default, current, other)):
        names = {**other, **current}
        return {
            name: _merged(default.get(name), current.get(name), other.get(name, current.get(name))) for name in names
        }
    return current


def check_fit(parser: ConfigParser) -> None:
    """Check that a training config has the scale, frames and network of the weights that it starts from.

    Raises:
        InputError: naming all that differs.
    """
    start = _start(parser)
    if start is None:
        return
    record = _weights(start)[1]
    scale, n_frames = parser.get_parsed_content("scale"), parser.get_parsed_content("n_frames")
    network = short_names("network", resolved(parser, "network_def"), recorded)
    theirs: dict[str, Any] = {"scale": factors(record.scale), "n_frames": tuple(record.n_frames)}
    ours: dict[str, Any] = {"scale": factors(scale), "n_frames": lr_hr_frames(n_frames, scale)}
    if isinstance(network, Mapping):  # not an expression
        theirs, ours = theirs | _arguments(record.network), ours | _arguments(network)
    shown = {"scale": (record.scale, scale), "n_frames": (list(record.n_frames), list(ours["n_frames"]))}
    differences = []
    for name in dict.fromkeys([*theirs, *ours]):
        if theirs.get(name) != ours.get(name):
            weights, training = shown.get(name, (theirs.get(name), ours.get(name)))
            differences.append(f"{name} is {weights}, this training's is {training}")
        if name == "network_def" and theirs[name] != ours[name]:
            break  # of other classes, whose arguments differ anyway
    if differences:
        raise InputError(
            f"start: {start}: {'; '.join(differences)}; leave out the options and presets that set them, or give other "
            "weights"
        )


def _arguments(config: Mapping[str, Any], place: str = "network_def") -> dict[str, Any]:
    """Return a network's class and arguments by id, those included that are left to their defaults."""
    maker = find("network", str(config["_target_"]))
    defaults: dict[str, Any] = {}
    if inspect.isclass(maker):
        for base in reversed(maker.__mro__[:-1]):
            if "__init__" in vars(base):
                parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
                defaults |= {each.name: each.default for each in parameters if each.default is not each.empty}
    arguments: dict[str, Any] = {place: config["_target_"]}
    for name, value in (defaults | dict(config)).items():
        if isinstance(value, Mapping) and "_target_" in value:
            arguments |= _arguments(value, f"{place}#{name}")
        elif name not in FROM_SAMPLE and not name.startswith("_"):
            arguments[f"{place}#{name}"] = json.loads(json.dumps(value, default=str))
    return arguments


def started(network: torch.nn.Module, start: str | Path | None, resume: str | Path | None) -> torch.nn.Module:
    """Fill a network with weights to start from, statistics of its norms included; a resumed one has its own."""
    if start is None or resume is not None:
        return network
    weights, _ = _weights(start)
    try:
        network.load_state_dict(weights.state_dict())
    except RuntimeError as error:
        raise InputError(f"start: {start}: its weights do not fit network_def: {one_line(error)}") from error
    _loaded.cache_clear()  # needed no more
    logger.info("starting from the weights %s", start)
    return network


def origin(start: str | Path | None, resume: str | Path | None) -> dict[str, str]:
    """Return what a record notes of the weights that a training started from: their name and SHA-256.

    The record of a resumed training takes this over from its state.
    """
    if start is None or resume is not None:
        return {}
    file = weights_file(start)
    bundled = {bundle_dir() / "models" / model: name for name, model in BUNDLED.items()}
    name = bundled.get(file.absolute(), "/".join(file.absolute().parts[-2:]))
    return {"weights": name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
