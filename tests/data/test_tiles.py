"""Tiles that are computed equal those that a loop over frames and windows lists."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pssr2_monai.data.tiles import SheetTiles, Tiles
from pssr2_monai.images.windows import Window, grid


def _sheet(number: int = 0, frames: int = 1, region: Window | None = None, **options: Any) -> SheetTiles:
    settings: dict[str, Any] = {
        "files": {"image": f"lr/{number}.tif", "label": f"hr/{number}.tif"},
        "name": f"{number}.tif",
        "region": region or Window(0, 0, 96, 112),
        "tile": 32,
        "overlap": 8,
        "step": 1,
        "centres": np.arange(frames) + 2,
        "run": None,
        "intensity": {"label": [(0.0, 255.0)]},
        "limits": [(0.0, 1.0)],
    }
    return SheetTiles(**settings | options)


def _listed(tiles: SheetTiles) -> list[tuple[int, Window]]:
    """Frames and windows, listed one by one."""
    step, region = tiles.step, tiles.region
    shape = (region.height // step, region.width // step)
    return [
        (int(frame), Window(window.y * step + region.y, window.x * step + region.x, tiles.tile, tiles.tile))
        for frame in tiles.centres
        for window in grid(shape, tiles.tile // step, tiles.overlap // step)
    ]


@given(
    corner=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    size=st.tuples(st.integers(5, 60), st.integers(5, 60)),
    tile=st.integers(1, 6),
    overlap=st.integers(0, 23),
    step=st.integers(1, 4),
    frames=st.integers(1, 3),
)
def test_places_equal_those_of_a_loop(
    corner: tuple[int, int], size: tuple[int, int], tile: int, overlap: int, step: int, frames: int
) -> None:
    region = Window(*(step * place for place in corner), *size)
    tiles = _sheet(frames=frames, region=region, tile=tile * step, overlap=overlap % (tile * step), step=step)
    expected = _listed(tiles)
    assert [tiles.place(number) for number in range(len(tiles))] == expected
    assert [(item["frame"], Window(*item["window"])) for item in Tiles([tiles])] == expected


def test_an_item_has_all_that_loading_needs() -> None:
    tiles = _sheet(7, region=Window(4, 8, 64, 70), centres=np.array([3, 13]), run=10)
    assert tiles[len(tiles) - 1] == {
        "name": "7.tif frame 13 y 36 x 46",
        "image": "lr/7.tif",
        "label": "hr/7.tif",
        "frame": 13,
        "run": [10, 10],
        "window": [36, 46, 32, 32],
        "region": [4, 8, 64, 70],
        "intensity": {"label": [(0.0, 255.0)]},
        "limits": [(0.0, 1.0)],
    }
    kept = _sheet(kept=np.array([0, 6, 19]))
    assert len(kept) == 3
    assert [item["window"][:2] for item in Tiles([kept])] == [[0, 0], [24, 24], [64, 80]]
    # A quarter of the side each way, within the region.
    assert [item["region"] for item in Tiles([kept])] == [[0, 0, 40, 40], [16, 16, 48, 48], [56, 72, 40, 40]]


def test_sheets_follow_each_other_and_behave_as_a_list() -> None:
    sheets = [_sheet(0), _sheet(1, frames=2), _sheet(2, kept=np.array([], dtype=int)), _sheet(3)]
    tiles, listed = Tiles(sheets), [sheet[number] for sheet in sheets for number in range(len(sheet))]
    assert (len(tiles), list(tiles)) == (len(listed), listed)
    assert (tiles[-1], tiles[5:40:7], tiles[np.int64(17)]) == (listed[-1], listed[5:40:7], listed[17])
    for beyond in (len(listed), -len(listed) - 1):
        with pytest.raises(IndexError):
            tiles[beyond]
    assert tiles.files == ["hr/0.tif", "hr/1.tif", "hr/2.tif", "hr/3.tif"]
    assert not Tiles([])
    assert list(Tiles(sheets, limit=5)) == [listed[round(number * (len(listed) - 1) / 4)] for number in range(5)]
    assert list(Tiles(sheets, limit=10**6)) == listed


def test_eight_million_tiles_take_the_memory_of_their_sheets_in_every_worker() -> None:
    options = {"frames": 1000, "region": Window(0, 0, 8192, 8192), "overlap": 0, "tile": 256}
    tiles = Tiles([_sheet(number, **options) for number in range(8)])
    assert len(tiles) == 8 * 1000 * 32**2
    assert tiles[8_000_000]["name"] == "7.tif frame 814 y 4096 x 0"
    assert len(pickle.dumps(tiles)) < 100_000
    assert pickle.loads(pickle.dumps(tiles))[12345] == tiles[12345]
    loader = DataLoader(tiles, sampler=[0, 8_000_000], num_workers=1, batch_size=None)  # type: ignore[arg-type]
    assert [item["name"] for item in loader] == [tiles[0]["name"], tiles[8_000_000]["name"]]
