"""From folders to tiles, split by place."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import CacheDataset, DataLoader, DistributedSampler
from PIL import Image

from pssr2_monai.data import datalists, pairs, scales
from pssr2_monai.data.datalists import TileSettings, tile_lists
from pssr2_monai.data.loading import LoadTiled
from pssr2_monai.errors import InputError
from pssr2_monai.images import windows
from pssr2_monai.images.image import LazyImage, open_image
from pssr2_monai.images.intensity import IntensitySettings
from pssr2_monai.images.windows import Window, sample_pixels
from pssr2_monai.images.writer import write_image


def _pixels(items: list[dict], name: str, shape: tuple[int, int]) -> np.ndarray:
    covered = np.zeros(shape, bool)
    for item in items:
        if Path(item["label"]).name == name:
            covered[Window(*item["window"]).slices()] = True
    return covered


def test_split_by_file_takes_the_last_files_whole(hr_folder: Path) -> None:
    lists = tile_lists(hr_folder, TileSettings(tile=32, overlap=8, scale=4, val_fraction=0.4))
    assert {Path(item["label"]).name for item in lists.training} == {"cell_0.png", "cell_1.png", "cell_2.png"}
    assert {Path(item["label"]).name for item in lists.validation} == {"cell_3.png", "cell_4.png"}
    assert _pixels(lists.training, "cell_0.png", (96, 112)).all()
    assert _pixels(lists.validation, "cell_4.png", (96, 112)).all()
    items = [*lists.training, *lists.validation]
    assert len({item["name"] for item in items}) == len(items)


def test_an_image_and_its_copy_in_another_format_are_on_one_side(tmp_path: Path) -> None:
    for number in range(5):
        plane = np.random.default_rng(number).integers(0, 255, (64, 64), "uint8")
        tifffile.imwrite(tmp_path / f"cell_{number}.ome.tif", plane)
        Image.fromarray(plane).save(tmp_path / f"cell_{number}.png")
    lists = tile_lists(tmp_path, TileSettings(tile=32, split="file", val_fraction=0.3))
    sides = [{Path(item["label"]).name.split(".")[0] for item in side} for side in (lists.training, lists.validation)]
    assert sides == [{"cell_0", "cell_1", "cell_2"}, {"cell_3", "cell_4"}]


def test_split_by_place_keeps_training_and_validation_apart(hr_folder: Path) -> None:
    lists = tile_lists(hr_folder, TileSettings(tile=32, overlap=16, scale=4, split="place", val_fraction=0.3, guard=4))
    training = _pixels(lists.training, "cell_2.png", (96, 112))
    validation = _pixels(lists.validation, "cell_2.png", (96, 112))
    assert not (training & validation).any()
    assert validation.mean() == pytest.approx(0.3, abs=0.02)
    assert (~training & ~validation).any(axis=0).sum() == 4
    for item in lists.training:  # a tile at a random place stays in the training region, too
        region = Window(*item["region"])
        assert not _at(region, (96, 112))[validation].any()


def _at(window: Window, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[window.slices()] = True
    return mask


def test_split_by_field_keeps_a_field_together(tmp_path: Path) -> None:
    for field in range(4):
        for number in range(2):
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / f"f{field:02d}_{number}.png")
    lists = tile_lists(tmp_path, TileSettings(tile=32, split=r"f(\d+)_", val_fraction=0.25))
    assert {Path(item["label"]).name for item in lists.validation} == {"f03_0.png", "f03_1.png"}
    assert len(lists.training) == 6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tile": 256}, r"cell_0.png: 96 x 112 pixels are less than half a tile of 256; .* tile to 192 or less"),
        ({"split": "f([0-9"}, "split: .* not a regular expression"),
        ({"split": "f([0-9])"}, "cell_0.png: the pattern .* of split finds no group"),
        ({"val_fraction": 0.95}, "cannot be divided"),
        (
            {"split": "place", "val_fraction": 0.1, "tile": 64},
            r"cell_0\.png: split by place: 96 x 112 .* tile to 52 or less",
        ),
        ({"n_frames": 5}, "cell_0.png: .* hold 1 frame, but n_frames asks for 5"),
    ],
)
def test_what_cannot_be_tiled_is_named(hr_folder: Path, options: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        tile_lists(hr_folder, TileSettings(**({"tile": 32} | options)))


def test_tile_must_divide_by_the_scale(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="130 does not divide by the scale 4; take a multiple of 4, such as 128"):
        TileSettings(tile=130, scale=4)
    with pytest.raises(InputError, match="64 does not divide by the scale 3; take a multiple of 3, such as 63"):
        TileSettings(tile=64, scale=3)
    caplog.set_level(logging.INFO, "pssr2_monai")
    assert [TileSettings(scale=scale).tile for scale in (4, 3, [1, 5, 5], 200)] == [128, 126, 125, 200]
    assert caplog.messages[0] == "tile: 126 pixels, since 128 does not divide by the scale 3"


@pytest.mark.parametrize("side", [100, 128, 131, 255])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_too_small_to_be_divided_are_trained_on_whole(
    side: int, count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A part of each cannot be held out; the advice given gives a validation."""
    for number in range(count):
        _save_random(tmp_path / f"{number}.png", (side, 90))
    caplog.set_level(logging.INFO, "pssr2_monai")
    lists = tile_lists(tmp_path, TileSettings())
    assert len(lists.training) == count * len(windows.starts(side, 128, 0))
    assert len(lists.validation) == 0
    (line,) = caplog.messages
    assert f"of {side} pixels at most" in line
    assert "no validation, and model.pt will hold its last weights" in line
    (tile,) = map(int, re.findall(r"set tile to (\d+) or less", line))
    caplog.clear()
    assert len(tile_lists(tmp_path, TileSettings(tile=tile)).validation) >= count
    assert caplog.messages == []
    with pytest.raises(InputError, match=f"0.png: split by place: .* set tile to {tile} or less, or split 'auto'"):
        tile_lists(tmp_path, TileSettings(split="place"))


