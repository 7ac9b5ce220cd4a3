"""The form of the crappifier: its scale, and a slider for the strength of each noise."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from magicgui.widgets import Container, FloatRangeSlider, SpinBox
from monai.bundle import ConfigParser

from pssr2_monai.crappify import NOISES
from pssr2_monai.crappify.noise import Noise, Slider
from pssr2_monai.training.config import config_files
from pssr2_monai.training.start import with_settings

Noises = list[dict[str, Any]]


class CrappifierForm(Container):
    """Sliders of the noises, and a scale to be shown elsewhere; ``overrides`` holds what differs from the presets."""

    def __init__(self) -> None:
        tooltip = "HR pixels for each LR pixel, along Y and X"
        self.scale = SpinBox(label="Scale", min=1, max=16, value=4, tooltip=tooltip)
        self.sliders = {
            name: FloatRangeSlider(
                label=slider.label,
                min=0.0,
                max=slider.maximum,
                step=slider.step,
                value=(0.0, 0.0),
                tooltip=_tip(NOISES[name], slider),
            )
            for name, slider in sliders().items()
        }
        self._noises: Noises = []
        self._scale: Any = 4
        self._initial: dict[str, tuple[float, float]] = {}
        for slider in self.sliders.values():
            slider.native.setEdgeLabelMode(slider.native.EdgeLabelMode.NoLabel)
            slider.native.setDecimals(2 if slider.max < 10 else 1)
        super().__init__(widgets=[*self.sliders.values()], labels=True)
        self.margins = (0, 0, 0, 0)

    def read(self, presets: Sequence[str], start: Path | None = None) -> None:
        """Set the sliders to the values of the training config with presets, and with weights to start from."""
        config = ConfigParser()
        with with_settings(config_files("train", list(presets)), {"start": start}) as files:
            config.read_config(files)
        self._scale, self._noises = config.get("scale"), list(config.get("crappifier::noises"))
        config.update({"bundle_root": "."})
        crappified, declared = config.get_parsed_content("crappified"), sliders()
        with self.changed.blocked():
            self.scale.enabled = isinstance(self._scale, int)
            self.scale.value = self._scale if isinstance(self._scale, int) else max(self._scale)
            for name, slider in self.sliders.items():
                entry = _entry(self._noises, name)
                ends, words = _shown(NOISES[name], entry)
                slider.enabled = ends is not None and crappified
                slider.tooltip = _tip(NOISES[name], declared[name]) + words
                if ends is not None:
                    slider.max = max(declared[name].maximum, ends[1])
                    slider.value = ends
            # The sliders round values.
            self._initial = {name: tuple(slider.value) for name, slider in self.sliders.items()}

    @property
    def overrides(self) -> dict[str, Any]:
        """Values that differ from the presets, by ids of the training config."""
        changed: dict[str, Any] = {}
        if self.scale.enabled and self.scale.value != self._scale:
            changed["scale"] = self.scale.value
        moved = [name for name, slider in self.sliders.items() if tuple(slider.value) != self._initial.get(name)]
        if moved:
            changed["crappifier#noises"] = self._changed(moved)
        return changed

    def _changed(self, moved: Sequence[str]) -> Noises:
        noises = copy.deepcopy(self._noises)
        for name in moved:
            kind = NOISES[name]
            low, high = self.sliders[name].value
            entry = _entry(noises, name)
            if high == 0:
                noises = [noise for noise in noises if noise is not entry]
                continue
            if entry is None:
                entry = {"_target_": kind.target()}
                noises.insert(0 if sliders()[name].first else len(noises), entry)
            parameter = _strength(kind, entry)
            value = entry.pop(parameter, None)
            if parameter != kind.strength and low > 0:
                low, high = sorted(kind.instead[parameter].inverse(end) for end in (low, high))
            else:
                parameter = kind.strength
            even_in_log = isinstance(value, dict) and 0 < low < high
            ends: Any = low if low == high else [low, high]
            entry[parameter] = {"log": ends} if even_in_log else ends
        return noises


def sliders() -> dict[str, Slider]:
    """Return the slider of each noise that has one, in the order in which noises are added."""
    declared = {name: noise.slider for name, noise in NOISES.items() if noise.slider}
    return dict(sorted(declared.items(), key=lambda item: not item[1].first))


def _entry(noises: Noises, name: str) -> dict[str, Any] | None:
    kind = NOISES[name].__name__
    return next((noise for noise in noises if str(noise.get("_target_")).rsplit(".", 1)[-1] == kind), None)


def _ends(value: Any) -> tuple[float, float] | None:
    """Both ends of a parameter; None where it is neither a number nor a range."""
    ends = [value, value] if isinstance(value, Real) else value
    if isinstance(ends, dict) and ends.keys() == {"log"}:
        ends = ends["log"]
    if isinstance(ends, (list, tuple)) and len(ends) == 2 and all(isinstance(end, Real) for end in ends):
        return float(ends[0]), float(ends[1])
    return None


def _strength(noise: type[Noise], entry: dict[str, Any]) -> str:
    """The parameter by which an entry of the presets sets the strength of a noise."""
    return next((name for name in noise.instead if name in entry), noise.strength)


def _shown(noise: type[Noise], entry: dict[str, Any] | None) -> tuple[tuple[float, float] | None, str]:
    """Both ends of a slider for a noise of the presets, and what to add to its tip."""
    if entry is None:
        return (0.0, 0.0), ""
    parameter = _strength(noise, entry)
    ends = _ends(entry.get(parameter))
    if parameter == noise.strength or ends is None:
        return ends, ""
    low, high = sorted(noise.instead[parameter].convert(end) for end in ends)
    words = " to ".join(f"{end:g}" for end in dict.fromkeys(ends))
    return (low, high), f" Here {words} {noise.instead[parameter].unit}."


def _tip(noise: type[Noise], slider: Slider) -> str:
    meaning = (noise.__doc__ or noise.__name__).strip().splitlines()[0]
    return f"{meaning} {slider.unit.capitalize()}; drawn between both ends for each tile; 0 leaves it out."
