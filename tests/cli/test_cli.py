"""The command: one clear line for what is wrong, before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pssr2_monai.cli import main
from pssr2_monai.commands import COMMANDS


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(exit_.value.code or 0), printed.out, printed.err


def _refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status, out, err = _run(capsys, *arguments)
    assert status == 1
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert out == ""
    return lines[0]


def test_the_commands_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(capsys)
    assert status == 0
    for name in COMMANDS:
        assert name in out
        status, help_, _ = _run(capsys, name, "--help")
        assert status == 0
        assert f"Example: pssr2 {name}" in help_


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["restor"], "did you mean 'restore'"),
        (["train", "IMAGES", "--out", "OUT", "--epoch", "3"], "--epoch: there is no 'epoch'; did you mean 'epochs'?"),
        (["train", "IMAGES", "--out", "OUT", "--preset", "denoize"], "did you mean 'denoise'"),
        (["train", "IMAGES"], "--out must be given"),
        (["restore", "IMAGES", "--weights", "WEIGHTS"], "TARGET must be given"),
        (["restore", "IMAGES", "OUT", "extra", "--weights", "WEIGHTS"], "'extra' is one argument too many"),
        (["train", "MISSING", "--out", "OUT"], "there is no such folder"),
        (["train", "EMPTY", "--out", "OUT"], "holds no image"),
        (["train", "TEXT", "--out", "OUT"], "text.tif"),
        (["train", "IMAGES", "--out", "OUT", "--tile", "256"], "cell_0.png: 96 x 112 pixels are less than half a tile"),
        (["restore", "IMAGES", "OUT", "--weights", "MISSING"], "no such file of weights"),
        (["restore", "IMAGES", "OUT", "--weights", "OTHER"], "do not fit the ResUNet"),
        (["restore", "IMAGES", "OUT", "--weight", "OTHER"], "did you mean '--weights'?"),
        (["evaluate", "--hr", "MISSING", "--weights", "WEIGHTS", "--out", "OUT"], "there is no such folder"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_left(
    arguments: list[str],
    match: str,
    hr_folder: Path,
    tiny_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {
        "IMAGES": hr_folder,
        "MISSING": tmp_path / "missing",
        "EMPTY": tmp_path / "empty",
        "OUT": tmp_path / "out",
    }
    places |= {"TEXT": tmp_path / "text", "WEIGHTS": tiny_weights, "OTHER": tmp_path / "other.pt"}
    places["EMPTY"].mkdir()
    places["TEXT"].mkdir()
    (places["TEXT"] / "text.tif").write_text("this is no image")
    weights = torch.load(tiny_weights, weights_only=True)
    weights["model"].pop(next(iter(weights["model"])))
    torch.save(weights, places["OTHER"])
    assert match in _refused(capsys, *(places.get(word, word) for word in arguments))
    assert not places["OUT"].exists()


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _run(capsys, "train", tmp_path / "missing", "--out", tmp_path / "out", "--debug")
    assert status == 1
    assert "Traceback" in err


def test_train_restore_and_evaluate_from_a_path_with_odd_characters(
    hr_folder: Path,
    tiny_options: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = tmp_path / "it's [a], folder 1"
    images.symlink_to(hr_folder)
    run, restored, scores = tmp_path / "run, 001", tmp_path / "001", tmp_path / "2"
    options = [word for key, value in tiny_options.items() for word in (f"--{key}", value)]
    status, out, err = _run(capsys, "train", images, "--out", run, "--epochs", 1, *options)
    assert status == 0, err
    assert out.strip() == str(run / "model.pt")
    assert caplog.text.count("epoch 1/1") == 1
    status, out, err = _run(capsys, "restore", images, restored, "--weights", run / "model.pt")
    assert status == 0, err
    assert out.split("\n")[:5] == [str(restored / f"cell_{n}.png") for n in range(5)]
    status, out, err = _run(capsys, "evaluate", "--hr", images, "--weights", run / "model.pt", "--out", scores)
    assert status == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["bilinear", "bicubic", "model"]
    assert out.splitlines()[-1] == str(scores / "report.html")


def test_help_does_not_load_torch() -> None:
    code = "import sys; from pssr2_monai.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
