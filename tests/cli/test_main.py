"""The command: one clear line for what is wrong, before any work."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from pssr2_monai.cli.arguments import Answer
from pssr2_monai.cli.main import EVERYWHERE, as_json, main
from pssr2_monai.cli.verbs import COMMANDS
from pssr2_monai.images.files import log_once
from pssr2_monai.networks.weights import read_checkpoint


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(exit_.value.code or 0), printed.out, printed.err


def _refused(capsys: pytest.CaptureFixture[str], expected: int, *arguments: object) -> str:
    status, out, err = _run(capsys, *arguments)
    assert status == expected, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert out == ""
    return lines[0]


def test_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["help"]):
        status, out, _ = _run(capsys, *words)
        assert status == 0
        lines = out.splitlines()
        for name, verb in COMMANDS.items():
            assert f"  {name:12}{verb.summary}" in lines
            assert len(verb.summary) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_each_argument_and_has_one_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, help_, _ = _run(capsys, name, "--help")
    assert status == 0
    assert help_.count(f"Example: pssr2 {name} ") == 1
    summary, usage, arguments, *_ = help_.split("\n\n")
    assert summary == COMMANDS[name].summary
    for option in COMMANDS[name].options.values():
        place = option.name.upper() if option.name in COMMANDS[name].places else option.flag
        assert re.search(rf"(^| |\[){place}\b", usage, re.MULTILINE), option
        assert re.search(rf"^{place} +\S.{{3}}", arguments, re.MULTILINE), option
    assert help_.endswith(f"{EVERYWHERE}\n")
    assert max(map(len, help_.splitlines())) <= 120
    assert not re.search("`|None|told|tells", help_)


@pytest.mark.parametrize(
    ("arguments", "status", "match"),
    [
        (["restor"], 2, "did you mean 'restore'"),
        (
            ["train", "IMAGES", "--out", "OUT", "--epoch", "3"],
            2,
            "--epoch: there is no 'epoch'; did you mean 'epochs'?",
        ),
        (["train", "IMAGES", "--out", "OUT", "--preset", "denoize"], 2, "did you mean 'denoise'"),
        (["train", "IMAGES"], 2, "--out must be given"),
        (["restore", "IMAGES", "--weights", "WEIGHTS"], 2, "TARGET must be given"),
        (["restore", "IMAGES", "OUT", "extra", "--weights", "WEIGHTS"], 2, "'extra' is one argument too many"),
        (["train", "MISSING", "--out", "OUT"], 1, "there is no such folder"),
        (["train", "EMPTY", "--out", "OUT"], 1, "holds no image"),
        (["train", "TEXT", "--out", "OUT"], 1, "text.tif"),
        (
            ["train", "IMAGES", "--out", "OUT", "--tile", "256"],
            1,
            "cell_0.png: 96 x 112 pixels are less than half a tile",
        ),
        (["restore", "IMAGES", "OUT", "--weights", "MISSING"], 1, "no such file of weights"),
        (["restore", "IMAGES", "OUT", "--weights", "OTHER"], 1, "do not fit the ResUNet"),
        (["restore", "IMAGES", "OUT", "--weight", "OTHER"], 2, "did you mean '--weights'?"),
        (["train", "IMAGES", "--out", "OUT", "--tile", "large"], 2, "--tile large: is not a number"),
        (["train", "IMAGES", "--out", "OUT", "--tiles", "3"], 2, "a section of the config; set what is in it, such as"),
        (["train", "IMAGES", "--out", "OUT", "--compile=3"], 2, "--compile 3: is not true or false"),
        (["train", "IMAGES", "--out", "OUT", "--minutes", "soon"], 2, "--minutes soon: is not a number"),
        (["train", "IMAGES", "--out"], 2, "--out needs a value"),
        (["train", "IMAGES", "-o", "OUT"], 2, "there is no option -o"),
        (["restore", "IMAGES", "OUT", "--weights", "WEIGHTS", "--window", "1.5"], 2, "1.5: is not a whole number"),
        (["restore", "IMAGES", "OUT", "--weights", "WEIGHTS", "--fidelity=maybe"], 2, "is not true or false"),
        (["info", "IMAGES", "--scale", "[1,4"], 2, "is not a whole number or a list such as [1,4,4]"),
        (["completion", "bsh"], 2, "did you mean 'bash'?"),
        (["evaluate", "--hr", "MISSING", "--weights", "WEIGHTS", "--out", "OUT"], 1, "there is no such folder"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    arguments: list[str],
    status: int,
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
    assert match in _refused(capsys, status, *(places.get(word, word) for word in arguments))
    assert not places["OUT"].exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_any_command_with_one_line_and_its_status(
    number: signal.Signals, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pssr2_monai.data.info.describe", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as exit_:
        main(["info", "cell.tif"])
    assert exit_.value.code == status
    assert capsys.readouterr().err.startswith("stopped; resume a training with --resume")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _run(capsys, "train", tmp_path / "missing", "--out", tmp_path / "out", "--debug")
    assert status == 1
    assert "Traceback" in err


def _json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    status, out, err = _run(capsys, *arguments, "--json")
    assert status == 0, err
    report: dict[str, object] = json.loads(out, parse_constant=pytest.fail)  # no NaN, which JSON does not have
    return report


def test_train_restore_and_evaluate_from_a_path_with_odd_characters(
    hr_folder: Path,
    tiny_options: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What goes to stdout is paths and figures alone, as text or as JSON."""
    images = tmp_path / "it's [a], folder 1"
    images.symlink_to(hr_folder)
    run, restored, scores = tmp_path / "run, 001", tmp_path / "001", tmp_path / "2"
    options = [word for key, value in tiny_options.items() for word in (f"--{key}", value)]
    report = _json(capsys, "train", images, "--out", run, "--epochs", 1, *options)
    assert report == {
        "weights": str(run / "model.pt"),
        "last": str(run / "last.pt"),
        "config": str(run / "config.json"),
        "record": str(run / "run.json"),
        "tensorboard": str(run / "tensorboard"),
    }
    assert all(Path(str(path)).exists() for path in report.values())
    assert caplog.text.count("epoch 1/1") == 1
    status, out, err = _run(capsys, "restore", images, restored, "--weights", run / "model.pt")
    assert status == 0, err
    assert out.splitlines() == [str(restored / f"cell_{n}.png") for n in range(5)]
    again = ("restore", images, restored, "--overwrite", "--weights", run / "model.pt")
    assert _json(capsys, *again) == {"restored": [{"path": str(restored / f"cell_{n}.png")} for n in range(5)]}
    scoring = ("evaluate", "--hr", images, "--weights", run / "model.pt", "--out", scores)
    status, out, err = _run(capsys, *scoring)
    assert status == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:5]] == ["bilinear", "bicubic", "filter", "model"]
    assert out.splitlines()[-1] == str(scores / "report.html")
    written = json.loads((scores / "metrics.json").read_text())
    report = _json(capsys, *scoring)
    assert report["mean"] == written["mean"]
    assert report["verdict"] == written["verdict"]
    assert report["report"] == str(scores / "report.html")


