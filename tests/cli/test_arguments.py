"""What a verb is given is what was written on the command line, on every system."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import PureWindowsPath
from typing import Any

import pytest

import pssr2_monai.calibration.calibrate
import pssr2_monai.calibration.registration.register
import pssr2_monai.cli.demo
import pssr2_monai.data.datalists
import pssr2_monai.evaluation.evaluate
import pssr2_monai.export.export
import pssr2_monai.export.grey_levels
import pssr2_monai.networks.weights
import pssr2_monai.restoration.options
import pssr2_monai.restoration.restore
import pssr2_monai.training.preview
import pssr2_monai.training.train
from pssr2_monai.cli.arguments import fire_words, verb
from pssr2_monai.cli.main import main
from pssr2_monai.cli.verbs import COMMANDS


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a verb with every kind of argument was called with, all the way through fire."""
    seen: list[dict[str, Any]] = []

    @verb(places="source target", example="a")
    def sample(
        *,
        source: str,
        target: str = "there",
        name: str | None = None,
        count: int = 1,
        share: float | None = None,
        window: int | list[int] = 4,
        fast: bool = False,
        **overrides: Any,
    ) -> None:
        """Record a call.

        Args:
            **overrides: any id of the training config.
        """
        arguments = {"source": source, "target": target, "name": name, "count": count, "share": share}
        seen.append({**arguments, "window": window, "fast": fast, **overrides})

    monkeypatch.setitem(COMMANDS, "verb", sample)
    return seen


