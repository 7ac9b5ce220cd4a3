"""What restoring takes: sizes and windows from a formula, time and memory from a trial, room on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pssr2_monai.cli.main import main
from pssr2_monai.errors import InputError
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.networks.record import Record
from pssr2_monai.restoration.estimate import Estimate, Output, check_output_room, output_of, stored_bytes
from pssr2_monai.restoration.inferer import SeamlessInferer


def test_sizes_and_windows_follow_from_the_shape(tmp_path: Path) -> None:
    write_image(tmp_path / "big.ome.zarr", np.zeros((3, 700, 900), np.uint16), axes="ZYX", pixel_size={})
    with open_image(tmp_path / "big.ome.zarr") as image:
        output = output_of(image, tmp_path / "out.ome.zarr", Record({}, 2), SeamlessInferer(64))
    assert output.shape == (3, 1400, 1800)
    assert output.nbytes == 3 * 1400 * 1800 * 2 * 4 // 3
    # Windows of 64 pixels, every 32, the first of them 32 before the edge, of which 8 at each end do not count.
    along = [len(range(-32, size - 8, 32)) for size in (700, 900)]
    assert output.windows == 3 * along[0] * along[1]


def test_the_command_estimates_and_writes_nothing(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(3):
        write_image(tmp_path / "scans" / f"{number}.tif", np.zeros((200, 50), np.uint8), axes="YX", pixel_size={})
    arguments = [str(tmp_path / "scans"), str(tmp_path / "out"), "--weights", str(tiny_weights), "--window", "64"]
    with pytest.raises(SystemExit):
        main(["restore", *arguments, "--estimate"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[1].split()[:5] == ["0.tif", "800", "x", "200", "0.000"]
    assert lines[4].split()[:3] == ["in", "all", "0.000"]
    assert "peak memory about" in lines[5]
    assert [path.name for path in tmp_path.iterdir()] == ["scans"]


def test_time_and_memory_are_those_of_all_windows_and_workers() -> None:
    files = tuple(Output(Path(f"{n}.tif"), (10, 10), 100, 1, windows, 1000 * n) for n, windows in enumerate((6, 0, 4)))
    estimate = Estimate(files, workers=2, window_seconds=30.0, process_bytes=2**30)
    assert estimate.seconds(files) == 150
    assert estimate.seconds(files[1:2]) is None, "a map needs no network"
    assert estimate.memory == 2 * (2**30 + 2000)
    lines = str(estimate).splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["s", "0"]
    assert lines[1].endswith("90 s")
    assert lines[4].endswith("2 min")
    assert lines[5].endswith("time by a trial of 4 windows (30000 ms each), without that of the maps")
    assert Estimate(files, 2).seconds(files) is None
    assert Estimate(files, 2).memory is None


def test_a_pyramid_takes_a_third_more() -> None:
    assert stored_bytes(Path("a.tif"), (3, 10, 10), 2) == 600
    assert stored_bytes(Path("a.ome.zarr"), (3, 10, 10), 2) == 800


def test_room_is_that_of_all_outputs_less_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [Output(tmp_path / "new" / f"{n}.tif", (1,), 60_000, 1, 1, 0) for n in range(2)]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100_000))
    check_output_room(outputs[:1])
    check_output_room([])
    with pytest.raises(InputError, match=r"new: needs 0.00 GB uncompressed, but \S+ has 0.00 GB free; write elsewhere"):
        check_output_room(outputs)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "1.tif.part").write_bytes(b"x" * 40_000)
    check_output_room(outputs)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="may not be written to; give an output elsewhere"):
        check_output_room(outputs)


def test_chunks_that_do_not_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr.create_array(str(tmp_path / "wide.zarr"), shape=(8192, 8192), chunks=(8192, 8192), dtype="uint8")
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 5000, "SC_PAGE_SIZE": 4096}.__getitem__)
    with (
        open_image(tmp_path / "wide.zarr") as image,
        pytest.raises(InputError, match=r"wide\.zarr: its chunks hold 0\.1 GB each, this machine 0\.0 GB"),
    ):
        output_of(image, tmp_path / "out.ome.zarr", Record({}, 2), SeamlessInferer(64))