def test_a_dry_training_reports_the_config_and_the_plan_and_writes_nothing(
    hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for key, value in tiny_options.items() for word in (f"--{key}", value)]
    command = ("train", hr_folder, "--out", tmp_path / "run", "--epochs", 2, *options, "--dry-run")
    report = _json(capsys, *command)
    # Four of the five images of 96 x 112 pixels are trained on, in tiles of 32 of which the last may overlap.
    assert (report["training_tiles"], report["validation_tiles"]) == (4 * 3 * 4, 3 * 4)
    assert (report["steps"], report["epochs"], report["minutes"], report["device"]) == (6, 2, None, "cpu")
    assert report["outputs"] == [
        str(tmp_path / "run" / name) for name in ("model.pt", "last.pt", "config.json", "run.json", "tensorboard")
    ]
    config = report["config"]
    assert isinstance(config, dict)
    assert (config["tile"], config["network_def"]["channels"]) == (32, [8, 16])
    status, out, _ = _run(capsys, *command)
    merged, _, plan = out.partition("\n\n")
    assert status == 0
    assert json.loads(merged) == config
    assert "steps       6 an epoch, 8 tiles each" in plan.splitlines()
    assert list(tmp_path.iterdir()) == []
    # It is what the training then does.
    assert _run(capsys, *command[:-1])[0] == 0
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {key: value for key, value in written.items() if key != "_meta_"} == {
        key: value for key, value in config.items() if key != "_meta_"
    }
    trainer = read_checkpoint(tmp_path / "run" / "last.pt")["trainer"]
    assert trainer["epoch_length"] == 6


