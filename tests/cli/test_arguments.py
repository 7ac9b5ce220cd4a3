"""What a verb is given is what was written on the command line, on every system."""

from __future__ import annotations

import shlex
from pathlib import PureWindowsPath
from typing import Any

import pytest

from pssr2_monai.cli.arguments import fire_words
from pssr2_monai.cli.main import main
from pssr2_monai.cli.verbs import COMMANDS


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a verb of every kind of argument was called with, by the whole way through fire."""
    seen: list[dict[str, Any]] = []

    def verb(
        source: str,
        target: str = "there",
        *,
        name: str | None = None,
        count: int = 1,
        share: float | None = None,
        window: int | list[int] = 4,
        fast: bool = False,
        **overrides: Any,
    ) -> None:
        own = {"source": source, "target": target, "name": name, "count": count, "share": share}
        seen.append({**own, "window": window, "fast": fast, **overrides})

    monkeypatch.setitem(COMMANDS, "verb", verb)
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
    given = _call(calls, text, f"--target={text}", "--name", text, "--pair_pattern", text, f"--axes={text}")
    assert [given[each] for each in ("source", "target", "name", "pair_pattern", "axes")] == 5 * [text]


def test_the_home_folder_is_meant_by_a_tilde(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    given = _call(calls, "~/scans", "--target=~/out", "--name", "denoise,~/mine.json", "--hr_dir", "~/hr")
    assert [given[each] for each in ("source", "target", "name", "hr_dir")] == [
        "/home/me/scans",
        "/home/me/out",
        "denoise,/home/me/mine.json",
        "/home/me/hr",
    ]
    assert _call(calls, "a~b/~")["source"] == "a~b/~"


def test_numbers_lists_and_switches(calls: list[dict[str, Any]]) -> None:
    given = _call(calls, "a", "--count", "1e3", "--share=-.5", "--window", "[1, 4, 4]", "--fast")
    assert (given["count"], given["share"], given["window"], given["fast"]) == (1000, -0.5, [1, 4, 4], True)
    assert isinstance(given["count"], int)
    assert _call(calls, "a", "--count", "-12345678901234567890")["count"] == -12345678901234567890
    assert _call(calls, "a", "--window", "8")["window"] == 8


def test_a_switch_does_not_swallow_what_follows(calls: list[dict[str, Any]]) -> None:
    given = _call(calls, "--fast", "in", "out")
    assert (given["fast"], given["source"], given["target"]) == (True, "in", "out")
    assert _call(calls, "--fast", "false", "in")["fast"] is False
    assert _call(calls, "in", "--fast=no")["fast"] is False
    given = _call(calls, "--skip_bad", "in", "--compile", "True")  # of the training config
    assert (given["skip_bad"], given["source"], given["compile"]) == (True, "in", True)


def test_ids_of_the_config_are_read_as_python_writes_them(calls: list[dict[str, Any]]) -> None:
    noises = ["--crappifier#noises#0#intensity", "[0.5, 1.5]", "--lr", "3e-4", "--batch-size", "8", "--n_frames=[5,1]"]
    given = _call(calls, "in", *noises, "--precision", "float32", "--device", "$torch.device('cpu')")
    assert given["crappifier#noises#0#intensity"] == [0.5, 1.5]
    assert (given["lr"], given["batch_size"], given["n_frames"]) == (3e-4, 8, [5, 1])
    assert (given["precision"], given["device"]) == ("float32", "$torch.device('cpu')")


def test_all_after_two_dashes_is_positional(calls: list[dict[str, Any]]) -> None:
    given = _call(calls, "--count", "2", "--", "--odd name", "-x.tif")
    assert (given["source"], given["target"], given["count"]) == ("--odd name", "-x.tif", 2)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_command_lines(name: str) -> None:
    help_ = COMMANDS[name].__doc__ or ""
    (example,) = [line.split("Example:")[1] for line in help_.splitlines() if "Example:" in line]
    program, verb, *words = shlex.split(example.split(">")[0])
    assert (program, verb) == ("pssr2", name)
    assert fire_words(COMMANDS[name], words)
