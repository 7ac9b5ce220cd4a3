"""The record that travels with weights: all that restoring needs to know, so that one file is enough."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pydoc import locate
from typing import Any

import torch
from monai.transforms import Transform

from pssr2_monai.errors import InputError
from pssr2_monai.images.intensity import IntensitySettings

RECORD_VERSION = 1


@dataclass
class Record:
    """What was trained, and on what.

    Attributes:
        network: dotted name under ``_target_``, and the arguments.
        scale: HR size over LR size: one number, or for volumes one for each of Z, Y and X.
        n_frames: (LR, HR) frames of a sample.
        stack: order of T and Z.
        intensity: how pixel values became [0, 1].
        crappifier: the crappifier's configuration; empty for training on real pairs.
        pixel_size: micrometres per axis of the HR images, as far as known.
        versions: of the packages that trained it.
    """

    network: dict[str, Any]
    scale: int | list[int]
    n_frames: tuple[int, int] = (1, 1)
    stack: str = "TZ"
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    crappifier: dict[str, Any] = field(default_factory=dict)
    pixel_size: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, which ``torch.load(weights_only=True)`` takes."""
        return {"version": RECORD_VERSION, "json": json.dumps(asdict(self))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """A resumed training keeps the record of its own configuration; there is nothing to take over."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any], name: str) -> Record:
        """The record that ``state_dict`` wrote.

        Raises:
            InputError: it was written by a later release.
        """
        if state["version"] > RECORD_VERSION:
            raise InputError(f"{name}: was written by a later release of pssr2-monai; update the package")
        fields = json.loads(state["json"])
        fields["n_frames"] = tuple(fields["n_frames"])
        fields["intensity"] = IntensitySettings(**fields["intensity"])
        return cls(**fields)


def same_training(saved: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two records' states describe trainings of which one can go on with the other's weights."""
    saved_fields, now_fields = json.loads(saved["json"]), json.loads(now["json"])
    alike = ("network", "scale", "n_frames", "stack", "intensity", "crappifier")
    return all(saved_fields[key] == now_fields[key] for key in alike)


RENAMED = {
    **{f"pssr2_monai.crappify.{name}": f"pssr2_monai.crappify.crappify.{name}" for name in ("Crappify", "Downsample")},
    **{
        f"pssr2_monai.noises.{name}": f"pssr2_monai.crappify.{name}"
        for name in (
            "Blur",
            "Detector",
            "Drift",
            "Gamma",
            "GaussianNoise",
            "LineJitter",
            "LineNoise",
            "PoissonNoise",
            "SaltPepperNoise",
        )
    },
}
"""Dotted names in records of 0.1.0, and where the classes are now."""


def instantiate(config: Any) -> Any:
    """What a recorded configuration describes: a network or a crappifier, with the transforms inside it.

    Unlike a bundle's config, which is a program, a record is data: it may name networks and transforms, and nothing
    else is called.

    Raises:
        InputError: a name that cannot be found, is neither network nor transform, or does not take the recorded
            arguments.
    """
    if isinstance(config, list):
        return [instantiate(each) for each in config]
    if not isinstance(config, Mapping) or "_target_" not in config:
        return config
    target = RENAMED.get(str(config["_target_"]), str(config["_target_"]))
    root = target.partition(".")[0]
    # Looking a name up imports its module: only ours, torch's and MONAI's, or what the caller has imported itself.
    found = locate(target) if root in ("pssr2_monai", "torch", "monai") or root in sys.modules else None
    if not (isinstance(found, type) and issubclass(found, (torch.nn.Module, Transform))):
        raise InputError(
            f"record: {target!r} is not the dotted name of a network or transform; import its package first"
        )
    try:
        return found(**{key: instantiate(value) for key, value in config.items() if not key.startswith("_")})
    except TypeError as error:
        raise InputError(f"record: {target} does not take the recorded arguments: {error}") from error
