"""Runs that stop, are killed, or cannot begin: one line, nothing false left behind, and the same file in the end."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.images.formats.omezarr import OmeZarrWriter
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import Writer, remove, write_image
from pssr2_monai.restoration.journal import Unfinished, was_finished
from pssr2_monai.restoration.restore import restore


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of three images."""
    (tmp_path / "scans").mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (200, 50)).astype(np.uint8)
        write_image(tmp_path / "scans" / f"{number}.tif", image, axes="YX", pixel_size={})
    return tmp_path / "scans"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _stop_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    """Lets the write of this number (from 0) raise."""
    write, count = Writer.write, -1

    def failing(self: Writer, *arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise error
        write(self, *arguments)

    monkeypatch.setattr(Writer, "write", failing)


def _count_writes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by each write."""
    write, writes = Writer.write, []

    def counting(self: Writer, *arguments: Any) -> None:
        writes.append(None)
        write(self, *arguments)

    monkeypatch.setattr(Writer, "write", counting)
    return writes


def test_a_folder_resumes_where_it_was_interrupted(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, target = tmp_path / "straight", tmp_path / "out"
    restore(scans, straight, weights, window=64)
    with monkeypatch.context() as patched:
        _stop_at(patched, 9, KeyboardInterrupt())  # each file takes 7 writes
        with pytest.raises(KeyboardInterrupt):
            restore(scans, target, weights, window=64)
    assert _names(target) == [".restoring.json", "0.tif", "1.tif.journal", "1.tif.part"]
    with pytest.raises(InputError, match="out: a restoring of other settings was interrupted here"):
        restore(scans, target, weights, window=96)
    before = (target / "0.tif").stat().st_mtime_ns
    written = restore(scans, target, weights, window=64)
    assert written == [target / name for name in _names(straight)]
    assert (target / "0.tif").stat().st_mtime_ns == before
    assert _names(target) == _names(straight)
    assert all((target / name).read_bytes() == (straight / name).read_bytes() for name in _names(straight))
    with pytest.raises(InputError, match=r"0\.tif: exists already"):
        restore(scans, target, weights, window=64)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_overwriting_a_file_resumes_and_replaces_it_when_complete(
    suffix: str, scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, straight = tmp_path / "scan.tif", tmp_path / f"out{suffix}", tmp_path / f"straight{suffix}"
    image = np.random.default_rng(0).integers(0, 256, (1600, 50)).astype(np.uint8)  # four blocks of chunks
    write_image(source, image, axes="YX", pixel_size={})
    options: dict[str, Any] = {"window": 64, "overwrite": True}
    with monkeypatch.context() as patched:
        writes = _count_writes(patched)
        restore(source, straight, weights, window=64)
    write_image(target, np.full((40, 30), 7, np.uint8), axes="YX", pixel_size={})

    def stop(number: int) -> None:
        with monkeypatch.context() as patched:
            _stop_at(patched, number, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                restore(source, target, weights, **options)
        with open_image(target) as old:
            assert (old.read() == 7).all(), "the old file stays until the new one is complete"

    stop(2)
    with pytest.raises(InputError, match=rf"out{suffix}: an interrupted run was to overwrite it; give the same"):
        restore(source, target, weights, window=64)
    stop(1)
    with monkeypatch.context() as patched:
        resumed = _count_writes(patched)
        restore(source, target, weights, **options)
    assert len(resumed) == len(writes) - 3, "what was written is not written again"
    with open_image(target) as new, open_image(straight) as expected:
        np.testing.assert_array_equal(new.read(), expected.read())
    with monkeypatch.context() as patched:
        anew = _count_writes(patched)
        restore(source, target, weights, **options)
    assert len(anew) == len(writes), "a completed run begins anew"
    assert not list(tmp_path.glob("*.journal"))


def test_overwriting_with_other_settings_begins_anew(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = scans / "0.tif", tmp_path / "out.tif"
    restore(source, tmp_path / "straight.tif", weights, window=96)
    for overwrite in (False, True):
        with monkeypatch.context() as patched:
            _stop_at(patched, 3, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                restore(source, target, weights, window=64, overwrite=overwrite)
    with pytest.raises(InputError, match="it was to overwrite files: give the same options and overwrite again"):
        restore(source, target, weights, window=64)
    restore(source, target, weights, window=96, overwrite=True)
    assert target.read_bytes() == (tmp_path / "straight.tif").read_bytes()
    assert _names(tmp_path) == ["out.tif", "scans", "straight.tif"]


def test_overwriting_a_folder_resumes(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, target = tmp_path / "straight", tmp_path / "out"
    options: dict[str, Any] = {"window": 64, "overwrite": True}
    restore(scans, straight, weights, window=64)
    restore(scans, target, weights, window=96)
    old = {name: (target / name).read_bytes() for name in _names(target)}
    with monkeypatch.context() as patched:
        _stop_at(patched, 9, KeyboardInterrupt())  # each file takes 7 writes
        with pytest.raises(KeyboardInterrupt):
            restore(scans, target, weights, **options)
    assert _names(target) == [".restoring.json", "0.tif", "1.tif", "1.tif.journal", "1.tif.part", "2.tif"]
    assert (target / "0.tif").read_bytes() == (straight / "0.tif").read_bytes()
    assert all((target / name).read_bytes() == old[name] for name in ("1.tif", "2.tif"))
    with pytest.raises(InputError, match="it was to overwrite files: give the same options and overwrite again"):
        restore(scans, target, weights, window=64)
    with monkeypatch.context() as patched:
        resumed = _count_writes(patched)
        assert restore(scans, target, weights, **options) == [target / name for name in old]
    assert len(resumed) == 3 * 7 - 9
    assert all((target / name).read_bytes() == (straight / name).read_bytes() for name in old)
    assert _names(target) == _names(straight)
    with monkeypatch.context() as patched:
        anew = _count_writes(patched)
        restore(scans, target, weights, **options)
    assert len(anew) == 3 * 7


def test_a_source_that_changed_is_restored_again_where_files_are_overwritten(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    with monkeypatch.context() as patched:
        _stop_at(patched, 9, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            restore(scans, target, weights, window=64, overwrite=True)
    write_image(scans / "0.tif", np.zeros((200, 50), np.uint8), axes="YX", pixel_size={}, overwrite=True)
    with monkeypatch.context() as patched:
        _stop_at(patched, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            restore(scans, target, weights, window=64, overwrite=True)
    restore(scans, target, weights, window=64, overwrite=True)
    restore(scans, tmp_path / "straight", weights, window=64)
    for name in _names(tmp_path / "straight"):
        assert (target / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_kill_while_an_attempt_is_given_up_leaves_nothing_that_passes_for_finished(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException): ...

    source, target, abort = scans / "0.tif", tmp_path / "out.tif", Writer.abort
    write_image(target, np.full((40, 30), 7, np.uint8), axes="YX", pixel_size={})

    def killed(writer: Writer) -> None:
        abort(writer)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "abort", killed)
        _stop_at(patched, 0, InputError("a damaged tile"))
        with pytest.raises(Killed):
            restore(source, target, weights, window=64, overwrite=True)
    assert not was_finished(target)
    with pytest.raises(InputError, match="exists already"):
        restore(source, target, weights, window=64)
    with open_image(target) as image:
        assert (image.read() == 7).all()
    restore(source, target, weights, window=64, overwrite=True)
    with open_image(target) as image:
        assert image.shape == (400, 100)


def test_a_target_whose_part_was_deleted_does_not_pass_for_finished(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.tif"
    write_image(target, np.full((40, 30), 7, np.uint8), axes="YX", pixel_size={})
    with monkeypatch.context() as patched:
        _stop_at(patched, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            restore(scans / "0.tif", target, weights, window=64, overwrite=True)
    (tmp_path / "out.tif.part").unlink()
    assert not was_finished(target)
    restore(scans / "0.tif", target, weights, window=64, overwrite=True)
    with open_image(target) as image:
        assert image.shape == (400, 100)


@pytest.mark.trust
def test_a_run_killed_after_its_last_rename_counts_as_finished_for_its_own_settings_alone(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, notes, kept = tmp_path / "out.tif", tmp_path / "out.tif.journal", tmp_path / "kept"

    def keep_a_copy(path: Path) -> None:
        if path == notes and path.exists():
            shutil.copy(path, kept)
        remove(path)

    monkeypatch.setattr("pssr2_monai.restoration.restore_file.remove", keep_a_copy)
    restore(scans / "0.tif", target, weights, window=64)
    before = target.read_bytes()
    for text, options, source in [
        (kept.read_text(), {"window": 96}, "0.tif"),
        (kept.read_text(), {"window": 64}, "1.tif"),
        ("anything", {"window": 64}, "0.tif"),
        ('{"source": 1}\n', {"window": 64}, "0.tif"),
        ("[1]\n", {"window": 64}, "0.tif"),
    ]:
        notes.write_text(text)
        with pytest.raises(InputError, match=r"out\.tif: exists already"):
            restore(scans / source, target, weights, **options)
        assert notes.exists()
    shutil.copy(kept, notes)
    assert restore(scans / "0.tif", target, weights, window=64) == [target]
    assert target.read_bytes() == before
    assert not notes.exists()


def test_a_second_run_does_not_write_into_the_output_of_the_first(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock, one that overwrites with other settings would leave blocks of both."""
    target, write = tmp_path / "out.tif", Writer.write
    restore(scans / "0.tif", tmp_path / "straight.tif", weights, window=64)
    refused: list[str] = []

    def run_another(writer: Writer, *arguments: Any) -> None:
        if not refused:
            refused.append("")
            with pytest.raises(Unfinished, match=r"out\.tif: another run is restoring it; wait for its end"):
                restore(scans / "0.tif", target, weights, window=96, overwrite=True)
        write(writer, *arguments)

    monkeypatch.setattr(Writer, "write", run_another)
    restore(scans / "0.tif", target, weights, window=64)
    assert refused
    assert target.read_bytes() == (tmp_path / "straight.tif").read_bytes()
    assert _names(tmp_path) == ["out.tif", "scans", "straight.tif"]


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_a_full_disk_is_reported_in_one_line_and_the_run_resumes(
    suffix: str,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1600, 50)).astype(np.uint8)  # four blocks of chunks
    write_image(tmp_path / "scan.tif", image, axes="YX", pixel_size={})
    straight, target = tmp_path / f"straight{suffix}", tmp_path / f"out{suffix}"
    restore(tmp_path / "scan.tif", straight, weights, window=64)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patched:
        _stop_at(patched, 2, full)
        with pytest.raises(SystemExit):
            main(["restore", str(tmp_path / "scan.tif"), str(target), "--weights", str(weights), "--window", "64"])
    error = capsys.readouterr().err
    assert error == f"pssr2: {target}: the disk is full; make room and give the same command again to resume\n"
    assert (tmp_path / f"out{suffix}.journal").read_text().count("\n") == 3

    def failing(*_: Any) -> None:
        raise full

    with monkeypatch.context() as patched:  # the pyramid, too, which follows the last block
        patched.setattr(OmeZarrWriter, "_halved", failing)
        patched.setattr("pssr2_monai.images.formats.tiff.move_into_place", failing)
        with pytest.raises(Unfinished):
            restore(tmp_path / "scan.tif", target, weights, window=64)
    restore(tmp_path / "scan.tif", target, weights, window=64)
    with open_image(target) as image, open_image(straight) as expected:
        np.testing.assert_array_equal(image.read(), expected.read())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr"])
