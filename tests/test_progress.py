"""The line that shows the progress of restoring, and listeners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pssr2_monai import progress
from pssr2_monai.images.image import open_image
from pssr2_monai.images.writer import write_image
from pssr2_monai.progress import Progress, counted, listen_to_progress
from pssr2_monai.restoration.restore import restore


def test_the_line_shows_share_rate_time_left_and_blocks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("volume", 1000 * 10**6, 50, 400, before=400 * 10**6) as bar, caplog.at_level("INFO"):
        now += 50
        bar.update(100 * 10**6)
        assert not caplog.messages, "too soon"
        now += 50
        bar.update(100 * 10**6)
    # 200 MP in 100 s, of which 400 MP are left; what was there before does not count for the rate.
    assert caplog.messages == ["volume: 60%, 2.00 MP/s, 3 min left, 30/50 blocks"]


def test_what_is_counted_has_a_line_now_and_then_off_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    times = iter(range(0, 1000, 13))
    with caplog.at_level("INFO"):
        assert list(counted(range(8), "images read", clock=lambda: next(times))) == list(range(8))
    assert caplog.messages == ["images read: 2 of 8", "images read: 5 of 8"]


def test_a_listener_gets_the_share_and_can_stop_work_that_then_resumes(tiny_weights: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 40)).astype(np.uint8)  # three blocks
    write_image(tmp_path / "scan.tif", image, axes="YX", pixel_size={})
    options: dict[str, Any] = {"window": 64, "precision": "float32", "device": "cpu"}
    restore(tmp_path / "scan.tif", tmp_path / "whole.ome.zarr", tiny_weights, **options)
    reports: list[tuple[str, float]] = []
    stopped = 0

    class Enough(Exception): ...

    def listen(name: str, share: float) -> None:
        reports.append((name, share))
        if share > 0.5 and not stopped:
            raise Enough

    with pytest.raises(Enough), listen_to_progress(listen):
        restore(tmp_path / "scan.tif", tmp_path / "out.ome.zarr", tiny_weights, **options)
    stopped = len(reports)
    with listen_to_progress(listen):
        restore(tmp_path / "scan.tif", tmp_path / "out.ome.zarr", tiny_weights, **options)
    shares = [share for _, share in reports]
    assert shares[:stopped] == sorted(shares[:stopped])
    assert shares[stopped:] == sorted(shares[stopped:])
    assert 0 < shares[stopped] < 1, "what was done before the stop was not done again"
    assert shares[-1] == 1.0
    assert {name for name, _ in reports} == {"scan.tif"}
    with open_image(tmp_path / "whole.ome.zarr") as whole, open_image(tmp_path / "out.ome.zarr") as out:
        np.testing.assert_array_equal(out.read(), whole.read())
    restore(tmp_path / "scan.tif", tmp_path / "after.tif", tiny_weights, **options)
    assert shares == [share for _, share in reports], "the listener was removed"


def test_a_listener_can_stop_before_each_window_of_a_wide_image(tiny_weights: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 300)).astype(np.uint8)  # one block of several windows
    write_image(tmp_path / "scan.tif", image, axes="YX", pixel_size={})
    shares: list[float] = []

    def restored(listen: Any) -> Path:
        with listen_to_progress(listen):
            options: dict[str, Any] = {"window": 64, "precision": "float32", "device": "cpu", "overwrite": True}
            return restore(tmp_path / "scan.tif", tmp_path / "out.tif", tiny_weights, **options)[0]

    restored(lambda _, share: shares.append(share))
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert len(set(shares)) > 5, "each window counts"
    assert shares[-1] == 1.0

    class Enough(Exception): ...

    until_stopped: list[float] = []

    def stop(_: str, share: float) -> None:
        until_stopped.append(share)
        if len(until_stopped) == 2:
            raise Enough

    with pytest.raises(Enough):
        restored(stop)
    assert until_stopped == shares[:2]
