"""The demonstration, on generated images."""

from __future__ import annotations

from pathlib import Path

import pytest

from pssr2_monai.cli import demonstration
from pssr2_monai.data import samples
from pssr2_monai.errors import InputError


def test_the_whole_demonstration_runs_on_generated_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise OSError("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(samples, "_wheel_url", fail)
    answer = demonstration.demo(tmp_path / "demo", minutes=0.1)
    assert [line.split()[0] for line in answer.text.splitlines()[1:4]] == ["bilinear", "bicubic", "model"]
    for name in ("run/model.pt", "restored/section_00.tif", "evaluation/metrics.json", "evaluation/pictures"):
        assert (tmp_path / "demo" / name).exists()
    assert set(answer.data) == {"mean", "table", "weights", "restored", "picture", "tensorboard"}
    with pytest.raises(InputError, match="holds a demonstration already"):
        demonstration.demo(tmp_path / "demo")