def _call(calls: list[dict[str, Any]], *words: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as exit_:
        main(["verb", *words])
    assert exit_.value.code == 0
    return calls[-1]


@pytest.mark.parametrize(
    "text",
    [
        "1e3",
        "True",
        "None",
        "007",
        "1_0",
        "a-b",
        "[x]",
        "{a: b}",
        "(1, 2)",
        "'quoted'",
        "a,b",
        "a=b",
        "-",
        "#3",
        "it's [a], folder 1",
        r"C:\data\x.tif",
        r"C:\new\table\0x41 [b]\x.tif",
        r"\\server\share\it's here\stack.ome.tif",
        str(PureWindowsPath("D:/") / "scans 1" / "a-b" / "1e3"),
        "/Users/me/Library/Mobile Documents/scan 1.tif",
        "straße/µm.tif",
    ],
)
def test_text_stays_text(text: str, calls: list[dict[str, Any]]) -> None:
    arguments = _call(calls, text, f"--target={text}", "--name", text, "--pair_pattern", text, f"--axes={text}")
    assert [arguments[name] for name in ("source", "target", "name", "pair_pattern", "axes")] == 5 * [text]


def test_the_home_folder_is_meant_by_a_tilde(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    arguments = _call(calls, "~/scans", "--target=~/out", "--name", "denoise,~/mine.json", "--hr_dir", "~/hr")
    assert [arguments[name] for name in ("source", "target", "name", "hr_dir")] == [
        "/home/me/scans",
        "/home/me/out",
        "denoise,/home/me/mine.json",
        "/home/me/hr",
    ]
    assert _call(calls, "a~b/~")["source"] == "a~b/~"


def test_numbers_lists_and_switches(calls: list[dict[str, Any]]) -> None:
    arguments = _call(calls, "a", "--count", "1e3", "--share=-.5", "--window", "[1, 4, 4]", "--fast")
    assert (arguments["count"], arguments["share"], arguments["window"], arguments["fast"]) == (
        1000,
        -0.5,
        [1, 4, 4],
        True,
    )
    assert isinstance(arguments["count"], int)
    assert _call(calls, "a", "--count", "-12345678901234567890")["count"] == -12345678901234567890
    assert _call(calls, "a", "--window", "8")["window"] == 8


def test_a_switch_does_not_swallow_what_follows(calls: list[dict[str, Any]]) -> None:
    arguments = _call(calls, "--fast", "in", "out")
    assert (arguments["fast"], arguments["source"], arguments["target"]) == (True, "in", "out")
    assert _call(calls, "--fast", "false", "in")["fast"] is False
    assert _call(calls, "in", "--fast=no")["fast"] is False
    arguments = _call(calls, "--skip_bad", "in", "--compile", "True")  # of the training config
    assert (arguments["skip_bad"], arguments["source"], arguments["compile"]) == (True, "in", True)


def test_ids_of_the_config_are_read_as_python_writes_them(calls: list[dict[str, Any]]) -> None:
    noises = ["--crappifier#noises#0#intensity", "[0.5, 1.5]", "--lr", "3e-4", "--batch-size", "8", "--n_frames=[5,1]"]
    arguments = _call(calls, "in", *noises, "--precision", "float32", "--device", "$torch.device('cpu')")
    assert arguments["crappifier#noises#0#intensity"] == [0.5, 1.5]
    assert (arguments["lr"], arguments["batch_size"], arguments["n_frames"]) == (3e-4, 8, [5, 1])
    assert (arguments["precision"], arguments["device"]) == ("float32", "$torch.device('cpu')")


def test_all_after_two_dashes_is_positional(calls: list[dict[str, Any]]) -> None:
    arguments = _call(calls, "--count", "2", "--", "--odd name", "-x.tif")
    assert (arguments["source"], arguments["target"], arguments["count"]) == ("--odd name", "-x.tif", 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_command_lines(name: str) -> None:
    assert fire_words(COMMANDS[name], shlex.split(COMMANDS[name].example.split(">")[0]))


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("train", [pssr2_monai.training.train.train]),
        ("restore", [pssr2_monai.restoration.restore.restore, pssr2_monai.restoration.options.RestoreOptions]),
        ("evaluate", [pssr2_monai.evaluation.evaluate.evaluate, pssr2_monai.restoration.options.RestoreOptions]),
        ("info", [pssr2_monai.data.datalists.TileSettings]),
        ("calibrate", [pssr2_monai.calibration.calibrate.calibrate]),
        ("register", [pssr2_monai.calibration.registration.register.register]),
        ("crappify", [pssr2_monai.training.preview.crappify_images]),
        ("preprocess", [pssr2_monai.training.preview.preprocess]),
        ("export", [pssr2_monai.export.export.export, pssr2_monai.export.grey_levels.PackageSettings]),
        ("convert", [pssr2_monai.networks.weights.convert]),
        ("demo", [pssr2_monai.cli.demo.demonstrate]),
    ],
)
def test_options_are_those_of_the_function_that_is_called(name: str, sources: list[Callable[..., Any]]) -> None:
    """The same names, required ones and defaults as Python itself sees; what else there is belongs to the command."""
    parameters = {key: value for source in sources for key, value in inspect.signature(source).parameters.items()}
    options = COMMANDS[name].options
    shared = [option for option in options.values() if option.name in parameters]
    assert len(shared) >= 2
    for option in shared:
        default = parameters[option.name].default
        assert option.required == (default is inspect.Parameter.empty), option
        assert option.default == (None if option.required else default), option
    required = {key for key, value in parameters.items() if value.default is value.empty and value.kind.value < 2}
    assert required <= options.keys() | {"path"}  # describe's, which is FILE


def test_options_have_the_types_of_their_annotations() -> None:
    restore, info, train = (COMMANDS[name].options for name in ("restore", "info", "train"))
    assert restore["window"].kinds == {int}
    assert restore["overlap"].kinds == {float}
    assert restore["profile"].kinds == {str}
    assert restore["skip_bad"].kinds == {bool}
    assert info["scale"].kinds == {int, list}
    assert train["preset"].kinds == {str}, "a list of names is text with commas"
    assert "live" not in train
    assert COMMANDS["evaluate"].options["window"].kinds == {int}
    assert "options" not in restore


def test_help_is_made_of_the_docstring() -> None:
    @verb(places="source", example="a --count 2")
    def sample(
        *,
        source: str,
        count: int = 3,
        seed: int = 0,
        name: str = "",
        low: float | None = None,
        fast: bool = False,
        **overrides: Any,
    ) -> None:
        """Do something with a file.

        More about
        it (see ``elsewhere`` and
        ``there``).

        Args:
            source: The file.
            count: How often ``it`` is done.
            seed: of the draws.
            name: of the file; by default
                its own. Or not.
            low: HR pixels.
            fast: do it fast.
            **overrides: any id.

        Returns:
            Nothing.
        """

    assert (
        sample.help()
        == """\
Do something with a file.

pssr2 sample SOURCE [--count 3] [--seed 0] [--name NAME] [--low X] [--fast] [--ID VALUE ...]

SOURCE   the file
--count  how often it is done (default: 3)
--seed   of the draws (default: 0)
--name   of the file; by default its own. Or not.
--low    HR pixels
--fast   do it fast
--ID     any id

More about it.

Example: pssr2 sample a --count 2"""
    )


def test_ids_of_the_training_config_are_described_with_their_defaults() -> None:
    help_ = COMMANDS["train"].help()
    assert re.search(r"^--scale +HR size over LR size; .*\(4\)$", help_, re.MULTILINE)
    assert "--dataset_dir" not in help_
    assert help_.count("--epochs ") == 2, "in the usage and as an option, not among the ids"