def test_images_that_can_be_divided_give_the_validation_of_small_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, side in (("large", 300), ("small", 100)):
        _save_random(tmp_path / f"{name}.png", (side, side))
    lists = tile_lists(tmp_path, TileSettings())
    assert {Path(item["label"]).stem for item in lists.training} == {"large", "small"}
    assert {Path(item["label"]).stem for item in lists.validation} == {"large"}
    assert caplog.messages == []


def test_a_validation_without_content_is_reported(hr_folder: Path, tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    for path in hr_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Image.fromarray(np.zeros((96, 112), np.uint8)).save(tmp_path / "cell_4.png")
    lists = tile_lists(tmp_path, TileSettings(tile=32, min_std=1))
    assert (len(lists.training), len(lists.validation)) == (48, 0)
    assert "no tile of those held out is above min_std 1: the training has no validation" in caplog.text
    with pytest.raises(InputError, match="no tile to train on is above min_std 200; set a smaller one"):
        tile_lists(tmp_path, TileSettings(tile=32, min_std=200))


def _save_random(path: Path, shape: tuple[int, int]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(path)


def test_tiles_hold_the_pixels_of_their_place(hr_folder: Path) -> None:
    lists = tile_lists(hr_folder, TileSettings(tile=32, val_fraction=0))
    load = LoadTiled("label")
    for item in lists.training[::7]:
        expected = np.asarray(Image.open(item["label"]))[Window(*item["window"]).slices()] / 255
        np.testing.assert_allclose(load(item)["label"][0].numpy(), expected, atol=1e-7)


def test_images_smaller_than_a_tile_are_padded_by_reflection(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "small.png")
    (item,) = tile_lists(tmp_path, TileSettings(tile=40, split="file", val_fraction=0)).training
    tile = LoadTiled("label", random_position=True).set_random_state(0)(item)["label"][0].numpy()
    np.testing.assert_allclose(tile, np.pad(image, ((0, 16), (0, 0)), mode="symmetric") / 255, atol=1e-7)


def test_small_sheets_are_split_by_place_with_at_least_a_tile(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 100), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "one.png")
    lists = tile_lists(tmp_path, TileSettings(tile=40, val_fraction=0.1))
    assert [item["window"] for item in lists.validation] == [[0, 60, 40, 40], [8, 60, 40, 40]]
    assert all(item["window"][1] + 40 <= 60 for item in lists.training)


def test_tiles_without_content_are_left_out(tmp_path: Path) -> None:
    image = np.tile(np.array([100, 101], np.uint8), (64, 64))
    image[:, :64] = np.random.default_rng(0).integers(0, 256, (64, 64))
    Image.fromarray(image).save(tmp_path / "half.png")
    options = {"tile": 32, "split": "file", "val_fraction": 0}
    assert len(tile_lists(tmp_path, TileSettings(**options)).training) == 8
    kept = tile_lists(tmp_path, TileSettings(**options, min_std=1.0)).training
    assert sorted(item["window"][1] for item in kept) == [0, 0, 32, 32]
    load = LoadTiled("label", random_position=True).set_random_state(0)
    assert min(load(item)["label"].std() for item in [*kept] * 20) > 0.2  # at random places, too, they have content


def test_tiles_of_padding_are_left_out(tmp_path: Path) -> None:
    image = np.zeros((64, 128), np.uint8)
    image[:, :80] = np.random.default_rng(0).integers(50, 256, (64, 80))
    Image.fromarray(image).save(tmp_path / "padded.png")
    tiles = tile_lists(tmp_path, TileSettings(tile=32, split="file", val_fraction=0)).training
    assert sorted(item["window"][1] for item in tiles) == [0, 0, 32, 32, 64, 64]  # half of the last two is data


def test_validation_tiles_are_thinned_evenly(hr_folder: Path) -> None:
    options = {"tile": 32, "split": "file", "val_fraction": 0.4}
    every = [item["name"] for item in tile_lists(hr_folder, TileSettings(**options)).validation]
    few = [item["name"] for item in tile_lists(hr_folder, TileSettings(**options, val_tiles=5)).validation]
    assert few == [every[round(i * (len(every) - 1) / 4)] for i in range(5)]


def test_a_bad_file_is_left_out_only_where_asked(hr_folder: Path, tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    for path in hr_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "cell_2.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"cell_2\.png: the file is empty"):
        tile_lists(tmp_path, TileSettings(tile=32))
    lists = tile_lists(tmp_path, TileSettings(tile=32, skip_bad=True))
    assert {Path(item["label"]).name for item in lists.training} == {"cell_0.png", "cell_1.png", "cell_3.png"}
    assert "left out: cell_2.png" in caplog.text


@given(
    shape=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    tile=st.integers(2, 10).map(lambda n: 4 * n),
    overlap=st.integers(0, 7),
    scale=st.sampled_from([1, 2, 4]),
    paired=st.booleans(),
    fraction=st.floats(0.05, 0.9),
    guard=st.integers(0, 9),
    seed=st.integers(0, 5),
)
def test_no_training_tile_shares_a_pixel_with_a_validation_tile(
    shape: tuple[int, int],
    tile: int,
    overlap: int,
    scale: int,
    paired: bool,
    fraction: float,
    guard: int,
    seed: int,
) -> None:
    """As they are read: at random places, too, and both images of a pair."""
    shape = (shape[0] // scale * scale, shape[1] // scale * scale)
    # Pixels that tell their place.
    hr = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    options = TileSettings(
        tile=tile,
        overlap=overlap,
        scale=scale,
        split="place",
        val_fraction=fraction,
        guard=guard,
        intensity=IntensitySettings("fixed", 0, 65535),
    )
    with TemporaryDirectory() as folder:
        folders = {key: Path(folder, key) for key in (("label", "image") if paired else ("label",))}
        for key, path in folders.items():
            path.mkdir()
            step = scale if key == "image" else 1
            write_image(path / "s.tif", hr[::step, ::step], axes="YX", pixel_size={})
        try:
            lists = tile_lists(folders["label"], options, folders.get("image"))
        except InputError:  # too small a sheet for two regions of a tile, or for a pair
            assert (
                (paired and min(shape) < tile)
                or max(shape) < 2 * (tile + scale) + guard
                or fraction * max(shape) > max(shape) - guard - tile - 1
            )
            return
        load = LoadTiled(tuple(folders), scale=scale, random_position=True).set_random_state(seed)
        seen = []
        for items in (lists.training, lists.validation):
            tiles = [load(item) for item in items for _ in range(3)]
            assert all(each["label"].shape == (1, tile, tile) for each in tiles)
            seen.append({int(value) for each in tiles for value in (each["label"] * 65535).round().unique()})
            if paired:
                for each in tiles:
                    torch.testing.assert_close(each["image"], each["label"][:, ::scale, ::scale])
    assert seen[0].isdisjoint(seen[1])
    assert seen[1]


@given(
    shape=st.tuples(st.integers(20, 120), st.integers(20, 120)),
    tile=st.integers(3, 12).map(lambda n: 4 * n),
    overlap=st.integers(0, 11),
    scale=st.sampled_from([1, 2, 4]),
    frames=st.tuples(st.integers(1, 6), st.sampled_from([1, 3, 5])),
    slide=st.booleans(),
)
def test_tiles_of_whole_files_cover_every_pixel_of_every_frame(
    shape: tuple[int, int], tile: int, overlap: int, scale: int, frames: tuple[int, int], slide: bool
) -> None:
    count, n_frames = frames
    options = TileSettings(tile=tile, overlap=overlap, scale=scale, n_frames=n_frames, slide=slide, val_fraction=0)
    with TemporaryDirectory() as folder:
        write_image(Path(folder) / "s.tif", np.zeros((count, *shape), np.uint8), axes="ZYX", pixel_size={})
        if 2 * min(shape) < tile or n_frames > count:
            with pytest.raises(InputError, match=r"s\.tif"):
                tile_lists(folder, options)
            return
        items = tile_lists(folder, options).training
    covered = np.zeros((count, *shape), bool)
    for item in items:
        around = range(item["frame"] - n_frames // 2, item["frame"] + n_frames // 2 + 1)
        for frame in around:
            covered[(frame, *Window(*item["window"]).slices())] = True
    assert covered.all()


def test_one_intensity_scale_for_a_data_set(tmp_path: Path) -> None:
    steps = np.repeat(np.linspace(0, 800, 2), 32) * np.ones((64, 1))
    steps += np.arange(64)[:, None] % 2  # no block is constant, as padding is
    images = [(1000 * n + steps).astype(np.uint16) for n in (1, 2)]
    for number, image in enumerate(images):
        write_image(tmp_path / f"{number}.tif", image, axes="YX", pixel_size={})
    options = {"tile": 32, "split": "file", "val_fraction": 0}
    own = tile_lists(tmp_path, TileSettings(**options))
    assert len({item["intensity"]["label"][0] for item in own.training}) == 2
    shared = tile_lists(tmp_path, TileSettings(**options, intensity=IntensitySettings(scope="dataset")))
    ((low, high, *_),) = {item["intensity"]["label"][0] for item in shared.training}
    assert (low, high) == (pytest.approx(1000, abs=30), pytest.approx(2800, abs=30))
    assert shared.intensity == IntensitySettings("fixed", low, high)
    assert own.intensity == IntensitySettings()


@pytest.mark.parametrize(("scope", "paired"), [("file", False), ("file", True), ("dataset", False)])
def test_each_file_is_opened_and_sampled_once(
    scope: str, paired: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, side in (("hr", 64), ("lr", 32)):
        (tmp_path / key).mkdir()
        for number in range(5):
            image = np.random.default_rng(number).integers(0, 4000, (side, side)).astype(np.uint16)
            write_image(tmp_path / key / f"{number}.tif", image, axes="YX", pixel_size={})
    opened: list[Path] = []
    sampled: list[Path] = []

    def open_and_count(path: Path, axes: str | None = None, image: int | str | None = None) -> LazyImage:
        opened.append(path)
        return open_image(path, axes, image)

    def sample_and_count(image: LazyImage, stack: str = "TZ", channel: int = 0) -> Iterator[np.ndarray]:
        sampled.append(image.path)
        return sample_pixels(image, stack, channel)

    for module in (datalists, pairs):
        monkeypatch.setattr(module, "open_image", open_and_count)
    for module in (scales, windows):
        monkeypatch.setattr(module, "sample_pixels", sample_and_count)
    options = TileSettings(tile=32, scale=2, intensity=IntensitySettings(scope=scope))
    lists = tile_lists(tmp_path / "hr", options, tmp_path / "lr" if paired else None)
    assert len(lists.training) == 4 * 4
    assert len(opened) == len(set(opened)) == (10 if paired else 5)
    assert sorted(sampled) == sorted(opened)


def test_monai_datasets_and_samplers_take_the_datalists(hr_folder: Path) -> None:
    items = tile_lists(hr_folder, TileSettings(tile=32, val_fraction=0)).training
    plain = [LoadTiled("label")(item)["label"] for item in items]
    cached = CacheDataset(items, LoadTiled("label"), num_workers=1, progress=False)
    for sample, expected in zip(cached, plain, strict=True):
        torch.testing.assert_close(sample["label"], expected)
    seen: list[str] = []
    for rank in (0, 1):
        sampler = DistributedSampler(cached, num_replicas=2, rank=rank, shuffle=True, seed=3, even_divisible=False)
        seen += [name for batch in DataLoader(cached, batch_size=4, sampler=sampler) for name in batch["name"]]
    assert sorted(seen) == sorted(item["name"] for item in items)


def test_the_files_of_one_image_are_one_sheet(tmp_path: Path, write_ome_set: Callable[..., list[Path]]) -> None:
    """Each of them opens as the whole stack, so that its pixels would lie on both sides of a split by file."""
    write_ome_set(tmp_path, np.random.default_rng(0).integers(0, 255, (5, 96, 64), "uint8"))
    lists = tile_lists(tmp_path, TileSettings(tile=32, scale=2))
    assert {item["label"] for item in (*lists.training, *lists.validation)} == {str(tmp_path / "z0.ome.tif")}
    places = [{tuple(item["window"]) for item in items} for items in (lists.training, lists.validation)]
    assert all(places)
    assert not places[0] & places[1]  # of no frame
    assert len({item["frame"] for item in lists.training}) == 5


def test_tiles_of_a_chosen_image(tmp_path: Path) -> None:
    snapshot, scan = np.full((64, 64), 7, "uint8"), np.full((96, 96), 9, "uint8")
    snapshot[::2], scan[::2] = 1, 2
    for page in (snapshot, scan):
        tifffile.imwrite(tmp_path / "a.tif", page, append=True)
    for image, pixels in ((None, scan), (1, snapshot), ("2", scan)):
        lists = tile_lists(tmp_path, TileSettings(tile=64, scale=2, val_fraction=0, image=image))
        sample = LoadTiled("label", scale=2, image=image)(lists.training[0])
        np.testing.assert_allclose(np.asarray(sample["label"][0]) * 255, pixels[:64, :64], atol=1e-4)
    with pytest.raises(InputError, match=r"a\.tif: there is no image 3; it holds 2 images"):
        tile_lists(tmp_path, TileSettings(tile=64, scale=2, image=3))


def _scans(folder: Path, frames: int = 1, names: str = "abcde", scans: int = 2) -> Path:
    folder.mkdir()
    for name in names:
        for scan in range(scans):
            pixels = np.random.default_rng(scan).integers(0, 200, (frames, 40, 48)).astype(np.uint8)
            write_image(folder / f"{name}_{scan}.tif", pixels, axes="TYX", pixel_size={})
    return folder


def test_scans_of_a_field_are_on_one_side(tmp_path: Path) -> None:
    folder = _scans(tmp_path / "scans", scans=3)
    options = TileSettings(tile=16, scale=1, supervision="noise2noise", pair_pattern="^(.)", val_fraction=0.4)
    lists = tile_lists(folder, options, folder)
    fields = [{Path(item["label"]).name[0] for item in tiles} for tiles in (lists.training, lists.validation)]
    assert fields == [set("abc"), set("de")]
    assert all(item["label"] != item["image"] for item in lists.training)


def test_a_stack_of_scans_is_its_own_partner_on_one_scale(tmp_path: Path) -> None:
    folder = _scans(tmp_path / "stacks", frames=3, scans=1)
    lists = tile_lists(folder, TileSettings(tile=16, scale=1, supervision="noise2noise"), folder)
    item = lists.training[0]
    assert item["label"] == item["image"]
    assert item["intensity"]["label"] == item["intensity"]["image"]
    assert lists.contrast == {}


@pytest.mark.parametrize(
    ("supervision", "options", "lr", "words"),
    [
        ("noise2noise", {}, True, "a_0.tif: holds 1 frame, but noise2noise needs two scans"),
        ("noise2noise", {"n_frames": 3}, True, "n_frames: 3"),
        ("noise2noise", {"scale": 2}, True, "scale: 2, but noise2noise learns to denoise alone"),
        ("blind_spot", {}, True, "lr_dir: blind_spot takes one scan"),
        ("blindspot", {}, False, "supervision: 'blindspot' is unknown; did you mean 'blind_spot'"),
    ],
)
def test_noisy_scans_that_do_not_suit_are_refused(
    supervision: str, options: dict[str, int], lr: bool, words: str, tmp_path: Path
) -> None:
    folder = _scans(tmp_path / "scans", frames=3 if "n_frames" in options else 1)

    def tiles() -> None:
        settings = TileSettings(tile=16, supervision=supervision, **{"scale": 1, **options})
        tile_lists(folder, settings, folder if lr else None)

    with pytest.raises(InputError, match=words):
        tiles()
