"""Restoring in blocks: the same file however it is divided and wherever it was interrupted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st

from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import Writer, write_image
from pssr2_monai.networks import AsVolume, ResUNet
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.inferer import SeamlessInferer, WindowAxis
from pssr2_monai.restoration.journal import Journal
from pssr2_monai.restoration.layout import BlockAssembler, LayoutLimits, Strip, columns, rows_of_strips, split_rows
from pssr2_monai.restoration.restore_file import FileRestorer
from pssr2_monai.restoration.restore_image import ImageRestorer


def _network(scale: int | list[int], frames: tuple[int, int] = (1, 1)) -> torch.nn.Module:
    torch.manual_seed(0)
    if isinstance(scale, list):
        inner = ResUNet(channels=(4, 8), scale=scale, depth=0, spatial_dims=3, interpolate=False)
        return AsVolume(inner).eval()
    return ResUNet(*frames, channels=(4, 8), scale=scale, depth=0, interpolate=False).eval()


SMALL = LayoutLimits(column_bytes=9 * 64 * 64, chunk=64)
"""Sizes that divide the images here into several columns and chunks."""

CASES = {
    "plane": ("YX", (170, 140), Record({}, 3)),
    "stack in 2.5D": ("ZYX", (3, 100, 150), Record({}, 2, (3, 1))),
    "groups of frames": ("TYX", (7, 70, 100), Record({}, 2, (3, 3))),
    "channels": ("CZYX", (2, 10, 20, 70), Record({}, [2, 1, 1], (8, 16))),
    "volume": ("ZYX", (18, 16, 70), Record({}, [1, 2, 2], (8, 8))),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, torch.nn.Module, Record, SeamlessInferer]:
    axes, shape, record = CASES[request.param]
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_image(tmp_path / "in.tif", image, axes=axes, pixel_size={})
    network = _network(record.scale, record.n_frames)
    volume = isinstance(record.scale, list)
    return tmp_path / "in.tif", network, record, SeamlessInferer(64, precision="float32", volume=volume, depth=16)


def _files(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif"])
def test_the_division_into_columns_changes_no_bit(
    case: tuple[Path, torch.nn.Module, Record, SeamlessInferer],
    suffix: str,
    tmp_path: Path,
) -> None:
    source, network, record, inferer = case
    (tmp_path / "whole").mkdir()
    (tmp_path / "divided").mkdir()
    target = f"out{suffix}"
    FileRestorer(network, record, inferer).restore(open_image(source), tmp_path / "whole" / target)
    FileRestorer(network, record, inferer, limits=SMALL).restore(open_image(source), tmp_path / "divided" / target)
    with (
        open_image(tmp_path / "whole" / target) as whole,
        open_image(tmp_path / "divided" / target) as divided,
    ):
        np.testing.assert_array_equal(whole.read(), divided.read())


class Interrupted(BaseException):
    """Neither an error of the input nor any other that code may catch."""


@pytest.mark.parametrize("suffix", [".ome.zarr", ".tif"])
def test_an_interrupted_run_resumes_to_the_same_file(
    case: tuple[Path, torch.nn.Module, Record, SeamlessInferer],
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, network, record, inferer = case
    (tmp_path / "straight").mkdir()
    target = tmp_path / f"out{suffix}"
    note, run = Journal.note, ImageRestorer.run
    written, after, ran = 0, 10**9, []

    def interrupting(journal: Journal, job: str, rows: range) -> None:
        nonlocal written
        written += 1
        if written > after:  # the block is written, and nobody knows
            raise Interrupted
        note(journal, job, rows)

    def recording(self: ImageRestorer, strips: Iterable[Strip], *rest: Any) -> Iterator[tuple[Strip, range, int]]:
        strips = list(strips)
        ran.extend((strip.name, strip.rows.start) for strip in strips)
        return run(self, strips, *rest)

    monkeypatch.setattr(Journal, "note", interrupting)
    straight, restorer = tmp_path / "straight" / target.name, FileRestorer(network, record, inferer, limits=SMALL)
    restorer.restore(open_image(source), straight)
    assert written > 2
    third, first_strip = max(1, written // 3), ("0.0", 0)
    monkeypatch.setattr(ImageRestorer, "run", recording)
    for number in range(2):
        written, after = 0, third
        with pytest.raises(Interrupted):
            restorer.restore(open_image(source), target)
        assert not target.exists()
        assert (first_strip in ran) == (number == 0), "what was done is done again"
        ran.clear()
    after = 10**9
    restorer.restore(open_image(source), target)
    assert first_strip not in ran
    assert _files(target) == _files(straight)
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", "straight", target.name}


@pytest.mark.parametrize("case", [name for name in CASES if name != "channels"], indirect=True)
def test_many_chunks_are_put_together_in_shards(
    case: tuple[Path, torch.nn.Module, Record, SeamlessInferer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, network, record, inferer = case
    (tmp_path / "chunks").mkdir()
    (tmp_path / "shards").mkdir()
    monkeypatch.setattr("pssr2_monai.images.formats.omezarr.SMALLEST_LEVEL", 32)
    limits = LayoutLimits(column_bytes=SMALL.column_bytes, chunk=32)
    chunked, sharded = (tmp_path / name / "out.ome.zarr" for name in ("chunks", "shards"))
    FileRestorer(network, record, inferer, limits=limits).restore(open_image(source), chunked)
    limits = replace(limits, files=10, shard_bytes=2**16)
    written: list[tuple[slice, ...]] = []
    write = Writer.write

    def recording(self: Writer, region: Sequence[slice], array: np.ndarray) -> None:
        written.append(tuple(region))
        write(self, region, array)

    monkeypatch.setattr(Writer, "write", recording)
    FileRestorer(network, record, inferer, limits=limits).restore(open_image(source), sharded)
    levels = [zarr.open_group(str(path), mode="r") for path in (chunked, sharded)]
    assert len(list(levels[0].array_keys())) == len(list(levels[1].array_keys())) > 2
    for name in levels[0].array_keys():
        np.testing.assert_array_equal(levels[0][name][:], levels[1][name][:])
        assert levels[1][name].chunks == levels[0][name].chunks
    image = levels[1]["0"]
    assert math.prod(image.shards) <= 2**16
    # Shards are written whole: what is written in parts would be read and compressed again.
    grid = [range(0, size, shard) for size, shard in zip(image.shape, image.shards, strict=True)]
    assert {tuple(part.start for part in region) for region in written} == set(itertools.product(*grid))
    for region in written:
        whole = [min(part.start + n, size) for part, n, size in zip(region, image.shards, image.shape, strict=True)]
        assert [part.stop for part in region] == whole
    files = [sum(file.is_file() for file in path.rglob("c/**/*")) for path in (chunked, sharded)]
    assert files[1] < files[0] / 3


def test_other_settings_do_not_go_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 100)).astype(np.uint8)
    write_image(tmp_path / "in.tif", image, axes="YX", pixel_size={})
    record, source, target = Record({}, 2), open_image(tmp_path / "in.tif"), tmp_path / "out.tif"
    note = Journal.note

    def interrupting(journal: Journal, job: str, rows: range) -> None:
        note(journal, job, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "note", interrupting)
        with pytest.raises(KeyboardInterrupt):
            FileRestorer(_network(2), record, SeamlessInferer(64)).restore(source, target)
    with pytest.raises(InputError, match=r"out.tif.journal: a restoring of other settings, or of the input as it was"):
        FileRestorer(_network(2), record, SeamlessInferer(96)).restore(source, target)
    FileRestorer(_network(2), record, SeamlessInferer(96), overwrite=True).restore(source, target)
    assert {path.name for path in tmp_path.iterdir()} == {"in.tif", "out.tif"}


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 7),
    st.integers(0, 3),
    st.booleans(),
)
def test_pieces_are_gathered_in_blocks_of_one_length(
    heights: list[int], widths: list[int], length: int, skipped: int, volume: bool
) -> None:
    first, left = skipped * length, 5
    rows = [range(*pair) for pair in itertools.pairwise(itertools.accumulate(heights, initial=first))]
    columns = [range(*pair) for pair in itertools.pairwise(itertools.accumulate(widths, initial=left))]
    whole = (range(left, columns[-1].stop),) * (2 if volume else 1)
    strip = Strip("0.0", (0,), (0,), whole, range(first, rows[-1].stop))
    sides = [2 * rows[-1].stop, *[3 * part.stop for part in whole]]
    places = np.arange(np.prod(sides)).reshape(sides)
    restored = places if volume else places[:, None]  # a frame
    blocks, assembled = BlockAssembler(strip, length), []
    for place in itertools.product(rows, *[columns] * len(whole)):
        index = [slice(factor * part.start, factor * part.stop) for factor, part in zip((2, 3, 3), place, strict=False)]
        piece = restored[(index[0], ..., *index[1:])]
        for done, block in blocks.add(place, piece, lambda pixels: pixels.astype(np.int32)):
            assert block.dtype == np.int32
            across = [slice(3 * part.start, 3 * part.stop) for part in whole]
            np.testing.assert_array_equal(block, restored[(slice(2 * done.start, 2 * done.stop), ..., *across)])
            assembled.append(done)
    assert [len(done) for done in assembled[:-1]] == [length] * (len(assembled) - 1)
    assert [row for done in assembled for row in done] == list(range(first, rows[-1].stop))


@pytest.mark.parametrize(("scale", "chunk"), [(4, 512), (3, 512), (1, 1)])
def test_columns_cover_an_image_in_whole_chunks(scale: int, chunk: int) -> None:
    column_bytes = 2**25
    axes = [WindowAxis(size, 256, 64, 32) for size in (20_000, 90_001)]
    across = 4 * 256 * scale
    parts = [column[0] for column in columns(axes, (scale, scale), (chunk, chunk), across, column_bytes)]
    assert len(parts) > 1
    assert [place for part in parts for place in (part.start, part.stop)][1:-1:2] == [part.start for part in parts[1:]]
    assert (parts[0].start, parts[-1].stop) == (0, 90_001)
    assert all(part.start * scale % chunk == 0 for part in parts)
    assert across * scale * max(map(len, parts)) <= column_bytes
    unit = math.lcm(chunk, scale) // scale
    widest = column_bytes // (across * scale) // unit * unit
    assert len(parts) == math.ceil(90_001 / widest), "no more of them than memory asks for"
    assert len(parts[0]) - len(parts[-1]) <= len(parts) * unit, "and alike"


@given(st.integers(1, 30_000), st.integers(1, 600), st.integers(1, 50), st.integers(1, 9), st.data())
def test_strips_of_several_workers_cover_the_rows_in_whole_chunks(
    size: int, multiple: int, columns: int, workers: int, data: st.DataObject
) -> None:
    along = WindowAxis(size, 256, 64, 32)
    length = rows_of_strips(along, multiple, columns, workers)
    first = data.draw(st.integers(0, (size - 1) // multiple)) * multiple
    parts = split_rows(range(first, size), length)
    assert [row for part in parts for row in (part.start, part.stop)][1:-1:2] == [part.start for part in parts[1:]]
    assert (parts[0].start, parts[-1].stop) == (first, size)
    assert all(part.start % multiple == 0 and len(part) for part in parts)
    if workers > 1:
        assert max(map(len, parts)) <= 16 * along.step + multiple
    else:
        assert len(parts) == 1


@pytest.mark.parametrize(
    ("columns", "workers", "strips"),
    [
        (1, 2, 2),  # one column: as many strips as workers, and no more ends than that
        (2, 2, 1),  # a column each
        (3, 2, 2),
        (64, 2, 1),
        (1, 8, 8),
    ],
)
def test_strips_share_the_work_evenly_with_few_ends(columns: int, workers: int, strips: int) -> None:
    along = WindowAxis(16 * 192, 256, 64, 32)
    length = rows_of_strips(along, 1, columns, workers)
    assert math.ceil(along.size / length) == strips
