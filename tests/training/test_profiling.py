"""The profile of a training: every part, with times that add up to the whole, and a trace that opens."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from torch.profiler import record_function

from pssr2_monai.images.writer import write_image
from pssr2_monai.machine import profiled
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.train import train


def _table(folder: Path) -> dict[str, tuple[float, float]]:
    """Part: milliseconds, and share in per cent."""
    rows = (line.rsplit(maxsplit=2) for line in (folder / "profile.txt").read_text().splitlines()[1:])
    return {name.strip(): (float(ms), float(share.rstrip("%"))) for name, ms, share in rows}


def test_parts_take_what_they_took(tmp_path: Path) -> None:
    with profiled(tmp_path / "new", ["long", "  inner", "short", "absent"], steps=2):
        with record_function("long"):
            time.sleep(0.1)
            with record_function("inner"):
                time.sleep(0.1)
        with record_function("short"):
            time.sleep(0.05)
        time.sleep(0.1)
    table = _table(tmp_path / "new")
    assert list(table) == ["long", "inner", "short", "everything else", "whole"]
    for name, seconds in (("long", 0.2), ("inner", 0.1), ("short", 0.05), ("everything else", 0.1), ("whole", 0.35)):
        assert table[name][0] == pytest.approx(1e3 * seconds / 2, rel=0.3)
    assert sum(share for name, (_, share) in table.items() if name not in ("inner", "whole")) == pytest.approx(
        100, abs=1
    )


def test_a_training_is_profiled_on_demand(hr_folder: Path, tiny_options: dict[str, object], tmp_path: Path) -> None:
    train(hr_folder, tmp_path / "run", epochs=3, profile=True, **tiny_options)  # type: ignore[arg-type]
    table = _table(tmp_path / "run")
    parts = ["load", "crappify", "forward", "loss", "backward", "optimizer", "handlers", "validation"]
    assert [name for name in table if name in parts] == parts
    assert 0 < table["crappify"][0] < table["load"][0]
    assert table["everything else"][1] < 20
    trace = json.loads((tmp_path / "run" / "profile.json").read_text())
    assert {"load", "crappify", "backward"} <= {event.get("name") for event in trace["traceEvents"]}


def test_restoring_is_profiled_on_demand(tiny_weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "lr.tif", np.zeros((70, 150), np.uint8), axes="YX", pixel_size={})
    restore(tmp_path / "lr.tif", tmp_path / "hr.tif", tiny_weights, window=64, profile=tmp_path / "profile")
    table = _table(tmp_path / "profile")
    assert list(table) == ["read", "network", "blend", "cast", "write", "everything else", "whole"]
    assert table["network"][0] > table["read"][0] > 0
