"""Options in a window are those of the command, with the same meanings and values."""

from __future__ import annotations

from typing import Any

import pytest

from pssr2_monai.described import described
from pssr2_monai.errors import InputError, UsageError
from pssr2_monai.napari.form import Options, described_ids
from pssr2_monai.restoration.options import RestoreOptions

SHOWN: dict[str, Any] = {"precision": ("auto", "float32"), "orientations": (1, 4), "window": (), "overwrite": ()}


@pytest.fixture
def options(qtbot: Any) -> Options:
    form = Options(described("restoration.options:RestoreOptions"), SHOWN)
    qtbot.addWidget(form)
    return form


def test_what_differs_from_the_defaults_is_given(options: Options) -> None:
    assert options.values == {}
    options.widgets["precision"].value = "float32"
    options.widgets["orientations"].value = 4
    options.widgets["window"].value = "256"
    options.widgets["overwrite"].value = True
    options.others.value = "overlap=0.5 image=2"
    given = {"precision": "float32", "orientations": 4, "window": 256, "overwrite": True, "overlap": 0.5, "image": 2}
    assert options.values == given
    assert RestoreOptions(**options.values).window == 256


def test_an_option_means_what_the_help_of_the_command_says(options: Options) -> None:
    meaning = described("restoration.options:RestoreOptions")["window"].meaning
    assert options.widgets["window"].tooltip == meaning
    assert "overlap" in options.others.tooltip
    assert "window" not in options.others.tooltip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("overlp=0.5", "Others: there is no option 'overlp'.*overlap"),
        ("overlap", "write name=value"),
        ("overlap=much", "--overlap much: is not a number"),
    ],
)
def test_other_options_are_checked(text: str, message: str, options: Options) -> None:
    options.others.value = text
    with pytest.raises((InputError, UsageError), match=message):
        _ = options.values


def test_options_are_hidden_until_asked_for(options: Options) -> None:
    assert options.rows.isHidden()
    options.toggle.setChecked(True)
    assert not options.rows.isHidden()


def test_ids_of_a_training_may_be_nested_and_hold_anything(qtbot: Any) -> None:
    form = Options(described_ids(), {"channels": ("each", "joint"), "tile": ()}, free=True)
    qtbot.addWidget(form)
    form.others.value = "lr=3e-4 split=file n_frames=[5,1] network_def#depth=1"
    assert form.values == {"lr": 3e-4, "split": "file", "n_frames": [5, 1], "network_def#depth": 1}
    form.widgets["channels"].value, form.widgets["tile"].value = "joint", "64"
    assert form.values.items() >= {"channels": "joint", "tile": 64}.items()