def test_a_disk_that_is_really_full(name: str, scans: Path, weights: Path, tmp_path: Path) -> None:
    disk, target = tmp_path / "disk", tmp_path / "disk" / name
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("only the superuser can mount a disk to fill")
    try:
        with pytest.MonkeyPatch.context() as patched:
            # The disk fills after it was asked.
            patched.setattr("shutil.disk_usage", lambda path: namedtuple("Usage", "free")(2**40))
            (disk / "other").write_bytes(bytes(100_000))
            with pytest.raises(Unfinished, match="the disk is full"):
                restore(scans / "0.tif", target, weights, window=64)
        with pytest.raises(InputError, match=r"needs 0.00 GB uncompressed, but \S+ has 0.00 GB free"):
            restore(scans / "0.tif", target, weights, window=64)
        (disk / "other").unlink()
        restore(scans / "0.tif", target, weights, window=64)
        with open_image(target) as image:
            assert image.shape == (400, 100)
        assert _names(disk) == [name]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_input_that_changes_is_refused(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Writer.write

    def growing(self: Writer, *arguments: Any) -> None:
        write(self, *arguments)
        with (scans / "0.tif").open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(Writer, "write", growing)
    with pytest.raises(InputError, match=r"0\.tif: was changed while it was read; restore it when it is complete"):
        restore(scans / "0.tif", tmp_path / "out.tif", weights)
    assert _names(tmp_path) == ["scans"]


def test_a_zarr_that_grows_while_it_is_read_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, write = tmp_path / "in.ome.zarr", Writer.write
    write_image(source, np.zeros((2, 80, 80), np.uint8), axes="ZYX", pixel_size={})

    def growing(self: Writer, *arguments: Any) -> None:
        write(self, *arguments)
        zarr.open_array(str(source / "0"), mode="r+").append(np.ones((1, 80, 80), np.uint8))

    monkeypatch.setattr(Writer, "write", growing)
    with pytest.raises(
        InputError, match=r"in\.ome\.zarr: was changed while it was read; restore it when it is complete"
    ):
        restore(source, tmp_path / "out.ome.zarr", weights)
    assert _names(tmp_path) == ["in.ome.zarr"]


def test_an_output_folder_that_exists_stays_as_it_is(scans: Path, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.ome.zarr"
    write_image(target, np.full((40, 30), 7, np.uint8), axes="YX", pixel_size={})
    with pytest.raises(
        InputError, match=r"out\.ome\.zarr: exists already; give another output, or ask to overwrite it"
    ):
        restore(scans / "0.tif", target, weights)
    with open_image(target) as image:
        assert (image.read() == 7).all()


def test_what_cannot_be_written_is_refused_before_the_work(
    scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda path: usage._replace(free=100_000))
        restore(scans / "0.tif", tmp_path / "one.tif", weights)
        with pytest.raises(InputError, match=r"out: needs 0.00 GB uncompressed, but \S+ has 0.00 GB free"):
            restore(scans, tmp_path / "out", weights)
    with monkeypatch.context() as patched:
        patched.setattr("os.access", lambda path, mode: False)
        with pytest.raises(InputError, match="may not be written to; give an output elsewhere"):
            restore(scans, tmp_path / "out", weights)
    assert _names(tmp_path) == ["one.tif", "scans"]
    (tmp_path / "notes.ome.zarr").mkdir()
    (tmp_path / "notes.ome.zarr" / "0.tif").write_text("no image")
    with pytest.raises(InputError, match=r"0\.tif: exists already"):
        restore(scans, tmp_path / "notes.ome.zarr", weights)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_file(
    weights: Path, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 150, 200)).astype(np.uint8)
    write_image(tmp_path / "in.ome.zarr", image, axes="ZYX", pixel_size={})
    straight, target = tmp_path / "straight" / "out.ome.zarr", tmp_path / "out.ome.zarr"
    straight.parent.mkdir()

    # Each in a process of its own: what the other tests did to this one's threads might show in a last bit.
    def restoring(out: Path) -> Any:
        words = [tmp_path / "in.ome.zarr", out, "--weights", weights, "--window", "96"]
        return run_python("-m", "pssr2_monai.cli.main", "restore", *words)

    def noted() -> int:
        with suppress(FileNotFoundError):
            return journal.read_text().count("\n")
        return 0

    undisturbed = restoring(straight)
    assert undisturbed.end() == 0, undisturbed.stderr
    journal = tmp_path / "out.ome.zarr.journal"
    draw, kills = random.Random(0), 0
    for _ in range(2):
        wanted = noted() + draw.randint(1, 4)
        running = restoring(target)
        running.wait_for(lambda wanted=wanted: noted() >= wanted)
        kills += running.runs
        running.kill()
    assert kills > 0
    if not target.exists() or journal.exists():
        last = restoring(target)
        assert last.end() == 0, last.stderr
    files = sorted(file.relative_to(straight) for file in straight.rglob("*"))
    assert sorted(file.relative_to(target) for file in target.rglob("*")) == files
    for file in files:
        assert (target / file).is_dir() or (target / file).read_bytes() == (straight / file).read_bytes()
    assert _names(tmp_path) == ["in.ome.zarr", "out.ome.zarr", "straight"]
