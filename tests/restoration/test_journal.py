"""What is remembered of interrupted work: rows, files, and how their sources looked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pssr2_monai.errors import InputError
from pssr2_monai.images.writer import write_image
from pssr2_monai.restoration.journal import FolderJournal, Journal, begun_settings, fingerprint


def test_a_line_that_was_cut_off_is_not_taken_for_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {"a": 1})
    journal.note("0.0", range(12))
    journal.note("0.1", range(345))
    text = journal.path.read_text()
    journal.path.write_text(text[:-2])
    again = Journal(tmp_path / "journal", {"a": 1})
    assert again.done == {"0.0": [range(12)]}
    again.note("0.2", range(7, 9))
    assert Journal(tmp_path / "journal", {"a": 1}).done == {"0.0": [range(12)], "0.2": [range(7, 9)]}


@pytest.mark.trust
@pytest.mark.parametrize("line", ["0.0 1", "0.0 1 x", "0.0 -1 3", "0.0 5 3", "\x00", "rows"])
def test_a_damaged_line_is_refused(line: str, tmp_path: Path) -> None:
    Journal(tmp_path / "journal", {"a": 1})._append(line)
    with pytest.raises(InputError, match=r"journal: line .* is damaged; delete the file"):
        Journal(tmp_path / "journal", {"a": 1})


lines = st.from_regex(re.compile(r"0\.\d -?\d{1,3} \d{1,3}", re.ASCII), fullmatch=True) | st.from_regex(
    re.compile(r"[a-z0. -]{,9}", re.ASCII), fullmatch=True
)


@pytest.mark.trust
@given(st.lists(lines, max_size=5), st.binary(max_size=5))
def test_a_random_journal_holds_rows_or_is_refused(written: list[str], tail: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        begun = b"".join(f"{line}\n".encode() for line in ['{"a": 1}', *written])
        path.write_bytes(begun + tail.replace(b"\n", b""))
        assert begun_settings(path) == {"a": 1}
        if not all(_is_whole(line) for line in written):
            with pytest.raises(InputError, match=r"\A[^\n]*journal: line [^\n]* is damaged"):
                Journal(path, {"a": 1})
            return
        journal = Journal(path, {"a": 1})
        assert path.read_bytes() == begun, "what was cut off is taken away, and nothing else"
        assert all(0 <= rows.start <= rows.stop for done in journal.done.values() for rows in done)
        for line in written:
            column, first, stop = line.rsplit(" ", 2)
            rows = {row for part in journal.done[column] for row in part}
            assert rows >= set(range(int(first), int(stop)))


def _is_whole(line: str) -> bool:
    match = re.fullmatch(r".* (-?\d+) (-?\d+)", line)
    return match is not None and 0 <= int(match[1]) <= int(match[2])


@pytest.mark.trust
@given(st.binary(max_size=60))
def test_any_bytes_in_place_of_a_journal_are_no_settings_of_ours(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        path.write_bytes(content)
        assert isinstance(begun_settings(path), dict)
        Path(folder, ".restoring.json").write_bytes(content)
        with pytest.raises(InputError, match="is not the journal of a restoring"):
            FolderJournal(Path(folder), {})


@pytest.mark.trust
@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, "1", '{"settings": {}}', '{"settings": {}, "sources": [], "replaced": 1}']
)
def test_another_file_in_place_of_a_folders_journal_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / ".restoring.json").write_text(text)
    with pytest.raises(InputError, match="restoring.json: is not the journal of a restoring; delete it"):
        FolderJournal(tmp_path, {})


@pytest.mark.trust
def test_a_link_in_place_of_a_journal_is_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "journal"
    for text in (None, '{"a": 1}\n'):  # to nothing, and to the beginning of a journal
        if text is not None:
            victim.write_text(text)
        path.unlink(missing_ok=True)
        path.symlink_to(victim)
        journal = Journal(path, {"a": 1})
        journal.note("0.0", range(3))
        assert not path.is_symlink()
        assert (victim.read_text() if text else victim.exists()) == (text or False)
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        journal.note("0.0", range(3))  # put there meanwhile


def test_a_journal_that_was_not_begun_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text('{"a"')
    assert Journal(tmp_path / "journal", {"a": 1}).done == {}
    assert Journal(tmp_path / "journal", {"a": 1}).missing("0.0", 3) == [range(3)]


@given(st.sets(st.integers(0, 19)))
def test_what_is_missing_is_what_was_not_noted(done: set[int]) -> None:
    journal = Journal.__new__(Journal)
    journal.done = {}
    for part in sorted(done, key=lambda part: part * 7 % 20):
        journal._add("job", range(part * 5, part * 5 + 5))
    missing = [row for rows in journal.missing("job", 98) for row in rows]
    assert missing == [row for row in range(98) if row // 5 not in done]
    assert all(a.stop < b.start for a, b in pairwise(journal.done.get("job", [])))


def test_a_folder_knows_what_it_has_made_and_from_what(tmp_path: Path) -> None:
    source, target = tmp_path / "in" / "a.tif", tmp_path / "out" / "a.tif"
    for path in (source, target):
        path.parent.mkdir()
        path.write_text(path.parent.name)
    journal = FolderJournal(target.parent, {"window": 64})
    assert target not in journal, "a file of an earlier, finished run"
    target.unlink()
    journal.begin([(source, target)])
    again = FolderJournal(target.parent, {"window": 64})
    assert target in again
    assert not again.finished(source, target)
    target.write_text("made")
    assert again.finished(source, target)
    with pytest.raises(InputError, match="out: a restoring of other settings was interrupted here"):
        FolderJournal(target.parent, {"window": 96})
    source.write_text("another")
    with pytest.raises(InputError, match=r"a\.tif: was restored before a\.tif changed"):
        again.finished(source, target)
    again.end()
    assert [path.name for path in target.parent.iterdir()] == ["a.tif"]


def test_a_change_shows_in_files_slices_and_zarr(tmp_path: Path) -> None:
    image = np.zeros((2, 20, 20), np.uint8)
    write_image(tmp_path / "a.tif", image, axes="ZYX", pixel_size={})
    write_image(tmp_path / "a.ome.zarr", image, axes="ZYX", pixel_size={})
    (tmp_path / "slices").mkdir()
    for number in range(2):
        write_image(tmp_path / "slices" / f"{number}.png", image[0], axes="YX", pixel_size={})
    paths = [tmp_path / name for name in ("a.tif", "a.ome.zarr", "slices")]
    before = [fingerprint(path) for path in paths]
    assert [fingerprint(path) for path in paths] == before
    os.utime(tmp_path / "a.tif", (1, 1))
    write_image(tmp_path / "a.ome.zarr", image.repeat(2, 0), axes="ZYX", pixel_size={}, overwrite=True)
    write_image(tmp_path / "slices" / "2.png", image[0], axes="YX", pixel_size={})
    assert all(fingerprint(path) != state for path, state in zip(paths, before, strict=True))


def test_a_change_shows_in_every_file_of_a_set(tmp_path: Path, write_ome_set: Callable[..., list[Path]]) -> None:
    first, *_, last = write_ome_set(tmp_path, np.zeros((3, 20, 20), np.uint8))
    before = fingerprint(first)
    assert fingerprint(first) == before == fingerprint(last)
    os.utime(last, (1, 1))
    assert fingerprint(first) != before
