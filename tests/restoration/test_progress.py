"""The line that tells how far a restoring is."""

from __future__ import annotations

import pytest

from pssr2_monai.restoration import progress
from pssr2_monai.restoration.progress import Progress


def test_the_line_tells_share_rate_time_left_and_blocks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Progress("volume", 1000 * 10**6, 50, before=400 * 10**6) as bar, caplog.at_level("INFO"):
        now += 50
        bar.update(100 * 10**6)
        assert not caplog.messages, "too soon"
        now += 50
        bar.update(100 * 10**6)
    # 200 MP in 100 s, of which 400 MP are left; what was there before does not count for the rate.
    assert caplog.messages == ["volume: 60%, 2.00 MP/s, 3 min left, 30/50 blocks"]
