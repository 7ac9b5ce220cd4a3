"""Forms: rows of widgets with aligned labels, and widgets of options as their descriptions have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fire.parser import DefaultParseValue
from magicgui.widgets import CheckBox, ComboBox, Container, LineEdit, Widget
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from pssr2_monai.bundle import described_training_ids, training_ids
from pssr2_monai.described import Option
from pssr2_monai.errors import InputError, nearest
from pssr2_monai.networks.precision import PRECISIONS
from pssr2_monai.restoration.inferer import BACKENDS, INT8

COMPUTING: Mapping[str, Sequence[Any]] = {"precision": ("auto", *PRECISIONS, INT8), "backend": BACKENDS}
"""Options of how networks are computed, with their choices."""


class Rows(QWidget):
    """Widgets below each other, with their labels on the left."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self._widgets: list[Widget] = []

    def add(self, widgets: Iterable[Widget]) -> None:
        for widget in widgets:
            self._widgets.append(widget)
            if isinstance(widget, CheckBox):
                self._rows.addRow(widget.native)
                continue
            label = QLabel(widget.label)
            label.setToolTip(widget.tooltip)
            self._rows.addRow(label, widget.native)

    def reset_choices(self) -> None:
        """Update the choices of layers."""
        for widget in self._widgets:
            if isinstance(widget, (ComboBox, Container)):
                widget.reset_choices()


class Options(QWidget):
    """Options that few people need, hidden at first: some with widgets, all others by their names.

    Args:
        options: by name, with what they mean.
        shown: the options with a widget, and the choices of each; none for a switch or a text.
        free: whether names are checked elsewhere, since there are more than those described.
        above: further widgets, which come first.
    """

    def __init__(
        self,
        options: Mapping[str, Option],
        shown: Mapping[str, Sequence[Any]],
        free: bool = False,
        above: Sequence[Widget] = (),
    ) -> None:
        super().__init__()
        self._options, self._free = options, free
        self.widgets: dict[str, Any] = {name: _widget(options[name], choices) for name, choices in shown.items()}
        others = ", ".join(name for name, option in options.items() if name not in shown and not option.required)
        self.others = LineEdit(label="Others", tooltip=f"name=value, separated by spaces; names are {others}")
        self.others.native.setPlaceholderText("name=value name=value")
        self.rows = Rows()
        self.rows.add([*above, *self.widgets.values(), self.others])
        self.rows.hide()
        self.toggle = QCheckBox("more options")
        self.toggle.toggled.connect(self.rows.setVisible)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.toggle)
        layout.addWidget(self.rows)

    def connect(self, changed: Callable[[], None]) -> None:
        for widget in (*self.widgets.values(), self.others):
            widget.changed.connect(lambda *_: changed())

    @property
    def values(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        values = {name: _value(self._options[name], widget) for name, widget in self.widgets.items()}
        written = dict(self._written())
        return {name: value for name, value in values.items() if value != self._options[name].default} | written

    def _written(self) -> Iterable[tuple[str, Any]]:
        for word in self.others.value.split():
            name, equals, text = word.partition("=")
            if not equals or not name:
                raise InputError(f"Others: {word!r} is not an option; write name=value, without spaces in the value")
            option = self._options.get(name)
            if option is None and not self._free:
                raise InputError(f"Others: there is no option {name!r}{nearest(name, self._options)}")
            yield name, option.read(text) if option is not None and option.kinds else DefaultParseValue(text)


def described_ids() -> dict[str, Option]:
    """The ids of the training config, whose values are of any kind, with what they mean."""
    values = training_ids()
    computed = {name for name, value in values.items() if str(value)[:1] in tuple("$@%")}
    return {
        name: Option(name, frozenset(), False, None if name in computed else values[name], f"{meaning} ({default})")
        for names, default, meaning in described_training_ids()
        for name in names
    }


def _widget(option: Option, choices: Sequence[Any]) -> Any:
    label = option.name.replace("_", " ").capitalize()
    tooltip = option.line if option.kinds else option.meaning
    if bool in option.kinds:
        return CheckBox(text=label.lower(), value=bool(option.default), tooltip=tooltip)
    if choices:
        chosen = option.default if option.default in choices else choices[0]
        return ComboBox(label=label, choices=list(choices), value=chosen, tooltip=tooltip)
    widget = LineEdit(label=label, tooltip=tooltip)
    widget.native.setPlaceholderText("automatic" if option.default is None else str(option.default))
    return widget


def _value(option: Option, widget: Any) -> Any:
    if not isinstance(widget, LineEdit):
        return widget.value
    text = widget.value.strip()
    if not text:
        return option.default
    return option.read(text) if option.kinds else DefaultParseValue(text)
