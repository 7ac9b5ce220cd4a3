"""Restoring in blocks: the same file however it is divided and wherever it was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pssr2_monai import blocks
from pssr2_monai.blocks import Journal, columns, regrouped
from pssr2_monai.errors import InputError
from pssr2_monai.file_restoring import Restoring, restore_file
from pssr2_monai.inferer import SeamlessInferer
from pssr2_monai.io.image import open_image
from pssr2_monai.io.writer import write_image
from pssr2_monai.networks import AsVolume, ResUNet
from pssr2_monai.record import Record
from pssr2_monai.tiles import WindowAxis


def _network(scale: int | list[int], frames: tuple[int, int] = (1, 1)) -> torch.nn.Module:
    torch.manual_seed(0)
    if isinstance(scale, list):
        inner = ResUNet(channels=(4, 8), scale=scale, depth=0, spatial_dims=3, interpolate=False)
        return AsVolume(inner).eval()
    return ResUNet(*frames, channels=(4, 8), scale=scale, depth=0, interpolate=False).eval()


COLUMN = 4 * 128 * 128 * 9
"""Bytes for the sums of a column that divide the images here into a few."""

CASES = {
    "plane": ("YX", (330, 250), Record({}, 3)),
    "stack in 2.5D": ("ZYX", (4, 190, 300), Record({}, 2, (3, 1))),
    "groups of frames": ("TYX", (7, 70, 200), Record({}, 2, (3, 3))),
    "channels": ("CZYX", (2, 10, 30, 70), Record({}, [2, 1, 1], (8, 16))),
    "volume": ("ZYX", (24, 30, 90), Record({}, [1, 2, 2], (8, 8))),
}


@pytest.fixture(params=CASES)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, torch.nn.Module, Record, SeamlessInferer]:
    monkeypatch.setattr("pssr2_monai.inferer.DEPTH", 16)
    axes, shape, record = CASES[request.param]
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_image(tmp_path / "in.tif", image, axes=axes, pixel_size={})
    network = _network(record.scale, record.n_frames)
    volume = isinstance(record.scale, list)
    return tmp_path / "in.tif", network, record, SeamlessInferer(64, precision="float32", volume=volume)


def _files(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(each.relative_to(path)): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif"])
def test_the_division_into_columns_changes_no_bit(
    case: tuple[Path, torch.nn.Module, Record, SeamlessInferer],
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, network, record, inferer = case
    (tmp_path / "whole").mkdir()
    (tmp_path / "divided").mkdir()
    target = f"out{suffix}"
    restore_file(source, tmp_path / "whole" / target, network, record, inferer)
    monkeypatch.setattr(blocks, "COLUMN_BYTES", COLUMN)
    monkeypatch.setattr("pssr2_monai.io.omezarr_writer.CHUNK", 64)
    restore_file(source, tmp_path / "divided" / target, network, record, inferer)
    with (
        open_image(tmp_path / "whole" / target) as whole,
        open_image(tmp_path / "divided" / target) as divided,
    ):
        np.testing.assert_array_equal(whole.read(), divided.read())


class Interrupted(BaseException):
    """Neither an error of the input nor any other that code may catch."""


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif"])
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_what_was_interrupted_goes_on_to_the_same_file(
    case: tuple[Path, torch.nn.Module, Record, SeamlessInferer],
    suffix: str,
    share: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, network, record, inferer = case
    monkeypatch.setattr(blocks, "COLUMN_BYTES", COLUMN)
    monkeypatch.setattr("pssr2_monai.io.omezarr_writer.CHUNK", 64)
    (tmp_path / "straight").mkdir()
    target = tmp_path / f"out{suffix}"
    note, written = Journal.note, 0

    def counting(journal: Journal, job: str, rows: int) -> None:
        nonlocal written
        written += 1
        note(journal, job, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "note", counting)
        straight = restore_file(source, tmp_path / "straight" / target.name, network, record, inferer)
    assert written > 1
    after, written = max(1, int(share * written)), 0

    def interrupting(journal: Journal, job: str, rows: int) -> None:
        nonlocal written
        written += 1
        if written == after + 1:  # the block is written, and nobody knows
            raise Interrupted
        note(journal, job, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "note", interrupting)
        with pytest.raises(Interrupted):
            restore_file(source, target, network, record, inferer)
    assert not target.exists()
    ran = []
    run = Restoring.run

    def recording(self: Restoring, job: blocks.Job, first: int = 0) -> Iterator[tuple[int, int]]:
        ran.append((job.name, first))
        return run(self, job, first)

    monkeypatch.setattr(Restoring, "run", recording)
    restore_file(source, target, network, record, inferer)
    assert ("0.0", 0) not in ran, "what was done is done again"
    assert _files(target) == _files(straight)
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", "straight", target.name}


def test_other_settings_do_not_go_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 100)).astype(np.uint8)
    write_image(tmp_path / "in.tif", image, axes="YX", pixel_size={})
    record, target = Record({}, 2), tmp_path / "out.tif"
    note = Journal.note

    def interrupting(journal: Journal, job: str, rows: int) -> None:
        note(journal, job, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "note", interrupting)
        with pytest.raises(KeyboardInterrupt):
            restore_file(tmp_path / "in.tif", target, _network(2), record, SeamlessInferer(64))
    with pytest.raises(InputError, match=r"out.tif.journal: a restoring of other settings was interrupted here"):
        restore_file(tmp_path / "in.tif", target, _network(2), record, SeamlessInferer(96))
    restore_file(tmp_path / "in.tif", target, _network(2), record, SeamlessInferer(96), overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", "out.tif"}


def test_a_line_that_was_cut_off_is_not_taken_for_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {"a": 1})
    journal.note("0.0", 12)
    journal.note("0.1", 345)
    text = journal.path.read_text()
    journal.path.write_text(text[:-2])
    assert Journal(tmp_path / "journal", {"a": 1}).done == {"0.0": 12}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 7), st.integers(0, 3))
def test_regrouped_slabs_end_where_chunks_do(lengths: list[int], multiple: int, skipped: int) -> None:
    first = skipped * multiple
    stops = first + np.cumsum(lengths)
    slabs = [
        (range(stop - length, stop), np.repeat(np.arange(stop - length, stop), 2))
        for stop, length in zip(stops.tolist(), lengths, strict=True)
    ]
    found = list(regrouped(slabs, multiple, first))
    assert all(rows.stop % multiple == 0 for rows, _ in found[:-1])
    assert [row for rows, _ in found for row in rows] == list(range(first, stops[-1]))
    np.testing.assert_array_equal(np.concatenate([slab for _, slab in found])[::2], np.arange(first, stops[-1]))


@pytest.mark.parametrize(("scale", "chunk"), [(4, 512), (3, 512), (1, 1)])
def test_columns_cover_an_image_in_whole_chunks(scale: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "COLUMN_BYTES", 2**25)
    axes = [WindowAxis(size, 256, 64, 32) for size in (20_000, 90_001)]
    parts = [column[0] for column in columns(axes, (scale, scale), (chunk, chunk))]
    assert len(parts) > 1
    assert [place for part in parts for place in (part.start, part.stop)][1:-1:2] == [part.start for part in parts[1:]]
    assert (parts[0].start, parts[-1].stop) == (0, 90_001)
    assert all(part.start * scale % chunk == 0 for part in parts)
    assert 4 * 256 * scale * scale * max(map(len, parts)) <= blocks.COLUMN_BYTES
