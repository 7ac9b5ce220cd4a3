"""The folder of a training: one training at a time, and nothing in the way of what it writes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.training.run_folder import CONFIG, LOCK, RunFolder
from pssr2_monai.training.train import train

HOLD = """
import sys, time
from pssr2_monai.training.run_folder import RunFolder
folder = RunFolder(sys.argv[1])
folder.take()
print("taken", flush=True)
time.sleep(600)
"""


def test_a_second_training_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.take()
    first.take()  # as the bundle does after `train`
    with pytest.raises(InputError, match="run: another training is writing here; give another folder"):
        second.take()
    first.write({"seed": 1, "config": {"resume": None, "epochs": 3}})
    first.release()
    second.take()
    second.release()
    assert json.loads((tmp_path / "run" / CONFIG).read_text()) == {"resume": None, "epochs": 3}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {CONFIG, "run.json"}


def test_a_killed_training_holds_nothing(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    (tmp_path / "hold.py").write_text(HOLD)
    other = run_python(tmp_path / "hold.py", tmp_path)
    other.wait_for(lambda: other.stdout == "taken\n")
    with pytest.raises(InputError, match="another training is writing here"):
        RunFolder(tmp_path).take()
    other.kill()
    assert (tmp_path / LOCK).exists(), "what the killed one left"
    folder = RunFolder(tmp_path)
    folder.take()
    folder.release()


def test_other_ranks_need_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(tmp_path / "run").take()
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    RunFolder(tmp_path / "run").take()


@pytest.mark.parametrize("name", ["", "model.pt", "last.pt", "config.json", "tensorboard"])
def test_what_is_in_the_way_is_named_before_any_work(name: str, hr_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / name
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if name.endswith((".pt", ".json")) else path.write_text("mine")
    with pytest.raises(InputError, match=rf"{path.name}: is (a file )?in the way of what "):
        train(hr_folder, tmp_path / "run", epochs=1, tile=32)
    if not name:
        with pytest.raises(InputError, match="run: is a file in the way"):
            train(hr_folder, tmp_path / "run" / "inside", epochs=1, tile=32)


@pytest.mark.trust
def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match=r"\.lock: is a link"):
        RunFolder(tmp_path / "run").take()
    assert (tmp_path / "victim").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(hr_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"run: cannot be written to \(Permission denied\)"):
        train(hr_folder, tmp_path / "locked" / "run", epochs=1, tile=32)


def test_a_training_that_is_refused_leaves_no_folder(hr_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="less than half a tile"):
        train(hr_folder, tmp_path / "new" / "run", epochs=1, tile=256)
    assert list(tmp_path.iterdir()) == []
