"""The record that travels with weights: all that restoring needs to know, so that one file is enough."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from pssr2_monai.errors import InputError
from pssr2_monai.images.axes import FRAME_ORDERS, factors
from pssr2_monai.images.intensity import MODES, IntensitySettings
from pssr2_monai.registered_names import LARGEST_INTEGER, build, short_names

RECORD_VERSION = 2  # classes by registered names; version 1, of release 0.1.0, held dotted names
# Fields that must agree for one training to resume another.
TRAINED = ("network", "scale", "n_frames", "stack", "intensity", "crappifier")


@dataclass
class Record:
    """What was trained, and on what.

    Attributes:
        network: registered name under ``_target_``, and the arguments.
        scale: HR size over LR size: one number, or for volumes one for each of Z, Y and X.
        n_frames: (LR, HR) frames of a sample.
        stack: order of T and Z.
        intensity: how pixel values became [0, 1].
        crappifier: the crappifier's configuration; empty for training on real pairs.
        pixel_size: micrometres per axis of the HR images, as far as known.
        contrast: for real pairs, ``gain`` and ``offset`` (grey levels of the files) that turned HR into LR: the network
            restores images on the scale of LR.
        versions: of the packages that trained it.
        started_from: the name and SHA-256 of the weights that the training started from.
    """

    network: dict[str, Any]
    scale: int | list[int]
    n_frames: tuple[int, int] = (1, 1)
    stack: str = "TZ"
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    crappifier: dict[str, Any] = field(default_factory=dict)
    pixel_size: dict[str, float] = field(default_factory=dict)
    contrast: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    started_from: dict[str, str] = field(default_factory=dict)
    origin = "record of weights"  # the file that it was read from, for messages; not a field, hence not saved

    def state_dict(self) -> dict[str, Any]:
        """Return numbers and strings, which ``torch.load(weights_only=True)`` accepts."""
        return {"version": RECORD_VERSION, "json": json.dumps(asdict(self))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what the training started from; else a resumed one keeps the record of its own configuration."""
        self.started_from = Record.from_state(state, self.origin).started_from

    @classmethod
    def from_state(cls, state: Any, origin: str) -> Record:
        """Read what ``state_dict`` returned, or that as JSON; all of it is checked, nothing looked up or called."""
        try:
            if isinstance(state, str):
                state = json.loads(state)
            version, text = state["version"], state["json"]
            if isinstance(version, bool) or not isinstance(version, int) or not isinstance(text, str):
                raise TypeError("its version is not a whole number, or its content not text")
            if version > RECORD_VERSION:
                raise InputError(f"{origin}: was written by a later release of pssr2-monai; update the package")
            return _checked(json.loads(text), origin)
        except InputError as error:
            raise error if str(error).startswith(origin) else InputError(f"{origin}: its record: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(
                f"{origin}: its record is damaged ({type(error).__name__}: {reason}); give a model.pt of a training"
            ) from error

    def build_network(self) -> torch.nn.Module:
        """Build the network, without its weights."""
        network = build("network", self.network, self.origin)
        if not isinstance(network, torch.nn.Module):
            raise InputError(f"{self.origin}: what {self.network['_target_']!r} returns is not a network")
        return network

    def build_crappifier(self) -> Any:
        """Build the crappifier, a transform of images; see ``pssr2_monai.Crappify``."""
        return build("crappifier", self.crappifier, self.origin)


def same_training(saved: Any, now: Mapping[str, Any], origin: str = "record of weights") -> bool:
    """Whether a training whose record has the state `now` can resume from weights of the record state `saved`."""
    earlier, current = Record.from_state(saved, origin), Record.from_state(now, origin)
    return all(getattr(earlier, name) == getattr(current, name) for name in TRAINED)


def _checked(content: Any, origin: str) -> Record:
    """Return the record that parsed JSON describes, every field of its type."""
    if not isinstance(content, dict) or content.keys() - {known.name for known in fields(Record)}:
        raise TypeError("it is not a mapping of a record's fields")
    json.dumps(content, allow_nan=False)  # a ValueError for NaN and infinities
    mappings = ("network", "crappifier", "pixel_size", "contrast", "versions", "started_from", "intensity")
    kinds: dict[str, type] = dict.fromkeys(mappings, dict) | {"stack": str}
    for name, kind in kinds.items():
        if not isinstance(content.get(name, kind()), kind):
            raise TypeError(f"{name} is a {type(content[name]).__name__}, not a {kind.__name__}")
    numbers = content.get("n_frames", [1, 1])
    if len(numbers) != 2 or any(type(number) is not int or number < 1 for number in numbers):
        raise TypeError("n_frames does not count LR and HR frames")
    if content.get("stack", "TZ") not in FRAME_ORDERS:
        raise ValueError(f"stack {content['stack'][:10]!r} is not one of {', '.join(FRAME_ORDERS)}")
    if max(*factors(content["scale"]), *numbers) > LARGEST_INTEGER:
        raise ValueError(f"scale or n_frames is beyond {LARGEST_INTEGER}")
    for name, value in content.get("contrast", {}).items():
        if type(value) not in (int, float):
            raise TypeError(f"the contrast's {name[:10]!r} is not a number")
    for axis, size in content.get("pixel_size", {}).items():
        if type(size) not in (int, float) or not 0 < float(size) < math.inf:
            raise TypeError(f"the pixel size along {axis[:10]!r} is not a number of micrometres")
    read = {
        "network": short_names("network", content["network"]),
        "crappifier": short_names("crappifier", content.get("crappifier", {})),
        "intensity": _intensity(content.get("intensity", {})),
        "n_frames": tuple(numbers),
    }
    record = Record(**content | read)
    record.origin = origin
    return record


def _intensity(settings: dict[str, Any]) -> IntensitySettings:
    if settings.get("mode") not in (None, *MODES):
        raise ValueError(f"intensity: the mode is not one of {', '.join(MODES)}")
    for name in ("low", "high", "offset"):
        value = settings.get(name)
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
            raise TypeError(f"intensity: {name} is not a number")
    return IntensitySettings(**settings)
