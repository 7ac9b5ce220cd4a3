"""Unfinished outputs: temporary names, moves into place, and what is refused before any work."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pssr2_monai.errors import InputError
from pssr2_monai.images.outputs import check_free, check_room, move_into_place, part_path, remove, written_atomically


def test_a_file_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    target.write_text("old")
    with written_atomically(target) as part:
        assert part == tmp_path / "figures.json.part"
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "figures.json"
    target.write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise error

    with pytest.raises(error), written_atomically(target) as part:
        fail(part)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), written_atomically(target):
        pass
    assert target.read_text() == "old"


def test_what_a_killed_process_left_is_not_mixed_with_the_new_output(tmp_path: Path) -> None:
    left = part_path(tmp_path / "pairs")
    (left / "HR").mkdir(parents=True)
    (left / "HR" / "old.tif").touch()
    with written_atomically(tmp_path / "pairs") as part:
        assert not part.exists()
        part.mkdir()
        (part / "new.tif").touch()
    assert [path.name for path in (tmp_path / "pairs").iterdir()] == ["new.tif"]


def test_a_temporary_name_may_keep_a_suffix_for_libraries(tmp_path: Path) -> None:
    with written_atomically(tmp_path / "model.ts", ".ts") as part:
        assert part.name == "model.ts.part.ts"
        part.touch()
    assert [path.name for path in tmp_path.iterdir()] == ["model.ts"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    old, new = tmp_path / "a.zarr", tmp_path / "a.zarr.part"
    for folder, name in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / name).touch()
    move_into_place(new, old)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["a.zarr", "a.zarr/new"]


def test_removing_a_link_keeps_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("link", "link", "absent"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    remove(tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    (tmp_path / "folder").mkdir()
    check_free(tmp_path / "b.tif", overwrite=False)
    check_free(tmp_path / "a.tif", overwrite=True)
    for path, overwrite, message in (
        (tmp_path / "a.tif", False, "a.tif: exists already"),
        (tmp_path / "no" / "a.tif", True, "there is no folder"),
        (tmp_path / "folder", True, "is a folder that holds no Zarr image"),
    ):
        with pytest.raises(InputError, match=message):
            check_free(path, overwrite)


def test_an_output_larger_than_the_disk_has_free_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**10, 0, 5 * 10**9))
    check_room(tmp_path / "a.tif", 5 * 10**9)
    with pytest.raises(InputError, match=r"a.tif: needs 5\.01 GB, but .* has 5\.00 GB free"):
        check_room(tmp_path / "a.tif", 5 * 10**9 + 10**7)
