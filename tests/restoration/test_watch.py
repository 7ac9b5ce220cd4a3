"""Watching a folder: complete files alone are restored, once, and nothing but the user ends it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.images.writer import write_image
from pssr2_monai.restoration.restore import restore
from pssr2_monai.restoration.watch import LONGEST_DELAY, Arrivals, state_while_written, watch


class Script(threading.Event):
    """Does one thing after each look at the folder, and ends the watch after the last."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        super().__init__()
        self.actions = list(actions)

    def wait(self, timeout: float | None = None) -> bool:
        if self.actions:
            self.actions.pop(0)()
        else:
            self.set()
        return self.is_set()


def nothing() -> None:
    """Let the watch look again."""


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (40, 30), dtype=np.uint8)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    return tmp_path / "scans"


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    return tmp_path / "restored"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_file_has_its_turn_when_it_has_not_changed_for_the_settling_time() -> None:
    state, path = {"a": 1}, Path("a")
    arrivals = Arrivals(5.0, lambda path: state["a"], lambda path: state["a"])
    assert arrivals.due([path], 0) == []
    state["a"] = 2
    assert arrivals.due([path], 4) == []
    assert arrivals.due([path], 8.9) == []
    assert arrivals.due([path], 9) == [path]
    arrivals.finish(path, 2)
    assert arrivals.due([path], 100) == []
    state["a"] = 3
    assert arrivals.due([path], 101) == []
    assert arrivals.due([path], 106) == [path]
    assert arrivals.due([], 107) == []
    assert arrivals.due([path], 108) == [], "it was away and is a new file"


def test_a_file_whose_state_cannot_be_read_keeps_its_turn() -> None:
    errors: list[OSError] = []

    def state(path: Path) -> int:
        if errors:
            raise errors.pop()
        return 1

    arrivals, path = Arrivals(5.0, state), Path("a")
    errors.append(PermissionError())
    assert arrivals.due([path], 0) == []
    arrivals.due([path], 1)
    errors.append(PermissionError())
    assert arrivals.due([path], 3) == []
    assert arrivals.due([path], 6) == [path]


def test_a_file_that_fails_is_tried_ever_less_often_but_at_once_after_a_change() -> None:
    state, path, now, pauses = {"a": 1}, Path("a"), 5.0, []
    arrivals = Arrivals(5.0, lambda path: state["a"])
    arrivals.due([path], 0)
    for _ in range(12):
        assert arrivals.due([path], now) == [path]
        arrivals.put_off(path, now)
        pause = next(pause for pause in range(1, 1000) if arrivals.due([path], now + pause))
        pauses.append(pause)
        now += pause
    assert pauses == [5, 10, 20, 40, 80, 160, 320, *[LONGEST_DELAY] * 5]
    state["a"] = 2
    assert arrivals.due([path], now + 1) == []
    assert arrivals.due([path], now + 6) == [path]


def test_a_file_that_grows_is_restored_when_it_is_complete(
    weights: Path, scans: Path, restored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(scans.parent / "whole.tif", image(0), axes="YX", pixel_size={})
    content = (scans.parent / "whole.tif").read_bytes()
    half = len(content) // 2
    growing = scans / "a.tif"

    def append() -> None:
        with growing.open("ab") as file:
            file.write(content[half:])

    script = Script(lambda: growing.write_bytes(content[:half]), nothing, nothing, append, nothing, nothing)
    assert watch(scans, restored, weights, settle=0, stop=script) == [restored / "a.tif"]
    (expected,) = restore(scans.parent / "whole.tif", scans.parent / "expected.tif", weights)
    np.testing.assert_array_equal(tifffile.imread(restored / "a.tif"), tifffile.imread(expected))
    cut = f"its pixels extend to byte {len(content)}, but the file has {half}, {len(content) - half} are missing"
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"waiting: a.tif: is cut short: {cut}; copy it again"]


def test_temporary_names_are_left_alone_until_they_are_renamed(weights: Path, scans: Path, restored: Path) -> None:
    write_image(scans.parent / "whole.tif", image(0), axes="YX", pixel_size={})
    temporary = [scans / "a.tif.part", scans / ".b.tif", scans / "c.tmp"]

    def write() -> None:
        for path in temporary:
            shutil.copy(scans.parent / "whole.tif", path)

    def rename() -> None:
        assert not restored.exists() or names(restored) == []
        for path, name in zip(temporary, "abc", strict=True):
            path.rename(scans / f"{name}.tif")

    written = watch(scans, restored, weights, settle=0, stop=Script(write, nothing, nothing, rename, nothing))
    assert [path.name for path in written] == names(restored) == ["a.tif", "b.tif", "c.tif"]