def test_a_dry_restoring_reports_what_would_be_written(
    hr_folder: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A comma joins files with uncertainty alone.
    weights = shutil.copy(tiny_weights, tmp_path / "of June, the second.pt")
    command = ("restore", hr_folder, tmp_path / "out", "--weights", weights, "--format", "tif", "--dry-run")
    report = _json(capsys, *command)
    files = report["files"]
    assert isinstance(files, list)
    assert [file["output"]["path"] for file in files] == [str(tmp_path / "out" / f"cell_{n}.tif") for n in range(5)]
    assert files[0].keys() == {"source", "axes", "shape", "dtype", "pixel_size", "output", "maps"}
    read = {"source": str(hr_folder / "cell_0.png"), "axes": "YX", "shape": [96, 112], "dtype": "uint8"}
    assert files[0].items() >= read.items()
    assert files[0]["output"]["shape"] == [4 * 96, 4 * 112]
    assert files[0]["output"]["nbytes"] == 16 * 96 * 112
    assert (report["finished"], report["problem"]) == (0, None)
    status, out, _ = _run(capsys, *command)
    assert status == 0
    assert f"  -> {tmp_path / 'out' / 'cell_4.tif'}" in out.splitlines()
    assert "time" not in out
    assert not (tmp_path / "out").exists()


def test_every_verb_says_which_image_of_a_file_it_reads_and_takes_another(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    for folder, factor in (("hr", 4), ("lr", 1)):
        (tmp_path / folder).mkdir()
        for name, side in (("Snapshot", 16), ("Scan", 32)):
            pixels = generator.integers(0, 255, (side * factor, side * factor), "uint8")
            tifffile.imwrite(tmp_path / folder / "a.tif", pixels, append=True, metadata={"name": name})
    hr, lr, out = tmp_path / "hr", tmp_path / "lr", tmp_path / "out"
    out.mkdir()
    commands: dict[str, tuple[object, ...]] = {
        "info": (hr / "a.tif", "--tile", 32),
        "restore": (lr, out / "restored", "--weights", tiny_weights),
        "evaluate": ("--hr", hr, "--lr", lr, "--weights", tiny_weights, "--out", out / "scores"),
        "crappify": (hr, out / "crappified"),
        "preprocess": (hr, out / "tiles", "--tile", 64, "--val_fraction", 0),
        "train": (hr, "--out", out / "run", "--epochs", 1, "--tile", 32, "--dry-run"),
        "calibrate": ("--lr", lr, "--out", out / "scope.json"),
    }
    for verb, arguments in commands.items():
        for image, place in (("Snapshot", "image 1 of 2 (Snapshot)"), (2, "image 2 of 2 (Scan)")):
            log_once.cache_clear()  # what is reported once in a process
            replace = ("--overwrite",) if verb in ("restore", "crappify", "preprocess") else ()
            caplog.clear()
            status, _, err = _run(capsys, verb, *arguments, "--image", image, *replace)
            assert status == 0 or verb == "calibrate", (verb, err)  # noise has no flat patches to calibrate on
            assert f"a.tif: {place}, " in caplog.text, verb
        assert "holds 2 images: 1 Snapshot (" in _refused(capsys, 1, verb, *arguments, "--image", "Other", *replace)
    assert tifffile.imread(out / "restored" / "a.tif").shape == (128, 128)
    assert tifffile.imread(out / "crappified" / "a.tif").shape == (32, 32)


def test_other_figures_are_data_too(
    hr_folder: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = hr_folder / "cell_0.png"
    assert _json(capsys, "info", image)["shape"] == [96, 112]
    lr = tmp_path / "lr.tif"
    assert _json(capsys, "crappify", image, lr, "--scale", 4) == {"crappified": [{"path": str(lr)}]}
    tiles = _json(capsys, "preprocess", hr_folder, tmp_path / "tiles", "--tile", 32, "--limit", 2)["tiles"]
    assert isinstance(tiles, list)
    assert all(Path(tile).is_file() for tile in tiles)
    assert len(tiles) == 4
    restored = _json(capsys, "restore", lr, tmp_path / "sr.tif", "--weights", tiny_weights, "--fidelity")["restored"]
    assert isinstance(restored, list)
    assert restored[0]["path"] == str(tmp_path / "sr.tif")
    assert restored[0]["fidelity"]["verdict"]["headline"]


def test_numbers_that_json_lacks_are_null() -> None:
    data = {"psnr": np.float64("inf"), "curve": np.array([1.0, np.nan]), "path": Path("a"), 3: (np.int64(2), True)}
    assert json.loads(as_json(data)) == {"psnr": None, "curve": [1.0, None], "path": "a", "3": [2, True]}
    assert json.loads(as_json(Answer("text", {"files": [Path("b")]}))) == {"text": "text", "data": {"files": ["b"]}}


def test_messages_do_not_run_into_progress_bars() -> None:
    code = (
        "import logging, sys; from pssr2_monai.cli.main import _set_up_output; from tqdm import tqdm\n"
        "_set_up_output(False)\n"
        "bar = tqdm(total=2, desc='files', file=sys.stderr, mininterval=0)\n"
        "bar.update(); logging.getLogger('pssr2_monai').info('left out: b.tif'); bar.update(); bar.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    # On a line of its own: what stood there of the bar was wiped.
    lines = [line.rsplit("\r", 1)[-1] for line in done.stderr.split("\n")]
    assert "left out: b.tif" in lines


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["restore", "--help"], ["export", "--help"]])
def test_help_loads_no_heavy_package(words: list[str]) -> None:
    code = (
        f"import sys; from pssr2_monai.cli.main import main\ntry: main({words})\n"
        "finally: print(bool({'torch', 'monai', 'matplotlib', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize("arguments", [["restor"], ["train", "images", "--out"], ["completion", "bash"]])
def test_wrong_usage_is_refused_without_loading_torch_and_monai(arguments: list[str]) -> None:
    code = (
        f"import sys; from pssr2_monai.cli.main import main\ntry: main({arguments})\n"
        "finally: print('torch' in sys.modules or 'monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_the_exit_status_of_the_process(hr_folder: Path) -> None:
    words = {0: ["info", str(hr_folder / "cell_0.png")], 1: ["info", "missing.tif"], 2: ["info", "--tiles", "3"]}
    for status, arguments in words.items():
        done = subprocess.run(
            [sys.executable, "-m", "pssr2_monai.cli.main", *arguments], capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr
