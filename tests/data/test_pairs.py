"""Real pairs: matched, checked, tiled and flipped together."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, RandRotate90d

from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.loading import LoadTiled, TileDataset
from pssr2_monai.data.pairs import match_names, sheets_of
from pssr2_monai.errors import InputError
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.writer import write_image


def _folder(folder: Path, scale: int, dtype: type = np.uint8, names: str = "abcd", suffix: str = ".tif") -> Path:
    """Images whose pixels tell their place: HR pixel (y, x) of image n has the value of LR pixel (y, x) // 2."""
    folder.mkdir()
    y, x = np.mgrid[: 30 * scale, : 22 * scale] // scale
    for number, name in enumerate(names):
        values = (7 * y + x + 5 * number).astype(dtype)
        write_image(folder / f"{name}{suffix}", values, axes="YX", pixel_size={})
    return folder


def test_names_are_matched_whatever_their_order_and_suffix() -> None:
    hr, lr = [Path("hr/a.tif"), Path("hr/b.tif")], [Path("lr/b.png"), Path("lr/a.png")]
    assert match_names(hr, lr) == {hr[0]: lr[1], hr[1]: lr[0]}
    assert match_names([Path("hr/a.ome.tif")], [Path("lr/a.png")]) == {Path("hr/a.ome.tif"): Path("lr/a.png")}
    long, short = [Path("hr/x_17_long.tif")], [Path("lr/y_17_short.tif")]
    assert match_names(long, short, r"_(\d+)_") == {long[0]: short[0]}


@pytest.mark.parametrize("name", ["größe_ä", "é", "한글"])
@pytest.mark.parametrize("pattern", [None, r"(\w+)\."])
def test_names_are_matched_however_their_accents_are_written(name: str, pattern: str | None) -> None:
    hr, lr = (Path(form, unicodedata.normalize(form, name) + ".png") for form in ("NFD", "NFC"))
    assert hr.name != lr.name
    assert match_names([hr], [lr], pattern) == {hr: lr}


@pytest.mark.shared_data
def test_folders_from_two_systems(shared_data: Path) -> None:
    names = shared_data / "cases" / "names"
    sheets = sheets_of(names / "HR", names / "LR")
    assert len(sheets) == 3
    assert all(
        unicodedata.normalize("NFC", sheet.label.name) == unicodedata.normalize("NFC", str(sheet.image.name))
        for sheet in sheets
        if sheet.image is not None
    )


def test_the_odd_ones_out_are_named() -> None:
    hr, lr = [Path("hr/a.tif"), Path("hr/b.tif")], [Path("lr/a.png"), Path("lr/c.png")]
    with pytest.raises(InputError, match=r"b\.tif, c\.png in hr and lr: have no partner"):
        match_names(hr, lr)
    with pytest.raises(InputError, match=r"is called 'a'"):
        match_names([Path("a.tif"), Path("a.png")], [Path("lr/a.png")])


def test_sizes_are_checked_against_the_scale(tmp_path: Path) -> None:
    hr, lr = _folder(tmp_path / "hr", 2), _folder(tmp_path / "lr", 1)
    settings = TileSettings(tile=16, scale=4)
    with pytest.raises(InputError, match=r"a\.tif \(30 x 22 for 60 x 44 of a\.tif\).* times the scale 4"):
        tile_lists(hr, settings, lr)
    with pytest.raises(InputError, match=r"a\.tif \(60 x 44 for 30 x 22 of a\.tif\)"):  # swapped folders
        tile_lists(lr, TileSettings(tile=16, scale=2), hr)


def test_pairs_that_cannot_be_padded_or_scaled_alike_are_refused(tmp_path: Path) -> None:
    hr, lr = _folder(tmp_path / "hr", 2), _folder(tmp_path / "lr", 1)
    with pytest.raises(InputError, match=r"a\.tif: 60 x 44 pixels are less than a tile of 64; .* tile to 44 or less"):
        tile_lists(hr, TileSettings(tile=64, scale=2), lr)
    with pytest.raises(InputError, match="scope 'dataset' is for HR images alone"):
        tile_lists(hr, TileSettings(tile=16, scale=2, intensity=IntensitySettings(scope="dataset")), lr)


def test_tiles_of_a_pair_show_the_same_place_flipped_alike(tmp_path: Path) -> None:
    hr, lr = _folder(tmp_path / "hr", 2), _folder(tmp_path / "lr", 1, np.uint16, suffix=".png")
    extra = _folder(tmp_path / "extra", 2)
    options = TileSettings(tile=16, overlap=5, scale=2, split="place", val_fraction=0.3)
    lists = tile_lists(hr, options, lr, extra)
    keys = ["image", "label", "extra"]
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=0), RandRotate90d(keys, prob=0.5, max_k=3)]
    transform = Compose([LoadTiled(keys, scale=2, random_position=True), *flips])
    for items in (lists.training, lists.validation):
        dataset = TileDataset(items, transform)
        for epoch in range(3):
            dataset.set_epoch(epoch)
            for item, sample in zip(items, dataset, strict=True):
                ((low, high, *_),) = item["intensity"]["image"]
                image = sample["image"] * (high - low) + low
                assert image.shape == (1, 8, 8)
                enlarged = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
                label = sample["label"] * (high - low) + low  # 8 bits, on the scale of the 16-bit partner
                torch.testing.assert_close(label, enlarged, atol=1e-2, rtol=0)
                torch.testing.assert_close(sample["extra"], sample["label"])


def test_sheets_hold_what_there_is(tmp_path: Path) -> None:
    hr = _folder(tmp_path / "hr", 2, names="ab")
    assert [set(sheet.files()) for sheet in sheets_of(hr)] == [{"label"}, {"label"}]
    lr = _folder(tmp_path / "lr", 1, names="ab")
    assert [set(sheet.files()) for sheet in sheets_of(hr, lr)] == [{"label", "image"}] * 2


def test_scans_of_one_folder_are_paired_by_field(tmp_path: Path) -> None:
    for name in ("a_1", "a_2", "b_1", "b_2", "b_3"):
        write_image(tmp_path / f"{name}.tif", np.zeros((8, 8), dtype=np.uint8), axes="YX", pixel_size={})
    pairs = [(sheet.label.stem, str(sheet.image and sheet.image.stem)) for sheet in sheets_of(tmp_path, tmp_path)]
    assert pairs == [(name, name) for name in ("a_1", "a_2", "b_1", "b_2", "b_3")]
    pairs = [
        (sheet.label.stem, str(sheet.image and sheet.image.stem))
        for sheet in sheets_of(tmp_path, tmp_path, pattern=r"([ab])_")
    ]
    assert pairs == [("a_1", "a_2"), ("b_1", "b_2"), ("b_2", "b_3"), ("b_3", "b_1")]
    with pytest.raises(InputError, match="a_1.tif.*no other scan of the field"):
        sheets_of(tmp_path, tmp_path, pattern=r"(\w_\d)")