def test_a_broken_file_does_not_stop_the_watch_and_is_reported_once(
    weights: Path, scans: Path, restored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def add(name: str) -> None:
        write_image(scans / name, image(1), axes="YX", pixel_size={})

    (scans / "a.tif").write_text("no image")
    written = watch(scans, restored, weights, settle=0, stop=Script(lambda: add("b.tif"), *[nothing] * 4))
    assert [path.name for path in written] == ["b.tif"]
    assert caplog.text.count("waiting: a.tif: ") == 1


def test_what_is_restored_is_not_restored_again(
    weights: Path, scans: Path, restored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.tif", "b.tif"):
        write_image(scans / name, image(0), axes="YX", pixel_size={})
    caplog.set_level(logging.INFO)
    restored.mkdir()
    (restored / "a.tif").write_text("another's work")
    assert [path.name for path in watch(scans, restored, weights, settle=0, stop=Script(nothing))] == ["b.tif"]
    assert (restored / "a.tif").read_text() == "another's work"
    assert "1 restored files exist already" in caplog.text
    assert watch(scans, restored, weights, settle=0, stop=Script(nothing)) == []
    write_image(scans / "b.tif", image(1), axes="YX", pixel_size={}, overwrite=True)
    before = (restored / "b.tif").read_bytes()
    assert watch(scans, restored, weights, settle=0, stop=Script(nothing)) == []
    assert "b.tif: was restored before b.tif changed" in caplog.text
    assert (restored / "b.tif").read_bytes() == before
    written = watch(scans, restored, weights, settle=0, stop=Script(nothing), overwrite=True)
    assert [path.name for path in written] == ["a.tif", "b.tif"]
    assert watch(scans, restored, weights, settle=0, stop=Script(nothing), overwrite=True) == []


def test_a_scan_that_changes_is_restored_anew_where_asked(weights: Path, scans: Path, restored: Path) -> None:
    def scan(number: int) -> None:
        write_image(scans / "live.tif", image(number), axes="YX", pixel_size={}, overwrite=True)

    script = Script(lambda: scan(0), nothing, lambda: scan(1), nothing, nothing)
    written = watch(scans, restored, weights, settle=0, stop=script, overwrite=True)
    assert [path.name for path in written] == ["live.tif", "live.tif"]
    (expected,) = restore(scans / "live.tif", scans.parent / "expected.tif", weights)
    np.testing.assert_array_equal(tifffile.imread(restored / "live.tif"), tifffile.imread(expected))


def test_a_plain_run_resumes_after_a_watch(weights: Path, scans: Path, restored: Path) -> None:
    write_image(scans / "a.tif", image(0), axes="YX", pixel_size={})
    watch(scans, restored, weights, settle=0, stop=Script(nothing))
    before = (restored / "a.tif").stat().st_mtime_ns
    write_image(scans / "b.tif", image(1), axes="YX", pixel_size={})
    assert [path.name for path in restore(scans, restored, weights)] == ["a.tif", "b.tif"]
    assert (restored / "a.tif").stat().st_mtime_ns == before


def test_two_scans_of_one_output_wait(
    weights: Path, scans: Path, restored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.tif", "a.png"):
        write_image(scans / name, image(0), axes="YX", pixel_size={})
    assert watch(scans, restored, weights, settle=0, format="png", stop=Script(nothing)) == []
    assert "a.tif: another image is also written to a.png" in caplog.text


def test_a_set_of_files_is_restored_when_all_of_them_are_here(
    weights: Path,
    scans: Path,
    restored: Path,
    write_ome_set: Callable[..., list[Path]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    *_, last = write_ome_set(scans, np.stack([image(0), image(1), image(2)]))
    away = last.rename(scans.parent / last.name)
    script = Script(nothing, nothing, lambda: away.rename(last), nothing, nothing)
    assert watch(scans, restored, weights, settle=0, stop=script) == [restored / "z0.ome.tif"]
    assert tifffile.imread(restored / "z0.ome.tif").shape == (3, 80, 60)
    assert caplog.text.count("z2.ome.tif of its set are not here yet") == 1


def test_zarr_and_pixels_next_to_a_header_show_that_they_grow(tmp_path: Path) -> None:
    write_image(tmp_path / "a.ome.zarr", image(0), axes="YX", pixel_size={})
    (tmp_path / "b.mhd").write_text("ObjectType = Image")
    (tmp_path / "b.raw").write_bytes(b"1")
    paths = [tmp_path / "a.ome.zarr", tmp_path / "b.mhd"]
    before = [state_while_written(path) for path in paths]
    assert [state_while_written(path) for path in paths] == before
    (tmp_path / "a.ome.zarr" / "0" / "chunk").write_bytes(b"1")
    (tmp_path / "b.raw").write_bytes(b"12")
    assert all(state_while_written(path) != state for path, state in zip(paths, before, strict=True))


def test_a_folder_that_goes_away_is_waited_for(
    weights: Path, scans: Path, restored: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(scans / "a.tif", image(0), axes="YX", pixel_size={})
    away = scans.with_name("away")
    script = Script(nothing, lambda: scans.rename(away), nothing, lambda: away.rename(scans), nothing, nothing)
    assert watch(scans, restored, weights, settle=0, stop=script) == [restored / "a.tif"]
    assert caplog.text.count("there is no such folder") == 1


def test_what_cannot_be_watched_is_refused_first(weights: Path, scans: Path, restored: Path) -> None:
    with pytest.raises(InputError, match="would be taken for new scans"):
        watch(scans, scans, weights)
    with pytest.raises(InputError, match="is not a folder; watch the folder"):
        watch(scans / "a.tif", restored, weights)
    with pytest.raises(InputError, match="leave out workers, scheduler and profile"):
        watch(scans, restored, weights, workers=2)
    with pytest.raises(InputError, match="settle: -1 is not a time"):
        watch(scans, restored, weights, settle=-1)
    with pytest.raises(InputError, match="'jp2' is not written"):
        watch(scans, restored, weights, format="jp2")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_command_with_what_it_has_done(
    number: signal.Signals, weights: Path, scans: Path, restored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(scans / "a.tif", image(0), axes="YX", pixel_size={})

    def interrupt() -> None:
        while not (restored / "a.tif").exists() and sender.is_alive():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=interrupt, daemon=True)
    sender.start()
    words = ["restore", str(scans), str(restored), "--weights", str(weights), "--watch", "--settle", "0", "--json"]
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 0
    assert json.loads(capsys.readouterr().out) == {"restored": [{"path": str(restored / "a.tif")}]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--watch", "--fidelity"], "watch: restores alone; leave out"),
        (["--settle", "3"], "settle: is the time for which --watch waits; give both"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    words: list[str], message: str, weights: Path, scans: Path, restored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["restore", str(scans), str(restored), "--weights", str(weights), *words])
    assert message in capsys.readouterr().err
